/*
 * lexical.c - adding to the inverted index, and its postings as they are at one moment. The files are described in lexical_internal.h.
 */
#include "index/lexical_internal.h"

#include <assert.h>

_Static_assert(sizeof(struct terms_head) + (sizeof(uint32_t) << FIRST_LEVEL) <= LEXICAL_TERMS_FIRST_BYTES, "an empty index fits");
_Static_assert(sizeof(struct postings_head) <= LEXICAL_POSTINGS_FIRST_BYTES, "an empty index fits");

#define RUN_SLACK 16U  /* what calls of lexical_need for one term may fall short of, a call */
#define LIST_SLACK 64U /* bytes of growing block lists, a full block */

/* The writer's own right to change what stands there; whoever asks for it is about to store, so the pages are told here. */
static struct terms_head *own_terms(const struct lexical *x) {
    dirty_touch(x->terms_dirty, x->terms, x->terms, sizeof(struct terms_head));
    return (struct terms_head *)(void *)x->terms;
}

static struct postings_head *own_postings(const struct lexical *x) {
    dirty_touch(x->postings_dirty, x->postings, x->postings, sizeof(struct postings_head));
    return (struct postings_head *)(void *)x->postings;
}

static struct entry *own_entry(const struct lexical *x, const struct entry *e) {
    dirty_touch(x->terms_dirty, x->terms, e, sizeof *e);
    return (struct entry *)(void *)(x->terms + ((const uint8_t *)e - x->terms));
}

void lexical_init(const struct lexical *x) {
    uint64_t table_bytes = sizeof(uint32_t) << FIRST_LEVEL;
    struct terms_head *t = own_terms(x);
    dirty_touch(x->terms_dirty, x->terms, t, sizeof *t + table_bytes);
    memset(t, 0, sizeof *t + table_bytes);
    t->magic = TERMS_MAGIC;
    t->level = FIRST_LEVEL;
    t->tables[FIRST_LEVEL] = (uint32_t)(sizeof *t / UNIT);
    t->used = sizeof *t + table_bytes;
    *own_postings(x) = (struct postings_head){.magic = POSTINGS_MAGIC, .used = sizeof(struct postings_head)};
}

void lexical_settle(const struct lexical *x) {
    struct terms_head *h = own_terms(x);
    while (h->growth != 0) {
        table_grow(x, h);
    }
}

bool lexical_valid(const struct lexical *x) {
    if (x->terms_bytes < sizeof(struct terms_head) || x->postings_bytes < sizeof(struct postings_head)) {
        return false;
    }
    const struct terms_head *t = terms_head(x);
    const struct postings_head *p = postings_head(x);
    uint32_t level = load_acquire_u32(&t->level); /* pairs with: LEXICAL_TERM */
    uint64_t magic = load_relaxed_u64(&t->magic);
    return (magic == TERMS_MAGIC || magic == TERMS_GROWING) && p->magic == POSTINGS_MAGIC && level >= FIRST_LEVEL && level <= MAX_LEVEL &&
           growth_sound(x) &&
           lexical_terms_used(x) >= sizeof *t && lexical_terms_used(x) <= x->terms_bytes && lexical_terms_used(x) % UNIT == 0 &&
           lexical_postings_used(x) >= sizeof *p && lexical_postings_used(x) <= x->postings_bytes &&
           lexical_postings_used(x) % UNIT == 0;
}

uint64_t lexical_terms_used(const struct lexical *x) {
    return load_acquire_u64(&terms_head(x)->used); /* pairs with: LEXICAL_USED */
}

uint64_t lexical_postings_used(const struct lexical *x) {
    return load_acquire_u64(&postings_head(x)->used); /* pairs with: LEXICAL_USED */
}

const void *postings_at(const struct lexical *x, uint32_t offset, uint64_t bytes, bool *ret_unmapped) {
    return lexical_at(x->postings, x->postings_bytes, lexical_postings_used(x), offset, bytes, ret_unmapped);
}

/* --- room --- */

static uint64_t run_bytes(uint32_t first) {
    return sizeof(struct run) + run_words(first) * sizeof(uint64_t);
}

