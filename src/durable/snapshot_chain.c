/*
 * snapshot_chain.c - an archive and all that it rests on: opened, verified, and put together.
 *
 * An incremental archive holds the libraries that changed since its base, and its manifest says of every library that exists in which archive of the chain
 * it is. It names its base by file name and by the SHA-256 of the base's SHA256SUMS, which covers every byte of every entry (and not how they are packed: a
 * base that is packed anew, by another program or not at all, is still the same one). The base may be incremental again; the last one is whole.
 *
 * Nothing is handed out before all of this holds:
 *   1. each archive verifies by itself (snapshot_archive.c);
 *   2. each base is the one that was meant: its sum, its LSN, which is not above that of what rests on it;
 *   3. each library of the newest manifest is in the archive that is named for it, and all archives between that one and the newest name the same. So what
 *      is taken is the last state of each library, and not one that lies further back;
 *   4. an incremental archive holds no library that its manifest does not place there.
 * All archives stay open from then on, so what is loaded is what was verified, also when their names go meanwhile.
 *
 * A chain is as good as its worst link. So its length is bounded by whoever writes it, an archive stays as long as another one needs it, and whoever finds
 * a bad link goes back to an older archive that does without it (recovery.c).
 */
#include "durable/snapshot_read.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

static bool open_archive(int dir_fd, const char *name, int *ret_fd, struct status *st) {
    if (!snapshot_name_valid(name)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no such snapshot");
    }
    struct status failed = {0};
    if (io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, ret_fd, &failed)) {
        return true;
    }
    if (failed.sys_errno == ENOENT) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no snapshot %s", name);
    }
    *st = failed;
    return false;
}

