/*
 * analyzer.c - words, folding, stop words, stems; distinct terms with their counts.
 *
 * Nearly all words of most texts are plain ASCII or were met before, so these are what is made fast: ASCII is folded by a table while the end of the word
 * is looked for, and what became of a word (its stem and the stem's hash, or nothing) stands in a cache of fixed size, under the folded bytes for
 * ASCII, under the raw ones for others, whose folding costs a microsecond. Stemming takes a quarter of a microsecond, a hit in the cache a tenth of that.
 *
 * Nothing fails after analyzer_reserve: a text of n bytes has at most n / 3 distinct terms and some (terms of one byte are few, all others take three
 * bytes of text with what separates them), a word's term is cut at four times its bytes, and the stemmer has been given its room by a long word.
 */
#include "text/analyzer.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "text/language.h"
#include "text/letters.h"

#include <libstemmer.h>
#include <stdlib.h>

#define TERM_HASH_SEED 0
#define ONE_BYTE_TERMS 64   /* at least as many as there are ASCII letters and digits */
#define BYTES_PER_TERM 3    /* of text, for all other terms */
#define GROWTH_OF_FOLDING 4 /* a term's bytes are at most so many times its word's */
#define CACHE_ENTRIES 8192U /* a power of two */
#define CACHED_BYTES 38
#define STOP_WORDS_MAX 512U /* a power of two, over twice the longest list */
#define FIRST_TEXT_BYTES 4096
#define ELISION_BYTES_MAX 8

_Static_assert(TERM_BYTES_MAX == FOLDED_BYTES_MAX, "a folded word is a term at most");

struct cached {
    uint64_t key_hash; /* 0: empty */
    uint64_t term_hash;
    uint8_t key_length;
    uint8_t term_length; /* 0: the word gives no term */
    uint8_t key[CACHED_BYTES];
    uint8_t term[CACHED_BYTES];
};

struct seen {
    uint32_t text; /* of which text the entry is: others are empty */
    uint32_t item;
};

/* What a word becomes. */
struct outcome {
    const uint8_t *bytes;
    size_t length;
    uint64_t hash;
};

struct analyzer {
    struct sb_stemmer *stemmer; /* NULL: none */
    uint64_t *stop_hashes;      /* open addressing; 0: empty. NULL: none */
    const char *elisions;       /* language_elisions */
    struct cached *cache;
    size_t reserved; /* bytes of text */
    struct term *items;
    struct seen *seen;
    uint8_t *bytes;
    /* of the text under way */
    uint32_t text;
    uint32_t seen_mask;
    uint32_t count;
    uint32_t length;
    size_t bytes_used;
    const uint8_t *prefix_end; /* a word that ends here is the prefix of a query; NULL: not asked for */
    struct slice prefix;
    uint8_t prefix_bytes[TERM_BYTES_MAX];
};

/* Lower-case letter or digit for ASCII letters and digits, 0 for the rest. */
static const uint8_t ascii_folded[256] = {
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6', ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g', ['H'] = 'h',
    ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q',
    ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u', ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g', ['h'] = 'h', ['i'] = 'i',
    ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n', ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r',
    ['s'] = 's', ['t'] = 't', ['u'] = 'u', ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
};

/* --- making --- */

static bool is_stop_word(const struct analyzer *a, uint64_t hash) {
    if (a->stop_hashes == NULL) {
        return false;
    }
    for (uint64_t i = hash;; i++) {
        uint64_t there = a->stop_hashes[i & (STOP_WORDS_MAX - 1)];
        if (there == 0 || there == hash) {
            return there == hash;
        }
    }
}

static bool load_stop_words(struct analyzer *a, const char *words, struct status *st) {
    if (*words == '\0') {
        return true;
    }
    a->stop_hashes = calloc(STOP_WORDS_MAX, sizeof *a->stop_hashes);
    if (a->stop_hashes == NULL) {
        return status_no_memory(st);
    }
    while (*words != '\0') {
        size_t length = strcspn(words, " ");
        uint8_t folded[FOLDED_BYTES_MAX];
        uint64_t hash = hash64(TERM_HASH_SEED, folded, fold_word(slice_of(words, length), folded, sizeof folded));
        uint64_t i = hash;
        for (; a->stop_hashes[i & (STOP_WORDS_MAX - 1)] != 0; i++) {
        }
        a->stop_hashes[i & (STOP_WORDS_MAX - 1)] = hash;
        words += length + strspn(words + length, " ");
    }
    return true;
}

