/*
 * places.c - see places.h.
 *
 * Both sides are sequentially consistent: one gives its place back and then looks at a queue; the other has seen the queue's news
 * and then finds no place. One of the two must see what the other did, else a newcomer is left with nobody who knows of it.
 */
#include "shm/places.h"

#include "shm/atomics.h"

void places_init(struct places *p, uint32_t count) {
    *p = (struct places){.count = count < PLACES_MAX ? count : PLACES_MAX};
}

/* The number stands where any worker can write. */
static uint32_t count_of(const struct places *p) {
    uint32_t count = load_relaxed_u32(&p->count);
    return count < PLACES_MAX ? count : PLACES_MAX;
}

static bool change(uint32_t *word, uint32_t from, uint32_t to) {
    return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

bool places_take(struct places *p, uint32_t who) {
    uint32_t count = count_of(p);
    for (uint32_t i = 0; i < count; i++) {
        /* Looked at before: an exchange that fails would take the line away from its holder all the same. */
        if (__atomic_load_n(&p->holder[i], __ATOMIC_SEQ_CST) == 0 && change(&p->holder[i], 0, who + 1)) {
            return true;
        }
    }
    return false;
}

void places_leave(struct places *p, uint32_t who) {
    for (uint32_t i = 0; i < PLACES_MAX; i++) {
        if (load_relaxed_u32(&p->holder[i]) == who + 1) {
            (void)change(&p->holder[i], who + 1, 0);
        }
    }
}

uint32_t places_taken(const struct places *p) {
    uint32_t taken = 0;
    for (uint32_t i = 0; i < PLACES_MAX; i++) {
        taken += load_relaxed_u32(&p->holder[i]) != 0 ? 1 : 0;
    }
    return taken;
}
