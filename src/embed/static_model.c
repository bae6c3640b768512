/*
 * static_model.c - see static_model.h.
 *
 * A token that occurs n times counts 1 + ln n times: what a long text repeats is not all that it is about.
 *
 * The same text must give the same bits on every machine. So rows are integers and are added as integers: a row's number in a dimension
 * is its level (int8) times its token's weight (1 to 255), which fits 16 bits, times how much the token counts, in sixteenths. SUM_ROWS
 * of them fit 32 bits; then they go into 64-bit totals, so a text of any length has an exact sum. Floating point enters at the end, with operations that IEEE
 * 754 rounds correctly, each rounding once: conversion, a product of two floats as double (exact), one sum in a fixed order, sqrt,
 * and a division. Nothing there can be fused into something else that rounds differently: see unit_length.
 *
 * Unknown words add nothing. A text without a known token has a sum of zero, and its vector is zero.
 */
#include "embed/static_model.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/io.h"
#include "embed/wordpiece.h"
#include "index/distance.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#if FLT_EVAL_METHOD != 0
#error "static models need float and double to be evaluated in their own precision (on 32-bit x86: -msse2 -mfpmath=sse)"
#endif

#define STATIC_MODEL_VERSION 1 /* whatever changes a vector for the same file raises it */

/* The file: a header, the vocabulary (ends, texts), the weights, the levels, each padded to 64 bytes, and a SHA-256. */
#define FILE_MAGIC "QUIREMDL"
#define FILE_VERSION 1
#define FILE_NAME_BYTES 28
#define FILE_ALIGNMENT 64
#define FILE_MAX_BYTES ((off_t)256 << 20)
#define DIGEST_BYTES 32
#define HEADER_BYTES 64
#define DIMENSION_STEP 16
#define PERMILLE 1000

/* 16 * (1 + ln n) for n = 1 to 63, rounded; [0] is not used. Above: half of n, and LN_2 more. */
#define TIMES_TABLE 64
#define TIMES_LN_2 11
static const uint8_t times_table[TIMES_TABLE] = {
    0, 16, 27, 34, 38, 42, 45, 47, 49, 51, 53, 54, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 65, 66, 67, 68, 68, 69, 69, 70, 70, 71,
    71, 72, 72, 73, 73, 74, 74, 75, 75, 75, 76, 76, 77, 77, 77, 78, 78, 78, 79, 79, 79, 80, 80, 80, 80, 81, 81, 81, 82, 82, 82, 82};

/* So many rows are added in 32 bits: times 255 * 128 * 16 * (1 + ln 2^32), under 2^31. */
#define SUM_ROWS 128

struct static_model {
    void *map;
    size_t map_len;
    uint32_t dimension;
    const uint8_t *weights;
    const int8_t *levels; /* rows of `dimension` */
    static_add_fn add;
    struct wordpiece vocabulary;
};

/* --- the file ------------------------------------------------------------------------------------------------------- */

struct header {
    uint32_t dimension;
    uint32_t tokens;
    uint32_t vocabulary_bytes;
    uint64_t length;
    char name[FILE_NAME_BYTES + 1];
    uint32_t dense_permille;
};

static uint64_t aligned(uint64_t size) {
    return (size + FILE_ALIGNMENT - 1) / FILE_ALIGNMENT * FILE_ALIGNMENT;
}

static uint64_t ends_bytes(const struct header *h) {
    return (uint64_t)h->tokens * sizeof(uint32_t);
}

static uint64_t weights_at(const struct header *h) {
    return HEADER_BYTES + aligned(ends_bytes(h) + h->vocabulary_bytes);
}

static uint64_t levels_at(const struct header *h) {
    return weights_at(h) + aligned(h->tokens);
}

static uint64_t digest_at(const struct header *h) {
    return levels_at(h) + aligned((uint64_t)h->tokens * h->dimension);
}

static struct header read_header(const uint8_t *data) {
    struct reader r = reader_of(slice_of(data + sizeof FILE_MAGIC - 1 + sizeof(uint32_t), HEADER_BYTES - sizeof FILE_MAGIC + 1 - sizeof(uint32_t)));
    struct header h = {.dimension = read_u32le(&r)};
    h.tokens = read_u32le(&r);
    h.vocabulary_bytes = read_u32le(&r);
    h.length = read_u64le(&r);
    memcpy(h.name, read_slice(&r, FILE_NAME_BYTES).data, FILE_NAME_BYTES);
    h.dense_permille = read_u32le(&r);
    return h;
}

static bool header_fits(const struct header *h, size_t len) {
    return h->dimension >= DIMENSION_STEP && h->dimension <= STATIC_MODEL_MAX_DIMENSION && h->dimension % DIMENSION_STEP == 0 &&
           h->tokens >= 1 && h->tokens <= WORDPIECE_VOCABULARY_MAX && h->name[0] != '\0' && h->dense_permille <= PERMILLE &&
           h->length == len && digest_at(h) + DIGEST_BYTES == len;
}