static bool load_stemmer(struct analyzer *a, const char *language, struct status *st) {
    uint8_t longest[TERM_BYTES_MAX];
    a->stemmer = sb_stemmer_new(language, "UTF_8");
    if (a->stemmer == NULL) {
        return status_no_memory(st); /* the language is known, and the encoding is always there */
    }
    memset(longest, 'a', sizeof longest);
    return sb_stemmer_stem(a->stemmer, longest, sizeof longest) != NULL || status_no_memory(st);
}

bool analyzer_new(const char *language, struct analyzer **ret, struct status *st) {
    const char *name = language_canonical(slice_str(language));
    struct analyzer *a;
    if (name == NULL) {
        return status_set(st, STATUS_INVALID, "language \"%.32s\" is not known", language);
    }
    a = calloc(1, sizeof *a);
    if (a == NULL) {
        return status_no_memory(st);
    }
    a->elisions = language_elisions(name);
    a->cache = calloc(CACHE_ENTRIES, sizeof *a->cache);
    if (a->cache == NULL) {
        status_no_memory(st);
        goto out;
    }
    if (strcmp(name, LANGUAGE_NONE) != 0 && (!load_stop_words(a, language_stop_words(name), st) || !load_stemmer(a, name, st))) {
        goto out;
    }
    if (!analyzer_reserve(a, FIRST_TEXT_BYTES, st)) {
        goto out;
    }
    *ret = a;
    return true;
out:
    analyzer_free(a);
    return false;
}

void analyzer_free(struct analyzer *a) {
    if (a == NULL) {
        return;
    }
    if (a->stemmer != NULL) {
        sb_stemmer_delete(a->stemmer);
    }
    free(a->stop_hashes);
    free(a->cache);
    free(a->items);
    free(a->seen);
    free(a->bytes);
    free(a);
}

static size_t terms_at_most(size_t text_bytes) {
    return text_bytes / BYTES_PER_TERM + ONE_BYTE_TERMS;
}

/* A power of two over twice the terms there can be. */
static size_t seen_entries(size_t text_bytes) {
    size_t entries = 2 * ONE_BYTE_TERMS;
    while (entries < 2 * terms_at_most(text_bytes)) {
        entries *= 2;
    }
    return entries;
}

bool analyzer_reserve(struct analyzer *a, size_t text_bytes, struct status *st) {
    if (text_bytes <= a->reserved) {
        return true;
    }
    if (text_bytes > UINT32_MAX / GROWTH_OF_FOLDING) {
        return status_set(st, STATUS_TOO_LARGE, "a text of %zu bytes is too large to be analysed", text_bytes);
    }
    struct term *items = malloc(terms_at_most(text_bytes) * sizeof *items);
    struct seen *seen = calloc(seen_entries(text_bytes), sizeof *seen);
    uint8_t *bytes = malloc(GROWTH_OF_FOLDING * text_bytes + TERM_BYTES_MAX);
    if (items == NULL || seen == NULL || bytes == NULL) {
        free(items);
        free(seen);
        free(bytes);
        return status_no_memory(st);
    }
    free(a->items);
    free(a->seen);
    free(a->bytes);
    a->items = items;
    a->seen = seen;
    a->bytes = bytes;
    a->reserved = text_bytes;
    return true;
}

/* --- terms --- */

static void count_term(struct analyzer *a, const struct outcome *o) {
    uint32_t i = (uint32_t)o->hash & a->seen_mask;
    a->length++;
    for (; a->seen[i].text == a->text; i = (i + 1) & a->seen_mask) {
        struct term *t = &a->items[a->seen[i].item];
        if (t->hash == o->hash && t->bytes.len == o->length && memcmp(t->bytes.data, o->bytes, o->length) == 0) {
            t->count++;
            return;
        }
    }
    uint8_t *copy = a->bytes + a->bytes_used;
    memcpy(copy, o->bytes, o->length);
    a->bytes_used += o->length;
    a->seen[i] = (struct seen){a->text, a->count};
    a->items[a->count++] = (struct term){slice_of(copy, o->length), o->hash, 1};
}

