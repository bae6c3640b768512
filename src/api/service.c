/* service.c - the calls on the server itself: is it there, can it work, what does it run. */
#include "api/exchange.h"
#include "api/library.h"
#include "api/remote.h"

#include "config.h"
#include "shm/atomics.h"

#include <stdio.h>
#include <stdlib.h>

bool handle_health(struct exchange *x, struct status *st) {
    (void)st;
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_member_cstring(&j, "status", "healthy");
    json_member_cstring(&j, "version", PACKAGE_VERSION);
    json_member_time(&j, "timestamp", clock_wall_us());
    json_end_object(&j);
    return true;
}

/* What readiness rests on. A full disk stops writes but not searches, and an orchestrator that took the server out for it would
 * end them, too: so it is told, and does not make the server unready. A failed log does: the supervisor is about to start anew.
 */
struct readiness {
    bool libraries, accepting, write_path, disk;
};

static struct readiness readiness_of(const struct api_host *host) {
    return (struct readiness){
        .libraries = load_acquire_u32(&host->control->ready) != 0,     /* pairs with: CONTROL_STATE */
        .accepting = load_acquire_u32(&host->control->accepting) != 0, /* pairs with: CONTROL_STATE */
        .write_path = load_relaxed_u32(&host->figures->write_path_failed) == 0,
        .disk = load_relaxed_u32(&host->figures->disk_full) == 0,
    };
}

static bool is_ready(const struct readiness *r) {
    return r->libraries && r->accepting && r->write_path;
}

bool service_is_ready(const struct api_host *host) {
    struct readiness r = readiness_of(host);
    return is_ready(&r);
}

static const char *readiness_message(const struct readiness *r) {
    if (!r->libraries) {
        return "the libraries are being restored";
    }
    if (!r->write_path) {
        return "the log has failed; the server is about to restart";
    }
    if (!r->accepting) {
        return "the server is stopping";
    }
    return r->disk ? "ready" : "ready to search, but the disk is full: writes are refused";
}

bool handle_readiness(struct exchange *x, struct status *st) {
    (void)st;
    struct readiness r = readiness_of(&x->api->host);
    bool ready = is_ready(&r);
    struct json_out j = reply_json(x, ready ? 200 : 503);
    if (!ready) {
        buf_printf(&x->response->headers, "Retry-After: %d\r\n", RETRY_AFTER_SECONDS);
    }
    json_begin_object(&j);
    json_member_bool(&j, "ready", ready);
    json_key(&j, "checks");
    json_begin_object(&j);
    json_member_cstring(&j, "libraries", r.libraries ? "ok" : "restoring");
    json_member_cstring(&j, "accepting_writes", r.accepting ? "ok" : "stopping");
    json_member_cstring(&j, "write_path", !r.write_path ? "failed" : (r.disk ? "ok" : "disk full"));
    json_end_object(&j);
    json_member_cstring(&j, "message", readiness_message(&r));
    json_end_object(&j);
    return true;
}

/* --- in detail --- */

static void write_workers(struct json_out *j, const struct exchange *x) {
    const struct control *c = x->api->host.control;
    uint32_t slots = c->workers < CONTROL_MAX_WORKERS ? c->workers : CONTROL_MAX_WORKERS;
    uint32_t alive = 0, busy = 0, ready = 0;
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t state = load_relaxed_u32(&c->worker[i].state);
        alive += state != WORKER_ABSENT ? 1 : 0;
        busy += state == WORKER_BUSY ? 1 : 0;
        ready += load_relaxed_u64(&c->worker[i].ready) != 0 ? 1 : 0;
    }
    const struct service_figures *f = x->api->host.figures;
    json_key(j, "workers");
    json_begin_object(j);
    json_member_uint(j, "wanted", load_relaxed_u32(&f->workers_wanted));
    json_member_uint(j, "alive", alive);
    json_member_uint(j, "ready", ready);
    json_member_uint(j, "busy", busy);
    json_member_uint(j, "restarts", load_relaxed_u64(&f->worker_restarts));
    json_member_uint(j, "watchdog_kills", load_relaxed_u64(&f->watchdog_kills));
    json_end_object(j);
}