/* The run that a term needs after its newest (0: it has none), or BLOCK_POSTINGS: it has all. */
static uint32_t run_after(uint32_t newest) {
    if (newest == 0) {
        return RUN_FIRST;
    }
    return newest == RUN_FIRST ? 4 : newest * 2;
}

static uint32_t newest_run(const struct lexical *x, const struct entry *e) {
    bool unmapped = false;
    const struct run *r = e == NULL ? NULL : postings_at(x, e->runs, sizeof *r, &unmapped);
    return r == NULL ? 0 : r->first;
}

static uint32_t list_capacity(uint32_t blocks) {
    uint32_t capacity = FIRST_BLOCK_LIST;
    while (capacity < blocks) {
        capacity *= 2;
    }
    return blocks == 0 ? 0 : capacity;
}

/*
 * What one posting of this term may take, when it is one of up to total->texts. The term may come in any of them, so it is counted in all: a posting
 * pays for the next run when that many postings could reach it. Later runs are paid for by the postings that are needed to reach them, as a run is as
 * long as all before it together. Full blocks are only counted; lexical_room knows how many there can be in all.
 */
static void need_of_posting(const struct lexical *x, const struct entry *e, struct lexical_need *total) {
    uint32_t state = e == NULL ? 0 : e->state;
    uint64_t reach = state_open(state) + total->texts;
    uint32_t next = run_after(newest_run(x, e));
    if (next < BLOCK_POSTINGS && reach > next) {
        total->postings_bytes += run_bytes(next) + RUN_SLACK;
    }
    if (reach >= BLOCK_POSTINGS) {
        uint32_t capacity = list_capacity(state_blocks(state));
        total->blocks++;
        total->postings_bytes += LIST_SLACK;
        if (state_blocks(state) + reach / BLOCK_POSTINGS > capacity) {
            total->postings_bytes += (capacity == 0 ? FIRST_BLOCK_LIST : 2 * (uint64_t)capacity) * sizeof(struct block);
        }
    }
}

void lexical_need(const struct lexical *x, const struct terms *t, struct lexical_need *total) {
    total->texts++;
    total->postings += t->count;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct term *term = &t->items[i];
        const struct entry *e = term_find(x, term->bytes, term->hash);
        if (e == NULL) {
            total->new_terms++;
            total->terms_bytes += entry_size(term_height(term->bytes), term->bytes.len);
        }
        need_of_posting(x, e, total);
    }
}

void lexical_room(const struct lexical *x, const struct lexical_need *total, uint64_t *ret_terms_bytes,
                  uint64_t *ret_postings_bytes) {
    uint64_t blocks = (postings_head(x)->open + total->postings) / BLOCK_POSTINGS;
    blocks = blocks < total->blocks ? blocks : total->blocks;
    *ret_terms_bytes = lexical_terms_used(x) + total->terms_bytes + tables_need(terms_head(x), total->new_terms);
    *ret_postings_bytes = lexical_postings_used(x) + total->postings_bytes + blocks * BLOCK_DATA_MAX;
}

/* --- adding --- */

static uint32_t take_room(const struct lexical *x, uint64_t bytes) {
    struct postings_head *h = own_postings(x);
    uint64_t at = h->used;
    assert(at + bytes <= x->postings_bytes); /* lexical_room has told the caller */
    /* pairs with: LEXICAL_USED. Without it a reader could take a new offset for damage, and miss postings. */
    store_release_u64(&h->used, at + bytes);
    return (uint32_t)(at / UNIT);
}

static uint8_t *own_bytes(const struct lexical *x, uint32_t offset, uint64_t bytes) {
    uint8_t *at = x->postings + (uint64_t)offset * UNIT;
    dirty_touch(x->postings_dirty, x->postings, at, bytes);
    return at;
}

static uint64_t *own_word(const struct lexical *x, const uint64_t *word) {
    dirty_touch(x->postings_dirty, x->postings, word, sizeof *word);
    return (uint64_t *)(void *)(x->postings + ((const uint8_t *)word - x->postings));
}

