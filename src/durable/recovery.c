/*
 * recovery.c - from what lies in a data directory to libraries that serve. The steps stand in recovery.h.
 *
 * Which of the files is believed:
 *   - A checkpoint says that everything up to its LSN was durable, also when its arenas turn out to be no good: the log must
 * reach it.
 *   - A live checkpoint counts when its sum holds and its place is one of this log: it may lie beside a log that was put back from a copy. Of its libraries each is
 *     judged by itself; one that does not stand is made anew from a snapshot and all of the log behind that, while the others go on.
 *   - A snapshot counts only when all its sums hold. The log must continue right behind it, or hold its LSN.
 *   - The log is judged by wal_open, which is told both. What it refuses is not touched.
 * So nothing is set aside or built before the log is open: a start that is refused changes nothing but a torn tail.
 *
 * Killed anywhere, it starts again from the same files: the checkpoint goes before the first arena is set aside; snapshots and
 * log are only read; what was set aside stays until everything is rebuilt (salvage.c).
 */
#include "durable/recovery.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/utf8.h"
#include "durable/checkpoint.h"
#include "durable/formats.h"
#include "durable/recovered_keys.h"
#include "durable/salvage.h"
#include "durable/snapshot_read.h"
#include "durable/wal.h"
#include "store/op_group.h"
#include "store/resume.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DIRECTORY_MODE = 0700,
    PROGRESS_US = 100000,
    PROGRESS_OPS = 256,
    PATIENCE_US = 1000000,
    PATH_BYTES = 128,
    DROPPED_FIRST_CAP = 16
};

struct recovery {
    const struct recovery_options *options;
    struct catalog *catalog;
    int wal_fd;
    int snapshots_fd;
    int vectors_fd;
    struct oplog *log;
    struct salvage *salvage;
    struct checkpoint checkpoint;
    uint64_t reached_lsn;        /* of a checkpoint that could be read */
    struct live_checkpoint live; /* gone on from, or found beside closed arenas */
    bool *resumed;               /* by its libraries */
    bool from_live;
    struct uuid *dropped; /* libraries that the log deletes behind the checkpoint */
    size_t dropped_count;
    size_t dropped_cap;
    float *leftover;
    size_t leftover_cap;
    struct recovery_report report;
    /* while ops are applied */
    uint64_t lsn; /* of a snapshot's ops: the snapshot's */
    uint64_t done;
    uint64_t total;
    int64_t told_us;
    const char *doing;
    bool no_way_on; /* what failed does not lie in the snapshot that was being loaded */
};

static void tell(struct recovery *r, const char *what, double fraction) {
    r->told_us = clock_monotonic_us();
    if (r->options->progress != NULL) {
        r->options->progress(r->options->progress_ctx, what, fraction);
    }
}

static void count_op(struct recovery *r) {
    if (++r->done % PROGRESS_OPS == 0 && clock_monotonic_us() - r->told_us > PROGRESS_US) {
        tell(r, r->doing, r->total > 0 && r->done < r->total ? (double)r->done / (double)r->total : 1.0);
    }
}

/* --- directories --- */

static bool open_directory(int data_dir_fd, const char *name, int *ret_fd, struct status *st) {
    return io_mkdir_at(data_dir_fd, name, DIRECTORY_MODE, st) &&
           io_open_at(data_dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, ret_fd, st);
}

static bool open_directories(struct recovery *r, struct status *st) {
    int fd = r->options->data_dir_fd;
    return open_directory(fd, "wal", &r->wal_fd, st) && open_directory(fd, "snapshots", &r->snapshots_fd, st) &&
           open_directory(fd, "vectors", &r->vectors_fd, st) && io_fsync_dir(fd, ".", st);
}

