/* words.c - see words.h. ASCII goes through one table; everything else through letters.c. */
#include "embed/words.h"

#include "base/utf8.h"
#include "embed/letters.h"

/* The folded letter or digit; 0 ends a word. */
static const uint8_t ascii_letter[128] = {
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q',
    ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
    ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',
    ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z'};

struct word_cursor word_cursor_of(struct slice text, uint32_t *letters) {
    return (struct word_cursor){.text = text, .letters = letters};
}

/* One multiplication a letter, then a mix after xxHash's avalanche; hash64 of base would need the letters as bytes. */
static uint64_t hash_letters(enum word_kind kind, const uint32_t *letters, uint32_t count) {
    uint64_t h = 0x9e3779b97f4a7c15ULL + (uint64_t)kind;
    for (uint32_t i = 0; i < count; i++) {
        h = (h ^ letters[i]) * 0xc2b2ae3d27d4eb4fULL;
        h ^= h >> 29;
    }
    h *= 0x165667b19e3779f9ULL;
    return h ^ h >> 32;
}

static bool yield(struct word_cursor *c, enum word_kind kind, uint32_t begin, struct word *ret) {
    uint32_t length = c->count - begin;
    *ret = (struct word){kind, begin, length, hash_letters(kind, c->letters + begin, length)};
    return true;
}

/* Reads the letters of a word. The cursor stops before the first character that is not part of it. */
static void read_plain(struct word_cursor *c) {
    while (c->at < c->text.len) {
        uint8_t byte = c->text.data[c->at];
        if (byte < 0x80) {
            if (ascii_letter[byte] == 0) {
                return;
            }
            c->letters[c->count++] = ascii_letter[byte];
            c->at++;
            continue;
        }
        size_t next = c->at;
        uint32_t code_point = utf8_next(c->text, &next);
        enum letter_class class = letter_class_of(code_point);
        if (class == LETTER_WORD) {
            uint32_t folded[LETTER_FOLD_MAX];
            unsigned count = letter_fold(code_point, folded);
            for (unsigned i = 0; i < count; i++) {
                c->letters[c->count++] = folded[i];
            }
        } else if (class != LETTER_MARK) {
            return;
        }
        c->at = next;
    }
}

bool word_next(struct word_cursor *c, struct word *ret) {
    if (c->pair_waiting) {
        c->pair_waiting = false;
        return yield(c, WORD_PAIR, c->count - 2, ret);
    }
    while (c->at < c->text.len) {
        uint32_t begin = c->count;
        read_plain(c);
        if (c->count > begin) {
            c->after_alone = false;
            return yield(c, WORD_PLAIN, begin, ret);
        }
        if (c->at == c->text.len) {
            break;
        }
        uint32_t code_point = utf8_next(c->text, &c->at);
        if (letter_class_of(code_point) == LETTER_ALONE) {
            c->letters[c->count++] = code_point;
            c->pair_waiting = c->after_alone;
            c->after_alone = true;
            return yield(c, WORD_ALONE, begin, ret);
        }
        c->after_alone = false;
    }
    return false;
}
