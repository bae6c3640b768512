/* retention.c - see retention.h. */
#include "s3/retention.h"

#include <stdlib.h>

#define US_PER_DAY INT64_C(86400000000)
enum { DAYS_MAX = 3650 };

static int by_kind_and_lsn(const void *a, const void *b) {
    const struct s3_object *x = (const struct s3_object *)a;
    const struct s3_object *y = (const struct s3_object *)b;
    if (x->kind != y->kind) {
        return x->kind < y->kind ? -1 : 1;
    }
    if (x->kind == S3_SNAPSHOT) {
        return x->lsn != y->lsn ? (x->lsn < y->lsn ? 1 : -1) : strcmp(y->file, x->file);
    }
    if (x->first_lsn != y->first_lsn) {
        return x->first_lsn < y->first_lsn ? -1 : 1;
    }
    int order = strcmp(x->file, y->file);
    return order != 0 ? order : (x->lsn < y->lsn) - (x->lsn > y->lsn);
}

void s3_listing_sort(struct s3_listing *l) {
    if (l->count > 1) {
        qsort(l->items, l->count, sizeof *l->items, by_kind_and_lsn);
    }
}

size_t s3_find_snapshot(const struct s3_listing *l, const struct uuid *instance, const char *file) {
    for (size_t i = 0; i < l->count; i++) {
        const struct s3_object *o = &l->items[i];
        if (o->kind == S3_SNAPSHOT && strcmp(o->file, file) == 0 && uuid_equal(&o->instance, instance)) {
            return i;
        }
    }
    return SIZE_MAX;
}

bool s3_chain_whole(const struct s3_listing *l, size_t i) {
    for (unsigned links = 0; links < SNAPSHOT_CHAIN_LINKS_MAX; links++) {
        const struct s3_object *o = &l->items[i];
        if (o->base[0] == '\0') {
            return true;
        }
        size_t base = s3_find_snapshot(l, &o->instance, o->base);
        if (base == SIZE_MAX || l->items[base].lsn > o->lsn) {
            return false;
        }
        i = base;
    }
    return false;
}

/* The snapshot stays, with all that it rests on. Its chain is whole. */
static void mark_chain(const struct s3_listing *l, size_t i, bool *marks) {
    for (;;) {
        marks[i] = true;
        if (l->items[i].base[0] == '\0') {
            return;
        }
        i = s3_find_snapshot(l, &l->items[i].instance, l->items[i].base);
    }
}

static int64_t age_in_days(const struct s3_listing *l, const struct s3_object *o) {
    int64_t age = l->date_us - o->modified_us;
    return age > 0 ? age / US_PER_DAY : 0;
}

static void mark_snapshots(const struct s3_listing *l, size_t snapshots, const struct s3_retention *r, bool *marks) {
    bool taken[DAYS_MAX + 1] = {false}; /* the newest of that day is marked; the last: of all that is older */
    uint64_t good = 0;
    for (size_t i = 0; i < snapshots; i++) {
        int64_t days = age_in_days(l, &l->items[i]);
        int64_t of = days < (int64_t)r->keep_days ? days : (int64_t)r->keep_days;
        if (!s3_chain_whole(l, i)) {
            marks[i] = marks[i] || days < (int64_t)r->keep_days;
            continue;
        }
        good++;
        if (good <= r->keep || r->keep_days == 0 || !taken[of]) {
            mark_chain(l, i, marks);
        }
        taken[of] = true;
    }
}

static void mark_segments(const struct s3_listing *l, size_t snapshots, uint64_t floor, bool *marks) {
    for (size_t i = snapshots; i < l->count; i++) {
        const struct s3_object *o = &l->items[i];
        bool shorter = i > snapshots && o->lsn < o[-1].lsn && strcmp(o->file, o[-1].file) == 0;
        marks[i] = o->lsn > floor && !shorter;
    }
}

bool s3_retain(struct s3_listing *l, const struct s3_retention *r, bool *marks, uint64_t *ret_floor, struct status *st) {
    size_t snapshots = 0;
    uint64_t floor = 0;
    if (r->keep_days > DAYS_MAX) {
        return status_set(st, STATUS_INVALID, "keep_days is at most %d", DAYS_MAX);
    }
    s3_listing_sort(l);
    memset(marks, 0, l->count * sizeof *marks);
    while (snapshots < l->count && l->items[snapshots].kind == S3_SNAPSHOT) {
        snapshots++;
    }
    mark_snapshots(l, snapshots, r, marks);
    for (size_t i = 0; i < snapshots; i++) {
        if (marks[i] && s3_chain_whole(l, i)) {
            floor = l->items[i].lsn; /* they descend */
        }
    }
    mark_segments(l, snapshots, r->keep_days == 0 ? 0 : floor, marks);
    *ret_floor = floor;
    return true;
}
