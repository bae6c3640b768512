/* snapshot_list.c - which snapshots there are, and which of them are kept. Looks at names and manifests; a snapshot's manifest is
 * its first entry, so that is quick. */
#include "base/io.h"
#include "base/log.h"
#include "durable/snapshot_archive.h"
#include "durable/snapshot_record.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum { LIST_FIRST_CAP = 16 };
#define US_PER_DAY INT64_C(86400000000)

/* --- names --- */

struct names {
    bool (*wanted)(const char *name);
    char (*name)[SNAPSHOT_NAME_MAX];
    size_t count;
    size_t cap;
};

static bool add_name(struct names *n, const char *name, struct status *st) {
    if (n->count == n->cap) {
        size_t cap = n->cap == 0 ? LIST_FIRST_CAP : n->cap * 2;
        void *grown = realloc(n->name, cap * sizeof *n->name);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        n->name = (char(*)[SNAPSHOT_NAME_MAX])grown;
        n->cap = cap;
    }
    memcpy(n->name[n->count++], name, strlen(name) + 1);
    return true;
}

/* ".snapshot_....tmp" */
static bool is_temporary(const char *name) {
    size_t len = strlen(name);
    size_t suffix = sizeof SNAPSHOT_TEMPORARY_SUFFIX - 1;
    return len < SNAPSHOT_NAME_MAX && len > suffix &&
           strncmp(name, SNAPSHOT_TEMPORARY_PREFIX, sizeof SNAPSHOT_TEMPORARY_PREFIX - 1) == 0 &&
           strcmp(name + len - suffix, SNAPSHOT_TEMPORARY_SUFFIX) == 0;
}

static bool take_name(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct names *n = (struct names *)ctx;
    (void)dir_fd;
    return !n->wanted(name) || add_name(n, name, st);
}

static bool read_names(int dir_fd, bool (*wanted)(const char *name), struct names *ret, struct status *st) {
    ret->wanted = wanted;
    return io_each_entry(dir_fd, "the directory of snapshots", take_name, ret, st);
}

/* --- manifests --- */

static bool find_manifest(struct unpacking *u, struct buf *content, struct status *st) {
    struct unpacked_entry entry;
    bool end = false;
    while (unpacking_next(u, &entry, &end, st)) {
        if (end) {
            return status_set(st, STATUS_MALFORMED, "snapshot %s: " SNAPSHOT_MANIFEST " is missing", u->name);
        }
        if (entry.what.kind == ENTRY_MANIFEST) {
            return unpacking_read(u, &entry, content, st);
        }
    }
    return false;
}

static bool read_info(int dir_fd, const char *name, struct snapshot_info *ret, struct status *st) {
    struct unpacking u = {0};
    struct buf content = {0};
    struct snapshot_manifest manifest = {0};
    int fd = -1;
    bool ok = io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, st) && unpacking_begin(&u, fd, name, NULL, st) &&
              find_manifest(&u, &content, st) && snapshot_parse_manifest(buf_slice(&content), &manifest, st);
    if (ok) {
        *ret = manifest.info;
        memcpy(ret->name, name, strlen(name) + 1);
        ret->bytes = u.size;
    }
    snapshot_manifest_fini(&manifest);
    unpacking_end(&u);
    buf_fini(&content);
    io_close(&fd);
    return ok;
}

static int newest_first(const void *a, const void *b) {
    const struct snapshot_info *x = (const struct snapshot_info *)a;
    const struct snapshot_info *y = (const struct snapshot_info *)b;
    if (x->lsn != y->lsn) {
        return x->lsn > y->lsn ? -1 : 1;
    }
    return strcmp(y->name, x->name);
}

bool snapshot_list(int snapshots_dir_fd, struct snapshot_info **ret, size_t *ret_count, struct status *st) {
    struct names names = {0};
    struct snapshot_info *infos = NULL;
    size_t count = 0;
    bool ok = read_names(snapshots_dir_fd, snapshot_name_valid, &names, st);
    if (ok) {
        infos = (struct snapshot_info *)calloc(names.count + 1, sizeof *infos);
        ok = infos != NULL || status_no_memory(st);
    }
    for (size_t i = 0; ok && i < names.count; i++) {
        struct status failed = {0};
        if (read_info(snapshots_dir_fd, names.name[i], &infos[count], &failed)) {
            count++;
        } else if (failed.code == STATUS_NO_MEMORY) {
            ok = status_no_memory(st);
        } /* else it is no snapshot, or none that can be read: recovery says so, a list leaves it out */
    }
    free(names.name);
    if (!ok) {
        free(infos);
        return false;
    }
    qsort(infos, count, sizeof *infos, newest_first);
    *ret = infos;
    *ret_count = count;
    return true;
}

bool snapshot_names(int snapshots_dir_fd, char (**ret)[SNAPSHOT_NAME_MAX], size_t *ret_count, struct status *st) {
    struct names names = {0};
    if (!read_names(snapshots_dir_fd, snapshot_name_valid, &names, st)) {
        free(names.name);
        return false;
    }
    *ret = names.name;
    *ret_count = names.count;
    return true;
}

