/*
 * hnsw_scan.c - the exact search: it reads the codes of all accepted slots, in order, and follows no link; the answer is provably that of a float32 scan.
 *
 * With x' and q' the vectors that the codes stand for,
 *
 *     |x.q - x'.q'| <= |x - x'| |q| + |x'| |q - q'| <= e_x |q| + (|x| + e_x) e_q
 *
 * where e_x is bounded by the code's scale (code_error_bound) and e_q is computed. So each code gives an interval for its distance;
 * what begins behind the k-th least end of all intervals cannot be among the k nearest. The rest, some dozens, are measured in float32.
 * Several queries share the pass, because reading the codes is what costs.
 *
 * For filters that few match this is faster than walking, too.
 */
#include "index/hnsw_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 64 };
/* The exponent of a NaN or an infinity: no code, or a damaged one. */
#define SCALE_NOT_FINITE 0x7f800000U
/* For the rounding of float32 sums, of the kernel as of the bounds; vectors are unit length. */
static const float ROUNDING = 1e-5F;

/* --- going over the accepted slots -------------------------------------------------------------------------------------- */

struct sweep {
    const struct hnsw_walk *walk;
    const struct hnsw_reach *reach;
    uint32_t at;
    uint32_t linked; /* from here on a slot may have no vector */
};

static bool sweep_accepts(const struct sweep *sw, uint32_t slot) {
    const struct hnsw_reach *r = sw->reach;

    return hnsw_accepts(sw->walk, r, slot) &&
           (slot < sw->linked || r->visible.accepts == NULL || r->visible.accepts(r->visible.ctx, slot));
}

/* The next accepted slots, up to MAX_LINKS. 0: no more. */
static uint32_t next_slots(struct sweep *sw, uint32_t *out) {
    const struct hnsw_reach *r = sw->reach;
    uint32_t n = 0;

    while (sw->at < r->below && n < MAX_LINKS) {
        if (r->matches != NULL) {
            uint64_t rest = r->matches[sw->at / WORD_BITS] >> (sw->at % WORD_BITS);
            if (rest == 0) {
                sw->at = (sw->at / WORD_BITS + 1) * WORD_BITS;
                continue;
            }
            sw->at += (uint32_t)__builtin_ctzll(rest);
            if (sw->at >= r->below) {
                break;
            }
        }
        if (sweep_accepts(sw, sw->at)) {
            out[n++] = sw->at;
        }
        sw->at++;
    }
    return n;
}

/* --- intervals -------------------------------------------------------------------------------------------------------- */

/* One query of an exact scan. */
struct exact {
    const struct hnsw_request *request;
    struct hnsw_probe probe;
    float query_error; /* |q - q'| */
    float query_length;
    struct topk ends;       /* the k least ends of intervals */
    struct neighbor *maybe; /* begins of intervals that are not ruled out yet */
    uint32_t count;
    uint32_t room;
    float end; /* what begins behind is ruled out */
};

static float error_of_query(const float *x, const struct code_query *q, uint32_t dimension, float *ret_length) {
    double error = 0.0;
    double length = 0.0;

    for (uint32_t i = 0; i < dimension; i++) {
        double e = (double)x[i] - (double)q->scale * (double)q->values[i];
        error += e * e;
        length += (double)x[i] * (double)x[i];
    }
    *ret_length = (float)sqrt(length);
    return (float)sqrt(error);
}

/* How far a code's distance may be from the true one. 4-bit codes stand for multiples of 16. */
static float interval(const struct hnsw_walk *w, const struct exact *x, float scale) {
    float step = code_planes(w->bits) > 1 ? scale : CODE_HIGH * scale;
    float error = code_error_bound(step, w->dimension);

    return error * x->query_length + (1.0F + error) * x->query_error + ROUNDING;
}

/* Throws out what is ruled out by now. */
static void sift(struct exact *x) {
    uint32_t kept = 0;

    for (uint32_t i = 0; i < x->count; i++) {
        if (x->maybe[i].distance <= x->end) {
            x->maybe[kept++] = x->maybe[i];
        }
    }
    x->count = kept;
}

static bool keep(struct exact *x, struct neighbor begin) {
    if (x->count == x->room) {
        sift(x);
    }
    if (x->count == x->room) {
        struct neighbor *more = realloc(x->maybe, 2 * (size_t)x->room * sizeof *more);
        if (more == NULL) {
            return false;
        }
        x->maybe = more;
        x->room *= 2;
    }
    x->maybe[x->count++] = begin;
    return true;
}

static float scale_of(const struct hnsw_walk *w, uint32_t slot) {
    float scale;

    memcpy(&scale, &hnsw_words(w, slot)[WORD_SCALE], sizeof scale);
    return scale;
}

