/*
 * lexical_search.c - BM25 over the inverted index: exact top k by block-max MaxScore.
 *
 * Terms are sorted by the most that they can add to a score. Those whose sum cannot reach the k-th best score found so far are not essential: a document
 * must have one of the others (Turtle and Flood 1995). Slots are gone through in windows, each reaching to the nearest end of a block among
 * the essential terms; a window whose blocks' bounds (Ding and Suel 2011) with all that the rest can add stay below the k-th best is passed over without
 * being unpacked. In the others the scores of a block are computed at once, four at a time, and the not essential terms are looked up for such documents
 * only as may still get in. Bounds are the greatest count and the least length of a block put into the formula itself, so they hold for any k1, b and average.
 *
 * Scores. A term's part is a float, computed by the same operations everywhere, vectors included; parts are added up in double, where so few
 * floats of like size lose nothing, so the sum does not depend on their order. Two texts of the same counts and length have the same score, bit for bit, and the
 * lower slot comes first. A bound is made greater by BOUND_SLACK before it is compared: rounding may not rule out a text.
 *
 * Each term is read once, as it is when the search begins (term_postings): what a commit under way adds later is not seen, and slots at or above
 * the view's count are not looked at. Offsets are checked where they are used, and every loop goes forward through something finite, so damage
 * costs hits and nothing else.
 */
#include "index/lexical_internal.h"

#include <math.h>
#include <stdlib.h>

#define BOUND_SLACK 1.000001
#define LANES 4U
#define NO_BLOCK UINT32_MAX
#define FIRST_LISTS 16
#define SUMS_FROM 6U /* essential lists; fewer are merged as fast text by text */
#define CACHE_LINE 64U
#define PREFETCHED_BYTES (4 * CACHE_LINE)
#define FIRST_LOOK 1024U /* postings */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef uint32_t lanes_u32 __attribute__((vector_size(LANES * sizeof(uint32_t))));

/* What of the formula is the same for all terms. */
struct formula {
    float base;  /* k1 * (1 - b) */
    float slope; /* k1 * b / average */
    float k1;
    uint64_t documents;
};

/* A term of the query and where it stands. */
struct list {
    struct term_postings postings;
    float weight;      /* idf * (k1 + 1) * how often it was asked for */
    double most;       /* bound of its part */
    double rest;       /* of the parts of all terms before it in the order, with its own */
    uint32_t block;    /* block_count: the open postings; beyond: at the end */
    uint32_t at;       /* within the block, if it is unpacked */
    uint32_t unpacked; /* which block `slots` holds; NO_BLOCK: none */
    uint32_t scored;   /* which one `scores` holds */
    uint32_t rated;    /* which one `block_most` is of */
    double block_most;
    uint32_t count; /* postings in the unpacked block */
    const uint8_t *data;
    uint32_t slots[BLOCK_POSTINGS];
    float scores[BLOCK_POSTINGS];
    struct open_postings open;
};

#define SPAN 4096U /* slots of a window of sums */
#define WORD_SLOTS 64U

struct lexical_scratch {
    struct list *lists;
    struct list **order; /* by `most`, ascending */
    size_t capacity;
    uint64_t touched[SPAN / WORD_SLOTS]; /* zeros between two windows, as are the sums */
    double sums[SPAN];
};

/* A term to be searched for. */
struct wanted {
    const struct entry *entry;
    uint32_t count;
};

struct search {
    const struct lexical *x;
    const struct lexical_query *q;
    struct formula formula;
    struct list **order;
    uint32_t lists;
    uint32_t essential;  /* order[essential] and on */
    struct scored *heap; /* the worst at its root */
    size_t k;
    size_t found;
    double bound; /* what a score must be above: the k-th best so far, or `floor` */
    double floor; /* known from the first look to be below the k-th best of all */
    uint64_t scored;
    bool unmapped;
};

struct lexical_scratch *lexical_scratch_new(void) {
    return calloc(1, sizeof(struct lexical_scratch));
}

