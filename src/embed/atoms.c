/*
 * atoms.c - see atoms.h.
 *
 * Three readers go along the text: words, whose gaps are looked at for line breaks; blocks, which say what a line break means; and sentences,
 * within the prose of a block. None goes back, so the time is linear.
 *
 * In prose a line break is a blank to the sentence rules, because people and programs wrap lines. UAX 29 would end a sentence at each; in plain text one is
 * ended where the next line does not begin with a small letter, and in Markdown, whose line breaks are blanks, not at all.
 */
#include "embed/atoms.h"

#include "base/utf8.h"
#include "embed/markdown.h"
#include "embed/segments.h"

#include <stdlib.h>

#define ASCII 0x80
#define ATOM_MAX_LETTERS 64
#define ATOM_MAX_BYTES 256
#define TITLE_MAX_BYTES 200
#define WINDOW_LEAST 64

void atom_reader_init(struct atom_reader *r, struct slice text, enum text_format format, const struct wordpiece *vocabulary,
                      uint32_t max_tokens) {
    *r = (struct atom_reader){.text = text, .max_tokens = max_tokens, .most_tokens = max_tokens > 1 ? max_tokens / 2 : 1};
    token_counter_begin(&r->words, vocabulary, text);
    block_reader_begin(&r->blocks, format, text);
    buf_init(&r->titles);
}

void atom_reader_fini(struct atom_reader *r) {
    free(r->window);
    free(r->headings);
    buf_fini(&r->titles);
}

/* --- the window ----------------------------------------------------------------------------------------------------- */

void atoms_forget(struct atom_reader *r, size_t n) {
    size_t gone = n - r->first < r->count ? n - r->first : r->count;
    r->begin += gone;
    r->first += gone;
    r->count -= gone;
}

static bool window_room(struct atom_reader *r, struct status *st) {
    if (r->begin + r->count < r->cap) {
        return true;
    }
    if (r->begin > r->cap / 2) { /* moved at most once for each atom forgotten */
        memmove(r->window, r->window + r->begin, r->count * sizeof *r->window);
        r->begin = 0;
        return true;
    }
    size_t cap = r->cap == 0 ? WINDOW_LEAST : 2 * r->cap;
    struct atom *grown = (struct atom *)realloc(r->window, cap * sizeof *grown);
    if (grown == NULL) {
        return status_no_memory(st);
    }
    r->window = grown;
    r->cap = cap;
    return true;
}

static struct atom *last_atom(struct atom_reader *r) {
    return r->count == 0 ? NULL : &r->window[r->begin + r->count - 1];
}

static bool add_atom(struct atom_reader *r, size_t begin, uint32_t tokens, enum cut before, struct status *st) {
    if (!window_room(r, st)) {
        return false;
    }
    r->window[r->begin + r->count++] = (struct atom){.begin = begin,
                                                     .tokens = tokens > 0 ? tokens : 1,
                                                     .section = r->num_headings > 0 ? r->num_headings - 1 : 0,
                                                     .before = (uint8_t)before,
                                                     .heading = r->in_block && r->block.kind == BLOCK_HEADING};
    r->steps++;
    return true;
}

/* --- headings ------------------------------------------------------------------------------------------------------- */

static bool headings_room(struct atom_reader *r, struct status *st) {
    const uint32_t least = 16;
    if (r->num_headings < r->headings_cap) {
        return true;
    }
    uint32_t cap = r->headings_cap == 0 ? least : 2 * r->headings_cap;
    struct atom_heading *grown = (struct atom_heading *)realloc(r->headings, cap * sizeof *grown);
    if (grown == NULL) {
        return status_no_memory(st);
    }
    r->headings = grown;
    r->headings_cap = cap;
    if (r->num_headings == 0) {
        r->headings[r->num_headings++] = (struct atom_heading){0};
    }
    return true;
}