/* Closes the log first when it was open. */
static bool open_log(struct recovery *r, uint64_t expect_lsn, struct status *st) {
    struct wal_options options = {.dir_fd = r->wal_fd,
                                  .segment_bytes = r->options->wal_segment_bytes,
                                  .max_record_bytes = r->options->max_record_bytes,
                                  .expect_lsn = expect_lsn,
                                  .reached_lsn = r->reached_lsn,
                                  .repair = r->options->repair};
    struct wal_report report = {0};
    int64_t begin = clock_monotonic_us();
    oplog_close(r->log);
    r->log = NULL;
    bool ok = wal_open(&options, &r->log, &report, st);
    r->report.wal_open_us += clock_monotonic_us() - begin;
    r->report.torn_bytes += report.torn_bytes;
    r->report.repaired = r->report.repaired || report.repaired;
    r->report.lost_records_bound += report.lost_records_bound;
    if (report.lost_first > 0) {
        r->report.lost_first = r->report.lost_first == 0 || report.lost_first < r->report.lost_first ? report.lost_first : r->report.lost_first;
        r->report.lost_last = report.lost_last > r->report.lost_last ? report.lost_last : r->report.lost_last;
        /* A second snapshot that is tried finds what was lost before it anew. */
        uint64_t most = r->report.lost_last >= r->report.lost_first ? r->report.lost_last - r->report.lost_first + 1 : 0;
        r->report.lost_records_bound = r->report.lost_records_bound > most ? most : r->report.lost_records_bound;
    }
    return ok;
}

static uint64_t last_lsn(const struct recovery *r) {
    struct oplog_position p;
    oplog_position_get(r->log, &p);
    return p.durable_lsn;
}

/* --- the arenas as they are --- */

static bool why_not(struct recovery *r, const char *why) {
    (void)snprintf(r->report.why_not_checkpoint, sizeof r->report.why_not_checkpoint, "%.199s", why);
    return true;
}

/* The definition that a checkpointed view points to. */
static bool read_definition(const struct recovery *r, const struct library_view *view, struct buf *content,
                            struct library_definition *ret, struct status *st) {
    char directory[ARENA_DIRECTORY_MAX];
    char path[PATH_BYTES];
    int fd = -1;
    arena_directory_name(&view->id, view->directory, directory);
    (void)snprintf(path, sizeof path, "%s/records.mmap", directory);
    buf_reset(content);
    if (!buf_reserve(content, view->definition_length)) {
        return status_no_memory(st);
    }
    content->len = view->definition_length;
    bool ok = io_open_at(r->vectors_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd, st) &&
              io_pread_full(fd, content->data, content->len, (off_t)view->definition, st);
    io_close(&fd);
    return ok &&
           (library_definition_decode(buf_slice(content), ret) || status_set(st, STATUS_CORRUPT, "a definition does not decode"));
}

/* Whether every library's view and model are such that its arena can be taken over. */
static bool all_adoptable(struct recovery *r, struct status *why) {
    struct buf content = {0};
    bool ok = true;
    for (size_t i = 0; ok && i < r->checkpoint.library_count; i++) {
        const struct library_view *view = &r->checkpoint.libraries[i].view;
        struct library_definition d;
        ok = read_definition(r, view, &content, &d, why) && catalog_can_adopt(r->catalog, view, &d, why);
    }
    buf_fini(&content);
    return ok;
}

/* *ret_usable: the checkpoint verifies with all its files. */
static bool judge_checkpoint(struct recovery *r, bool *ret_usable, struct status *st) {
    char why[CHECKPOINT_WHY_MAX] = "";
    struct status failed = {0};
    bool there = false;
    bool sound = false;
    *ret_usable = false;
    tell(r, "checking the saved arenas", 0);
    if (!checkpoint_read(r->options->data_dir_fd, &r->checkpoint, &there, why, st)) {
        return false;
    }
    if (!there) {
        return why_not(r, why);
    }
    r->reached_lsn = r->checkpoint.lsn;
    if (!checkpoint_verify(r->options->data_dir_fd, &r->checkpoint, &sound, why, st)) {
        return false;
    }
    if (!sound) {
        return why_not(r, why);
    }
    if (!all_adoptable(r, &failed)) {
        return failed.code == STATUS_NO_MEMORY ? status_no_memory(st) : why_not(r, failed.detail);
    }
    *ret_usable = true;
    return true;
}