void lexical_scratch_free(struct lexical_scratch *s) {
    if (s != NULL) {
        free(s->lists);
        free(s->order);
        free(s);
    }
}

static bool scratch_reserve(struct lexical_scratch *s, size_t lists) {
    if (lists <= s->capacity) {
        return true;
    }
    size_t capacity = s->capacity == 0 ? FIRST_LISTS : s->capacity;
    while (capacity < lists) {
        capacity *= 2;
    }
    struct list *made = malloc(capacity * sizeof *made);
    struct list **order = malloc(capacity * sizeof *order);
    if (made == NULL || order == NULL) {
        free(made);
        free(order);
        return false;
    }
    free(s->lists);
    free(s->order);
    s->lists = made;
    s->order = order;
    s->capacity = capacity;
    return true;
}

/* --- the formula --- */

static struct formula formula_of(const struct lexical_query *q) {
    double average = q->documents == 0 || q->tokens == 0 ? 1 : (double)q->tokens / (double)q->documents;
    return (struct formula){.base = q->k1 * (1 - q->b),
                            .slope = (float)((double)q->k1 * (double)q->b / average),
                            .k1 = q->k1,
                            .documents = q->documents};
}

static float weight_of(const struct formula *f, uint32_t live, uint32_t count) {
    double n = (double)f->documents;
    double df = (double)live < n ? (double)live : n; /* a commit under way may be ahead of the view's count */
    double idf = log(1 + (n - df + 0.5) / (df + 0.5));
    return (float)(idf * ((double)f->k1 + 1) * (double)count);
}

static inline float part_of(const struct formula *f, float weight, uint32_t count, uint32_t length) {
    float tf = (float)count;
    float norm = f->base + f->slope * (float)length;
    return weight * (tf / (tf + norm));
}

/* The same for a block. */
static void parts_of(const struct formula *f, float weight, const uint32_t counts[BLOCK_POSTINGS],
                     const uint32_t lengths[BLOCK_POSTINGS], float parts[BLOCK_POSTINGS]) {
    lanes weights = {weight, weight, weight, weight};
    lanes bases = {f->base, f->base, f->base, f->base};
    lanes slopes = {f->slope, f->slope, f->slope, f->slope};
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i += LANES) {
        typedef int32_t lanes_i32 __attribute__((vector_size(LANES * sizeof(int32_t)))); /* converts in one instruction */
        lanes_i32 count;
        lanes_i32 length;
        memcpy(&count, counts + i, sizeof count);
        memcpy(&length, lengths + i, sizeof length);
        lanes tf = __builtin_convertvector(count, lanes);
        lanes norm = bases + slopes * __builtin_convertvector(length, lanes);
        lanes part = weights * (tf / (tf + norm));
        memcpy(parts + i, &part, sizeof part);
    }
}

static double bound_part(const struct formula *f, float weight, uint32_t bound) {
    return (double)part_of(f, weight, bound_count(bound), bound_length(bound)) * BOUND_SLACK;
}

/* --- the terms of a query --- */

static void keep_most_frequent(struct wanted best[LEXICAL_PREFIX_TERMS], size_t *count, const struct entry *e) {
    uint32_t live = load_relaxed_u32(&e->live);
    size_t at = *count;
    if (at == LEXICAL_PREFIX_TERMS) {
        at--;
        if (best[at].count >= live) {
            return;
        }
    } else {
        ++*count;
    }
    for (; at > 0 && best[at - 1].count < live; at--) {
        best[at] = best[at - 1];
    }
    best[at] = (struct wanted){e, live};
}

/* The most frequent terms that begin with the query's prefix; among equals the first in order. */
static size_t expand_prefix(const struct lexical *x, struct slice prefix, struct wanted best[LEXICAL_PREFIX_TERMS],
                            bool *ret_unmapped) {
    size_t count = 0;
    if (prefix.len == 0) {
        return 0;
    }
    for (const struct entry *e = term_at_or_after(x, prefix, ret_unmapped); e != NULL; e = term_next(x, e, ret_unmapped)) {
        struct slice bytes = entry_bytes(e);
        if (bytes.len < prefix.len || memcmp(bytes.data, prefix.data, prefix.len) != 0) {
            break;
        }
        keep_most_frequent(best, &count, e);
    }
    for (size_t i = 0; i < count; i++) {
        best[i].count = 1;
    }
    return count;
}

