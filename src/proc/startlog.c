/* startlog.c - see startlog.h. */
/* In angle brackets: beside this file lies another config.h. */
#include <config.h>

#include "proc/startlog.h"

#include "base/clock.h"
#include "base/log.h"
#include "durable/waiting_key.h"
#include "index/distance.h"
#include "proc/background.h"
#include "proc/children.h"
#include "proc/tasks.h"
#include "shm/atomics.h"
#include "store/backlog.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define US_PER_SECOND 1000000.0
#define US_PER_MS 1000.0

static double seconds(int64_t us) {
    return (double)us / US_PER_SECOND;
}

static double milliseconds(int64_t us) {
    return (double)us / US_PER_MS;
}

static double rate(uint64_t count, int64_t us) {
    return us > 0 ? (double)count / seconds(us) : 0;
}

/* "" or "s" */
static const char *plural(uint64_t n) {
    return n == 1 ? "" : "s";
}

void startlog_banner(const struct supervisor *s, const struct test_hooks *hooks) {
    const struct embedder *model = &s->models.model[s->models.default_model];
    char socket_path[CONFIG_PATH_MAX];
    config_socket_path(&s->config, socket_path);
    log_info("Quire %s starts, pid %ld", PACKAGE_VERSION, (long)getpid());
    log_info("data in %s, socket %s, nginx on %s", s->config.data_dir, socket_path, s->config.listen);
    log_info("%u workers, %u of them for writes at a time, on %u cores, distance kernel %s, default model %s (%u dimensions, %s)", children_wanted(&s->config),
             children_writers(&s->config), background_cores(), distance_kernel_name(distance_kernel_in_use()), model->name, model->dimension, model->where);
    if (s->config.auth == CONFIG_AUTH_OFF) {
        log_warn("auth = off: everything is open, without keys, to whoever reaches %s", s->config.listen);
    }
    if (hooks->io_fault) {
        log_warn("QUIRE_IO_FAULT IS SET: THIS SERVER FAILS ON PURPOSE, FOR TESTS. NEVER RUN IT LIKE THIS ON DATA THAT MATTERS");
    }
    if (hooks->clock_shift) {
        log_warn("QUIRE_CLOCK_SHIFT IS SET: THIS SERVER'S CLOCK IS WRONG ON PURPOSE, FOR TESTS. NEVER RUN IT LIKE THIS ON DATA THAT MATTERS");
    }
}

static void log_library(const struct recovered_library *l) {
    char id[UUID_TEXT + 1];
    uuid_format(&l->id, id);
    log_info("library \"%s\" (%s): %u document%s, %u chunk%s, %u embedding%s kept, %u to be regenerated", l->name, id,
             l->documents, plural(l->documents), l->chunks, plural(l->chunks), l->vectors_kept, plural(l->vectors_kept),
             l->vectors_pending);
}

/* After a kill there is nothing to say: no arenas were saved then. */
static void log_why_not(const struct recovery_report *r) {
    if (r->why_not_checkpoint[0] != '\0') {
        log_warn("the saved arenas were not taken as they are: %s", r->why_not_checkpoint);
    }
}

static void log_source(const struct recovery_report *r) {
    if (r->from_checkpoint) {
        log_info("restoring %zu librar%s from the arenas as they were saved at the last stop", r->library_count,
                 r->library_count == 1 ? "y" : "ies");
        return;
    }
    if (r->from_live) {
        log_info("restoring %zu librar%s from the checkpoint at LSN %llu and %llu operation%s of the log behind it; %u as they "
                 "were, %u made anew%s%s",
                 r->library_count, r->library_count == 1 ? "y" : "ies", (unsigned long long)r->live_lsn,
                 (unsigned long long)r->replayed_ops, plural(r->replayed_ops), r->resumed, r->rebuilt, r->rebuilt > 0 ? ": " : "",
                 r->rebuilt > 0 ? r->why_not_checkpoint : "");
        log_why_not(r);
        return;
    }
    log_info("restoring %zu librar%s from %s and %llu operation%s of the log", r->library_count,
             r->library_count == 1 ? "y" : "ies", r->snapshot[0] != '\0' ? r->snapshot : "no snapshot",
             (unsigned long long)r->replayed_ops, plural(r->replayed_ops));
    log_why_not(r);
}

