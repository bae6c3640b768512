/*
 * recovery_arenas.c - the arenas as they lie in the data directory: taken as they are, or gone on with from a live checkpoint. Which of both is believed stands
 * in recovery.c.
 */
#include "durable/recovery_internal.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "durable/recovered_keys.h"
#include "durable/wal.h"
#include "store/op_group.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_BYTES = 128, LIVE_PATHS = 2 };

static const char *const live_paths[LIVE_PATHS] = {LIVE_CHECKPOINT_PATH, LIVE_CHECKPOINT_BEFORE_PATH};

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
    recovery_tell(r, "checking the saved arenas", 0);
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
    return recovery_last_lsn(r) == r->checkpoint.lsn ||
           (recovery_last_lsn(r) > r->checkpoint.lsn && oplog_read_from(r->log, r->checkpoint.lsn + 1, only_closed, NULL, &ignored));
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
    return recovered_keys(r->options->idempotency, &r->checkpoint.keys, st) &&
           recovered_api_keys(r->options->keys, &r->checkpoint.api_keys, r->checkpoint.lsn, st) && checkpoint_remove(r->options->data_dir_fd, st);
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
    if (there && (!is_of_this_log(r) || r->live.lsn > recovery_last_lsn(r))) {
        live_checkpoint_fini(&r->live);
    }
    return true;
}

/* The arenas, where they can be taken as they are; *ret_done false: they cannot. */
bool recovery_take_arenas(struct recovery *r, bool *ret_done, struct status *st) {
    bool usable = false;
    *ret_done = false;
    if (!judge_checkpoint(r, &usable, st)) {
        return false;
    }
    if (!usable) {
        return true;
    }
    if (!recovery_open_log(r, r->checkpoint.lsn, st)) {
        return false;
    }
    if (!log_ends_at_checkpoint(r)) {
        return why_not(r, "the log goes on behind the checkpoint");
    }
    *ret_done = find_beside(r, st) && adopt_all(r, st);
    return *ret_done;
}

/* --- going on from a live checkpoint --- */

bool recovery_is_resumed(const struct recovery *r, const struct uuid *id) {
    const struct live_library *l = r->from_live ? live_checkpoint_find(&r->live, id) : NULL;
    return l != NULL && r->resumed[l - r->live.libraries];
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
    bool ok = recovery_open_log(r, r->live.lsn, &failed);
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
    log_survey_fini(&r->survey);
    return oplog_read_from(r->log, r->live.lsn + 1, log_survey_note, &r->survey, st);
}