/* --- a list --- */

static bool list_open(const struct search *s, const struct wanted *w, struct list *l, bool *ret_unmapped) {
    if (!term_postings(s->x, w->entry, &l->postings, &l->open, ret_unmapped)) {
        return false;
    }
    while (l->open.count > 0 && l->open.slots[l->open.count - 1] >= s->q->slots) {
        l->open.count--; /* of a commit under way, or of a later one than the view's */
    }
    l->weight = weight_of(&s->formula, l->postings.live, w->count);
    l->most = bound_part(&s->formula, l->weight, l->postings.bound);
    l->block = 0;
    l->at = 0;
    l->unpacked = l->scored = l->rated = NO_BLOCK;
    return l->postings.block_count > 0 || l->open.count > 0;
}

static inline bool list_ended(const struct list *l) {
    return l->block > l->postings.block_count || (l->block == l->postings.block_count && l->open.count == 0);
}

/* The last slot of the block the list stands in. */
static inline uint32_t list_last(const struct list *l) {
    return l->block < l->postings.block_count ? l->postings.blocks[l->block].last_slot : l->open.slots[l->open.count - 1];
}

/* On to the first block that ends at or behind `slot`. */
static void list_skip(struct list *l, uint32_t slot) {
    const struct block *blocks = l->postings.blocks;
    uint32_t count = l->postings.block_count;
    uint32_t low = l->block;
    if (list_ended(l) || list_last(l) >= slot) {
        return;
    }
    l->at = 0;
    uint32_t stride = 1;
    while (low + stride < count && blocks[low + stride].last_slot < slot) {
        low += stride;
        stride *= 2;
    }
    uint32_t high = low + stride < count ? low + stride : count; /* ends at or behind slot, or is the open one */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (blocks[middle].last_slot < slot) {
            low = middle;
        } else {
            high = middle;
        }
    }
    l->block = low < count ? high : count + 1;
    if (l->block == count && !list_ended(l) && list_last(l) < slot) {
        l->block++;
    }
}

static double list_block_most(const struct formula *f, struct list *l) {
    if (l->rated != l->block) {
        l->rated = l->block;
        l->block_most =
            l->block < l->postings.block_count ? bound_part(f, l->weight, l->postings.blocks[l->block].bound) : l->most;
    }
    return l->block_most;
}

/* Most blocks are unpacked after their neighbour, and each lies elsewhere: a missed cache line costs more than the unpacking. */
static inline void prefetch_block(const struct lexical *x, const struct block *b) {
    uint64_t at = (uint64_t)b->data * UNIT;
    if (at + PREFETCHED_BYTES <= x->postings_bytes) {
        for (uint64_t line = 0; line < PREFETCHED_BYTES; line += CACHE_LINE) {
            __builtin_prefetch(x->postings + at + line);
        }
    }
}

/* Unpacks the slots of the block that the list stands in. False: they are not to be had, and the list ends. */
static bool list_unpack(struct search *s, struct list *l) {
    if (l->unpacked == l->block) {
        return true;
    }
    l->at = 0;
    if (l->block == l->postings.block_count) {
        l->count = l->open.count;
        memcpy(l->slots, l->open.slots, l->count * sizeof *l->slots);
        memset(l->slots + l->count, 0xff, (BLOCK_POSTINGS - l->count) * sizeof *l->slots); /* behind every slot */
    } else {
        const struct block *b = &l->postings.blocks[l->block];
        l->data = block_sound(b) ? postings_at(s->x, b->data, block_bytes(b), &s->unmapped) : NULL;
        if (l->data == NULL) {
            l->unpacked = NO_BLOCK; /* whose slots are there still, but not its data */
            l->block = l->postings.block_count + 1;
            return false;
        }
        if (l->block + 1 < l->postings.block_count) {
            prefetch_block(s->x, &b[1]);
        }
        block_slots(b, l->data, l->block == 0 ? 0 : b[-1].last_slot, l->slots);
        l->count = BLOCK_POSTINGS;
    }
    l->unpacked = l->block;
    return true;
}