static void log_losses(const struct recovery_report *r) {
    if (r->torn_bytes > 0) {
        log_warn("cut %llu bytes off the end of the log: the last write was not finished when the server died, or was damaged since",
                 (unsigned long long)r->torn_bytes);
    }
    if (r->lost_first > 0 && r->lost_last == 0) {
        log_error("--repair gave up what was logged from LSN %llu on; how much that was cannot be told", (unsigned long long)r->lost_first);
    }
    if (r->lost_records_bound > 0) {
        log_error("--repair gave up at most %llu operation%s of the log that once were durable, LSN %llu to %llu; what was cut off is kept in wal/*.damaged.*",
                  (unsigned long long)r->lost_records_bound, plural(r->lost_records_bound), (unsigned long long)r->lost_first,
                  (unsigned long long)r->lost_last);
    }
}

void startlog_restored(const struct supervisor *s, const struct recovery_report *report, int64_t took_us) {
    uint64_t documents = 0;
    uint64_t chunks = 0;
    uint64_t kept = 0;
    uint64_t pending = 0;
    log_source(report);
    log_losses(report);
    for (size_t i = 0; i < report->library_count; i++) {
        const struct recovered_library *l = &report->libraries[i];
        log_library(l);
        documents += l->documents;
        chunks += l->chunks;
        kept += l->vectors_kept;
        pending += l->vectors_pending;
    }
    log_info(
        "restoration complete in %.1f ms: log opened in %.1f, saved arenas looked at in %.1f, checkpoint gone on from in %.1f, "
        "snapshot loaded in %.1f, log replayed in %.1f, graphs looked at in %.1f",
        milliseconds(took_us), milliseconds(report->wal_open_us), milliseconds(report->checkpoint_us),
        milliseconds(report->resume_us), milliseconds(report->snapshot_us), milliseconds(report->replay_us),
        milliseconds(report->graph_us));
    log_info("%llu document%s with %llu chunk%s, %llu embedding%s kept, %llu to be regenerated, LSN %llu",
             (unsigned long long)documents, plural(documents), (unsigned long long)chunks, plural(chunks),
             (unsigned long long)kept, plural(kept), (unsigned long long)pending, (unsigned long long)report->last_lsn);
    if (s->config.auth != CONFIG_AUTH_OFF && !s->config.has_admin_key && key_table_count(s->keys) == 0 && !waiting_key_is_there(s->data_dir_fd)) {
        log_warn("auth = on, and there is no key: nothing opens anything yet. `quire key create NAME --scope admin --data %s` on this machine makes one", s->config.data_dir);
    }
}

/* --- regenerating ----------------------------------------------------------------------------------------------------- */

enum { LINE_EVERY_US = 5000000 };

struct reembed_library {
    struct uuid id;
    char name[256];
    uint64_t missing; /* at the start */
    uint64_t left;
    bool complete;
};

struct reembed {
    struct supervisor *s;
    int64_t begun_us, line_us;
    uint64_t total;
    struct uuid task;
    bool has_task;
    size_t count;
    struct reembed_library library[];
};

/* Those that a provider makes come when it answers, as they did before the start (asker.h). */
static bool waits_for_provider(struct supervisor *s, const struct uuid *id) {
    struct library *lib = catalog_acquire(s->catalog, id);
    bool waits = lib != NULL && library_remote_model(lib) != NULL;
    catalog_release(s->catalog, lib);
    return waits;
}

