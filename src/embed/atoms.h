/*
 * atoms.h - a text as the chunker sees it: a row of atoms, which it does not part, each with how good a cut before it would be.
 *
 * An atom is a word with what stands between it and the next; the first atom of a line begins with the line. So the text is atoms and nothing
 * else. Words that are too long for that (in bytes, letters or tokens) are a row of atoms, one for each grapheme cluster, and count as many tokens
 * as they have letters, which is the most that any part of them can have. White space counts nothing, but 256 bytes of it or more a token for each 256, so
 * that no chunk is larger than its tokens allow. No atom begins within a grapheme cluster, unless that is absurdly large.
 *
 * Atoms are read as they are asked for and forgotten when the chunker says so: what is kept is a window.
 */
#ifndef QUIRE_EMBED_ATOMS_H
#define QUIRE_EMBED_ATOMS_H

#include "embed/blocks.h"
#include "embed/tokens.h"

struct atom {
    size_t begin;
    uint32_t tokens;
    uint32_t section; /* number of the heading it stands under; 0: none */
    uint8_t before;   /* enum cut */
    uint8_t rank;     /* of the heading that begins with it and may begin a chunk; else 0 */
    bool heading;     /* part of one */
};

struct atom_heading {
    uint32_t parent; /* number of the heading above */
    uint32_t rank;
    size_t title_at; /* in titles */
    size_t title_len;
};

struct atom_reader {
    struct slice text;
    struct token_counter words;
    uint32_t max_tokens;  /* of a chunk */
    uint32_t most_tokens; /* of a word that is one atom */
    struct block_reader blocks;
    struct block block; /* the one that the reader is in */
    bool in_block;
    bool behind_heading; /* what was read last is one */
    size_t covered;      /* the last word's end */
    size_t sentence;     /* the next sentence's begin, in prose */
    struct atom *window; /* atoms first to first + count - 1 of the text */
    size_t begin;        /* where in `window` they begin */
    size_t first;
    size_t count;
    size_t cap;
    bool at_end;
    bool failed; /* for memory; nothing can be asked any more */
    struct atom_heading *headings; /* [0] is none */
    uint32_t num_headings;
    uint32_t headings_cap;
    struct buf titles;
    uint64_t steps; /* how many atoms were read: a measure of work */
};

/* vocabulary NULL: tokens are estimated. text is valid UTF-8 and stays the caller's. */
void atom_reader_init(struct atom_reader *r, struct slice text, enum text_format format, const struct wordpiece *vocabulary,
                      uint32_t max_tokens);
void atom_reader_fini(struct atom_reader *r);
/* Atom number n of the text, counted from 0. NULL: the text has no more, or memory ran out (r->failed, then *st is set). Good until the next call. */
const struct atom *atom_at(struct atom_reader *r, size_t n, struct status *st);
/* Atoms before n will not be asked for any more. */
void atoms_forget(struct atom_reader *r, size_t n);
/* Appends the titles of a section and of those above it, outermost first, with " > " between; at most max bytes, without the outermost where they are too many. */
void atom_section_path(const struct atom_reader *r, uint32_t section, size_t max, struct buf *out);

#endif