/* Where open posting i of a term stands; its run is made when it is the first to need it. NULL: damaged. */
static uint64_t *open_word(const struct lexical *x, struct entry *e, uint32_t i) {
    uint32_t first = run_of(i);
    if (i == 0) {
        return &e->first_open;
    }
    if (newest_run(x, e) < first) {
        uint32_t offset = take_room(x, run_bytes(first));
        struct run *made = (struct run *)(void *)own_bytes(x, offset, run_bytes(first));
        memset(made, 0, run_bytes(first));
        made->older = e->runs;
        made->first = first;
        /* pairs with: LEXICAL_OPEN. Without it a reader could walk a run whose head is not written yet. */
        store_release_u32(&e->runs, offset);
    }
    for (uint32_t offset = e->runs;;) {
        bool unmapped = false;
        const struct run *r = postings_at(x, offset, sizeof *r, &unmapped);
        if (r == NULL || r->first < first) {
            return NULL;
        }
        if (r->first == first) {
            const struct run *whole = postings_at(x, offset, run_bytes(first), &unmapped);
            return whole == NULL ? NULL : own_word(x, &whole->words[i - first]);
        }
        offset = r->older;
    }
}

/* Room for one more block in the list of a term that has `count`. */
static struct block *list_slot(const struct lexical *x, struct entry *e, uint32_t count) {
    uint32_t capacity = list_capacity(count);
    struct block *list = (struct block *)(void *)own_bytes(x, e->blocks, 0);
    if (count == capacity) {
        uint64_t bytes = (capacity == 0 ? FIRST_BLOCK_LIST : 2 * (uint64_t)capacity) * sizeof *list;
        uint32_t offset = take_room(x, bytes);
        struct block *larger = (struct block *)(void *)own_bytes(x, offset, bytes);
        memcpy(larger, list, count * sizeof *list);
        /* pairs with: LEXICAL_OPEN. Without it a reader could read a list that is not copied yet. */
        store_release_u32(&e->blocks, offset);
        list = larger;
    }
    dirty_touch(x->postings_dirty, x->postings, &list[count], sizeof *list);
    return &list[count];
}

/* The open postings are BLOCK_POSTINGS: they become a block. */
static void close_block(const struct lexical *x, struct entry *e, uint32_t blocks, const struct open_postings *open) {
    uint8_t packed[BLOCK_DATA_MAX];
    struct block made;
    struct block *slot = list_slot(x, e, blocks);
    uint32_t bytes = block_pack(open, blocks == 0 ? 0 : slot[-1].last_slot, &made, packed);
    made.data = take_room(x, bytes);
    memcpy(own_bytes(x, made.data, bytes), packed, bytes);
    *slot = made;
    own_postings(x)->open -= BLOCK_POSTINGS;
    /* pairs with: LEXICAL_OPEN. Without it a reader could look for a block that is not written yet, or copy open words that are being overwritten and take
     * them for the old ones. */
    store_release_u32(&e->state, (blocks + 1) << STATE_OPEN_BITS);
}

static void append(const struct lexical *x, struct entry *e, struct posting p) {
    uint32_t state = e->state;
    uint32_t open = state_open(state);
    uint64_t *word = open_word(x, e, open);
    if (word == NULL) {
        return; /* damaged: the postings end here; the validator says so */
    }
    store_relaxed_u32(&e->bound, bound_with(e->bound, p.count, p.length)); /* before the posting that needs it is published */
    /* pairs with: LEXICAL_OPEN. Without it the word could be seen before the state that says what stood here is a block now. */
    store_release_u64(word, posting_word(p));
    own_postings(x)->open++;
    if (open + 1 < BLOCK_POSTINGS) {
        /* pairs with: LEXICAL_OPEN. Without it a reader could read a word that is not written yet. */
        store_release_u32(&e->state, state + 1);
        return;
    }
    struct open_postings all;
    all.count = BLOCK_POSTINGS;
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        word = open_word(x, e, i);
        if (word == NULL) {
            return;
        }
        all.slots[i] = word_posting(*word).slot;
        all.counts_lengths[i] = (uint32_t)*word;
    }
    close_block(x, e, state_blocks(state), &all);
}

