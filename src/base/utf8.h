/* utf8.h - what text from outside must satisfy before it is kept. */
#ifndef QUIRE_BASE_UTF8_H
#define QUIRE_BASE_UTF8_H

#include "base/buf.h"

/* Well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF). Fast on ASCII. */
bool utf8_valid(struct slice s);
/* Holds a control character: U+0000 to U+001F, U+007F, U+0080 to U+009F. `s` is valid UTF-8. */
bool utf8_has_control(struct slice s);
/* The length of the longest prefix of at most `max` bytes that does not cut a code point. */
size_t utf8_prefix(struct slice s, size_t max);
/* Decodes one code point at *at (< s.len) and advances *at; 0xFFFD and one byte on bad input. */
uint32_t utf8_next(struct slice s, size_t *at);

#endif
