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
#include "durable/recovery_internal.h"

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

enum { DIRECTORY_MODE = 0700, PROGRESS_US = 100000, PROGRESS_OPS = 256 };

void recovery_tell(struct recovery *r, const char *what, double fraction) {
    r->told_us = clock_monotonic_us();
    if (r->options->progress != NULL) {
        r->options->progress(r->options->progress_ctx, what, fraction);
    }
}

static void count_op(struct recovery *r) {
    if (++r->done % PROGRESS_OPS == 0 && clock_monotonic_us() - r->told_us > PROGRESS_US) {
        recovery_tell(r, r->doing, r->total > 0 && r->done < r->total ? (double)r->done / (double)r->total : 1.0);
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
bool recovery_open_log(struct recovery *r, uint64_t expect_lsn, struct status *st) {
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

uint64_t recovery_last_lsn(const struct recovery *r) {
    struct oplog_position p;
    oplog_position_get(r->log, &p);
    return p.durable_lsn;
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
    if (item->op->type == OP_DOCUMENT_PUT && recovery_is_resumed(r, &item->op->library)) {
        return find_leftover(r, item->op, ret, st);
    }
    if (item->op->type != OP_DOCUMENT_PUT || item->op->as.document.vector_dimension != 0 ||
        !view_of(r, &item->op->library, &view)) {
        return true;
    }
    bool same_model = item->dimension == view.dimension && item->model_fingerprint == view.model_fingerprint;
    return salvage_vectors(r->salvage, item->op, &view, same_model ? item->vectors : NULL, ret, st);
}

/* A library has another model from here on. */
static bool note_exchanged(struct recovery *r, const struct uuid *library, struct status *st) {
    salvage_look_again(r->salvage, library);
    return uuid_list_has(&r->exchanged, library) || uuid_list_add(&r->exchanged, library, st);
}

/* What a provider has made for another model than the library will have behind this op. */
static bool keep_others(struct recovery *r, const struct op *op, struct status *st) {
    bool of_other = op->type == OP_VECTORS && op->as.vectors.other;
    bool switches = op->type == OP_LIBRARY_MODEL && op->switches;
    struct library *lib = of_other || switches ? catalog_acquire(r->catalog, &op->library) : NULL;
    if (lib == NULL) {
        return true;
    }
    bool ok = of_other ? salvage_shelve(r->salvage, lib, op, st) : salvage_shelve_all(r->salvage, lib, &op->library, st);
    catalog_release(r->catalog, lib);
    return ok;
}

static bool apply(struct recovery *r, const struct snapshot_op *item, uint64_t lsn, int64_t time_us, struct status *st) {
    const float *vectors = NULL;
    if (!keep_others(r, item->op, st) || !reserve(r, item->op, st) || !find_vectors(r, item, &vectors, st)) {
        r->no_way_on = true;
        return false;
    }
    catalog_apply(r->catalog, item->op, lsn, time_us, vectors, NULL);
    bool exchanged = item->op->type == OP_LIBRARY_MODEL && item->op->switches;
    if (item->op->type == OP_LIBRARY_CREATE || item->op->type == OP_LIBRARY_DELETE || exchanged) {
        /* So that the next ones find its dimension and model, or its files gone. Nobody is looking yet. */
        catalog_publish(r->catalog, lsn, RECOVERY_PATIENCE_US, NULL, NULL);
    }
    if (exchanged && !note_exchanged(r, &item->op->library, st)) {
        r->no_way_on = true;
        return false;
    }
    count_op(r);
    return true;
}

/* --- the snapshot --- */

static bool apply_from_snapshot(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct recovery *r = (struct recovery *)ctx;
    struct status why = {0};
    if (recovery_is_resumed(r, &item->op->library)) {
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
bool recovery_drop_all(struct recovery *r, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct buf bytes = {0};
    if (!catalog_acquire_all(r->catalog, &libraries, &count, st)) {
        return false;
    }
    bool ok = true;
    salvage_clear_shelves(r->salvage);
    for (size_t i = 0; ok && i < count; i++) {
        struct reading rd;
        struct op op;
        library_reading(libraries[i], &rd);
        if (recovery_is_resumed(r, &rd.view.id)) {
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
    catalog_publish(r->catalog, r->lsn, RECOVERY_PATIENCE_US, NULL, NULL);
    free(libraries);
    buf_fini(&bytes);
    return ok;
}

/* What another snapshot can do nothing about. */
static bool hopeless(const struct recovery *r, const struct status *st) {
    return r->no_way_on || st->code == STATUS_NO_MEMORY;
}

static bool is_spared(const void *ctx, const struct uuid *id) {
    return recovery_is_resumed((const struct recovery *)ctx, id);
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
    recovery_tell(r, r->doing, 0);
    if (snapshot_load_verified(chain, r->options->limits, apply_from_snapshot, r, &failed)) {
        memcpy(r->report.snapshot, info->name, sizeof r->report.snapshot);
        r->report.snapshot_lsn = info->lsn;
        *ret_loaded = true;
        return recovered_keys_of_snapshot(r->options->idempotency, snapshot_chain_keys(chain), st) &&
               (r->from_live || recovered_api_keys_of_snapshot(r->options->keys, snapshot_chain_api_keys(chain), info->lsn, st));
    }
    if (hopeless(r, &failed)) {
        if (st != NULL) {
            *st = failed;
        }
        return false;
    }
    log_status(LOG_LEVEL_WARN, "the snapshot cannot be loaded, another is tried", &failed);
    return recovery_drop_all(r, st);
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
    recovery_tell(r, "verifying the snapshot", 0);
    if (!snapshot_open_verified(r->snapshots_fd, name, r->options->limits, &chain, &failed)) {
        log_status(LOG_LEVEL_WARN, "a snapshot does not verify, an older one is tried", &failed);
        ok = !hopeless(r, &failed);
        if (!ok && st != NULL) {
            *st = failed;
        }
    } else {
        ok = recovery_open_log(r, snapshot_chain_info(chain)->lsn, st) && load_of_this_log(r, chain, ret_loaded, st);
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
    return ok && (loaded || (recovery_open_log(r, 0, st) && prepare_rebuild(r, st)));
}

/* --- the log --- */

static bool bad_record(const struct oplog_record *record, const struct status *why, struct status *st) {
    return status_set(st, why->code == STATUS_NO_MEMORY ? STATUS_NO_MEMORY : STATUS_CORRUPT,
                      "the log's record %" PRIu64 ": %.250s", record->lsn, why->detail);
}

/* Up to which LSN a library has everything already. */
static uint64_t covered_lsn(const struct recovery *r, const struct uuid *library) {
    return recovery_is_resumed(r, library) ? r->live.lsn : r->report.snapshot_lsn;
}

/* Up to which LSN all have. */
static uint64_t all_covered_lsn(const struct recovery *r) {
    uint64_t snapshot = r->report.snapshot_lsn;
    if (!r->from_live) {
        return snapshot;
    }
    return r->report.rebuilt == 0 || r->live.lsn < snapshot ? r->live.lsn : snapshot;
}

/* The table knows up to where it has all of them. */
static void replay_key_op(struct recovery *r, const struct op *op, uint64_t lsn) {
    if (r->options->keys != NULL && key_table_apply(r->options->keys, op, lsn)) {
        r->report.replayed_ops++;
    }
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
        if (op_is_of_keys(&op)) {
            replay_key_op(r, &op, record->lsn);
            continue;
        }
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
    r->total = recovery_last_lsn(r) >= from ? recovery_last_lsn(r) - from + 1 : 0;
    r->doing = "replaying the log";
    recovery_tell(r, r->doing, 0);
    bool ok = oplog_read_from(r->log, from, replay_record, r, st);
    r->report.replay_us = clock_monotonic_us() - begin;
    return ok;
}

/* The vectors of the models that libraries have now, as far as they lie there. */
static bool fill_exchanged(struct recovery *r, struct status *st) {
    bool ok = true;
    catalog_publish(r->catalog, recovery_last_lsn(r), RECOVERY_PATIENCE_US, NULL, NULL);
    for (size_t i = 0; ok && i < r->exchanged.count; i++) {
        ok = salvage_fill(r->salvage, r->catalog, &r->exchanged.at[i], st);
    }
    return ok;
}

static bool rebuild(struct recovery *r, struct status *st) {
    bool loaded = r->from_live && r->report.rebuilt == 0 ? prepare_rebuild(r, st) : load_newest(r, st);
    return loaded && replay(r, st) && resume_graphs(r, st) && fill_exchanged(r, st) && salvage_end(r->salvage, r->catalog, st);
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

/* What is behind each library's last byte is unused now that nothing is replayed any more; and the report has a line for each. */
static bool finish_libraries(struct recovery *r, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    if (!catalog_acquire_all(r->catalog, &libraries, &count, st)) {
        return false;
    }
    r->report.libraries = (struct recovered_library *)calloc(count + 1, sizeof *r->report.libraries);
    bool ok = r->report.libraries != NULL || status_no_memory(st);
    for (size_t i = 0; i < count; i++) {
        ok = ok && describe(r, libraries[i], &r->report.libraries[i], st);
        library_note_unused(libraries[i]);
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
    if (!formats_check(r->options->data_dir_fd, st) || !open_directories(r, st) || !recovery_take_arenas(r, &adopted, st)) {
        return false;
    }
    r->report.checkpoint_us = clock_monotonic_us() - begin - r->report.wal_open_us;
    bool resumed = false;
    if (!adopted && (!recovery_take_live(r, &resumed, st) || !rebuild(r, st))) {
        return false;
    }
    r->report.last_lsn = recovery_last_lsn(r);
    catalog_publish(r->catalog, r->report.last_lsn, RECOVERY_PATIENCE_US, NULL, NULL);
    return salvage_remove_strays(r->vectors_fd, r->catalog, st) && finish_libraries(r, st);
}

bool recovery_run(const struct recovery_options *options, struct catalog *c, struct oplog **ret_log, struct recovery_report *ret,
                  struct status *st) {
    struct recovery r = {.options = options, .catalog = c, .wal_fd = -1, .snapshots_fd = -1, .vectors_fd = -1};
    bool ok = recover(&r, st);
    checkpoint_fini(&r.checkpoint);
    free(r.resumed);
    log_survey_fini(&r.survey);
    free(r.exchanged.at);
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