static bool enter_section(struct atom_reader *r, const struct block *b, struct status *st) {
    if (!headings_room(r, st)) {
        return false;
    }
    uint32_t parent = r->num_headings - 1;
    while (r->headings[parent].rank >= b->rank) {
        parent = r->headings[parent].parent;
    }
    size_t at = r->titles.len;
    markdown_title(b->title, TITLE_MAX_BYTES, &r->titles);
    r->headings[r->num_headings++] = (struct atom_heading){parent, b->rank, at, r->titles.len - at};
    return buf_check(&r->titles, st);
}

void atom_section_path(const struct atom_reader *r, uint32_t section, size_t max, struct buf *out) {
    static const char between[] = " > ";
    uint32_t path[8]; /* ranks ascend from 1 to 6 */
    size_t depth = 0;
    size_t len = 0;
    for (; section > 0; section = r->headings[section].parent) {
        size_t title = r->headings[section].title_len;
        if (title > 0 && len + title + sizeof between <= max) {
            path[depth++] = section;
            len += title + sizeof between;
        }
    }
    for (size_t i = depth; i > 0; i--) {
        const struct atom_heading *h = &r->headings[path[i - 1]];
        buf_put(out, r->titles.data + h->title_at, h->title_len);
        buf_put_str(out, i > 1 ? between : "");
    }
}

/* --- how good a cut is ---------------------------------------------------------------------------------------------- */

/* Makes the block in which `at` stands the reader's. *ret_before: the best cut before it, and before those without a word that were stepped over. */
static bool enter_block(struct atom_reader *r, size_t at, enum cut *ret_before, unsigned *ret_rank, struct status *st) {
    *ret_before = CUTS;
    *ret_rank = 0;
    while (!r->in_block || r->block.end <= at) {
        r->behind_heading = r->in_block && r->block.kind == BLOCK_HEADING;
        r->in_block = block_next(&r->blocks, &r->block);
        if (!r->in_block) {
            return true;
        }
        *ret_before = r->block.before < *ret_before ? r->block.before : *ret_before;
        *ret_rank = r->block.before == CUT_HEADING ? r->block.rank : *ret_rank;
        r->sentence = r->block.begin;
        if (r->block.kind == BLOCK_HEADING && r->block.rank > 0 && !enter_section(r, &r->block, st)) {
            return false;
        }
    }
    return true;
}

/* Whether a sentence begins behind the last word and at `at` or before. Moves on to the next. */
static bool sentence_begins(struct atom_reader *r, size_t at) {
    bool begins = false;
    while (r->sentence <= at) {
        begins = r->sentence >= r->covered;
        r->sentence = sentence_end(slice_of(r->text.data, r->block.end), r->sentence, LINES_ARE_WRAPPED);
    }
    return begins;
}

static bool small_letter_at(const struct atom_reader *r, size_t at) {
    return segment_kind_of(utf8_next(r->text, &at)).sentence == SENTENCE_LOWER;
}

/* The line break at `newline` in prose: hard, or only a blank? */
static enum cut cut_at_wrap(const struct atom_reader *r, size_t newline, size_t at, bool sentence) {
    size_t line_end = newline > 0 && r->text.data[newline - 1] == '\r' ? newline - 1 : newline;
    if (r->blocks.format == TEXT_MARKDOWN) {
        const uint8_t *end = r->text.data + line_end;
        bool hard = line_end >= 2 && (end[-1] == '\\' || (end[-1] == ' ' && end[-2] == ' '));
        return hard ? CUT_LINE : (sentence ? CUT_SENTENCE : CUT_WORD);
    }
    return sentence ? CUT_LINE : (small_letter_at(r, at) ? CUT_WORD : CUT_SENTENCE);
}

static enum cut cut_at_line(const struct atom_reader *r, struct slice gap) {
    const uint8_t *first = (const uint8_t *)memchr(gap.data, '\n', gap.len);
    const uint8_t *last = (const uint8_t *)memrchr(gap.data, '\n', gap.len);
    bool blank = last > first;
    return r->block.kind == BLOCK_LINES && blank ? CUT_ITEM : CUT_LINE;
}