/* Computes the parts of the unpacked block. */
static void list_score(const struct formula *f, struct list *l) {
    uint32_t counts[BLOCK_POSTINGS];
    uint32_t lengths[BLOCK_POSTINGS];
    if (l->scored == l->block) {
        return;
    }
    l->scored = l->block;
    if (l->block < l->postings.block_count) {
        block_weights(&l->postings.blocks[l->block], l->data, counts, lengths);
        parts_of(f, l->weight, counts, lengths, l->scores);
        return;
    }
    for (uint32_t i = 0; i < l->count; i++) {
        struct posting p = word_posting(l->open.counts_lengths[i]);
        l->scores[i] = part_of(f, l->weight, p.count, p.length);
    }
}

/* The first posting of the unpacked block at or behind `slot`. Without branches: which way it goes cannot be predicted. */
static void list_find(struct list *l, uint32_t slot) {
    const uint32_t *slots = l->slots;
    uint32_t at = 0;
    for (uint32_t half = BLOCK_POSTINGS / 2; half > 0; half /= 2) {
        at += half & (0U - (uint32_t)(slots[at + half - 1] < slot));
    }
    at += (uint32_t)(slots[at] < slot);
    l->at = at > l->at ? at : l->at;
}

/* The part of the posting that the list stands at. */
static float list_part(const struct formula *f, const struct list *l) {
    struct posting p;
    if (l->scored == l->block) {
        return l->scores[l->at];
    }
    p = l->block < l->postings.block_count ? block_weight(&l->postings.blocks[l->block], l->data, l->at)
                                           : word_posting(l->open.counts_lengths[l->at]);
    return part_of(f, l->weight, p.count, p.length);
}

/* --- the best --- */

static inline bool worse(struct scored a, struct scored b) {
    return a.score < b.score || (a.score == b.score && a.slot > b.slot);
}

static void sift_down(struct scored *heap, size_t count, size_t i) {
    struct scored moving = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && worse(heap[child + 1], heap[child])) {
            child++;
        }
        if (!worse(heap[child], moving)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = moving;
}

static void sift_up(struct scored *heap, size_t i) {
    struct scored moving = heap[i];
    for (; i > 0 && worse(moving, heap[(i - 1) / 2]); i = (i - 1) / 2) {
        heap[i] = heap[(i - 1) / 2];
    }
    heap[i] = moving;
}

/* Best first. */
static void sort_best(struct scored *heap, size_t count) {
    for (size_t left = count; left > 1;) {
        struct scored worst = heap[0];
        heap[0] = heap[--left];
        sift_down(heap, left, 0);
        heap[left] = worst;
    }
}

/* A text with all its parts added up; asked whether it counts only now. */
static void offer(struct search *s, uint32_t slot, double sum) {
    struct scored hit = {(float)sum, slot};
    if (!((double)hit.score > s->bound) || slot >= s->q->slots ||
        (s->q->accept.accepts != NULL && !s->q->accept.accepts(s->q->accept.ctx, slot))) {
        return;
    }
    if (s->found < s->k) {
        s->heap[s->found] = hit;
        sift_up(s->heap, s->found++);
    } else {
        s->heap[0] = hit;
        sift_down(s->heap, s->k, 0);
    }
    if (s->found == s->k && (double)s->heap[0].score > s->bound) {
        s->bound = (double)s->heap[0].score;
    }
}

/* --- windows --- */

static inline double rest_of(const struct search *s, uint32_t lists) {
    return lists == 0 ? 0 : s->order[lists - 1]->rest;
}