bool reembed_new(struct supervisor *s, const struct recovery_report *report, struct reembed **ret, struct status *st) {
    struct reembed *r = (struct reembed *)calloc(1, sizeof *r + report->library_count * sizeof r->library[0]);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->s = s;
    r->begun_us = clock_monotonic_us();
    r->line_us = r->begun_us;
    for (size_t i = 0; i < report->library_count; i++) {
        const struct recovered_library *l = &report->libraries[i];
        if (l->vectors_pending > 0 && !waits_for_provider(s, &l->id)) {
            struct reembed_library *mine = &r->library[r->count++];
            mine->id = l->id;
            mine->missing = l->vectors_pending;
            mine->left = l->vectors_pending;
            (void)snprintf(mine->name, sizeof mine->name, "%s", l->name);
            r->total += l->vectors_pending;
        }
    }
    *ret = NULL;
    if (r->total == 0) {
        free(r);
        return true;
    }
    store_relaxed_u64(&s->figures->reembed_total, r->total);
    __atomic_store_n(&s->figures->reembed_begun_at, clock_wall_us(), __ATOMIC_RELAXED);
    log_info("regenerating %llu embeddings with %s; searches answer meanwhile, with what is there", (unsigned long long)r->total,
             s->models.model[s->models.default_model].name);
    struct uuid none;
    struct uuid library;
    r->has_task =
        tasks_add(s->tasks, TASK_REEMBED, NULL, NULL, &none, st) && tasks_begin_next(s->tasks, TASK_REEMBED, &r->task, &library);
    *ret = r;
    return true;
}

void reembed_free(struct reembed *r) {
    free(r);
}

/* How many this library still misses; those of newer writes do not count. */
static uint64_t look_at(struct reembed *r, struct reembed_library *l, int64_t now_us) {
    struct library *lib = catalog_acquire(r->s->catalog, &l->id);
    uint64_t left = 0;
    if (lib != NULL) {
        left = backlog_pending_vectors(lib);
        catalog_release(r->s->catalog, lib);
    }
    l->left = left < l->left ? left : l->left;
    if (l->left == 0) {
        int64_t took = now_us - r->begun_us;
        l->complete = true;
        log_info("library \"%s\": %llu embedding%s regenerated, complete after %.1f s", l->name, (unsigned long long)l->missing,
                 plural(l->missing), seconds(took));
    }
    return l->left;
}

static void finish(struct reembed *r, int64_t took_us) {
    __atomic_store_n(&r->s->figures->reembed_us, took_us, __ATOMIC_RELAXED);
    __atomic_store_n(&r->s->figures->reembed_begun_at, 0, __ATOMIC_RELAXED);
    log_info("all %llu embeddings regenerated in %.1f s, %.0f embeddings/s", (unsigned long long)r->total, seconds(took_us),
             rate(r->total, took_us));
    if (r->has_task) {
        tasks_finish(r->s->tasks, &r->task, NULL);
    }
}

bool reembed_look(struct reembed *r, int64_t now_us) {
    uint64_t left = 0;
    int64_t took = now_us - r->begun_us;
    for (size_t i = 0; i < r->count; i++) {
        left += r->library[i].complete ? 0 : look_at(r, &r->library[i], now_us);
    }
    uint64_t done = r->total - left;
    store_relaxed_u64(&r->s->figures->reembedded, done);
    if (r->has_task) {
        tasks_progress(r->s->tasks, &r->task, done, r->total);
    }
    if (left == 0) {
        finish(r, took);
        return false;
    }
    if (now_us - r->line_us >= LINE_EVERY_US) {
        double speed = rate(done, took);
        r->line_us = now_us;
        log_info("regenerated %llu of %llu embeddings (%.0f %%), %.0f/s, about %.0f s left", (unsigned long long)done,
                 (unsigned long long)r->total, 100.0 * (double)done / (double)r->total, speed,
                 speed > 0 ? (double)left / speed : 0.0);
    }
    return true;
}