static int64_t figure_time(const int64_t *p) {
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void write_log_and_snapshots(struct json_out *j, const struct exchange *x) {
    const struct service_figures *f = x->api->host.figures;
    int64_t taken_at = figure_time(&f->snapshot_at);
    json_key(j, "wal");
    json_begin_object(j);
    json_member_uint(j, "lsn", load_relaxed_u64(&f->wal_lsn));
    json_member_uint(j, "published_lsn", store_published_lsn(x->api->host.reader));
    json_member_uint(j, "bytes", load_relaxed_u64(&f->wal_bytes));
    json_member_uint(j, "segments", load_relaxed_u64(&f->wal_segments));
    json_end_object(j);
    json_key(j, "snapshots");
    json_begin_object(j);
    json_member_uint(j, "taken", load_relaxed_u64(&f->snapshots_taken));
    json_member_uint(j, "failures", load_relaxed_u64(&f->snapshot_failures));
    json_member_uint(j, "last_lsn", load_relaxed_u64(&f->snapshot_lsn));
    json_member_uint(j, "last_bytes", load_relaxed_u64(&f->snapshot_bytes));
    json_key(j, "last_at");
    if (taken_at != 0) {
        json_time(j, taken_at);
    } else {
        json_null(j);
    }
    json_end_object(j);
}

static void write_recovery(struct json_out *j, const struct exchange *x) {
    const struct service_figures *f = x->api->host.figures;
    json_key(j, "recovery");
    json_begin_object(j);
    json_member_bool(j, "from_checkpoint", load_relaxed_u32(&f->recovered_from_checkpoint) != 0);
    json_member_double(j, "seconds", (double)figure_time(&f->recovery_us) / 1e6);
    json_member_uint(j, "replayed_ops", load_relaxed_u64(&f->recovery_replayed_ops));
    json_member_uint(j, "vectors_kept", load_relaxed_u64(&f->recovery_vectors_kept));
    json_member_uint(j, "vectors_pending", load_relaxed_u64(&f->recovery_vectors_pending));
    json_member_uint(j, "reembedded", load_relaxed_u64(&f->reembedded));
    json_member_uint(j, "reembed_total", load_relaxed_u64(&f->reembed_total));
    json_end_object(j);
}

static bool write_library_state(struct json_out *j, const struct exchange *x, const struct reading *rd, struct status *st) {
    struct library_definition d;
    uint32_t embedded = 0, total = 0;
    if (!reading_definition(rd, &d, st)) {
        return false;
    }
    reading_coverage(rd, &embedded, &total);
    json_begin_object(j);
    json_key(j, "id");
    json_uuid(j, &rd->view.id);
    json_member_string(j, "name", d.name);
    json_member_uint(j, "num_documents", rd->view.live_documents);
    json_member_uint(j, "num_chunks", rd->view.live_chunks);
    json_member_cstring(j, "index_type", index_type_name(rd->view.index.type));
    remote_write_embedding(j, x, &rd->view, &d, embedded, total);
    json_end_object(j);
    return true;
}

static bool write_libraries(struct json_out *j, struct exchange *x, struct status *st) {
    struct library_view *views = NULL;
    size_t count = 0;
    bool good = true;
    /* pairs with: CONTROL_STATE; before that the directory is being filled */
    if (load_acquire_u32(&x->api->host.control->ready) != 0 && !store_list_libraries(x->api->host.reader, &views, &count, st)) {
        return false;
    }
    json_key(j, "libraries");
    json_begin_array(j);
    for (size_t i = 0; good && i < count; i++) {
        struct reading rd;
        if (reading_begin(x->api->host.reader, &views[i].id, &rd, st)) {
            good = write_library_state(j, x, &rd, st);
            reading_end(&rd);
        } else {
            good = st->code == STATUS_NOT_FOUND; /* deleted since the list was taken */
        }
    }
    if (good) {
        json_end_array(j);
    }
    free(views);
    return good;
}

bool handle_health_detailed(struct exchange *x, struct status *st) {
    const struct service_figures *f = x->api->host.figures;
    struct readiness r = readiness_of(&x->api->host);
    int64_t age_us = clock_monotonic_us() - figure_time(&f->started_us); /* the wall clock may have been set since */
    struct json_out j = reply_json(x, 200);
    json_begin_object(&j);
    json_member_cstring(&j, "status", r.libraries && r.accepting && r.write_path && r.disk ? "healthy" : "degraded");
    json_member_cstring(&j, "version", PACKAGE_VERSION);
    json_member_time(&j, "timestamp", clock_wall_us());
    json_member_cstring(&j, "message", readiness_message(&r));
    json_member_time(&j, "started_at", figure_time(&f->started_at));
    json_member_double(&j, "uptime_seconds", (double)age_us / 1e6);
    json_member_bool(&j, "authentication", x->api->host.auth_on);
    write_workers(&j, x);
    write_log_and_snapshots(&j, x);
    write_recovery(&j, x);
    if (!write_libraries(&j, x, st)) {
        return false;
    }
    json_end_object(&j);
    return true;
}
