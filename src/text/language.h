/* language.h - the languages that texts are analysed in: names, stop words. */
#ifndef QUIRE_TEXT_LANGUAGE_H
#define QUIRE_TEXT_LANGUAGE_H

#include "text/analyzer.h"

/* Words that say nothing about what a text is about, folded, separated by spaces; "" where there is no list. */
const char *language_stop_words(const char *canonical);
/* What stands before an apostrophe for an article or the like and is no part of the word (l'ete), each between spaces; "" where there is no such thing. */
const char *language_elisions(const char *canonical);

#endif