/* Within a block, before the word at `at`; `newline`: the last one in the gap before it, or `at`. */
static enum cut cut_within(struct atom_reader *r, size_t newline, size_t at) {
    bool broken = newline < at;
    bool gap = r->covered < at;
    if (!r->in_block || r->block.kind == BLOCK_HEADING) {
        return CUT_ANY;
    }
    if (r->block.kind == BLOCK_LINES) {
        return broken ? cut_at_line(r, slice_of(r->text.data + r->covered, at - r->covered)) : (gap ? CUT_WORD : CUT_ANY);
    }
    bool sentence = sentence_begins(r, at);
    if (broken) {
        return cut_at_wrap(r, newline, at, sentence);
    }
    if (sentence) {
        return CUT_SENTENCE;
    }
    size_t next = at;
    bool letter = r->text.data[at] >= ASCII && segment_kind_of(utf8_next(r->text, &next)).sentence == SENTENCE_LETTER;
    return gap || letter ? CUT_WORD : CUT_ANY; /* scripts without spaces have their words side by side */
}

static enum cut cut_at_block(const struct atom_reader *r, enum cut before) {
    if (!r->behind_heading) {
        return before;
    }
    return r->in_block && r->block.kind == BLOCK_HEADING ? CUT_LINE : CUT_ANY; /* nothing is parted from its heading */
}

/* --- atoms ---------------------------------------------------------------------------------------------------------- */

/* Where an atom for the word at `at` begins: with its line, or with a character that its cluster begins with, though the model drops it. */
static size_t atom_begin(const struct atom_reader *r, size_t newline, size_t at) {
    if (newline < at) {
        return at - newline <= ATOM_MAX_BYTES ? newline + 1 : at;
    }
    while (at > r->covered && r->text.data[at - 1] >= ASCII) {
        size_t before = at - 1;
        while (before > r->covered && (r->text.data[before] & 0xc0) == 0x80) {
            before--;
        }
        size_t next = before;
        if (segment_kind_of(utf8_next(r->text, &next)).cluster != CLUSTER_PREPEND) {
            break;
        }
        at = before;
    }
    return at;
}

static bool too_long(const struct atom_reader *r, const struct counted_word *w) {
    return w->tokens > r->most_tokens || w->letters > ATOM_MAX_LETTERS || w->end - w->begin > ATOM_MAX_BYTES;
}

/* What the model has of a part of a word: no more tokens come of it. */
static uint32_t letters_of(const struct atom_reader *r, struct slice part) {
    struct token_counter words;
    struct counted_word w;
    uint32_t letters = 0;
    token_counter_begin(&words, r->words.cursor.vocabulary, part);
    while (token_counter_next(&words, &w)) {
        letters += w.letters;
    }
    return letters;
}

/* Whether the last atom's last cluster goes on at `at`. *ret_begin: where that begins. */
static bool inside_cluster(struct atom_reader *r, size_t at, size_t *ret_begin) {
    const struct atom *last = last_atom(r);
    if (last == NULL || at - last->begin > ATOM_MAX_BYTES || (r->text.data[at] < ASCII && r->text.data[at - 1] < ASCII)) {
        return false;
    }
    struct slice near = slice_of(r->text.data, r->text.len - at > ATOM_MAX_BYTES ? at + ATOM_MAX_BYTES : r->text.len);
    size_t end = last->begin;
    do {
        *ret_begin = end;
        end = cluster_end(near, end);
    } while (end < at);
    return end > at;
}

/* The end of the cluster at `at`, or of that much of it as an atom may have. */
static size_t part_end(const struct atom_reader *r, size_t at, size_t end) {
    size_t most = at + utf8_prefix(slice_of(r->text.data + at, end - at), ATOM_MAX_LETTERS);
    return cluster_end(slice_of(r->text.data, most), at);
}

/* Behind that much of a gap as an atom may have. */
static size_t gap_part_end(const struct atom_reader *r, size_t at, size_t end) {
    size_t part = at + utf8_prefix(slice_of(r->text.data + at, end - at), ATOM_MAX_BYTES);
    bool pair = part < end && part > at + 1 && r->text.data[part] == '\n' && r->text.data[part - 1] == '\r';
    return pair ? part - 1 : part;
}