/* A text's essential parts are added up: adds the others, as long as it may get in. */
static void complete(struct search *s, uint32_t slot, double sum) {
    for (uint32_t i = s->essential; i-- > 0;) {
        struct list *l = s->order[i];
        if (sum + l->rest <= s->bound) {
            return;
        }
        list_skip(l, slot);
        if (list_ended(l)) {
            continue;
        }
        if (sum + list_block_most(&s->formula, l) + rest_of(s, i) <= s->bound) {
            return;
        }
        if (!list_unpack(s, l)) {
            continue;
        }
        list_find(l, slot);
        if (l->at < l->count && l->slots[l->at] == slot) {
            sum += (double)list_part(&s->formula, l);
            s->scored++;
        }
    }
    offer(s, slot, sum);
}

/* The window's postings of the one essential list. */
static void window_of_one(struct search *s, struct list *l, uint32_t last) {
    double rest = rest_of(s, s->essential);
    uint32_t i = l->at;
    for (; i < l->count && l->slots[i] <= last; i++) {
        double part = (double)l->scores[i];
        if (part + rest > s->bound) {
            complete(s, l->slots[i], part);
        }
    }
    s->scored += i - l->at;
    l->at = i;
}

/* The same of several, text by text. `lists`: those that have postings in the window. */
static void window_of_many(struct search *s, struct list **lists, uint32_t count, uint32_t last) {
    double rest = rest_of(s, s->essential);
    while (count > 0) {
        uint32_t slot = UINT32_MAX;
        double sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t next = lists[i]->slots[lists[i]->at];
            slot = next < slot ? next : slot;
        }
        for (uint32_t i = 0; i < count;) {
            struct list *l = lists[i];
            if (l->slots[l->at] == slot) {
                sum += (double)l->scores[l->at++];
                s->scored++;
                if (l->at == l->count || l->slots[l->at] > last) {
                    lists[i] = lists[--count];
                    continue;
                }
            }
            i++;
        }
        if (sum + rest > s->bound) {
            complete(s, slot, sum);
        }
    }
}

/* How far the window from `first` reaches, and whether it may hold a hit. */
static bool bound_window(struct search *s, uint32_t first, uint32_t *ret_last) {
    double most = rest_of(s, s->essential);
    uint32_t last = UINT32_MAX;
    bool any = false;
    for (uint32_t i = s->essential; i < s->lists; i++) {
        struct list *l = s->order[i];
        list_skip(l, first);
        if (!list_ended(l)) {
            uint32_t end = list_last(l);
            last = end < last ? end : last;
            most += list_block_most(&s->formula, l);
            any = true;
        }
    }
    *ret_last = last;
    return any && most > s->bound;
}

static void search_window(struct search *s, struct list **ready, uint32_t first, uint32_t last) {
    uint32_t count = 0;
    for (uint32_t i = s->essential; i < s->lists; i++) {
        struct list *l = s->order[i];
        if (list_ended(l) || !list_unpack(s, l)) {
            continue;
        }
        list_find(l, first);
        if (l->at < l->count && l->slots[l->at] <= last) {
            list_score(&s->formula, l);
            ready[count++] = l;
        }
    }
    if (count == 1) {
        window_of_one(s, ready[0], last);
    } else {
        window_of_many(s, ready, count, last);
    }
}

/* Adds the parts of a list's postings in [first, first + SPAN) to the sums. Slots elsewhere, which only damage brings here, are left out. */
static void sum_list(struct search *s, struct lexical_scratch *scratch, struct list *l, uint32_t first) {
    list_skip(l, first);
    while (!list_ended(l) && list_unpack(s, l)) {
        list_find(l, first);
        list_score(&s->formula, l);
        uint32_t i = l->at;
        for (; i < l->count && l->slots[i] - first < SPAN; i++) {
            uint32_t at = l->slots[i] - first;
            scratch->touched[at / WORD_SLOTS] |= UINT64_C(1) << at % WORD_SLOTS;
            scratch->sums[at] += (double)l->scores[i];
        }
        s->scored += i - l->at;
        l->at = i;
        if (i < l->count) {
            return;
        }
        l->block++;
    }
}