static bool digest_fits(const uint8_t *data, size_t len) {
    uint8_t digest[DIGEST_BYTES];
    sha256(data, len - DIGEST_BYTES, digest);
    return memcmp(digest, data + len - DIGEST_BYTES, DIGEST_BYTES) == 0;
}

static bool check_file(const uint8_t *data, size_t len, const char *path, enum model_trust trust, struct header *ret, struct status *st) {
    if (len < HEADER_BYTES + DIGEST_BYTES || memcmp(data, FILE_MAGIC, sizeof FILE_MAGIC - 1) != 0) {
        return status_set(st, STATUS_CORRUPT, "%s is no model file", path);
    }
    uint32_t version = load_u32le(data + sizeof FILE_MAGIC - 1);
    if (version != FILE_VERSION) {
        return status_set(st, STATUS_CORRUPT, "%s is a model file of version %u; this server reads %d", path, version, FILE_VERSION);
    }
    struct header h = read_header(data);
    if ((trust == MODEL_VERIFY && !digest_fits(data, len)) || !header_fits(&h, len)) {
        return status_set(st, STATUS_CORRUPT, "the model file %s is damaged (its checksum does not fit); install it again", path);
    }
    *ret = h;
    return true;
}

static bool map_file(int fd, const char *path, void **ret, size_t *ret_len, struct status *st) {
    off_t size = 0;
    if (!io_size(fd, &size, st)) {
        return false;
    }
    if (size < HEADER_BYTES + DIGEST_BYTES || size > FILE_MAX_BYTES) {
        return status_set(st, STATUS_CORRUPT, "%s is no model file: it has %lld bytes", path, (long long)size);
    }
    *ret_len = (size_t)size;
    return io_map(fd, NULL, 0, (size_t)size, false, path, ret, st);
}

/* --- sums ----------------------------------------------------------------------------------------------------------- */

void static_add_plain(int32_t *sums, const int8_t *row, int16_t weight, int32_t times, uint32_t n) {
    for (uint32_t i = 0; i < n; i += DIMENSION_STEP) {
        for (uint32_t k = 0; k < DIMENSION_STEP; k++) {
            sums[i + k] += (int16_t)(row[i + k] * weight) * times;
        }
    }
}

static int32_t times_of(uint32_t count) {
    int32_t times = 0;
    while (count >= TIMES_TABLE) {
        count /= 2;
        times += TIMES_LN_2;
    }
    return times + times_table[count];
}

/* Room for the tokens of a text: an ASCII letter is one token at most, another letter has two bytes at least and becomes three letters at most. */
#define TOKENS_PER_BYTE 2
#define COUNTS_LEAST_BITS 6

/* A token of the text, how often it occurs, and which of the places is its own. */
struct counted {
    uint32_t token;
    uint32_t count;
    uint32_t place;
};

/*
 * Which tokens occur in a text, in the order in which they came. Found by open addressing in a table that is as large as the longest text needs and not as
 * the vocabulary, since a table of that size costs more to clear than most texts to embed.
 */
struct occurrences {
    struct counted *counted;
    uint32_t different;
    uint32_t *places; /* index in counted, plus 1; all 0 between two texts */
    unsigned bits;
};

static bool occurrences_init(struct occurrences *o, const struct slice *texts, size_t count, uint32_t vocabulary, struct status *st) {
    size_t longest = 0;
    for (size_t i = 0; i < count; i++) {
        longest = texts[i].len > longest ? texts[i].len : longest;
    }
    size_t most = longest < vocabulary / TOKENS_PER_BYTE ? longest * TOKENS_PER_BYTE : vocabulary;
    unsigned bits = COUNTS_LEAST_BITS;
    while ((size_t)1 << bits < 2 * most) {
        bits++;
    }
    *o = (struct occurrences){.bits = bits};
    o->places = (uint32_t *)calloc((size_t)1 << bits, sizeof *o->places);
    o->counted = (struct counted *)malloc((most + 1) * sizeof *o->counted);
    return (o->places != NULL && o->counted != NULL) || status_no_memory(st);
}

static void occurrences_fini(struct occurrences *o) {
    free(o->places);
    free(o->counted);
}

static void count_token(struct occurrences *o, uint32_t token) {
    uint32_t mask = (UINT32_C(1) << o->bits) - 1;
    uint32_t at = (token * UINT32_C(0x9e3779b1)) >> (32 - o->bits);
    while (o->places[at] != 0) {
        struct counted *c = &o->counted[o->places[at] - 1];
        if (c->token == token) {
            c->count++;
            return;
        }
        at = (at + 1) & mask;
    }
    o->counted[o->different++] = (struct counted){.token = token, .count = 1, .place = at};
    o->places[at] = o->different;
}

