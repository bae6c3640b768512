/*
 * blocks.h - the lines of a text, put together to paragraphs, headings and what must keep its lines.
 *
 * Plain text has paragraphs, parted by blank lines. Markdown (CommonMark's blocks, GitHub's tables, YAML and TOML front matter) has more; it is
 * read for its structure only, so nothing is wrong with any text. Where containers are nested the reading is simpler than CommonMark's: of the
 * lists that a line stands in, the innermost one's indentation is kept, and quotations are prose.
 *
 * Blocks follow one another in the text; between them are blank lines. The time is linear.
 */
#ifndef QUIRE_EMBED_BLOCKS_H
#define QUIRE_EMBED_BLOCKS_H

#include "base/buf.h"

enum text_format { TEXT_PLAIN, TEXT_MARKDOWN };

/* How good a place is to cut at, best first. */
enum cut {
    CUT_HEADING,   /* before a heading */
    CUT_PARAGRAPH, /* behind a blank line */
    CUT_ITEM,      /* before an item of a list; behind a blank line in code or in a list */
    CUT_LINE,      /* before a line that is one of its own: of code or a table, an item's item, behind a sentence's end or a hard break */
    CUT_SENTENCE,
    CUT_WORD,
    CUT_ANY,
    CUTS
};

enum block_kind {
    BLOCK_PROSE,  /* sentences, wrapped or not */
    BLOCK_LINES,  /* code, tables, HTML, front matter: lines are lines */
    BLOCK_HEADING
};

struct block {
    size_t begin; /* of its first line */
    size_t end;   /* of its last, behind the line break */
    enum block_kind kind;
    enum cut before;
    unsigned rank;      /* of a heading, 1 to 6; 0: it begins no section */
    struct slice title; /* of a heading, as it stands there */
};

struct block_reader {
    struct slice text;
    enum text_format format;
    size_t start; /* behind a byte order mark */
    size_t at;
    bool blank;         /* a blank line, or nothing, stands before `at` */
    size_t list_indent; /* column where the innermost list item's text begins; 0: in no list */
};

void block_reader_begin(struct block_reader *r, enum text_format format, struct slice text);
/* False at the end of the text. */
bool block_next(struct block_reader *r, struct block *ret);

#endif
