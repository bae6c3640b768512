/*
 * wordpiece.c - see wordpiece.h.
 *
 * The basic step reads one word at a time into the cursor, as UTF-8, normalised. What a code point is and becomes stands in
 * wordpiece_unicode.c, taken from the reference; ASCII goes by one table. Only two things are not a matter of single code points:
 *
 *   - Hangul syllables are taken apart by arithmetic (Unicode, chapter 3.12).
 *   - Marks that are kept (most are dropped) stand in the order of their combining classes, stably, as NFD wants it. Dropped
 *     ones between them change nothing about that, nor does a dropped control character, which the reference drops first.
 *
 * The WordPiece step hashes each prefix of what is left of the word once, byte by byte, and looks the longest up first. A prefix
 * that ends inside a character is no token, because tokens are whole characters. Most words are one token and one look.
 */
#include "embed/wordpiece.h"

#include "base/bytes.h"
#include "base/utf8.h"
#include "embed/wordpiece_unicode.h"

#include <stdlib.h>

#define ASCII 0x80

/* What an ASCII character is: a PIECE_ kind, or the letter that it becomes. No letter or digit is below 8. */
#define D PIECE_DROPPED
#define S PIECE_SPACE
#define P PIECE_ALONE
static const uint8_t ascii[ASCII] = {
    D,   D,   D,   D,   D,   D,   D,   D,   D,   S,   S,   D,   D,   S,   D,   D,   D,   D,   D,   D,   D,   D,
    D,   D,   D,   D,   D,   D,   D,   D,   D,   D,   S,   P,   P,   P,   P,   P,   P,   P,   P,   P,   P,   P,
    P,   P,   P,   P,   '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', P,   P,   P,   P,   P,   P,   P,   'a',
    'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w',
    'x', 'y', 'z', P,   P,   P,   P,   P,   P,   'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm',
    'n', 'o', 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', P,   P,   P,   P,   D};
#undef D
#undef S
#undef P

/* --- the vocabulary ------------------------------------------------------------------------------------------------- */

enum piece_place { PIECE_BEGINS, PIECE_GOES_ON };

static uint64_t hash_begin(enum piece_place place) {
    return place == PIECE_BEGINS ? 0x9e3779b97f4a7c15ULL : 0xc2b2ae3d27d4eb4fULL;
}

static uint64_t hash_byte(uint64_t h, uint8_t byte) {
    h = (h ^ byte) * 0xff51afd7ed558ccdULL;
    return h ^ h >> 32;
}

static uint32_t slot_of(const struct wordpiece *w, uint64_t h) {
    return (uint32_t)(h * 0x9e3779b97f4a7c15ULL >> (64 - w->slot_bits));
}

static uint32_t tag_of(uint64_t h) {
    return (uint32_t)(h & 0xffff) << 16;
}

/* A token as the table knows it: whether it goes on a word, and its letters without the mark of that. */
struct piece {
    enum piece_place place;
    const uint8_t *data;
    uint32_t len;
};

static struct piece piece_of(const struct wordpiece *w, uint32_t token) {
    uint32_t begin = token == 0 ? 0 : load_u32le(w->ends + (size_t)(token - 1) * sizeof(uint32_t));
    uint32_t end = load_u32le(w->ends + (size_t)token * sizeof(uint32_t));
    const uint8_t *data = w->bytes + begin;
    if (end - begin > 2 && data[0] == '#' && data[1] == '#') {
        return (struct piece){PIECE_GOES_ON, data + 2, end - begin - 2};
    }
    return (struct piece){PIECE_BEGINS, data, end - begin};
}

static bool piece_equal(struct piece a, struct piece b) {
    return a.place == b.place && a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

/* The piece's slot, or the empty one where it would stand. */
static uint32_t find_slot(const struct wordpiece *w, struct piece piece, uint64_t h) {
    uint32_t mask = (1U << w->slot_bits) - 1;
    uint32_t at = slot_of(w, h);
    while (w->slots[at] != 0) {
        if ((w->slots[at] & 0xffff0000U) == tag_of(h) && piece_equal(piece_of(w, (w->slots[at] & 0xffff) - 1), piece)) {
            break;
        }
        at = (at + 1) & mask;
    }
    return at;
}

static bool add_token(struct wordpiece *w, uint32_t token, struct status *st) {
    struct piece piece = piece_of(w, token);
    uint64_t h = hash_begin(piece.place);
    for (uint32_t i = 0; i < piece.len; i++) {
        h = hash_byte(h, piece.data[i]);
    }
    uint32_t at = find_slot(w, piece, h);
    if (w->slots[at] != 0) {
        return status_set(st, STATUS_CORRUPT, "the vocabulary has token %u twice", token);
    }
    w->slots[at] = tag_of(h) | (token + 1);
    w->longest = piece.len > w->longest ? piece.len : w->longest;
    return true;
}

static bool ends_fit(struct slice bytes, struct slice ends, struct status *st) {
    uint32_t begin = 0;
    for (size_t i = 0; i < ends.len; i += sizeof(uint32_t)) {
        uint32_t end = load_u32le(ends.data + i);
        if (end <= begin || end > bytes.len || end - begin > WORDPIECE_TOKEN_BYTES_MAX) {
            return status_set(st, STATUS_CORRUPT, "the vocabulary's token %zu has no text or too long a one", i / sizeof(uint32_t));
        }
        begin = end;
    }
    return begin == bytes.len || status_set(st, STATUS_CORRUPT, "the vocabulary has bytes behind its last token");
}

bool wordpiece_init(struct wordpiece *w, struct slice bytes, struct slice ends, struct status *st) {
    const unsigned least_bits = 4;
    size_t count = ends.len / sizeof(uint32_t);
    if (count == 0 || count > WORDPIECE_VOCABULARY_MAX || ends.len % sizeof(uint32_t) != 0) {
        return status_set(st, STATUS_CORRUPT, "a vocabulary has 1 to %d tokens, this one %zu", WORDPIECE_VOCABULARY_MAX, count);
    }
    if (!ends_fit(bytes, ends, st)) {
        return false;
    }
    struct wordpiece made = {.bytes = bytes.data, .ends = ends.data, .count = (uint32_t)count, .slot_bits = least_bits};
    while ((size_t)1 << made.slot_bits < 2 * count) {
        made.slot_bits++;
    }
    made.slots = (uint32_t *)calloc((size_t)1 << made.slot_bits, sizeof(uint32_t));
    if (made.slots == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t token = 0; token < made.count; token++) {
        if (!add_token(&made, token, st)) {
            wordpiece_fini(&made);
            return false;
        }
    }
    *w = made;
    return true;
}

void wordpiece_fini(struct wordpiece *w) {
    if (w != NULL) {
        free(w->slots);
        *w = (struct wordpiece){0};
    }
}

/* The longest token that a piece begins with, or WORDPIECE_UNKNOWN; *ret_len: its bytes. */
static uint32_t longest_token(const struct wordpiece *w, struct piece piece, uint32_t *ret_len) {
    uint64_t hashes[WORDPIECE_TOKEN_BYTES_MAX];
    uint32_t limit = piece.len < w->longest ? piece.len : w->longest;
    uint64_t h = hash_begin(piece.place);
    for (uint32_t i = 0; i < limit; i++) {
        h = hash_byte(h, piece.data[i]);
        hashes[i] = h;
    }
    for (uint32_t len = limit; len > 0; len--) {
        piece.len = len;
        uint32_t slot = w->slots[find_slot(w, piece, hashes[len - 1])];
        if (slot != 0) {
            *ret_len = len;
            return (slot & 0xffff) - 1;
        }
    }
    return WORDPIECE_UNKNOWN;
}

static uint32_t tokens_of_word(const struct wordpiece_cursor *c, uint32_t *tokens) {
    uint32_t count = 0;
    uint32_t at = 0;
    enum piece_place place = PIECE_BEGINS;
    if (c->length > WORDPIECE_WORD_MAX) {
        tokens[0] = WORDPIECE_UNKNOWN;
        return 1;
    }
    while (at < c->bytes) {
        uint32_t len = 0;
        uint32_t token = longest_token(c->vocabulary, (struct piece){place, c->word + at, c->bytes - at}, &len);
        if (token == WORDPIECE_UNKNOWN) {
            tokens[0] = WORDPIECE_UNKNOWN;
            return 1;
        }
        tokens[count++] = token;
        at += len;
        place = PIECE_GOES_ON;
    }
    return count;
}

/* --- code points ---------------------------------------------------------------------------------------------------- */

static unsigned kind_of(uint32_t code_point) {
    if (code_point < ASCII) {
        return ascii[code_point] < PIECE_CLASS_LEAST ? ascii[code_point] : PIECE_LETTER;
    }
    size_t low = 0;
    size_t high = piece_kind_run_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code_point > piece_kind_runs[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < piece_kind_run_count && code_point >= piece_kind_runs[low].first ? piece_kind_runs[low].kind : PIECE_LETTER;
}

static uint32_t shifted(uint32_t code_point) {
    size_t low = 0;
    size_t high = piece_shift_run_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code_point > piece_shift_runs[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct piece_shift_run *run = &piece_shift_runs[low];
    if (low == piece_shift_run_count || code_point < run->first || (code_point - run->first) % run->step != 0) {
        return code_point;
    }
    return (uint32_t)((int32_t)code_point + run->shift);
}

static unsigned hangul_letters(uint32_t syllable, uint32_t out[PIECE_LETTERS_MAX]) {
    const uint32_t leading = 0x1100;
    const uint32_t vowel = 0x1161;
    const uint32_t trailing = 0x11a7; /* one before the first: no trailing consonant */
    const uint32_t trailings = 28;
    const uint32_t with_leading = 21 * trailings;
    out[0] = leading + syllable / with_leading;
    out[1] = vowel + syllable % with_leading / trailings;
    out[2] = trailing + syllable % trailings;
    return out[2] == trailing ? 2 : 3;
}

/* What a code point becomes. Returns how many. */
static unsigned letters_of(uint32_t code_point, uint32_t out[PIECE_LETTERS_MAX]) {
    const uint32_t hangul = 0xac00;
    const uint32_t hangul_last = 0xd7a3;
    if (code_point >= hangul && code_point <= hangul_last) {
        return hangul_letters(code_point - hangul, out);
    }
    for (size_t i = 0; i < piece_letters_count && piece_letters[i].code_point <= code_point; i++) {
        if (piece_letters[i].code_point == code_point) {
            unsigned count = 0;
            for (; count < PIECE_LETTERS_MAX && piece_letters[i].letters[count] != 0; count++) {
                out[count] = piece_letters[i].letters[count];
            }
            return count;
        }
    }
    out[0] = shifted(code_point);
    return 1;
}

/* --- words ---------------------------------------------------------------------------------------------------------- */

static uint32_t utf8_put(uint32_t c, uint8_t out[4]) {
    const uint32_t two_bytes = 0x800;
    const uint32_t three_bytes = 0x10000;
    if (c < ASCII) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < two_bytes) {
        out[0] = (uint8_t)(0xc0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < three_bytes) {
        out[0] = (uint8_t)(0xe0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (c & 0x3f));
    return 4;
}

/* Where in the word a mark of this class belongs: before those of a higher class at its end. */
static uint32_t place_of_mark(const struct wordpiece_cursor *c, unsigned class) {
    uint32_t at = c->bytes;
    while (at > 0) {
        uint32_t before = at - 1;
        while (before > 0 && (c->word[before] & 0xc0) == 0x80) {
            before--;
        }
        size_t next = before;
        if (kind_of(utf8_next(slice_of(c->word, c->bytes), &next)) <= class) {
            break;
        }
        at = before;
    }
    return at;
}

/* `class` is 0 but for a mark. Of a word that is too long nothing but its length is wanted any more. */
static void put_letter(struct wordpiece_cursor *c, uint32_t letter, unsigned class) {
    uint8_t encoded[4];
    if (++c->length > WORDPIECE_WORD_MAX) {
        c->length = WORDPIECE_WORD_MAX + 1;
        return;
    }
    uint32_t len = utf8_put(letter, encoded);
    uint32_t at = class == 0 ? c->bytes : place_of_mark(c, class);
    memmove(c->word + at + len, c->word + at, c->bytes - at);
    memcpy(c->word + at, encoded, len);
    c->bytes += len;
}

static void put_code_point(struct wordpiece_cursor *c, uint32_t code_point, unsigned kind) {
    uint32_t letters[PIECE_LETTERS_MAX];
    if (kind >= PIECE_CLASS_LEAST) {
        put_letter(c, code_point, kind);
        return;
    }
    unsigned count = letters_of(code_point, letters);
    for (unsigned i = 0; i < count; i++) {
        unsigned class = count > 1 ? kind_of(letters[i]) : 0;
        put_letter(c, letters[i], class >= PIECE_CLASS_LEAST ? class : 0);
    }
}

/* Reads letters for as long as they are ASCII. */
static void read_ascii(struct wordpiece_cursor *c) {
    const uint8_t *text = c->text.data;
    while (c->at < c->text.len && text[c->at] < ASCII && ascii[text[c->at]] >= PIECE_CLASS_LEAST && c->length < WORDPIECE_WORD_MAX) {
        c->word[c->bytes++] = ascii[text[c->at++]];
        c->length++;
    }
}

/* Reads the next word, false at the end of the text. */
static bool read_word(struct wordpiece_cursor *c) {
    c->length = 0;
    c->bytes = 0;
    for (;;) {
        if (c->length == 0) {
            c->begin = c->at;
        }
        read_ascii(c);
        if (c->at == c->text.len) {
            return c->length > 0;
        }
        size_t next = c->at;
        uint32_t code_point = utf8_next(c->text, &next);
        unsigned kind = kind_of(code_point);
        if (kind == PIECE_SPACE || kind == PIECE_ALONE) {
            if (c->length > 0) {
                return true;
            }
            c->at = next;
            if (kind == PIECE_ALONE) {
                put_code_point(c, code_point, kind);
                return true;
            }
            continue;
        }
        c->at = next;
        if (kind != PIECE_DROPPED) {
            put_code_point(c, code_point, kind);
        }
    }
}

void wordpiece_begin(struct wordpiece_cursor *c, const struct wordpiece *vocabulary, struct slice text) {
    c->vocabulary = vocabulary;
    c->text = text;
    c->at = 0;
}

uint32_t wordpiece_next(struct wordpiece_cursor *c, uint32_t tokens[WORDPIECE_WORD_MAX]) {
    return read_word(c) ? tokens_of_word(c, tokens) : 0;
}
