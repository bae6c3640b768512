/*
 * remote_probe.c - what a remote model is known by.
 *
 * A provider can put another model behind the same name, and its vectors would be compared with those of the old one. So the model is asked for the vectors of a
 * few fixed texts, and the answer is part of its fingerprint. Their bits cannot be: a GPU adds in another order each time, and rounding them only moves
 * the place where a little noise makes a great difference.
 *
 * Random hyperplanes do not have that edge (Charikar, "Similarity estimation techniques from rounding algorithms", 2002): each of 40 planes gives one bit, the side
 * on which the vector lies, and two vectors at angle a differ in a bit with probability a / pi. Noise (cosine 0.99999) moves a bit in one of a
 * thousand planes; the same weights in half precision or 8 bits (0.999) half a bit of the 40; another model, whose vectors lie anywhere, 20. Up
 * to SAME_BITS bits are the same model: it is missed with probability 1e-8, and with cosine 0.999 taken for another once in five hundred times.
 *
 * The vectors of all texts are one long vector here. The planes' normals have components 1 and -1, by hash64, which never changes.
 */
#include "embed/remote_probe.h"

#include "base/hash.h"

enum { SKETCH_BITS = 40, SAME_BITS = 3 };
#define SKETCH_MASK ((UINT64_C(1) << SKETCH_BITS) - 1)
#define PLANE_SEED UINT64_C(0x71756972652d7078)

const char *const remote_probe_texts[REMOTE_PROBE_TEXTS] = {
    "The harbour was quiet that morning; two fishing boats had already left, and the gulls waited on the wall for the third.",
    "Die Rechnung vom letzten Monat ist bis zum Fünfzehnten zu bezahlen, danach kommen Zinsen hinzu.",
    "春天的时候，山谷里的河水很冷。",
    "for (size_t i = 0; i < count; i++) { sum += values[i] * weights[i]; }",
};

static void put_word(struct buf *b, const char *text) {
    buf_put(b, text, strlen(text) + 1); /* with its NUL: "ab" + "c" is not "a" + "bc" */
}

/* What is said of the model, as opposed to what it says. Where it is served is not part of it: a server that moves keeps its vectors. */
static uint64_t hash_name(const struct remote_settings *s, uint32_t dimension) {
    struct buf words = {0};
    buf_put_u32le(&words, s->dialect);
    buf_put_u32le(&words, dimension);
    put_word(&words, s->model);
    put_word(&words, s->query_prefix);
    put_word(&words, s->document_prefix);
    uint64_t hash = hash64(PLANE_SEED, words.data, words.len);
    buf_fini(&words);
    return hash;
}

static uint64_t sketch(const float *values, size_t count) {
    double side[SKETCH_BITS] = {0};
    uint64_t bits = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = i;
        uint64_t signs = hash64(PLANE_SEED, &number, sizeof number);
        for (unsigned plane = 0; plane < SKETCH_BITS; plane++) {
            side[plane] += (signs >> plane & 1) != 0 ? (double)values[i] : -(double)values[i];
        }
    }
    for (unsigned plane = 0; plane < SKETCH_BITS; plane++) {
        bits |= side[plane] > 0 ? UINT64_C(1) << plane : 0;
    }
    return bits;
}

uint64_t remote_fingerprint(const struct remote_settings *s, const float *vectors, uint32_t dimension) {
    return (hash_name(s, dimension) & ~SKETCH_MASK) | sketch(vectors, (size_t)dimension * REMOTE_PROBE_TEXTS);
}

bool remote_same_model(uint64_t fingerprint, uint64_t other) {
    uint64_t differ = fingerprint ^ other;
    return (differ & ~SKETCH_MASK) == 0 && __builtin_popcountll(differ) <= SAME_BITS;
}