/* Those of the slots that have a code, in their order; the others cannot be ruled out. UINT32_MAX: no memory. */
static uint32_t take_coded(struct hnsw_walk *w, struct exact *x, const uint32_t *slots, uint32_t n, uint32_t *coded) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        /* pairs with: HNSW_CODE. Without it the code could be read half-written. */
        uint32_t scale = load_acquire_u32(&hnsw_words(w, slots[i])[WORD_SCALE]);
        if ((scale & SCALE_NOT_FINITE) != SCALE_NOT_FINITE) {
            coded[count++] = slots[i];
        } else if (!keep(x, (struct neighbor){-INFINITY, slots[i]})) {
            return UINT32_MAX;
        }
    }
    return count;
}

static bool exact_offer(struct hnsw_walk *w, struct exact *x, const uint32_t *slots, uint32_t n) {
    uint32_t coded[MAX_LINKS];
    float distance[MAX_LINKS];
    uint32_t count = take_coded(w, x, slots, n, coded);

    if (count == UINT32_MAX) {
        return false;
    }
    hnsw_distances(w, &x->probe, FINE, coded, count, distance);
    for (uint32_t i = 0; i < count; i++) {
        float half = interval(w, x, scale_of(w, coded[i]));
        if (distance[i] - half > x->end) {
            continue;
        }
        topk_offer(&x->ends, (struct neighbor){distance[i] + half, coded[i]});
        x->end = topk_bound(&x->ends);
        if (!keep(x, (struct neighbor){distance[i] - half, coded[i]})) {
            return false;
        }
    }
    return true;
}

static bool exact_begin(struct hnsw_walk *w, struct exact *x, const struct hnsw_request *q) {
    enum { ROOM_LEAST = 256 };
    size_t padded = 2 * (size_t)w->plane_bytes;

    *x = (struct exact){.request = q, .end = INFINITY, .room = q->k > ROOM_LEAST ? 2 * q->k : ROOM_LEAST};
    x->probe.code.values = aligned_alloc(CODE_PLANE_LINE, padded);
    x->maybe = malloc(x->room * sizeof *x->maybe);
    struct neighbor *ends = malloc((size_t)q->k * sizeof *ends);
    topk_init(&x->ends, ends, q->k);
    if (x->probe.code.values == NULL || x->maybe == NULL || ends == NULL) {
        return false;
    }
    hnsw_probe_vector(w, &x->probe, q->query);
    x->query_error = error_of_query(q->query, &x->probe.code, w->dimension, &x->query_length);
    return true;
}

static void exact_end(struct exact *x) {
    free(x->probe.code.values);
    free(x->maybe);
    free(x->ends.heap);
}

static void measure_rest(struct hnsw_walk *w, struct exact *x, struct topk *best) {
    sift(x);
    for (uint32_t i = 0; i < x->count; i++) {
        float dot = dot_product(x->request->query, vector_row(w->rows, x->maybe[i].slot), w->dimension);
        topk_offer(best, (struct neighbor){cosine_distance(dot), x->maybe[i].slot});
    }
}

/* The queries may have filters of their own; those that have none, or the same, see the same slots. */
static bool sweep_for(struct hnsw_walk *w, struct exact *queries, uint32_t count, uint32_t from, uint32_t linked) {
    uint32_t slots[MAX_LINKS];
    bool good = true;

    for (uint32_t first = 0; first < count && good; first++) {
        const struct hnsw_request *q = queries[first].request;
        struct hnsw_reach reach = hnsw_reach_of(w->g, q);
        struct sweep sweep = {w, &reach, from, linked};
        bool done = false;
        for (uint32_t i = 0; i < first; i++) {
            done = done || queries[i].request->matches == q->matches;
        }
        uint32_t n;
        while (!done && good && (n = next_slots(&sweep, slots)) > 0) {
            for (uint32_t i = first; i < count && good; i++) {
                good = queries[i].request->matches != q->matches || exact_offer(w, &queries[i], slots, n);
            }
        }
    }
    return good;
}

uint64_t hnsw_scan_exact(const struct hnsw_graph *g, const struct vector_rows *rows, const struct hnsw_request *requests,
                         uint32_t count, uint32_t first, uint32_t linked, struct hnsw_scratch *scratch, struct topk *best) {
    struct hnsw_walk walk = hnsw_walk_over(g, rows, requests[0].slots, scratch);
    struct exact queries[HNSW_SCAN_QUERIES];
    uint32_t begun = 0;
    bool good = true;

    for (; begun < count && good; begun++) {
        good = exact_begin(&walk, &queries[begun], &requests[begun]);
    }
    good = good && sweep_for(&walk, queries, count, first, linked);
    for (uint32_t i = 0; i < count && good; i++) {
        measure_rest(&walk, &queries[i], &best[i]);
    }
    for (uint32_t i = 0; i < begun; i++) {
        exact_end(&queries[i]);
    }
    return good ? walk.distances : UINT64_MAX;
}