void lexical_add(const struct lexical *x, uint32_t slot, const struct terms *t) {
    struct terms_head *h = own_terms(x);
    if (slot < h->slots) {
        return;
    }
    h->slots = (uint64_t)slot + 1;
    store_relaxed_u64(&h->postings, h->postings + t->count);
    for (uint32_t i = 0; i < t->count; i++) {
        const struct term *term = &t->items[i];
        const struct entry *found = term_find(x, term->bytes, term->hash);
        struct entry *e = found == NULL ? term_insert(x, term->bytes, term->hash) : own_entry(x, found);
        store_relaxed_u32(&e->live, e->live + 1);
        append(x, e,
               (struct posting){slot, term->count < LEXICAL_COUNT_MAX ? term->count : LEXICAL_COUNT_MAX,
                                t->length < LEXICAL_LENGTH_MAX ? t->length : LEXICAL_LENGTH_MAX});
    }
}

void lexical_remove(const struct lexical *x, const struct terms *t) {
    for (uint32_t i = 0; i < t->count; i++) {
        const struct entry *found = term_find(x, t->items[i].bytes, t->items[i].hash);
        if (found != NULL && found->live > 0) {
            struct entry *e = own_entry(x, found);
            store_relaxed_u32(&e->live, e->live - 1);
        }
    }
}

/* --- reading a term --- */

/* Copies open words [0, count). */
static bool copy_open(const struct lexical *x, const struct entry *e, uint32_t count, struct open_postings *open,
                      bool *ret_unmapped) {
    uint32_t end = count;
    uint32_t offset = load_acquire_u32(&e->runs); /* pairs with: LEXICAL_OPEN */
    uint32_t above = BLOCK_POSTINGS;
    open->count = count;
    while (end > 1) {
        const struct run *r = postings_at(x, offset, sizeof *r, ret_unmapped);
        if (r == NULL || r->first >= above || r->first == 0 || run_of(r->first) != r->first) {
            return false;
        }
        if (r->first < end) {
            const struct run *whole = postings_at(x, offset, run_bytes(r->first), ret_unmapped);
            if (whole == NULL || end - r->first > run_words(r->first)) {
                return false;
            }
            for (uint32_t i = r->first; i < end; i++) {
                uint64_t word = load_acquire_u64(&r->words[i - r->first]); /* pairs with: LEXICAL_OPEN */
                open->slots[i] = word_posting(word).slot;
                open->counts_lengths[i] = (uint32_t)word;
            }
            end = r->first;
        }
        above = r->first;
        offset = r->older;
    }
    if (count > 0) {
        uint64_t word = load_acquire_u64(&e->first_open); /* pairs with: LEXICAL_OPEN */
        open->slots[0] = word_posting(word).slot;
        open->counts_lengths[0] = (uint32_t)word;
    }
    return true;
}

bool term_postings(const struct lexical *x, const struct entry *e, struct term_postings *ret, struct open_postings *open,
                   bool *ret_unmapped) {
    for (;;) {
        uint32_t state = load_acquire_u32(&e->state); /* pairs with: LEXICAL_OPEN */
        bool copied = state_open(state) < BLOCK_POSTINGS && copy_open(x, e, state_open(state), open, ret_unmapped);
        /* The words were read with acquire: had one been overwritten since, the state would show it here. */
        if (state_blocks(load_acquire_u32(&e->state)) != state_blocks(state)) { /* pairs with: LEXICAL_OPEN */
            continue;
        }
        ret->block_count = state_blocks(state);
        ret->bound = load_relaxed_u32(&e->bound);
        ret->live = load_relaxed_u32(&e->live);
        ret->blocks = NULL;
        if (copied && ret->block_count > 0) {
            uint32_t list = load_acquire_u32(&e->blocks); /* pairs with: LEXICAL_OPEN */
            ret->blocks = postings_at(x, list, ret->block_count * sizeof(struct block), ret_unmapped);
        }
        return copied && (ret->block_count == 0 || ret->blocks != NULL);
    }
}

void lexical_statistics(const struct lexical *x, struct lexical_statistics *out) {
    const struct terms_head *h = terms_head(x);
    *out = (struct lexical_statistics){load_relaxed_u64(&h->terms), load_relaxed_u64(&h->postings),
                                       lexical_terms_used(x) + lexical_postings_used(x)};
}