/* A folded word without an elided article before it. */
static struct slice without_elision(const struct analyzer *a, struct slice folded) {
    char head[ELISION_BYTES_MAX + 3] = " ";
    const uint8_t *apostrophe = *a->elisions == '\0' ? NULL : memchr(folded.data, '\'', folded.len);
    size_t length = apostrophe == NULL ? 0 : (size_t)(apostrophe - folded.data);
    if (length == 0 || length > ELISION_BYTES_MAX || length + 1 >= folded.len) {
        return folded;
    }
    memcpy(head + 1, folded.data, length);
    head[length + 1] = ' ';
    return strstr(a->elisions, head) == NULL ? folded : slice_of(apostrophe + 1, folded.len - length - 1);
}

/* Stop words and stem of a folded word. `stemmed`: room for a term; what it holds in the end may be the folded word itself. */
static struct outcome judge(struct analyzer *a, struct slice folded, uint64_t hash, size_t most,
                            uint8_t stemmed[TERM_BYTES_MAX]) {
    struct slice term = folded;
    if (folded.len == 0 || is_stop_word(a, hash)) {
        return (struct outcome){NULL, 0, 0};
    }
    if (a->stemmer != NULL) {
        const sb_symbol *stem = sb_stemmer_stem(a->stemmer, folded.data, (int)folded.len);
        int length = sb_stemmer_length(a->stemmer);
        if (stem != NULL && length > 0) {
            term = slice_of(stem, (size_t)length);
            term.len = utf8_prefix(term, most);
        }
    }
    memcpy(stemmed, term.data, term.len);
    return (struct outcome){stemmed, term.len, hash64(TERM_HASH_SEED, stemmed, term.len)};
}

static void remember(struct cached *c, struct slice key, uint64_t key_hash, const struct outcome *o) {
    if (key.len > CACHED_BYTES || o->length > CACHED_BYTES) {
        return;
    }
    c->key_hash = key_hash;
    c->term_hash = o->hash;
    c->key_length = (uint8_t)key.len;
    c->term_length = (uint8_t)o->length;
    memcpy(c->key, key.data, key.len);
    if (o->length > 0) {
        memcpy(c->term, o->bytes, o->length);
    }
}

/* A query's last word, which may go on: it becomes the prefix. Counted as well only if it does not begin its own stem. */
static bool keep_as_prefix(struct analyzer *a, struct slice folded, const struct outcome *o) {
    memcpy(a->prefix_bytes, folded.data, folded.len);
    a->prefix = slice_of(a->prefix_bytes, folded.len);
    return o->length == 0 || (o->length >= folded.len && memcmp(o->bytes, folded.data, folded.len) == 0);
}

/* A word whose bytes are `raw` in the text, and `key` in the cache: folded already, or (fold) the raw ones. */
static void take_word(struct analyzer *a, struct slice raw, struct slice key, bool fold) {
    uint64_t key_hash = hash64(TERM_HASH_SEED, key.data, key.len);
    struct cached *c = &a->cache[(key_hash >> 32) & (CACHE_ENTRIES - 1)];
    uint8_t folded_bytes[FOLDED_BYTES_MAX];
    uint8_t stemmed[TERM_BYTES_MAX];
    bool last = a->prefix_end == raw.data + raw.len;
    struct outcome o;

    if (c->key_hash == key_hash && c->key_length == key.len && memcmp(c->key, key.data, key.len) == 0 && !last) {
        o = (struct outcome){c->term, c->term_length, c->term_hash};
    } else {
        struct slice folded = key;
        size_t most = raw.len * GROWTH_OF_FOLDING < TERM_BYTES_MAX ? raw.len * GROWTH_OF_FOLDING : TERM_BYTES_MAX;
        if (fold) {
            folded = slice_of(folded_bytes, fold_word(raw, folded_bytes, most));
        }
        folded = without_elision(a, folded);
        o = judge(a, folded, folded.data == key.data ? key_hash : hash64(TERM_HASH_SEED, folded.data, folded.len), most, stemmed);
        remember(c, key, key_hash, &o);
        if (last && folded.len > 0 && keep_as_prefix(a, folded, &o)) {
            return;
        }
    }
    if (o.length > 0) {
        count_term(a, &o);
    }
}

/* --- words --- */

static enum letter_kind kind_at(struct slice text, size_t at, size_t *ret_next) {
    uint32_t code_point = utf8_next(text, &at);
    *ret_next = at;
    return letter_kind(code_point);
}

