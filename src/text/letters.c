/*
 * letters.c - classes of code points, and folding by utf8proc.
 *
 * "Marks off" is meant for scripts that can be written without them: Latin, Greek, Cyrillic, Hebrew, Arabic. The vowel signs of Devanagari or Thai
 * are letters in all but name and stay. So does the breve of Cyrillic (й is not и to any reader, nor to the Russian stemmer), and the voicing marks of kana,
 * which lie outside the ranges.
 */
#include "text/letters.h"

#include "base/utf8.h"

#include <utf8proc.h>

#define APOSTROPHE 0x27U
#define RIGHT_QUOTE 0x2019U
#define FULLWIDTH_APOSTROPHE 0xff07U
#define FULL_STOP 0x2eU
#define FULLWIDTH_STOP 0xff0eU
#define MIDDLE_DOT 0xb7U
#define COMBINING_BREVE 0x306U

struct range {
    uint32_t first;
    uint32_t last;
};

/* Ideographs and kana, which are written without spaces. Ascending. */
static const struct range alone[] = {
    {0x3005, 0x3007}, {0x3021, 0x3029}, {0x3041, 0x3098}, {0x309b, 0x30ff},   {0x31f0, 0x31ff},   {0x3400, 0x4dbf},
    {0x4e00, 0x9fff}, {0xf900, 0xfaff}, {0xff66, 0xff9d}, {0x1b000, 0x1b16f}, {0x20000, 0x3fffd},
};
/* Marks that are taken off. */
static const struct range strippable[] = {
    {0x300, 0x36f}, {0x483, 0x489}, {0x591, 0x5bd}, {0x5bf, 0x5bf},   {0x5c1, 0x5c2},   {0x5c4, 0x5c5},   {0x610, 0x61a},
    {0x64b, 0x65f}, {0x670, 0x670}, {0x6d6, 0x6ed}, {0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x20d0, 0x20ff}, {0xfe20, 0xfe2f},
};

static bool within(const struct range *ranges, size_t count, uint32_t code_point) {
    for (size_t i = 0; i < count && ranges[i].first <= code_point; i++) {
        if (code_point <= ranges[i].last) {
            return true;
        }
    }
    return false;
}

enum letter_kind letter_kind(uint32_t code_point) {
    if (code_point == APOSTROPHE || code_point == RIGHT_QUOTE || code_point == FULLWIDTH_APOSTROPHE || code_point == FULL_STOP ||
        code_point == FULLWIDTH_STOP || code_point == MIDDLE_DOT) {
        return LETTER_JOINER;
    }
    if (within(alone, sizeof alone / sizeof *alone, code_point)) {
        return LETTER_ALONE;
    }
    switch (utf8proc_category((utf8proc_int32_t)code_point)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return LETTER_WORD;
    case UTF8PROC_CATEGORY_LM:
        /* Voicing marks of halfwidth kana belong to the kana before. */
        return code_point == 0xff9e || code_point == 0xff9f ? LETTER_MARK : LETTER_WORD;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
        return LETTER_MARK;
    default:
        return LETTER_NONE;
    }
}

/* Leaves in `points` only what belongs to a word; returns how many. Joiners count between others only. */
static size_t keep_word(utf8proc_int32_t *points, size_t count) {
    size_t kept = 0;
    uint32_t base = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t p = (uint32_t)points[i];
        enum letter_kind kind = letter_kind(p);
        bool cyrillic_breve = p == COMBINING_BREVE && base >= 0x400 && base < 0x530;
        if (kind == LETTER_NONE || (within(strippable, sizeof strippable / sizeof *strippable, p) && !cyrillic_breve)) {
            continue;
        }
        if (kind != LETTER_MARK) {
            base = p;
        }
        if (kind == LETTER_JOINER) {
            if (kept == 0 || letter_kind((uint32_t)points[kept - 1]) == LETTER_JOINER) {
                continue;
            }
            p = p == FULL_STOP || p == FULLWIDTH_STOP || p == MIDDLE_DOT ? FULL_STOP : APOSTROPHE;
        }
        points[kept++] = (utf8proc_int32_t)p;
    }
    while (kept > 0 && letter_kind((uint32_t)points[kept - 1]) == LETTER_JOINER) {
        kept--;
    }
    return kept;
}

size_t fold_word(struct slice word, uint8_t out[FOLDED_BYTES_MAX], size_t max) {
    /* One code point decomposes to at most 18 (U+FDFA); utf8proc says when there is no room, and the word is cut then. */
    utf8proc_int32_t points[2 * FOLD_INPUT_MAX];
    utf8proc_option_t options = UTF8PROC_COMPAT | UTF8PROC_CASEFOLD | UTF8PROC_IGNORE | UTF8PROC_DECOMPOSE;
    utf8proc_ssize_t room = 2 * FOLD_INPUT_MAX - 1; /* reencoding wants one more for a NUL */
    size_t count = 0;
    int boundary = 0;

    word.len = utf8_prefix(word, FOLD_INPUT_MAX);
    for (size_t at = 0; at < word.len;) {
        utf8proc_ssize_t made = utf8proc_decompose_char((utf8proc_int32_t)utf8_next(word, &at), points + count,
                                                        room - (utf8proc_ssize_t)count, options, &boundary);
        if (made < 0 || made > room - (utf8proc_ssize_t)count) {
            break;
        }
        count += (size_t)made;
    }
    count = keep_word(points, count);
    utf8proc_ssize_t composed = utf8proc_normalize_utf32(points, (utf8proc_ssize_t)count, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    size_t length = 0;
    for (utf8proc_ssize_t i = 0; i < composed; i++) {
        utf8proc_uint8_t encoded[4];
        size_t bytes = (size_t)utf8proc_encode_char(points[i], encoded);
        if (length + bytes > max) {
            break;
        }
        memcpy(out + length, encoded, bytes);
        length += bytes;
    }
    return length;
}
