/*
 * numbers.c - what the numbers of an embedding cost as JSON text, beside base64, strtof and json-c. All read the same vectors.
 *
 *   numbers [ROUNDS]
 */
#include "base/clock.h"
#include "base/json_front.h"
#include "clustered.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIMENSION = 384, VECTORS = 256, CENTRES = 100, SEED = 7, ROUNDS = 20 };

static const double GOAL_US = 15.0;

struct bodies {
    struct buf numbers[VECTORS]; /* {"embedding":[..]} */
    struct buf base64[VECTORS];
    float values[VECTORS][DIMENSION];
};

typedef bool (*reader)(struct slice body, float *out);

static void die(const char *what) {
    fprintf(stderr, "bench/numbers: %s\n", what);
    exit(EXIT_FAILURE);
}

static void make_body(struct bodies *b, size_t i) {
    struct slice bytes = slice_of(b->values[i], sizeof b->values[i]);

    buf_init(&b->numbers[i]);
    buf_init(&b->base64[i]);
    buf_printf(&b->numbers[i], "{\"embedding\":[");
    for (size_t j = 0; j < DIMENSION; j++) {
        buf_printf(&b->numbers[i], "%s%.9g", j == 0 ? "" : ",", (double)b->values[i][j]);
    }
    buf_printf(&b->numbers[i], "]}");
    buf_printf(&b->base64[i], "{\"embedding\":\"");
    base64_encode(bytes, &b->base64[i]);
    buf_printf(&b->base64[i], "\"}");
    if (!buf_ok(&b->numbers[i]) || !buf_ok(&b->base64[i])) {
        die("out of memory");
    }
}

static void make_bodies(struct bodies *b) {
    struct clustered *process = clustered_new(SEED, DIMENSION, CENTRES);
    if (process == NULL) {
        die("out of memory");
    }
    for (size_t i = 0; i < VECTORS; i++) {
        clustered_next(process, b->values[i]);
        make_body(b, i);
    }
    clustered_free(process);
}

/* As the api reads a search. */
static bool read_front(struct slice body, float *out) {
    static const char *const places[] = {"embedding", NULL};
    static const struct json_limits limits = {32, 1000, 4096, 1000};
    struct json_document doc = {0};
    struct status st = {0};
    struct buf scratch;
    struct json_object *value;
    const float *values;
    uint32_t length = 0;

    buf_init(&scratch);
    bool good = json_document_parse(body, &limits, places, &doc, &st) &&
                json_object_object_get_ex(doc.root, "embedding", &value) &&
                json_document_vector(&doc, value, &scratch, &values, &length, &st) && length == DIMENSION;
    if (good) {
        memcpy(out, values, DIMENSION * sizeof *out);
    }
    buf_fini(&scratch);
    json_document_fini(&doc);
    return good;
}

/* The text of the numbers: what stands between the brackets. */
static const char *first_number(struct slice body) {
    return memchr(body.data, '[', body.len);
}

static bool read_scan(struct slice body, float *out) {
    const char *at = first_number(body);
    const char *end = (const char *)body.data + body.len;

    for (size_t i = 0; at != NULL && i < DIMENSION; i++) {
        at++;
        size_t used = scan_float(at, (size_t)(end - at), &out[i]);
        at = used == 0 ? NULL : at + used;
    }
    return at != NULL;
}

static bool read_strtof(struct slice body, float *out) {
    const char *at = first_number(body);

    for (size_t i = 0; i < DIMENSION; i++) {
        char *end;
        out[i] = strtof(at + 1, &end);
        at = end;
    }
    return true;
}

static bool read_jsonc(struct slice body, float *out) {
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *root = json_tokener_parse_ex(tokener, (const char *)body.data, (int)body.len);
    struct json_object *array = NULL;
    bool good = json_object_object_get_ex(root, "embedding", &array);

    for (size_t i = 0; good && i < DIMENSION; i++) {
        out[i] = (float)json_object_get_double(json_object_array_get_idx(array, i));
    }
    json_object_put(root);
    json_tokener_free(tokener);
    return good;
}

/* Microseconds a vector, the best of the rounds; every value is checked. */
static double time_of(const char *what, reader read, const struct buf *bodies, const struct bodies *b, unsigned rounds) {
    double best = 0.0;
    float out[DIMENSION];

    for (unsigned round = 0; round < rounds; round++) {
        int64_t start = clock_monotonic_ns();
        for (size_t i = 0; i < VECTORS; i++) {
            if (!read(buf_slice(&bodies[i]), out) || memcmp(out, b->values[i], sizeof out) != 0) {
                die("a vector was read as another");
            }
        }
        double took = (double)(clock_monotonic_ns() - start) / 1e3 / VECTORS;
        best = round == 0 || took < best ? took : best;
    }
    printf("  %-52s %7.2f us\n", what, best);
    return best;
}

int main(int argc, char **argv) {
    static struct bodies b;
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : ROUNDS;

    make_bodies(&b);
    printf("%d numbers, %zu bytes as JSON, %zu as base64\n", DIMENSION, b.numbers[0].len, b.base64[0].len);
    double numbers = time_of("a body with numbers, as the api reads it", read_front, b.numbers, &b, rounds);
    double base64 = time_of("a body with base64, as the api reads it", read_front, b.base64, &b, rounds);
    double scanned = time_of("the numbers alone: scan_float", read_scan, b.numbers, &b, rounds);
    (void)time_of("the numbers alone: strtof", read_strtof, b.numbers, &b, rounds);
    (void)time_of("the body: json-c", read_jsonc, b.numbers, &b, rounds);
    printf("  a body with numbers costs %.2f us more than one with base64; the numbers alone %.2f us, at most %.0f wanted: %s\n",
           numbers - base64, scanned, GOAL_US, numbers <= GOAL_US ? "PASS" : "short of the goal");
    for (size_t i = 0; i < VECTORS; i++) {
        buf_fini(&b.numbers[i]);
        buf_fini(&b.base64[i]);
    }
    return EXIT_SUCCESS;
}