/* What stands between two words belongs to the first of them, but where there is much of it. */
static bool add_gap(struct atom_reader *r, size_t end, struct status *st) {
    size_t at = r->covered;
    if (r->first + r->count > 0 && at < end) {
        at = gap_part_end(r, at, end);
    }
    while (at < end) {
        if (!add_atom(r, at, 1, CUT_ANY, st)) {
            return false;
        }
        at = gap_part_end(r, at, end);
    }
    return true;
}

static struct counted_word first_part(const struct atom_reader *r, const struct counted_word *w) {
    struct counted_word part = {.begin = w->begin, .end = part_end(r, w->begin, w->end)};
    part.letters = part.end == part.begin + 1 ? 1 : letters_of(r, slice_of(r->text.data + part.begin, part.end - part.begin));
    part.tokens = part.letters;
    return part;
}

/* What the last atom may have besides, when it is not for the cluster alone. */
static bool fits(struct atom_reader *r, const struct counted_word *part) {
    return last_atom(r)->tokens + part->tokens <= r->max_tokens;
}

/* With what stands before it since the last word; `newline` is the last line break in that, or where the word begins. *ret: how much of the word was added. */
static bool begin_word(struct atom_reader *r, const struct counted_word *w, size_t newline, enum cut before, struct counted_word *ret, struct status *st) {
    size_t begin = atom_begin(r, newline, w->begin);
    size_t cluster = 0;
    bool goes_on = newline == w->begin && inside_cluster(r, begin, &cluster);
    *ret = too_long(r, w) || (goes_on && !fits(r, w)) ? first_part(r, w) : *w;
    if (goes_on) {
        struct atom *last = last_atom(r);
        if (fits(r, ret) || letters_of(r, slice_of(r->text.data + last->begin, cluster - last->begin)) == 0) {
            last->tokens += ret->tokens;
            return true;
        }
        uint32_t letters = letters_of(r, slice_of(r->text.data + cluster, begin - cluster)); /* the last atom loses its last cluster */
        return add_atom(r, cluster, letters + ret->tokens, CUT_ANY, st);
    }
    bool leading = r->first + r->count == 0 && begin <= ATOM_MAX_BYTES; /* the text's first atom takes what stands before it along */
    return (leading || add_gap(r, begin, st)) && add_atom(r, leading ? 0 : begin, ret->tokens, before, st);
}

static bool add_word(struct atom_reader *r, const struct counted_word *w, struct status *st) {
    struct slice gap = slice_of(r->text.data + r->covered, w->begin - r->covered);
    const uint8_t *found = gap.len > 0 ? (const uint8_t *)memrchr(gap.data, '\n', gap.len) : NULL;
    size_t newline = found == NULL ? w->begin : (size_t)(found - r->text.data);
    enum cut before = CUTS;
    unsigned rank = 0;
    if (!enter_block(r, w->begin, &before, &rank, st)) {
        return false;
    }
    before = before < CUTS ? cut_at_block(r, before) : cut_within(r, newline, w->begin);
    struct counted_word part;
    if (!begin_word(r, w, newline, before, &part, st)) {
        return false;
    }
    if (before == CUT_HEADING) {
        last_atom(r)->rank = (uint8_t)rank;
    }
    while (part.end < w->end) {
        const struct counted_word rest = {.begin = part.end, .end = w->end};
        part = first_part(r, &rest);
        if (!add_atom(r, part.begin, part.tokens, CUT_ANY, st)) {
            return false;
        }
    }
    r->covered = w->end;
    return true;
}

static void read_more(struct atom_reader *r, struct status *st) {
    struct counted_word w;
    r->at_end = !token_counter_next(&r->words, &w);
    r->failed = !(r->at_end ? add_gap(r, r->text.len, st) : add_word(r, &w, st));
}

/* The last atom may grow, so it is given out when another stands behind it. */
const struct atom *atom_at(struct atom_reader *r, size_t n, struct status *st) {
    while (n + 1 >= r->first + r->count && !r->at_end && !r->failed) {
        read_more(r, st);
    }
    return r->failed || n >= r->first + r->count ? NULL : &r->window[r->begin + (n - r->first)];
}
