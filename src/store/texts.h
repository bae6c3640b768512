/*
 * texts.h - what the chunks of a document put into their library's inverted index and columns, from the reservation of an op to its application.
 *
 * Finding the terms of a text and the fields of a record can fail (memory), and how much room they take is known only then. So it is done when an
 * op is reserved; what was found waits in the library's stage, in the order of the ops, and applying an op takes it from there and cannot fail.
 * Each op that was reserved is taken by exactly one application (one that changes nothing lets it drop), or the whole stage is cleared when
 * the batch is abandoned.
 *
 * A deleted chunk is taken out of the frequencies by analysing its text again, which cannot fail either: an analyzer has room for the longest text that
 * ever went through it, and a library that is adopted makes that room first.
 */
#ifndef QUIRE_STORE_TEXTS_H
#define QUIRE_STORE_TEXTS_H

#include "store/arena.h"
#include "store/fields.h"

/* Analyzers by language, and memory to work in. One per thread that writes libraries. */
struct texts;
MUST_CHECK bool texts_new(struct texts **ret, struct status *st);
void texts_free(struct texts *t); /* takes NULL */

/* The language of a definition as an analyzer knows it: LANGUAGE_DEFAULT for none, LANGUAGE_NONE for one that is unknown. */
const char *texts_language(struct slice name);
/* From now on texts of that language, up to so many bytes, can be analysed without failing. */
MUST_CHECK bool texts_prepare(struct texts *t, const char *language, size_t text_bytes, struct status *st);
/* The terms of a text that texts_prepare has made room for; valid until the next call for that language. */
void texts_analyze(struct texts *t, const char *language, struct slice text, struct terms *ret);

/* A library's. Zeroed: empty. */
struct text_stage {
    struct buf bytes;
    size_t at; /* of the first op that was not taken */
    /* of all that is in it; of what was taken, too, until the last is */
    struct lexical_need terms;
    struct columns_need columns;
};
void text_stage_fini(struct text_stage *s);
void text_stage_clear(struct text_stage *s);

/* Adds what the chunks of d put in, from `slot` on. x and c: as they are now; s->terms and s->columns then say what they must have room for. On failure the
 * stage is as before; text_stage_drop_last takes back what the last call added (`before`: a copy of the stage from before it). */
MUST_CHECK bool text_stage_add(struct texts *t, struct text_stage *s, const char *language, const struct op_document *d, uint32_t slot,
                               const struct lexical *x, const struct columns *c, struct status *st);
void text_stage_drop_last(struct text_stage *s, const struct text_stage *before);

/* Taking the oldest op: begin, then `chunks` times next, then end (which also takes one that was not begun). */
struct text_taking {
    size_t at;
    uint32_t left;   /* chunks */
    size_t keywords;
};
void text_stage_begin(const struct text_stage *s, struct text_taking *ret);
/* The next chunk's; valid until the next call. */
void text_stage_next(struct texts *t, const struct text_stage *s, struct text_taking *taking, struct terms *ret_terms,
                     struct field_values *ret_values);
void text_stage_end(struct text_stage *s);

#endif