static bool resume_library(struct recovery *r, size_t i, struct status *st) {
    const struct live_library *l = &r->live.libraries[i];
    struct status failed = {0};
    bool exchanged = uuid_list_has(&r->survey.exchanged, &l->view.id);
    if (exchanged) {
        (void)status_set(&failed, STATUS_CONFLICT, "its model was exchanged behind the checkpoint");
    }
    if (!exchanged && live_restore_texts(r->vectors_fd, l, &failed) && live_resume(r->catalog, &r->live, l, &failed)) {
        r->resumed[i] = true;
        r->report.resumed++;
        return true;
    }
    if (is_shortage(&failed)) {
        *st = failed;
        return false;
    }
    if (!uuid_list_has(&r->survey.deleted, &l->view.id)) {
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
    recovery_tell(r, "going on from the checkpoint", 0);
    for (size_t i = 0; i < r->live.library_count; i++) {
        if (!resume_library(r, i, st)) {
            return false;
        }
    }
    if (!recovered_keys(r->options->idempotency, &r->live.extra, st) || !recovered_api_keys(r->options->keys, &r->live.api_keys, r->live.lsn, st)) {
        return false;
    }
    r->from_live = true;
    r->report.from_live = true;
    r->report.live_lsn = r->live.lsn;
    /* So that the replay finds dimensions and models. Nobody is looking yet. */
    catalog_publish(r->catalog, r->live.lsn, RECOVERY_PATIENCE_US, NULL, NULL);
    r->report.resume_us = clock_monotonic_us() - begin;
    return true;
}

/* r->live is one that can be gone on from, or empty. */
static bool choose_live(struct recovery *r, bool *ret_found, struct status *st) {
    *ret_found = false;
    for (size_t i = 0; !*ret_found && i < LIVE_PATHS; i++) {
        char why[CHECKPOINT_WHY_MAX] = "";
        bool there = false;
        live_checkpoint_fini(&r->live);
        if (!live_checkpoint_read(r->options->data_dir_fd, live_paths[i], &r->live, &there, why, st)) {
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

/* The newest that can be read, of which the log knows the place. */
static bool choose_live_of_place(struct recovery *r, bool *ret_found, struct status *st) {
    *ret_found = false;
    for (size_t i = 0; !*ret_found && i < LIVE_PATHS; i++) {
        char why[CHECKPOINT_WHY_MAX] = "";
        bool there = false;
        live_checkpoint_fini(&r->live);
        if (!live_checkpoint_read(r->options->data_dir_fd, live_paths[i], &r->live, &there, why, st) ||
            (there && !wal_knows_place(r->wal_fd, r->live.place, ret_found, st))) {
            return false;
        }
    }
    if (!*ret_found) {
        live_checkpoint_fini(&r->live);
    }
    return true;
}

/* What failed to resume is in no catalog; the rest is taken out again. */
static bool give_live_up(struct recovery *r, struct status *st) {
    memset(r->resumed, 0, r->live.library_count * sizeof *r->resumed);
    r->from_live = false;
    r->report.from_live = false;
    r->report.resumed = 0;
    r->report.rebuilt = 0;
    live_checkpoint_fini(&r->live);
    return recovery_drop_all(r, st);
}

/* Of a damaged log, only what follows the checkpoint without a gap stays. */
static bool survey_behind(const struct oplog_record *record, void *ctx, struct status *st) {
    struct recovery *r = (struct recovery *)ctx;
    if (record->lsn != r->surveyed_until + 1) {
        return true;
    }
    r->surveyed_until++;
    return log_survey_note(record, &r->survey, st);
}

/* Whether each library has its directory, or is deleted by what stays of the log: it may have been deleted by what does not. */
static bool all_have_arenas(const struct recovery *r) {
    bool all = true;
    for (size_t i = 0; all && i < r->live.library_count; i++) {
        const struct library_view *view = &r->live.libraries[i].view;
        char directory[ARENA_DIRECTORY_MAX];
        struct status ignored;
        int fd = -1;
        arena_directory_name(&view->id, view->directory, directory);
        all = uuid_list_has(&r->survey.deleted, &view->id) || io_open_at(r->vectors_fd, directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &fd, &ignored);
        io_close(&fd);
    }
    return all;
}

/* Repairing, where the log is damaged: what the checkpoint covers needs no log, so when all its libraries stand, only the damage behind it costs anything. The log
 * is touched when that is sure: what of it is good is needed for a library that does not stand, and where there is any, all of them go back to it together. */
static bool take_live_of_damaged_log(struct recovery *r, bool *ret_done, struct status *st) {
    struct wal_options options = {
        .dir_fd = r->wal_fd, .segment_bytes = r->options->wal_segment_bytes, .max_record_bytes = r->options->max_record_bytes};
    struct wal_report report;
    struct status fault;
    bool found = false;
    *ret_done = false;
    if (!choose_live_of_place(r, &found, st)) {
        return false;
    }
    if (!found) {
        return true;
    }
    log_survey_fini(&r->survey);
    r->surveyed_until = r->live.lsn;
    if (!wal_check(&options, survey_behind, r, &report, &fault, st)) {
        return false;
    }
    bool no_log = fault.code == STATUS_OK && report.records == 0;
    if (!no_log && !all_have_arenas(r)) {
        live_checkpoint_fini(&r->live);
        return true;
    }
    if (!resume_libraries(r, st)) {
        return false;
    }
    if (r->report.rebuilt > 0 && !no_log) {
        return give_live_up(r, st);
    }
    r->report.why_not_checkpoint[0] = '\0';
    *ret_done = recovery_open_log(r, r->live.lsn, st);
    return *ret_done;
}

bool recovery_take_live(struct recovery *r, bool *ret_done, struct status *st) {
    if (!choose_live(r, ret_done, st) || (*ret_done && !resume_libraries(r, st))) {
        return false;
    }
    return *ret_done || !r->options->repair || take_live_of_damaged_log(r, ret_done, st);
}