static bool listed(const struct snapshot_info *infos, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp(infos[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

bool snapshot_tell_unreadable(int snapshots_dir_fd, const struct snapshot_info *infos, size_t count, struct status *st) {
    struct names names = {0};
    bool ok = read_names(snapshots_dir_fd, snapshot_name_valid, &names, st);
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!listed(infos, count, names.name[i])) {
            log_warn("%s cannot be read and is passed over", names.name[i]);
        }
    }
    free(names.name);
    return ok;
}

/* --- pruning --- */

/* A temporary file that nobody holds was left by a crash. */
static bool remove_stale(int dir_fd, const char *name, uint32_t *removed, struct status *st) {
    int fd = -1;
    struct status failed;
    if (!io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed)) {
        return true; /* just renamed or removed */
    }
    bool stale = flock(fd, LOCK_EX | LOCK_NB) == 0;
    io_close(&fd);
    if (!stale) {
        return true;
    }
    (*removed)++;
    return io_unlink_at(dir_fd, name, st);
}

static bool remove_all_stale(int dir_fd, uint32_t *removed, struct status *st) {
    struct names names = {0};
    bool ok = read_names(dir_fd, is_temporary, &names, st);
    for (size_t i = 0; ok && i < names.count; i++) {
        ok = remove_stale(dir_fd, names.name[i], removed, st);
    }
    free(names.name);
    return ok;
}

/* --- which stay --- */

struct keeping {
    const struct snapshot_retention *retention;
    const struct snapshot_info *infos; /* the newest first */
    size_t count;
    bool *kept;
};

static size_t find_info(const struct keeping *k, const char *name) {
    size_t i = 0;
    while (i < k->count && strcmp(k->infos[i].name, name) != 0) {
        i++;
    }
    return i;
}

/* With all that it rests on. One that stays already has had that done. */
static void keep_chain(struct keeping *k, size_t i) {
    while (i < k->count && !k->kept[i]) {
        k->kept[i] = true;
        i = k->infos[i].base[0] != '\0' ? find_info(k, k->infos[i].base) : k->count;
    }
}

/* A number for its day, or -1: it is too old, or of no known age. */
static int64_t day_of(const struct keeping *k, size_t i, int64_t now_us) {
    struct snapshot_note note;
    if (!snapshot_record_find(k->retention->record, k->infos[i].name, &note) ||
        now_us - note.seen_us >= (int64_t)k->retention->keep_days * US_PER_DAY) {
        return -1;
    }
    return note.seen_us / US_PER_DAY;
}

static void keep_days(struct keeping *k) {
    int64_t now = snapshot_record_now(k->retention->record);
    for (size_t i = 0; i < k->count; i++) {
        int64_t day = day_of(k, i, now);
        bool newest = day >= 0;
        for (size_t newer = 0; newest && newer < i; newer++) {
            newest = day_of(k, newer, now) != day;
        }
        if (newest) {
            keep_chain(k, i);
        }
    }
}

static void choose(struct keeping *k) {
    uint32_t least = k->retention->keep > 0 ? k->retention->keep : 1;
    for (size_t i = 0; i < k->count && i < least; i++) {
        keep_chain(k, i);
    }
    struct snapshot_note good;
    if (k->retention->record != NULL) {
        keep_days(k);
        if (snapshot_record_last_good(k->retention->record, &good)) {
            keep_chain(k, find_info(k, good.name));
        }
    }
}

/* What rests on others goes before them, so that none is left behind without its base. */
static bool remove_others(int dir_fd, const struct keeping *k, struct snapshot_pruned *pruned, struct status *st) {
    bool ok = true;
    for (size_t i = 0; ok && i < k->count; i++) {
        if (k->kept[i]) {
            uint64_t lsn = k->infos[i].lsn;
            pruned->kept++;
            pruned->oldest_lsn = pruned->oldest_lsn == 0 || lsn < pruned->oldest_lsn ? lsn : pruned->oldest_lsn;
        } else {
            ok = io_unlink_at(dir_fd, k->infos[i].name, st);
            pruned->removed += ok ? 1 : 0;
        }
    }
    return ok;
}

static bool prune_list(int dir_fd, struct keeping *k, struct snapshot_pruned *pruned, struct status *st) {
    k->kept = (bool *)calloc(k->count + 1, sizeof *k->kept);
    if (k->kept == NULL) {
        return status_no_memory(st);
    }
    struct status why;
    /* What cannot be saved on a full disk must not keep old archives there. */
    if (k->retention->record != NULL && !snapshot_record_see(k->retention->record, k->infos, k->count, &why)) {
        log_status(LOG_LEVEL_WARN, "how old snapshots are is not saved", &why);
    }
    choose(k);
    bool ok = remove_others(dir_fd, k, pruned, st);
    free(k->kept);
    return ok;
}

bool snapshot_prune(int snapshots_dir_fd, const struct snapshot_retention *retention, struct snapshot_pruned *ret, struct status *st) {
    struct snapshot_info *infos = NULL;
    struct snapshot_pruned pruned = {0};
    size_t count = 0;
    if (!snapshot_list(snapshots_dir_fd, &infos, &count, st)) {
        return false;
    }
    struct keeping k = {.retention = retention, .infos = infos, .count = count};
    bool ok = prune_list(snapshots_dir_fd, &k, &pruned, st) && remove_all_stale(snapshots_dir_fd, &pruned.removed, st) &&
              (pruned.removed == 0 || io_fsync(snapshots_dir_fd, "snapshots/", st));
    free(infos);
    if (ok) {
        *ret = pruned;
    }
    return ok;
}
