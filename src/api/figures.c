/* figures.c - what is written while it is read: entries with a sequence number, odd while they change (figures.h). */
#include "api/figures.h"

#include "shm/atomics.h"

#include <string.h>

enum { TRIES = 1000 };

static const char *const arena_kinds[ARENA_KINDS] = {"vectors", "graph", "upper",    "chunks",   "documents",
                                                     "records", "ids",   "terms", "postings", "columns"};

const char *figures_arena_kind(unsigned kind) {
    return arena_kinds[kind];
}

int figures_arena_kind_of(const char *name) {
    size_t len = strcspn(name, ".");
    for (int i = 0; i < ARENA_KINDS; i++) {
        if (strlen(arena_kinds[i]) == len && memcmp(arena_kinds[i], name, len) == 0) {
            return i;
        }
    }
    return -1;
}

void figures_provider_write(struct figures_provider_slot *slot, const struct figures_provider *m) {
    uint64_t sequence = load_relaxed_u64(&slot->sequence);
    store_relaxed_u64(&slot->sequence, sequence + 1);
    /* pairs with: FIGURES_PROVIDER. Without the fence the new fields could be seen under the old even number. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    memcpy(&slot->model, m, sizeof *m);
    /* pairs with: FIGURES_PROVIDER. Without the release the even number could be seen before the last fields. */
    store_release_u64(&slot->sequence, sequence + 2);
}

void figures_provider_read(const struct figures_provider_slot *slot, struct figures_provider *ret) {
    for (int i = 0; i < TRIES; i++) {
        uint64_t before = load_acquire_u64(&slot->sequence); /* pairs with: FIGURES_PROVIDER */
        memcpy(ret, &slot->model, sizeof *ret);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (before % 2 == 0 && load_relaxed_u64(&slot->sequence) == before) {
            return;
        }
    }
    *ret = (struct figures_provider){0}; /* the supervisor died while it wrote, and takes us along */
}