/* Where the next posting of an essential list is, at or behind `slot`. */
static uint32_t next_slot(struct search *s, uint32_t slot) {
    uint32_t next = UINT32_MAX;
    for (uint32_t i = s->essential; i < s->lists; i++) {
        struct list *l = s->order[i];
        if (!list_ended(l) && list_unpack(s, l) && l->at < l->count) {
            next = l->slots[l->at] < next ? l->slots[l->at] : next;
        }
    }
    return next < slot ? slot : next;
}

/* A window of many essential lists: to look for the least slot of all of them at each step would take as long as there are lists, so their parts are
 * added up in an array over the slots. Returns where the next one begins. */
static uint32_t window_of_sums(struct search *s, struct lexical_scratch *scratch, uint32_t first) {
    double rest = rest_of(s, s->essential);
    for (uint32_t i = s->essential; i < s->lists; i++) {
        sum_list(s, scratch, s->order[i], first);
    }
    for (uint32_t word = 0; word < SPAN / WORD_SLOTS; word++) {
        for (uint64_t bits = scratch->touched[word]; bits != 0; bits &= bits - 1) {
            uint32_t at = word * WORD_SLOTS + (uint32_t)__builtin_ctzll(bits);
            double sum = scratch->sums[at];
            scratch->sums[at] = 0;
            if (sum + rest > s->bound) {
                complete(s, first + at, sum);
            }
        }
        scratch->touched[word] = 0;
    }
    return next_slot(s, first > UINT32_MAX - SPAN ? UINT32_MAX : first + SPAN);
}

static void search_all(struct search *s, struct lexical_scratch *scratch) {
    struct list **ready = scratch->order + scratch->capacity / 2;
    uint32_t first = 0;
    for (;;) {
        uint32_t last;
        while (s->essential < s->lists && s->order[s->essential]->rest <= s->bound) {
            s->essential++;
        }
        if (s->lists - s->essential >= SUMS_FROM) {
            first = window_of_sums(s, scratch, first);
            if (first >= s->q->slots) {
                return;
            }
            continue;
        }
        if (bound_window(s, first, &last)) {
            search_window(s, ready, first, last);
        }
        if (last >= s->q->slots - 1) {
            return; /* also when all essential lists are at their end */
        }
        first = last + 1;
    }
}

/* --- the first look --- */

static uint64_t list_count(const struct list *l) {
    return (uint64_t)l->postings.block_count * BLOCK_POSTINGS + l->open.count;
}

/*
 * Texts are met in the order of their slots, so the k-th best rises slowly, and until then frequent terms are essential that will not be. So the first
 * texts of one rare term are looked at beforehand: the k-th best of them, with the parts of the terms below it only, is a bound that the k-th best of
 * all reaches. They are forgotten then and found again.
 */
static void look_first(struct search *s) {
    uint32_t i = s->lists;
    while (i > 0 && list_count(s->order[i - 1]) < s->k) {
        i--;
    }
    if (i == 0 || s->lists == 1) {
        return;
    }
    struct list *l = s->order[i - 1];
    s->essential = i - 1;
    for (uint32_t looked = 0; looked < FIRST_LOOK && !list_ended(l) && list_unpack(s, l); looked += l->count, l->block++) {
        list_score(&s->formula, l);
        window_of_one(s, l, s->q->slots - 1);
    }
    if (s->found == s->k) {
        s->floor = (double)s->heap[0].score / BOUND_SLACK;
    }
    for (uint32_t j = 0; j < s->lists; j++) {
        s->order[j]->block = 0;
        s->order[j]->at = 0;
    }
    s->essential = 0;
    s->found = 0;
    s->bound = s->floor;
}

static int by_most(const void *a, const void *b) {
    const struct list *x = *(struct list *const *)a;
    const struct list *y = *(struct list *const *)b;
    return x->most < y->most ? -1 : x->most > y->most;
}

static void open_lists(struct search *s, struct lexical_scratch *scratch, const struct wanted *wanted, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct list *l = &scratch->lists[s->lists];
        if (wanted[i].entry != NULL && list_open(s, &wanted[i], l, &s->unmapped)) {
            s->order[s->lists++] = l;
        }
    }
}