/* Where a word that reaches up to `at` ends: letters, marks, joiners between letters. */
static size_t word_end(struct slice text, size_t at) {
    size_t end = at;
    while (at < text.len) {
        size_t next;
        enum letter_kind kind = kind_at(text, at, &next);
        if (kind == LETTER_JOINER) {
            size_t behind;
            if (next >= text.len || kind_at(text, next, &behind) != LETTER_WORD) {
                break;
            }
        } else if (kind != LETTER_WORD && kind != LETTER_MARK) {
            break;
        }
        at = end = next;
    }
    return end;
}

/* At text[at] stands a byte that is not ASCII, and no word is open. Returns where to go on. */
static size_t take_other(struct analyzer *a, struct slice text, size_t at) {
    size_t next;
    size_t end;
    enum letter_kind kind = kind_at(text, at, &next);
    if (kind == LETTER_WORD) {
        end = word_end(text, next);
    } else if (kind == LETTER_ALONE) {
        size_t behind;
        end = next;
        while (end < text.len && text.data[end] >= 0x80 && kind_at(text, end, &behind) == LETTER_MARK) {
            end = behind;
        }
    } else {
        return next;
    }
    struct slice raw = slice_of(text.data + at, end - at);
    struct slice key = raw;
    key.len = utf8_prefix(key, FOLD_INPUT_MAX);
    take_word(a, raw, key, true);
    return end;
}

/* At text[at] stands an ASCII letter or digit. Returns where to go on. */
static size_t take_ascii(struct analyzer *a, struct slice text, size_t at) {
    uint8_t folded[TERM_BYTES_MAX];
    size_t length = 0;
    size_t i = at;
    for (; i < text.len; i++) {
        uint8_t c = ascii_folded[text.data[i]];
        if (c == 0) {
            c = text.data[i];
            bool joins = (c == '\'' || c == '.') && i + 1 < text.len;
            if (!joins || ascii_folded[text.data[i + 1]] == 0) {
                break;
            }
        }
        if (length < sizeof folded) {
            folded[length++] = c;
        }
    }
    bool beyond_ascii = i < text.len && (text.data[i] >= 0x80 || (i + 1 < text.len && text.data[i + 1] >= 0x80));
    size_t end = beyond_ascii ? word_end(text, i) : i;
    struct slice raw = slice_of(text.data + at, end - at);
    if (end == i) {
        take_word(a, raw, slice_of(folded, length), false);
    } else {
        struct slice key = raw;
        key.len = utf8_prefix(key, FOLD_INPUT_MAX);
        take_word(a, raw, key, true);
    }
    return end;
}

static void begin_text(struct analyzer *a, size_t text_bytes) {
    a->seen_mask = (uint32_t)seen_entries(text_bytes) - 1;
    a->text++;
    if (a->text ==
        0) { /* came round after four thousand million texts: what is left of the first ones must not be taken for ours */
        memset(a->seen, 0, seen_entries(a->reserved) * sizeof *a->seen);
        a->text = 1;
    }
    a->count = 0;
    a->length = 0;
    a->bytes_used = 0;
    a->prefix = slice_of(NULL, 0);
}

static void take_words(struct analyzer *a, struct slice text) {
    for (size_t at = 0; at < text.len;) {
        uint8_t c = text.data[at];
        if (ascii_folded[c] != 0) {
            at = take_ascii(a, text, at);
        } else if (c >= 0x80) {
            at = take_other(a, text, at);
        } else {
            at++;
        }
    }
}

void analyze(struct analyzer *a, struct slice text, struct terms *ret) {
    text.len = text.len < a->reserved ? text.len : a->reserved;
    a->prefix_end = NULL;
    begin_text(a, text.len);
    take_words(a, text);
    *ret = (struct terms){a->items, a->count, a->length};
}

void analyze_prefix(struct analyzer *a, struct slice text, struct terms *ret, struct slice *ret_prefix) {
    text.len = text.len < a->reserved ? text.len : a->reserved;
    a->prefix_end = text.data == NULL ? NULL : text.data + text.len;
    begin_text(a, text.len);
    take_words(a, text);
    *ret = (struct terms){a->items, a->count, a->length};
    *ret_prefix = a->prefix;
}