static bool only_closed(const struct oplog_record *record, void *ctx, struct status *st) {
    (void)ctx;
    return (record->op.len > 0 && record->op.data[0] == OP_LOG_CLOSE) || status_set(st, STATUS_CONFLICT, "there is more");
}

/* Nothing but the end of an orderly stop was logged after the checkpoint. */
static bool log_ends_at_checkpoint(struct recovery *r) {
    struct status ignored;
    return last_lsn(r) == r->checkpoint.lsn ||
           (last_lsn(r) > r->checkpoint.lsn && oplog_read_from(r->log, r->checkpoint.lsn + 1, only_closed, NULL, &ignored));
}

static bool adopt_all(struct recovery *r, struct status *st) {
    for (size_t i = 0; i < r->checkpoint.library_count; i++) {
        if (!catalog_adopt(r->catalog, &r->checkpoint.libraries[i].view, st)) {
            /* Some may be taken over already, so this start cannot go another way. The next one will: it finds no checkpoint. */
            struct status ignored;
            (void)!checkpoint_remove(r->options->data_dir_fd, &ignored);
            return false;
        }
    }
    r->report.from_checkpoint = true;
    return recovered_keys(r->options->idempotency, &r->checkpoint.keys, st) && checkpoint_remove(r->options->data_dir_fd, st);
}

/* Its place is in this log, or a repair has begun the log anew behind it. */
static bool is_of_this_log(const struct recovery *r) {
    struct oplog_position p;
    oplog_position_get(r->log, &p);
    return oplog_knows(r->log, r->live.place) || p.begun_behind == r->live.lsn;
}

/* A live checkpoint that lies beside: what is written from now on may go on from it. One that cannot be read is of no use. */
static bool find_beside(struct recovery *r, struct status *st) {
    char why[CHECKPOINT_WHY_MAX];
    bool there = false;
    if (!live_checkpoint_read(r->options->data_dir_fd, LIVE_CHECKPOINT_PATH, &r->live, &there, why, st)) {
        return false;
    }
    if (there && (!is_of_this_log(r) || r->live.lsn > last_lsn(r))) {
        live_checkpoint_fini(&r->live);
    }
    return true;
}

/* The arenas, where they can be taken as they are; *ret_done false: they cannot. */
static bool take_arenas(struct recovery *r, bool *ret_done, struct status *st) {
    bool usable = false;
    *ret_done = false;
    if (!judge_checkpoint(r, &usable, st)) {
        return false;
    }
    if (!usable) {
        return true;
    }
    if (!open_log(r, r->checkpoint.lsn, st)) {
        return false;
    }
    if (!log_ends_at_checkpoint(r)) {
        return why_not(r, "the log goes on behind the checkpoint");
    }
    *ret_done = find_beside(r, st) && adopt_all(r, st);
    return *ret_done;
}

/* --- going on from a live checkpoint --- */

static bool is_resumed(const struct recovery *r, const struct uuid *id) {
    const struct live_library *l = r->from_live ? live_checkpoint_find(&r->live, id) : NULL;
    return l != NULL && r->resumed[l - r->live.libraries];
}

static bool is_spared(const void *ctx, const struct uuid *id) {
    return is_resumed((const struct recovery *)ctx, id);
}

static bool is_dropped(const struct recovery *r, const struct uuid *id) {
    for (size_t i = 0; i < r->dropped_count; i++) {
        if (uuid_equal(&r->dropped[i], id)) {
            return true;
        }
    }
    return false;
}

