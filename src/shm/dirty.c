/* dirty.c - see dirty.h. */
#include "shm/dirty.h"

#include <stdlib.h>
#include <string.h>

enum { WORD_BITS = 64, LEAST_WORDS = 16 };

struct dirty_copy {
    struct dirty_copy *next;
    struct dirty_page page;
};

void dirty_init(struct dirty_pages *d) {
    *d = (struct dirty_pages){0};
}

static void drop_aside(struct dirty_pages *d) {
    while (d->aside != NULL) {
        struct dirty_copy *copy = d->aside;
        d->aside = copy->next;
        free(copy);
    }
}

void dirty_fini(struct dirty_pages *d) {
    drop_aside(d);
    free(d->changed);
    free(d->wanted);
    free(d->cut);
    dirty_init(d);
}

static bool grow_set(uint64_t **set, size_t from, size_t to) {
    uint64_t *grown = (uint64_t *)realloc(*set, to * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    memset(grown + from, 0, (to - from) * sizeof *grown);
    *set = grown;
    return true;
}

bool dirty_room(struct dirty_pages *d, uint64_t bytes, struct status *st) {
    size_t pages = (size_t)((bytes + DIRTY_PAGE_BYTES - 1) / DIRTY_PAGE_BYTES);
    size_t needed = (pages + WORD_BITS - 1) / WORD_BITS;
    if (needed <= d->words) {
        return true;
    }
    size_t words = d->words * 2 > LEAST_WORDS ? d->words * 2 : LEAST_WORDS;
    words = words > needed ? words : needed;
    if (!grow_set(&d->changed, d->words, words) || !grow_set(&d->wanted, d->words, words) ||
        !grow_set(&d->cut, d->words, words)) {
        return status_no_memory(st);
    }
    d->words = words;
    return true;
}

static void copy_aside(struct dirty_pages *d, const uint8_t *base, size_t page) {
    struct dirty_copy *copy = (struct dirty_copy *)malloc(sizeof *copy);
    if (copy == NULL) {
        d->failed = true;
        return;
    }
    copy->page.number = (uint32_t)page;
    memcpy(copy->page.bytes, base + page * DIRTY_PAGE_BYTES, DIRTY_PAGE_BYTES);
    copy->next = d->aside;
    d->aside = copy;
}

void dirty_touch_page(struct dirty_pages *d, const uint8_t *base, size_t page) {
    size_t word = page / WORD_BITS;
    uint64_t bit = UINT64_C(1) << (page % WORD_BITS);
    if (word >= d->words) {
        d->failed = true;
        return;
    }
    d->changed[word] |= bit;
    if (d->cutting && (d->wanted[word] & bit) != 0) {
        d->wanted[word] &= ~bit;
        copy_aside(d, base, page);
    }
}

/* The bits of a word that stand for pages below `pages`. */
static uint64_t mask_below(size_t word, size_t pages) {
    size_t first = word * WORD_BITS;
    if (pages >= first + WORD_BITS) {
        return UINT64_MAX;
    }
    return pages <= first ? 0 : (UINT64_C(1) << (pages - first)) - 1;
}

void dirty_cut(struct dirty_pages *d, uint64_t used, bool all) {
    size_t pages = (size_t)((used + DIRTY_PAGE_BYTES - 1) / DIRTY_PAGE_BYTES);
    bool whole = all || d->failed;
    d->failed = pages > d->words * WORD_BITS;
    for (size_t i = 0; i < d->words; i++) {
        d->wanted[i] = (whole ? UINT64_MAX : d->changed[i]) & mask_below(i, pages);
        d->cut[i] = d->wanted[i];
        d->changed[i] = 0;
    }
    d->cutting = true;
    d->next = 0;
}

static size_t take_aside(struct dirty_pages *d, struct dirty_page *out, size_t most) {
    size_t count = 0;
    for (; d->aside != NULL && count < most; count++) {
        struct dirty_copy *copy = d->aside;
        out[count] = copy->page;
        d->aside = copy->next;
        free(copy);
    }
    return count;
}

size_t dirty_take(struct dirty_pages *d, const uint8_t *base, struct dirty_page *out, size_t most) {
    size_t count = take_aside(d, out, most);
    while (count < most && d->next < d->words) {
        uint64_t word = d->wanted[d->next];
        if (word == 0) {
            d->next++;
            continue;
        }
        size_t page = d->next * WORD_BITS + (size_t)__builtin_ctzll(word);
        d->wanted[d->next] = word & (word - 1);
        out[count].number = (uint32_t)page;
        memcpy(out[count].bytes, base + page * DIRTY_PAGE_BYTES, DIRTY_PAGE_BYTES);
        count++;
    }
    return count;
}

bool dirty_end(struct dirty_pages *d, bool ok) {
    bool whole = ok && !d->failed;
    for (size_t i = 0; !whole && i < d->words; i++) {
        d->changed[i] |= d->cut[i];
    }
    for (size_t i = 0; i < d->words; i++) {
        d->wanted[i] = 0;
        d->cut[i] = 0;
    }
    drop_aside(d);
    d->cutting = false;
    return whole;
}