static bool add_link(struct snapshot_chain *c, int dir_fd, const char *name, const struct limits *limits, const bool *cancel, struct status *st) {
    struct snapshot_link *grown = (struct snapshot_link *)realloc(c->links, (c->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return status_no_memory(st);
    }
    c->links = grown;
    struct snapshot_link *link = &c->links[c->count++];
    *link = (struct snapshot_link){.fd = -1};
    return open_archive(dir_fd, name, &link->fd, st) && snapshot_verify_open(link->fd, name, limits, cancel, &link->v, st);
}

/* Says which archive it was that cannot be had because of `why`. A base that is gone is damage, not something that was not found. */
static bool bad_base(const struct snapshot_chain *c, const struct status *why, struct status *st) {
    if (why->code == STATUS_NO_MEMORY || why->code == STATUS_BUSY) {
        *st = *why;
        return false;
    }
    bool gone = why->code == STATUS_NOT_FOUND;
    (void)status_set(st, gone ? STATUS_CORRUPT : why->code, "snapshot %s rests on others, and %s%.200s", snapshot_chain_info(c)->name,
                     gone ? "" : "one is no good: ", why->detail);
    st->sys_errno = why->sys_errno;
    return false;
}

static bool is_base_meant(const struct snapshot_link *link, const struct snapshot_link *base, struct status *st) {
    const struct snapshot_info *over = &link->v.manifest.info;
    const struct snapshot_info *info = &base->v.manifest.info;
    if (memcmp(link->v.manifest.base_sum, base->v.sum, SHA256_BYTES) != 0) {
        return status_set(st, STATUS_CORRUPT, "%s is not the one that %s was made from", info->name, over->name);
    }
    if (info->lsn != over->base_lsn || info->lsn > over->lsn) {
        return status_set(st, STATUS_CORRUPT, "%s holds LSN %" PRIu64 ", and %s was made from LSN %" PRIu64, info->name, info->lsn, over->name,
                          over->base_lsn);
    }
    return true;
}

static bool follow(struct snapshot_chain *c, int dir_fd, const struct limits *limits, const bool *cancel, struct status *st) {
    struct status why = {0};
    while (c->links[c->count - 1].v.manifest.info.base[0] != '\0') {
        char base[SNAPSHOT_NAME_MAX];
        memcpy(base, c->links[c->count - 1].v.manifest.info.base, sizeof base);
        if (c->count == SNAPSHOT_CHAIN_LINKS_MAX) {
            return status_set(st, STATUS_MALFORMED, "snapshot %s rests on more than %d others", snapshot_chain_info(c)->name,
                              SNAPSHOT_CHAIN_LINKS_MAX - 1);
        }
        if (!add_link(c, dir_fd, base, limits, cancel, &why) || !is_base_meant(&c->links[c->count - 2], &c->links[c->count - 1], &why)) {
            return bad_base(c, &why, st);
        }
    }
    return true;
}

/* --- which library is where --- */

static bool misplaced(const struct snapshot_chain *c, const struct uuid *id, const char *what, struct status *st) {
    char text[UUID_TEXT + 1];
    uuid_format(id, text);
    return status_set(st, STATUS_CORRUPT, "snapshot %s: library %s %s", snapshot_chain_info(c)->name, text, what);
}

static bool find_link(const struct snapshot_chain *c, const char *name, size_t *ret) {
    for (size_t i = 0; i < c->count; i++) {
        if (name[0] == '\0' ? i == 0 : strcmp(c->links[i].v.manifest.info.name, name) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static const char *place_of(const struct snapshot_link *link, const struct manifest_library *l) {
    return l->archive[0] == '\0' ? link->v.manifest.info.name : l->archive;
}

static bool place_library(struct snapshot_chain *c, const struct manifest_library *l, struct status *st) {
    size_t at = 0;
    size_t in = 0;
    if (!find_link(c, l->archive, &at) || !verified_find_library(&c->links[at].v, &l->id, &in)) {
        return misplaced(c, &l->id, "is not where the manifest says", st);
    }
    const char *name = c->links[at].v.manifest.info.name;
    for (size_t i = 1; i <= at; i++) {
        const struct snapshot_link *link = &c->links[i];
        const struct manifest_library *there = snapshot_manifest_find(&link->v.manifest, &l->id);
        bool whole = link->v.manifest.info.base[0] == '\0'; /* it is what is in it */
        if (!whole && (there == NULL || strcmp(place_of(link, there), name) != 0)) {
            return misplaced(c, &l->id, "is in another archive by what an archive between says", st);
        }
    }
    c->links[at].taken[in] = true;
    return true;
}

/* The newest archive holds no more than its manifest places there. */
static bool nothing_beside(const struct snapshot_chain *c, struct status *st) {
    const struct snapshot_link *link = &c->links[0];
    for (size_t i = 0; i < link->v.library_count; i++) {
        if (!link->taken[i]) {
            return misplaced(c, &link->v.library[i].id, "is in it, and not in its manifest", st);
        }
    }
    return true;
}

static bool place_all(struct snapshot_chain *c, struct status *st) {
    for (size_t i = 0; i < c->count; i++) {
        c->links[i].taken = (bool *)calloc(c->links[i].v.library_count + 1, sizeof(bool));
        if (c->links[i].taken == NULL) {
            return status_no_memory(st);
        }
    }
    struct snapshot_link *newest = &c->links[0];
    if (newest->v.manifest.info.base[0] == '\0') {
        memset(newest->taken, true, newest->v.library_count);
        return true;
    }
    const struct snapshot_manifest *m = &newest->v.manifest;
    for (size_t i = 0; i < m->library_count; i++) {
        if (!place_library(c, &m->libraries[i], st)) {
            return false;
        }
    }
    return nothing_beside(c, st);
}

bool snapshot_is_of_log(const struct snapshot_info *info, struct oplog *log) {
    struct oplog_position p;
    oplog_position_get(log, &p);
    return info->log_place == 0 || oplog_knows(log, info->log_place) || p.begun_behind == info->lsn;
}

/* --- the doors --- */

void snapshot_chain_free(struct snapshot_chain *c) {
    if (c == NULL) {
        return;
    }
    for (size_t i = 0; i < c->count; i++) {
        io_close(&c->links[i].fd);
        verified_fini(&c->links[i].v);
        free(c->links[i].taken);
    }
    free(c->links);
    free(c);
}

const struct snapshot_info *snapshot_chain_info(const struct snapshot_chain *c) {
    return &c->links[0].v.manifest.info;
}

const struct buf *snapshot_chain_keys(const struct snapshot_chain *c) {
    return &c->links[0].v.keys;
}

const struct buf *snapshot_chain_api_keys(const struct snapshot_chain *c) {
    return &c->links[0].v.api_keys;
}

bool snapshot_open_verified(int snapshots_dir_fd, const char *name, const struct limits *limits, struct snapshot_chain **ret,
                            struct status *st) {
    return snapshot_open_until(snapshots_dir_fd, name, limits, NULL, ret, st);
}

bool snapshot_open_until(int snapshots_dir_fd, const char *name, const struct limits *limits, const bool *cancel, struct snapshot_chain **ret,
                         struct status *st) {
    struct status local;
    st = st != NULL ? st : &local;
    struct snapshot_chain *c = (struct snapshot_chain *)calloc(1, sizeof *c);
    if (c == NULL) {
        return status_no_memory(st);
    }
    if (!add_link(c, snapshots_dir_fd, name, limits, cancel, st) || !follow(c, snapshots_dir_fd, limits, cancel, st) || !place_all(c, st)) {
        snapshot_chain_free(c);
        return false;
    }
    *ret = c;
    return true;
}
