/*
 * search_diverse.c - maximal marginal relevance (Carbonell and Goldstein 1998): results that are relevant and do not repeat one another.
 *
 * One after the other is chosen: of the candidates left, the one with the greatest lambda * relevance - (1 - lambda) * likeness, where likeness is its
 * greatest cosine to those chosen already. Relevance is the cosine to the query in dense searches; other scores are brought to 0..1 by the
 * least and greatest candidate, so that both terms have one scale.
 *
 * Two departures: a negative cosine counts as 0 (to be opposite to another result is no merit), so the measure never rises from one result to the
 * next; and a chunk without a vector is like nothing.
 */
#include "store/search_internal.h"

#include "index/distance.h"

struct diverse_candidate {
    const float *vector; /* NULL: none */
    float relevance;
    float likeness; /* to those chosen so far */
    uint32_t hit;   /* UINT32_MAX: chosen */
};

static void weigh(const struct search *s, enum search_mode mode, const struct search_hit *hits, uint32_t count,
                  struct diverse_candidate *out) {
    float greatest = hits[0].score;
    float span = greatest - hits[count - 1].score;
    for (uint32_t i = 0; i < count; i++) {
        float normal = span > 0 ? 1.0F - (greatest - hits[i].score) / span : 1.0F;
        out[i] = (struct diverse_candidate){
            .vector = reading_vector(s->rd, hits[i].slot), .relevance = mode == SEARCH_DENSE ? hits[i].score : normal, .hit = i};
    }
}

static float measure(const struct search *s, const struct diverse_candidate *c) {
    return s->request->lambda * c->relevance - (1.0F - s->request->lambda) * c->likeness;
}

/* The best that is left; the first of equals. */
static uint32_t best_left(const struct search *s, const struct diverse_candidate *c, uint32_t count) {
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (c[i].hit != UINT32_MAX && (best == UINT32_MAX || measure(s, &c[i]) > measure(s, &c[best]))) {
            best = i;
        }
    }
    return best;
}

static void compare_with(const struct search *s, const struct diverse_candidate *chosen, struct diverse_candidate *c,
                         uint32_t count) {
    for (uint32_t i = 0; chosen->vector != NULL && i < count; i++) {
        if (c[i].hit != UINT32_MAX && c[i].vector != NULL) {
            float likeness = dot_product(chosen->vector, c[i].vector, s->rd->view.dimension);
            c[i].likeness = likeness > c[i].likeness ? likeness : c[i].likeness;
        }
    }
}

bool diversify(const struct search *s, enum search_mode mode, struct search_hit *hits, uint32_t count, uint32_t want,
               struct buf *work, uint32_t *ret_count, struct status *st) {
    if (count == 0) {
        *ret_count = 0;
        return true;
    }
    want = want < count ? want : count;
    buf_reset(work);
    if (!buf_reserve(work, count * sizeof(struct diverse_candidate) + want * sizeof *hits)) {
        return status_no_memory(st);
    }
    struct diverse_candidate *candidates = (struct diverse_candidate *)(void *)work->data; /* malloc'd, so aligned */
    struct search_hit *chosen = (struct search_hit *)(void *)(candidates + count);
    weigh(s, mode, hits, count, candidates);
    for (uint32_t i = 0; i < want; i++) {
        struct diverse_candidate *best = &candidates[best_left(s, candidates, count)];
        chosen[i] = hits[best->hit];
        chosen[i].diversity = measure(s, best);
        best->hit = UINT32_MAX;
        compare_with(s, best, candidates, count);
    }
    memcpy(hits, chosen, want * sizeof *hits);
    *ret_count = want;
    return true;
}