size_t lexical_search(const struct lexical *x, const struct lexical_query *q, size_t k, struct lexical_scratch *scratch,
                      struct scored *out, uint64_t *ret_scored) {
    struct wanted expanded[LEXICAL_PREFIX_TERMS];
    struct search s = {.x = x, .q = q, .formula = formula_of(q), .heap = out, .k = k, .bound = -1, .floor = -1};
    *ret_scored = 0;
    if (k == 0 || q->slots == 0) {
        return 0;
    }
    size_t expansions = expand_prefix(x, q->prefix, expanded, &s.unmapped);
    if (!scratch_reserve(scratch, 2 * (q->terms->count + expansions))) { /* the second half of `order`: those of a window */
        return LEXICAL_NO_MEMORY;
    }
    s.order = scratch->order;
    for (uint32_t i = 0; i < q->terms->count; i++) {
        const struct term *t = &q->terms->items[i];
        struct wanted w = {term_find(x, t->bytes, t->hash), t->count};
        open_lists(&s, scratch, &w, 1);
    }
    open_lists(&s, scratch, expanded, expansions);
    if (s.lists > 0) { /* else there may be no array at all */
        qsort(s.order, s.lists, sizeof *s.order, by_most);
    }
    double rest = 0;
    for (uint32_t i = 0; i < s.lists; i++) {
        rest += s.order[i]->most;
        s.order[i]->rest = rest;
    }
    if (s.lists > 0) {
        look_first(&s);
        search_all(&s, scratch);
    }
    if (s.unmapped) {
        return LEXICAL_UNMAPPED;
    }
    sort_best(out, s.found);
    *ret_scored = s.scored;
    return s.found;
}

/* --- one text --- */

static double part_of_slot(struct search *s, const struct wanted *w, uint32_t slot) {
    struct list l;
    if (w->entry == NULL || !list_open(s, w, &l, &s->unmapped)) {
        return 0;
    }
    list_skip(&l, slot);
    if (list_ended(&l) || !list_unpack(s, &l)) {
        return 0;
    }
    list_find(&l, slot);
    return l.at < l.count && l.slots[l.at] == slot ? (double)list_part(&s->formula, &l) : 0;
}

float lexical_score(const struct lexical *x, const struct lexical_query *q, uint32_t slot) {
    struct wanted expanded[LEXICAL_PREFIX_TERMS];
    struct search s = {.x = x, .q = q, .formula = formula_of(q)};
    double sum = 0;
    if (slot >= q->slots) {
        return 0;
    }
    size_t expansions = expand_prefix(x, q->prefix, expanded, &s.unmapped);
    for (uint32_t i = 0; i < q->terms->count; i++) {
        const struct term *t = &q->terms->items[i];
        struct wanted w = {term_find(x, t->bytes, t->hash), t->count};
        sum += part_of_slot(&s, &w, slot);
    }
    for (size_t i = 0; i < expansions; i++) {
        sum += part_of_slot(&s, &expanded[i], slot);
    }
    return s.unmapped ? -1.0F : (float)sum;
}

static float entry_weight(const struct formula *f, const struct entry *e, uint32_t count) {
    return weight_of(f, e == NULL ? 0 : load_relaxed_u32(&e->live), count);
}

float lexical_ceiling(const struct lexical *x, const struct lexical_query *q) {
    struct wanted expanded[LEXICAL_PREFIX_TERMS];
    const struct formula f = formula_of(q);
    bool unmapped = false;
    float rarest = 0;
    double sum = 0;
    for (uint32_t i = 0; i < q->terms->count; i++) {
        const struct term *t = &q->terms->items[i];
        sum += (double)entry_weight(&f, term_find(x, t->bytes, t->hash), t->count);
    }
    size_t expansions = expand_prefix(x, q->prefix, expanded, &unmapped);
    for (size_t i = 0; i < expansions; i++) {
        float weight = entry_weight(&f, expanded[i].entry, 1);
        rarest = weight > rarest ? weight : rarest;
    }
    return unmapped ? -1.0F : (float)(sum + (double)rarest);
}
