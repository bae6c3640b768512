/*
 * memory.c - campaign "memory": the Nth allocation fails, for every N, once or from then on, while a server does each of its deeds (failing.h).
 *
 * Allocations are those of our own code (tests/unit/allocations.h), by whichever thread.
 */
#include "allocations.h"
#include "failing.h"

#include "base/log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

enum { MODES = 2, CLOSELY_EVERY = 16 };

struct memory {
    struct failing f;
    uint64_t counts[DEEDS]; /* allocations that each makes when none fails */
    uint64_t total;
    /* of the item */
    unsigned nth;
    bool end;
    unsigned paused_at;
    uint64_t seen; /* allocations, until the end */
};

static struct memory *now; /* for own_work, which has no context */

static void begin(void *ctx) {
    const struct memory *m = (const struct memory *)ctx;
    allocations->end = m->end ? 1 : 0;
    allocations->seen = 0;
    __atomic_store_n(&allocations->left, m->nth, __ATOMIC_RELAXED);
}

static void end(void *ctx) {
    ((struct memory *)ctx)->seen = allocations->seen;
    __atomic_store_n(&allocations->left, 0, __ATOMIC_RELAXED);
    allocations->end = 0;
}

/* No thread but this one allocates for the fixture; what others allocate meanwhile is granted. */
static void own_work(bool begins) {
    if (begins) {
        now->paused_at = __atomic_exchange_n(&allocations->left, 0, __ATOMIC_RELAXED);
    } else {
        __atomic_store_n(&allocations->left, now->paused_at, __ATOMIC_RELAXED);
    }
}

static void count_one(struct campaign *c, uint64_t item, int dir_fd, void *ctx) {
    struct memory *m = (struct memory *)ctx;
    m->nth = 0;
    failing_run(c, &m->f, (enum failing_deed)item, OUTCOME_SUCCESS, true, dir_fd);
}

static void fail_one(struct campaign *c, uint64_t item, int dir_fd, void *ctx) {
    struct memory *m = (struct memory *)ctx;
    uint64_t which = c->is_long ? item : (item * m->total / c->count + c->seed) % m->total;
    int deed = 0;
    while (which >= m->counts[deed] * MODES) {
        which -= m->counts[deed++] * MODES;
    }
    m->nth = (unsigned)(which / MODES) + 1;
    m->end = which % MODES != 0;
    campaign_doing(c, "%s, allocation %u of %" PRIu64 " fails%s", failing_deed_names[deed], m->nth, m->counts[deed], m->end ? ", and all behind it" : "");
    failing_run(c, &m->f, (enum failing_deed)deed, OUTCOME_HEALS, item % CLOSELY_EVERY == 0, dir_fd);
}

int main(int argc, char **argv) {
    static const struct campaign_sizes sizes = {50, 500, 0};
    static struct memory m;
    struct campaign c;
    campaign_begin(&c, argc, argv, "memory", &sizes);
    log_set_level(LOG_LEVEL_ERROR);
    failing_collect(&m.f);
    now = &m;
    m.f.begin = begin;
    m.f.end = end;
    m.f.ctx = &m;
    m.f.own_work = own_work;
    for (int deed = 0; deed < DEEDS; deed++) {
        int dir_fd = campaign_room(&c);
        campaign_doing(&c, "%s, and nothing fails", failing_deed_names[deed]);
        count_one(&c, (uint64_t)deed, dir_fd, &m);
        io_close(&dir_fd);
        m.counts[deed] = m.seen;
        m.total += m.seen * MODES;
        (void)printf("%12" PRIu64 "  allocations in %s\n", m.seen, failing_deed_names[deed]);
    }
    if (c.is_long) {
        c.count = m.total;
    }
    campaign_run(&c, c.count, fail_one, &m);
    failing_fini(&m.f);
    return campaign_end(&c);
}