static bool add_dropped(struct recovery *r, const struct uuid *library, struct status *st) {
    if (r->dropped_count == r->dropped_cap) {
        size_t cap = r->dropped_cap == 0 ? DROPPED_FIRST_CAP : 2 * r->dropped_cap;
        struct uuid *grown = (struct uuid *)realloc(r->dropped, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        r->dropped = grown;
        r->dropped_cap = cap;
    }
    r->dropped[r->dropped_count++] = *library;
    return true;
}

static bool note_dropped(const struct oplog_record *record, void *ctx, struct status *st) {
    struct op_walk walk;
    struct op op;
    struct status ignored;
    uint8_t type = record->op.len > 0 ? record->op.data[0] : 0;
    bool ok = true;
    if ((type != OP_LIBRARY_DELETE && type != OP_GROUP) || !op_walk_begin(&walk, record->op, NULL, &ignored)) {
        return true; /* what does not decode is found by the replay */
    }
    while (ok && op_walk_next(&walk, &op)) {
        ok = op.type != OP_LIBRARY_DELETE || add_dropped((struct recovery *)ctx, &op.library, st);
    }
    return ok;
}

/* What no other way of starting could do anything about. */
static bool is_shortage(const struct status *st) {
    return st->code == STATUS_NO_MEMORY || st->code == STATUS_NO_SPACE;
}

/* The log behind a live checkpoint, when it is this one's. *ret_open false: why_not says why. A fault of the log is reported by the way that is gone then. */
static bool open_log_behind(struct recovery *r, bool *ret_open, struct status *st) {
    struct recovery_options options = *r->options;
    const struct recovery_options *given = r->options;
    struct status failed = {0};
    options.repair = false;
    r->options = &options;
    bool ok = open_log(r, r->live.lsn, &failed);
    r->options = given;
    *ret_open = ok && is_of_this_log(r);
    if (!*ret_open) {
        (void)why_not(r, ok ? "the live checkpoint belongs to another log" : failed.detail);
        if (!ok && is_shortage(&failed)) {
            *st = failed;
            return false;
        }
        return true;
    }
    r->dropped_count = 0;
    return oplog_read_from(r->log, r->live.lsn + 1, note_dropped, r, st);
}

static bool resume_library(struct recovery *r, size_t i, struct status *st) {
    const struct live_library *l = &r->live.libraries[i];
    struct status failed = {0};
    if (live_restore_texts(r->vectors_fd, l, &failed) && live_resume(r->catalog, &r->live, l, &failed)) {
        r->resumed[i] = true;
        r->report.resumed++;
        return true;
    }
    if (is_shortage(&failed)) {
        *st = failed;
        return false;
    }
    if (!is_dropped(r, &l->view.id)) {
        r->report.rebuilt++;
        log_status(LOG_LEVEL_WARN, "the arena of a library is not as its checkpoint says, and is made anew", &failed);
        (void)why_not(r, failed.detail);
    }
    return true;
}

static bool resume_libraries(struct recovery *r, struct status *st) {
    int64_t begin = clock_monotonic_us();
    r->resumed = (bool *)calloc(r->live.library_count + 1, sizeof *r->resumed);
    if (r->resumed == NULL) {
        return status_no_memory(st);
    }
    if (!checkpoint_remove(r->options->data_dir_fd, st)) {
        return false;
    }
    tell(r, "going on from the checkpoint", 0);
    for (size_t i = 0; i < r->live.library_count; i++) {
        if (!resume_library(r, i, st)) {
            return false;
        }
    }
    if (!recovered_keys(r->options->idempotency, &r->live.extra, st)) {
        return false;
    }
    r->from_live = true;
    r->report.from_live = true;
    r->report.live_lsn = r->live.lsn;
    /* So that the replay finds dimensions and models. Nobody is looking yet. */
    catalog_publish(r->catalog, r->live.lsn, PATIENCE_US, NULL, NULL);
    r->report.resume_us = clock_monotonic_us() - begin;
    return true;
}

/* r->live is one that can be gone on from, or empty. */
static bool choose_live(struct recovery *r, bool *ret_found, struct status *st) {
    static const char *const paths[] = {LIVE_CHECKPOINT_PATH, LIVE_CHECKPOINT_BEFORE_PATH};
    *ret_found = false;
    for (size_t i = 0; !*ret_found && i < sizeof paths / sizeof paths[0]; i++) {
        char why[CHECKPOINT_WHY_MAX] = "";
        bool there = false;
        live_checkpoint_fini(&r->live);
        if (!live_checkpoint_read(r->options->data_dir_fd, paths[i], &r->live, &there, why, st)) {
            return false;
        }
        if (!there) {
            (void)(why[0] != '\0' && why_not(r, why));
        } else if (!open_log_behind(r, ret_found, st)) {
            return false;
        }
    }
    if (!*ret_found) {
        live_checkpoint_fini(&r->live);
    }
    return true;
}

static bool take_live(struct recovery *r, bool *ret_done, struct status *st) {
    return choose_live(r, ret_done, st) && (!*ret_done || resume_libraries(r, st));
}

/* The view of the library that a document goes to. */
static bool view_of(struct recovery *r, const struct uuid *id, struct library_view *ret) {
    struct library *lib = catalog_acquire(r->catalog, id);
    struct reading rd;
    if (lib == NULL) {
        return false;
    }
    library_reading(lib, &rd);
    *ret = rd.view;
    catalog_release(r->catalog, lib);
    return true;
}

static bool find_leftover(struct recovery *r, const struct op *op, const float **ret, struct status *st) {
    struct library_view view;
    if (op->as.document.vector_dimension != 0 || !view_of(r, &op->library, &view)) {
        return true;
    }
    size_t count = (size_t)op->as.document.num_chunks * view.dimension;
    if (count > r->leftover_cap) {
        float *grown = (float *)realloc(r->leftover, count * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        r->leftover = grown;
        r->leftover_cap = count;
    }
    *ret = count > 0 && library_leftover_vectors(r->catalog, op, r->leftover) ? r->leftover : NULL;
    return true;
}

/* After the replay. */
static bool resume_graphs(struct recovery *r, struct status *st) {
    int64_t begin = clock_monotonic_us();
    for (size_t i = 0; i < r->live.library_count; i++) {
        struct library *lib = r->from_live && r->resumed[i] ? catalog_acquire(r->catalog, &r->live.libraries[i].view.id) : NULL;
        uint64_t dropped = 0;
        bool ok = lib == NULL || library_resume_graph(lib, &dropped, st);
        catalog_release(r->catalog, lib);
        if (!ok) {
            return false;
        }
        r->report.graph_dropped += dropped;
    }
    r->report.graph_us = clock_monotonic_us() - begin;
    return true;
}

/* --- applying ops --- */

static bool reserve(struct recovery *r, const struct op *op, struct status *st) {
    struct status failed = {0};
    if (catalog_reserve(r->catalog, op, &failed)) {
        return true;
    }
    catalog_abandon(r->catalog);
    /* The old arenas take as much room as the new ones. Their vectors can be made again, a server that does not start cannot. */
    if (failed.code == STATUS_NO_SPACE && salvage_sacrifice(r->salvage)) {
        log_warn("there is no room for the old vectors beside the new ones: they are given up and will be computed again");
        return catalog_reserve(r->catalog, op, st);
    }
    if (st != NULL) {
        *st = failed;
    }
    return false;
}

/* The vectors of a document that come with it, or are still in the old arena. */
static bool find_vectors(struct recovery *r, const struct snapshot_op *item, const float **ret, struct status *st) {
    struct library_view view;
    *ret = NULL;
    if (item->op->type == OP_DOCUMENT_PUT && is_resumed(r, &item->op->library)) {
        return find_leftover(r, item->op, ret, st);
    }
    if (item->op->type != OP_DOCUMENT_PUT || item->op->as.document.vector_dimension != 0 ||
        !view_of(r, &item->op->library, &view)) {
        return true;
    }
    bool same_model = item->dimension == view.dimension && item->model_fingerprint == view.model_fingerprint;
    return salvage_vectors(r->salvage, item->op, &view, same_model ? item->vectors : NULL, ret, st);
}

static bool apply(struct recovery *r, const struct snapshot_op *item, uint64_t lsn, int64_t time_us, struct status *st) {
    const float *vectors = NULL;
    if (!reserve(r, item->op, st) || !find_vectors(r, item, &vectors, st)) {
        r->no_way_on = true;
        return false;
    }
    catalog_apply(r->catalog, item->op, lsn, time_us, vectors, NULL);
    if (item->op->type == OP_LIBRARY_CREATE || item->op->type == OP_LIBRARY_DELETE) {
        /* So that the next ones find its dimension and model, or its files gone. Nobody is looking yet. */
        catalog_publish(r->catalog, lsn, PATIENCE_US, NULL, NULL);
    }
    count_op(r);
    return true;
}

/* --- the snapshot --- */

static bool apply_from_snapshot(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct recovery *r = (struct recovery *)ctx;
    struct status why = {0};
    if (is_resumed(r, &item->op->library)) {
        return true;
    }
    /* Of what an archive from outside may say, only an id that comes twice, or vectors that do not fit, could put a library at
     * odds with itself. That a limit is lower today, or a model not configured, is no reason to lose what was once admitted. */
    if (item->op->type == OP_DOCUMENT_PUT && !catalog_check(r->catalog, item->op, &why) && why.code != STATUS_TOO_LARGE) {
        if (st != NULL) {
            *st = why;
        }
        return false;
    }
    return apply(r, item, r->lsn, 0, st);
}

/* Takes back what a snapshot that failed half-way has left in the catalog. */
static bool drop_all(struct recovery *r, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct buf bytes = {0};
    if (!catalog_acquire_all(r->catalog, &libraries, &count, st)) {
        return false;
    }
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++) {
        struct reading rd;
        struct op op;
        library_reading(libraries[i], &rd);
        if (is_resumed(r, &rd.view.id)) {
            catalog_release(r->catalog, libraries[i]);
            continue;
        }
        buf_reset(&bytes);
        op_encode_library_delete(&bytes, &rd.view.id);
        ok = buf_check(&bytes, st) && op_decode(buf_slice(&bytes), NULL, &op, st);
        catalog_release(r->catalog, libraries[i]);
        if (ok) {
            catalog_apply(r->catalog, &op, r->lsn, 0, NULL, NULL);
        }
    }
    catalog_publish(r->catalog, r->lsn, PATIENCE_US, NULL, NULL);
    free(libraries);
    buf_fini(&bytes);
    return ok;
}

/* What another snapshot can do nothing about. */
static bool hopeless(const struct recovery *r, const struct status *st) {
    return r->no_way_on || st->code == STATUS_NO_MEMORY;
}

static bool prepare_rebuild(struct recovery *r, struct status *st) {
    return r->salvage != NULL ||
           (checkpoint_remove(r->options->data_dir_fd, st) && salvage_begin(r->vectors_fd, is_spared, r, &r->salvage, st));
}

/* Loads a snapshot that was verified, behind which the log was opened. *ret_loaded false: its content is no good, nothing of it
 * is left. */
static bool load(struct recovery *r, const struct snapshot_chain *chain, bool *ret_loaded, struct status *st) {
    const struct snapshot_info *info = snapshot_chain_info(chain);
    struct status failed = {0};
    *ret_loaded = false;
    if (!prepare_rebuild(r, st)) {
        return false;
    }
    r->lsn = info->lsn > 0 ? info->lsn : 1;
    r->done = 0;
    r->total = info->documents + info->libraries;
    r->doing = "loading the snapshot";
    tell(r, r->doing, 0);
    if (snapshot_load_verified(chain, r->options->limits, apply_from_snapshot, r, &failed)) {
        memcpy(r->report.snapshot, info->name, sizeof r->report.snapshot);
        r->report.snapshot_lsn = info->lsn;
        *ret_loaded = true;
        return recovered_keys_of_snapshot(r->options->idempotency, snapshot_chain_keys(chain), st);
    }
    if (hopeless(r, &failed)) {
        if (st != NULL) {
            *st = failed;
        }
        return false;
    }
    log_status(LOG_LEVEL_WARN, "the snapshot cannot be loaded, another is tried", &failed);
    return drop_all(r, st);
}

static bool load_of_this_log(struct recovery *r, const struct snapshot_chain *chain, bool *ret_loaded, struct status *st) {
    const struct snapshot_info *info = snapshot_chain_info(chain);
    if (!snapshot_is_of_log(info, r->log)) {
        log_warn("%s belongs to another log and is passed over", info->name);
        return true;
    }
    return load(r, chain, ret_loaded, st);
}

/* One candidate: verify, open the log behind it, load. */
static bool try_snapshot(struct recovery *r, const char *name, bool *ret_loaded, struct status *st) {
    struct status failed = {0};
    struct snapshot_chain *chain = NULL;
    int64_t begin = clock_monotonic_us();
    int64_t log_us = r->report.wal_open_us;
    bool ok = true;
    *ret_loaded = false;
    tell(r, "verifying the snapshot", 0);
    if (!snapshot_open_verified(r->snapshots_fd, name, r->options->limits, &chain, &failed)) {
        log_status(LOG_LEVEL_WARN, "a snapshot does not verify, an older one is tried", &failed);
        ok = !hopeless(r, &failed);
        if (!ok && st != NULL) {
            *st = failed;
        }
    } else {
        ok = open_log(r, snapshot_chain_info(chain)->lsn, st) && load_of_this_log(r, chain, ret_loaded, st);
    }
    snapshot_chain_free(chain);
    r->report.snapshot_us += clock_monotonic_us() - begin - (r->report.wal_open_us - log_us);
    return ok;
}

static bool load_newest(struct recovery *r, struct status *st) {
    struct snapshot_info *infos = NULL;
    size_t count = 0;
    bool loaded = false;
    if (!snapshot_list(r->snapshots_fd, &infos, &count, st)) {
        return false;
    }
    bool ok = snapshot_tell_unreadable(r->snapshots_fd, infos, count, st);
    for (size_t i = 0; ok && !loaded && i < count; i++) {
        ok = try_snapshot(r, infos[i].name, &loaded, st);
    }
    free(infos);
    /* Without any, the log must hold everything from its first record on. */
    return ok && (loaded || (open_log(r, 0, st) && prepare_rebuild(r, st)));
}

/* --- the log --- */

static bool bad_record(const struct oplog_record *record, const struct status *why, struct status *st) {
    return status_set(st, why->code == STATUS_NO_MEMORY ? STATUS_NO_MEMORY : STATUS_CORRUPT,
                      "the log's record %" PRIu64 ": %.250s", record->lsn, why->detail);
}

/* Up to which LSN a library has everything already. */
static uint64_t covered_lsn(const struct recovery *r, const struct uuid *library) {
    return is_resumed(r, library) ? r->live.lsn : r->report.snapshot_lsn;
}

/* Up to which LSN all have. */
static uint64_t all_covered_lsn(const struct recovery *r) {
    uint64_t snapshot = r->report.snapshot_lsn;
    if (!r->from_live) {
        return snapshot;
    }
    return r->report.rebuilt == 0 || r->live.lsn < snapshot ? r->live.lsn : snapshot;
}

static bool replay_record(const struct oplog_record *record, void *ctx, struct status *st) {
    struct recovery *r = (struct recovery *)ctx;
    struct idempotency *keys = r->options->idempotency;
    struct op_walk walk;
    struct op op;
    struct snapshot_op item = {.op = &op};
    struct status failed = {0};
    if (!op_walk_begin(&walk, record->op, NULL, &failed)) {
        return bad_record(record, &failed, st);
    }
    while (op_walk_next(&walk, &op)) {
        if (op.type == OP_LOG_CLOSE || record->lsn <= covered_lsn(r, &op.library)) {
            continue;
        }
        r->report.replayed_ops++;
        if (!apply(r, &item, record->lsn, record->time_us, st)) {
            return false;
        }
    }
    return walk.entry.len == 0 || keys == NULL ||
           idempotency_note(keys, walk.entry, record->lsn, record->time_us, &failed) || bad_record(record, &failed, st);
}

static bool replay(struct recovery *r, struct status *st) {
    int64_t begin = clock_monotonic_us();
    uint64_t from = all_covered_lsn(r) + 1;
    r->done = 0;
    r->total = last_lsn(r) >= from ? last_lsn(r) - from + 1 : 0;
    r->doing = "replaying the log";
    tell(r, r->doing, 0);
    bool ok = oplog_read_from(r->log, from, replay_record, r, st);
    r->report.replay_us = clock_monotonic_us() - begin;
    return ok;
}

static bool rebuild(struct recovery *r, struct status *st) {
    bool loaded = r->from_live && r->report.rebuilt == 0 ? prepare_rebuild(r, st) : load_newest(r, st);
    return loaded && replay(r, st) && resume_graphs(r, st) && salvage_end(r->salvage, st);
}

/* --- the report --- */

static bool describe(struct recovery *r, struct library *lib, struct recovered_library *ret, struct status *st) {
    struct reading rd;
    struct library_definition d;
    uint32_t embedded = 0;
    uint32_t total = 0;
    library_reading(lib, &rd);
    if (!reading_definition(&rd, &d, st)) {
        return false;
    }
    reading_coverage(&rd, &embedded, &total);
    ret->id = rd.view.id;
    size_t len = utf8_prefix(d.name, sizeof ret->name - 1);
    memcpy(ret->name, d.name.data, len);
    ret->name[len] = '\0';
    ret->documents = rd.view.live_documents;
    ret->chunks = rd.view.live_chunks;
    ret->vectors_kept = embedded;
    ret->vectors_pending = total - embedded;
    (void)r;
    return true;
}

static bool describe_all(struct recovery *r, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    if (!catalog_acquire_all(r->catalog, &libraries, &count, st)) {
        return false;
    }
    r->report.libraries = (struct recovered_library *)calloc(count + 1, sizeof *r->report.libraries);
    bool ok = r->report.libraries != NULL || status_no_memory(st);
    for (size_t i = 0; i < count; i++) {
        ok = ok && describe(r, libraries[i], &r->report.libraries[i], st);
        catalog_release(r->catalog, libraries[i]);
    }
    r->report.library_count = ok ? count : 0;
    free(libraries);
    return ok;
}

void recovery_report_fini(struct recovery_report *r) {
    free(r->libraries);
    live_checkpoint_fini(&r->live);
    *r = (struct recovery_report){0};
}

/* --- the whole --- */

static bool recover(struct recovery *r, struct status *st) {
    bool adopted = false;
    int64_t begin = clock_monotonic_us();
    if (!formats_check(r->options->data_dir_fd, st) || !open_directories(r, st) || !take_arenas(r, &adopted, st)) {
        return false;
    }
    r->report.checkpoint_us = clock_monotonic_us() - begin - r->report.wal_open_us;
    bool resumed = false;
    if (!adopted && (!take_live(r, &resumed, st) || !rebuild(r, st))) {
        return false;
    }
    r->report.last_lsn = last_lsn(r);
    catalog_publish(r->catalog, r->report.last_lsn, PATIENCE_US, NULL, NULL);
    return salvage_remove_strays(r->vectors_fd, r->catalog, st) && describe_all(r, st);
}

bool recovery_run(const struct recovery_options *options, struct catalog *c, struct oplog **ret_log, struct recovery_report *ret,
                  struct status *st) {
    struct recovery r = {.options = options, .catalog = c, .wal_fd = -1, .snapshots_fd = -1, .vectors_fd = -1};
    bool ok = recover(&r, st);
    checkpoint_fini(&r.checkpoint);
    free(r.resumed);
    free(r.dropped);
    free(r.leftover);
    salvage_free(r.salvage);
    io_close(&r.wal_fd);
    io_close(&r.snapshots_fd);
    io_close(&r.vectors_fd);
    if (ok) {
        *ret_log = r.log;
        *ret = r.report;
        ret->live = r.live;
    } else {
        oplog_close(r.log);
        live_checkpoint_fini(&r.live);
        recovery_report_fini(&r.report);
    }
    return ok;
}