static void occurrences_count(struct occurrences *o, const struct wordpiece *vocabulary, struct slice text) {
    struct wordpiece_cursor cursor;
    uint32_t tokens[WORDPIECE_WORD_MAX];
    uint32_t count;
    wordpiece_begin(&cursor, vocabulary, text);
    while ((count = wordpiece_next(&cursor, tokens)) > 0) {
        for (uint32_t i = 0; i < count && tokens[i] != WORDPIECE_UNKNOWN; i++) {
            count_token(o, tokens[i]);
        }
    }
}

static void sums_into_totals(int32_t *sums, int64_t *totals, uint32_t dimension) {
    for (uint32_t i = 0; i < dimension; i++) {
        totals[i] += sums[i];
        sums[i] = 0;
    }
}

/* The rows of what occurs into totals; clears o. */
static void add_rows(const struct static_model *m, struct occurrences *o, int64_t *totals) {
    int32_t sums[STATIC_MODEL_MAX_DIMENSION] = {0};
    for (uint32_t i = 0; i < o->different; i++) {
        const struct counted *c = &o->counted[i];
        m->add(sums, m->levels + (size_t)c->token * m->dimension, m->weights[c->token], times_of(c->count), m->dimension);
        o->places[c->place] = 0;
        if (i % SUM_ROWS == SUM_ROWS - 1) {
            sums_into_totals(sums, totals, m->dimension);
        }
    }
    sums_into_totals(sums, totals, m->dimension);
    o->different = 0;
}

/* totals to a vector of unit length. A square of a float is exact as double, so a fused multiplication and addition rounds as the two do. */
static void unit_length(const int64_t *totals, uint32_t dimension, float *out) {
    double squares = 0;
    for (uint32_t i = 0; i < dimension; i++) {
        out[i] = (float)totals[i];
        squares += (double)out[i] * (double)out[i];
    }
    double length = squares > 0 ? sqrt(squares) : 1;
    for (uint32_t i = 0; i < dimension; i++) {
        out[i] = (float)(out[i] / length);
    }
}

static bool embed_static(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out,
                         struct status *st) {
    const struct static_model *m = e->state;
    struct occurrences occurrences;
    (void)role; /* a query is embedded as a document is, so a text finds itself at distance 0 */
    bool ok = occurrences_init(&occurrences, texts, count, m->vocabulary.count, st);
    for (size_t i = 0; ok && i < count; i++) {
        int64_t totals[STATIC_MODEL_MAX_DIMENSION] = {0};
        occurrences_count(&occurrences, &m->vocabulary, texts[i]);
        add_rows(m, &occurrences, totals);
        unit_length(totals, m->dimension, out + i * m->dimension);
    }
    occurrences_fini(&occurrences);
    return ok;
}

/* --- the model ------------------------------------------------------------------------------------------------------ */

static void model_free(struct static_model *m) {
    if (m != NULL) {
        wordpiece_fini(&m->vocabulary);
        if (m->map != NULL) {
            (void)munmap(m->map, m->map_len);
        }
        free(m);
    }
}

static static_add_fn best_add(void) {
    static_add_fn avx2 = distance_kernel_in_use() == DISTANCE_PLAIN ? NULL : static_add_avx2();
    return avx2 != NULL ? avx2 : static_add_plain;
}

static bool open_model(struct static_model *m, int fd, const char *path, enum model_trust trust, struct header *ret, struct status *st) {
    if (!map_file(fd, path, &m->map, &m->map_len, st) || !check_file(m->map, m->map_len, path, trust, ret, st)) {
        return false;
    }
    const uint8_t *data = m->map;
    m->dimension = ret->dimension;
    m->weights = data + weights_at(ret);
    m->levels = (const int8_t *)(data + levels_at(ret));
    m->add = best_add();
    struct status why;
    if (!wordpiece_init(&m->vocabulary, slice_of(data + HEADER_BYTES + ends_bytes(ret), ret->vocabulary_bytes),
                        slice_of(data + HEADER_BYTES, (size_t)ends_bytes(ret)), &why)) {
        return status_set(st, why.code, "the model file %s: %s", path, why.detail);
    }
    return true;
}

bool static_model_init(struct embedder *out, int fd, const char *path, enum model_trust trust, struct status *st) {
    struct header header = {0};
    struct static_model *m = calloc(1, sizeof *m);
    if (m == NULL) {
        return status_no_memory(st);
    }
    if (!open_model(m, fd, path, trust, &header, st)) {
        model_free(m);
        return false;
    }
    *out = (struct embedder){.dimension = m->dimension,
                             .where = "in process",
                             .dense_weight = (float)header.dense_permille / PERMILLE,
                             .embed = embed_static,
                             .fini = static_model_fini,
                             .state = m,
                             .vocabulary = &m->vocabulary};
    memcpy(out->name, header.name, sizeof header.name);
    out->fingerprint = hash64(STATIC_MODEL_VERSION, (const uint8_t *)m->map + m->map_len - DIGEST_BYTES, DIGEST_BYTES);
    return true;
}

void static_model_fini(struct embedder *e) {
    if (e != NULL) {
        model_free(e->state);
        *e = (struct embedder){0};
    }
}
