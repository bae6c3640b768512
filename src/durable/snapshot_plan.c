/*
 * snapshot_plan.c - whole or incremental, and which libraries.
 *
 * A library is left to the archives behind when nothing of it changed since the base: its last change (the LSN in its view, which every op on it sets and
 * which recovery brings back with it) is not above the base's LSN. The base tells where it is. That is only right when cut and base are states of the same
 * log, the later one and the earlier; the caller sees to that (proc/snapshotter.c), and to it that the base was verified.
 *
 * Vectors are made behind the log. A base that was written while some were missing does without them for good: they are made again from the text when it is
 * loaded. When it changes whether vectors go into archives at all, a library counts as changed.
 */
#include "durable/snapshot_plan.h"

#include "base/hash.h"
#include "durable/snapshot_read.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIBRARY_WEIGHT = 1024 /* bytes that a library costs beside its texts */, SAVED_LEAST = 4 /* it must spare one part in so many */ };

struct snapshot_base {
    struct snapshot_manifest manifest; /* info complete */
    uint8_t sum[SHA256_BYTES];
    char (*behind)[SNAPSHOT_NAME_MAX]; /* the archives under it */
    size_t behind_count;
};
_Static_assert(SNAPSHOT_SUM_BYTES == SHA256_BYTES, "the sum of a base is a SHA-256");

/* --- bases --- */

void snapshot_base_free(struct snapshot_base *b) {
    if (b != NULL) {
        snapshot_manifest_fini(&b->manifest);
        free(b->behind);
        free(b);
    }
}

const struct snapshot_info *snapshot_base_info(const struct snapshot_base *b) {
    return &b->manifest.info;
}

const uint8_t *snapshot_base_sum(const struct snapshot_base *b) {
    return b->sum;
}

static struct snapshot_base *base_new(size_t behind) {
    struct snapshot_base *b = (struct snapshot_base *)calloc(1, sizeof *b);
    if (b != NULL) {
        b->behind = (char(*)[SNAPSHOT_NAME_MAX])calloc(behind + 1, sizeof *b->behind);
    }
    if (b == NULL || b->behind == NULL) {
        free(b);
        return NULL;
    }
    return b;
}

static void add_behind(struct snapshot_base *b, const char *name) {
    memcpy(b->behind[b->behind_count++], name, strlen(name) + 1);
}

bool snapshot_base_open(int snapshots_dir_fd, const char *name, const bool *cancel, struct snapshot_base **ret, struct status *st) {
    struct snapshot_chain *chain = NULL;
    if (!snapshot_open_until(snapshots_dir_fd, name, NULL, cancel, &chain, st)) {
        return false;
    }
    struct snapshot_base *b = base_new(chain->count);
    if (b != NULL) {
        struct verified *v = &chain->links[0].v;
        b->manifest = v->manifest;
        v->manifest = (struct snapshot_manifest){0};
        memcpy(b->sum, v->sum, sizeof b->sum);
        for (size_t i = 1; i < chain->count; i++) {
            add_behind(b, chain->links[i].v.manifest.info.name);
        }
    }
    snapshot_chain_free(chain);
    *ret = b;
    return b != NULL || status_no_memory(st);
}

struct snapshot_base *snapshot_base_made(const struct snapshot_base *under, const struct snapshot_info *info, struct slice manifest, struct slice sums,
                                         struct status *st) {
    struct snapshot_base *b = base_new(under != NULL ? under->behind_count + 1 : 0);
    if (b == NULL || !snapshot_parse_manifest(manifest, &b->manifest, st)) {
        snapshot_base_free(b);
        return NULL;
    }
    b->manifest.info = *info;
    sha256(sums.data, sums.len, b->sum);
    if (under != NULL) {
        add_behind(b, under->manifest.info.name);
        for (size_t i = 0; i < under->behind_count; i++) {
            add_behind(b, under->behind[i]);
        }
    }
    return b;
}

/* --- plans --- */

void snapshot_plan_fini(struct snapshot_plan *p) {
    free(p->where);
    free(p->vectors);
    *p = (struct snapshot_plan){0};
}

static bool is_there(int dir_fd, const char *name) {
    return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Whether a chain may go on from there. */
static bool can_rest_on(int dir_fd, const struct snapshot_cut *cut, const struct snapshot_options *options) {
    const struct snapshot_base *b = options->base;
    if (b == NULL || b->manifest.info.depth >= options->chain_max || b->behind_count + 2 > SNAPSHOT_CHAIN_LINKS_MAX || b->manifest.info.lsn > cut->lsn) {
        return false;
    }
    bool there = is_there(dir_fd, b->manifest.info.name);
    for (size_t i = 0; there && i < b->behind_count; i++) {
        there = is_there(dir_fd, b->behind[i]);
    }
    return there;
}

/* Where the library is as it is now, or NULL. */
static const char *unchanged_in(const struct snapshot_base *b, const struct snapshot_cut *cut, size_t i, bool vectors) {
    const struct manifest_library *l = snapshot_manifest_find(&b->manifest, &cut->readings[i].view.id);
    if (l == NULL || cut->changed[i] > b->manifest.info.lsn || l->vectors != vectors) {
        return NULL;
    }
    return l->archive[0] != '\0' ? l->archive : b->manifest.info.name;
}

static void leave_out_unchanged(const struct snapshot_cut *cut, const struct snapshot_options *options, struct snapshot_plan *p) {
    uint64_t all = 0;
    uint64_t saved = 0;
    for (size_t i = 0; i < cut->count; i++) {
        uint64_t weight = cut->readings[i].view.text_bytes + LIBRARY_WEIGHT;
        p->where[i] = unchanged_in(options->base, cut, i, p->vectors[i]);
        all += weight;
        saved += p->where[i] != NULL ? weight : 0;
    }
    if (saved > 0 && saved >= all / SAVED_LEAST) {
        p->base = options->base;
    } else {
        memset(p->where, 0, cut->count * sizeof *p->where);
    }
}

bool snapshot_plan_make(int snapshots_dir_fd, const struct snapshot_cut *cut, const struct snapshot_options *options, struct snapshot_plan *ret,
                        struct status *st) {
    struct snapshot_plan p = {.where = (const char **)calloc(cut->count + 1, sizeof(const char *)),
                              .vectors = (bool *)calloc(cut->count + 1, sizeof(bool))};
    bool ok = (p.where != NULL && p.vectors != NULL) || status_no_memory(st);
    for (size_t i = 0; ok && i < cut->count; i++) {
        struct library_definition d;
        ok = reading_definition(&cut->readings[i], &d, st);
        p.vectors[i] = ok && snapshot_has_vectors(&cut->readings[i].view, &d, options->include_embeddings);
    }
    if (ok && can_rest_on(snapshots_dir_fd, cut, options)) {
        leave_out_unchanged(cut, options, &p);
    }
    if (!ok) {
        snapshot_plan_fini(&p);
        return false;
    }
    *ret = p;
    return true;
}
