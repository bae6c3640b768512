/*
 * metrics.c - GET /metrics in the text format of Prometheus, version 0.0.4.
 *
 * Everything is read from the page of figures and the workers' slots with relaxed loads: each number is whole, but numbers
 * written together may be seen one apart. The histograms' buckets are powers of two of a microsecond. Figures are listed in one
 * table, so a new one is one line.
 */
#include "api/exchange.h"

#include "config.h"
#include "shm/atomics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum figure_form { FORM_U32, FORM_U64, FORM_US /* int64_t microseconds, shown as seconds */ };

struct figure {
    const char *name;
    const char *type;
    const char *help;
    enum figure_form form;
    size_t offset;
};

#define AT(field) offsetof(struct service_figures, field)

static const struct figure figures[] = {
    {"quire_start_time_seconds", "gauge", "When the supervisor started, in seconds since 1970.", FORM_US, AT(started_at)},
    {"quire_authentication_on", "gauge", "1 when calls need a key.", FORM_U32, AT(auth_on)},
    {"quire_write_path_failed", "gauge", "1 when the log has failed and the supervisor is about to restart.", FORM_U32,
     AT(write_path_failed)},
    {"quire_disk_full", "gauge", "1 when the last append or reservation met a full disk.", FORM_U32, AT(disk_full)},
    {"quire_workers_wanted", "gauge", "Workers that the supervisor keeps running.", FORM_U32, AT(workers_wanted)},
    {"quire_worker_restarts_total", "counter", "Workers started in place of one that died.", FORM_U64, AT(worker_restarts)},
    {"quire_watchdog_kills_total", "counter", "Workers that the watchdog ended.", FORM_U64, AT(watchdog_kills)},
    {"quire_recovering", "gauge", "1 while the libraries are being restored.", FORM_U32, AT(recovering)},
    {"quire_recovery_from_checkpoint", "gauge", "1 when the arenas were taken over as they were.", FORM_U32,
     AT(recovered_from_checkpoint)},
    {"quire_recovery_seconds", "gauge", "How long the restoration at start took.", FORM_US, AT(recovery_us)},
    {"quire_recovery_wal_open_seconds", "gauge", "Part of the restoration: opening the log.", FORM_US, AT(recovery_wal_open_us)},
    {"quire_recovery_checkpoint_seconds", "gauge", "Part of the restoration: verifying the checkpoint.", FORM_US,
     AT(recovery_checkpoint_us)},
    {"quire_recovery_resume_seconds", "gauge", "Part of the restoration: going on from the checkpoint.", FORM_US, AT(recovery_resume_us)},
    {"quire_recovery_graph_seconds", "gauge", "Part of the restoration: holding the graphs against the vectors.", FORM_US,
     AT(recovery_graph_us)},
    {"quire_recovery_snapshot_seconds", "gauge", "Part of the restoration: loading the snapshot.", FORM_US,
     AT(recovery_snapshot_us)},
    {"quire_recovery_replay_seconds", "gauge", "Part of the restoration: replaying the log.", FORM_US, AT(recovery_replay_us)},
    {"quire_recovery_replayed_ops", "gauge", "Operations replayed from the log at start.", FORM_U64, AT(recovery_replayed_ops)},
    {"quire_recovery_vectors_kept", "gauge", "Vectors found again at start.", FORM_U64, AT(recovery_vectors_kept)},
    {"quire_recovery_vectors_pending", "gauge", "Vectors that had to be made anew at start.", FORM_U64,
     AT(recovery_vectors_pending)},
    {"quire_recovery_torn_bytes", "gauge", "Bytes of a torn tail that were cut off the log at start.", FORM_U64,
     AT(recovery_torn_bytes)},
    {"quire_reembed_seconds", "gauge", "How long the last complete re-embedding at start took; 0: none, or it runs.", FORM_US,
     AT(reembed_us)},
    {"quire_reembedded_chunks", "gauge", "Chunks re-embedded since start.", FORM_U64, AT(reembedded)},
    {"quire_reembed_chunks_wanted", "gauge", "Chunks that were to be re-embedded at start.", FORM_U64, AT(reembed_total)},
    {"quire_model_exchanges_total", "counter", "Libraries that got another model.", FORM_U64, AT(exchanges)},
    {"quire_model_exchanges_returned_total", "counter", "Libraries that went back to the model before.", FORM_U64, AT(exchanges_returned)},
    {"quire_model_exchanges_failed_total", "counter", "Exchanges of a model, or ways back, that failed.", FORM_U64, AT(exchanges_failed)},
    {"quire_model_exchanges_kept", "gauge", "Libraries that are kept with the model before.", FORM_U64, AT(exchanges_kept)},
    {"quire_model_exchange_seconds", "gauge", "How long the last exchange of a model took.", FORM_US, AT(exchange_us)},
    {"quire_model_exchange_chunks", "gauge", "Chunks of the library whose model was exchanged last.", FORM_U64, AT(exchange_chunks)},
    {"quire_commits_total", "counter", "Batches committed, each with one sync.", FORM_U64, AT(commits)},
    {"quire_committed_ops_total", "counter", "Operations committed.", FORM_U64, AT(committed_ops)},
    {"quire_rejected_ops_total", "counter", "Operations refused by the committer's checks.", FORM_U64, AT(rejected_ops)},
    {"quire_queue_ops", "gauge", "Operations that wait for the committer.", FORM_U64, AT(queue_ops)},
    {"quire_queue_bytes", "gauge", "Bytes of operations that wait for the committer.", FORM_U64, AT(queue_bytes)},
    {"quire_api_keys", "gauge", "API keys, expired ones included.", FORM_U64, AT(api_keys)},
    {"quire_audit_lines_total", "counter", "Lines written to the audit log.", FORM_U64, AT(audit_lines)},
    {"quire_audit_suppressed_total", "counter", "Refusals that the audit log only counts, because they were too many.", FORM_U64, AT(audit_suppressed)},
    {"quire_idempotency_keys", "gauge", "Requests with an Idempotency-Key that are remembered.", FORM_U64, AT(idempotency_keys)},
    {"quire_idempotency_bytes", "gauge", "Memory that they take.", FORM_U64, AT(idempotency_bytes)},
    {"quire_idempotency_replays_total", "counter", "Requests answered by what is remembered of an earlier one.", FORM_U64,
     AT(idempotency_replays)},
    {"quire_idempotency_mismatches_total", "counter", "Requests refused because their key had come with another body.", FORM_U64,
     AT(idempotency_mismatches)},
    {"quire_queue_full_total", "counter", "Operations refused because too many waited.", FORM_U64, AT(queue_full)},
    {"quire_lock_waits_total", "counter", "Times that a publication had to wait long for a reader.", FORM_U64, AT(lock_waits)},
    {"quire_dead_readers_total", "counter", "Read locks taken over from workers that died holding them.", FORM_U64,
     AT(dead_readers)},
    {"quire_wal_lsn", "gauge", "The last LSN in the log.", FORM_U64, AT(wal_lsn)},
    {"quire_wal_bytes", "gauge", "Bytes of all log segments.", FORM_U64, AT(wal_bytes)},
    {"quire_wal_segments", "gauge", "Log segments.", FORM_U64, AT(wal_segments)},
    {"quire_wal_appended_bytes_total", "counter", "Bytes of records appended to the log since start.", FORM_U64,
     AT(wal_appended_bytes)},
    {"quire_checkpoints_taken_total", "counter", "Checkpoints of the arenas taken since start.", FORM_U64, AT(checkpoints_taken)},
    {"quire_checkpoint_failures_total", "counter", "Checkpoints that failed since start.", FORM_U64, AT(checkpoint_failures)},
    {"quire_checkpoint_last_time_seconds", "gauge", "When the last checkpoint was taken, in seconds since 1970; 0: none since start.", FORM_US,
     AT(checkpoint_at)},
    {"quire_checkpoint_last_duration_seconds", "gauge", "How long the last checkpoint took.", FORM_US, AT(checkpoint_us)},
    {"quire_checkpoint_last_lsn", "gauge", "The LSN of the last checkpoint.", FORM_U64, AT(checkpoint_lsn)},
    {"quire_checkpoint_last_bytes", "gauge", "Bytes of pages that the last checkpoint wrote.", FORM_U64, AT(checkpoint_bytes)},
    {"quire_snapshot_verifications_total", "counter", "Snapshots that were restored on trial since start and held.", FORM_U64, AT(verifications)},
    {"quire_snapshot_verification_failures_total", "counter", "Those that did not hold.", FORM_U64, AT(verification_failures)},
    {"quire_snapshot_verified_time_seconds", "gauge", "When the newest snapshot that held was restored on trial, in seconds since 1970; 0: never.", FORM_US,
     AT(verified_at)},
    {"quire_snapshot_verified_lsn", "gauge", "Its LSN.", FORM_U64, AT(verified_lsn)},
    {"quire_snapshot_verified_good", "gauge", "1: the last one that was restored on trial held.", FORM_U32, AT(verified_good)},
    {"quire_wal_archived_lsn", "gauge", "Records up to this LSN are in archive_dir, in segments that are full; 0: there is none.", FORM_U64, AT(archive_lsn)},
    {"quire_wal_archive_lag_segments", "gauge", "Full segments of the log that are not in archive_dir yet.", FORM_U64, AT(archive_lag_segments)},
    {"quire_wal_archive_lag_bytes", "gauge", "Their bytes; over archive_max_lag_bytes writes are refused.", FORM_U64, AT(archive_lag_bytes)},
    {"quire_wal_archived_segments_total", "counter", "Segments copied to archive_dir since start.", FORM_U64, AT(archived_segments)},
    {"quire_wal_archive_failures_total", "counter", "Times since start that copying to archive_dir failed.", FORM_U64, AT(archive_failures)},
    {"quire_snapshots_taken_total", "counter", "Snapshots taken since start.", FORM_U64, AT(snapshots_taken)},
    {"quire_snapshots_incremental_total", "counter", "Those of them that hold only what changed.", FORM_U64, AT(snapshots_incremental)},
    {"quire_snapshot_cut_max_seconds", "gauge", "The longest that the cut of a snapshot kept writes waiting since start.", FORM_US,
     AT(snapshot_cut_us_max)},
    {"quire_snapshot_failures_total", "counter", "Snapshots that failed since start.", FORM_U64, AT(snapshot_failures)},
    {"quire_snapshot_last_time_seconds", "gauge", "When the last snapshot was taken, in seconds since 1970; 0: none.", FORM_US,
     AT(snapshot_at)},
    {"quire_snapshot_last_duration_seconds", "gauge", "How long the last snapshot took.", FORM_US, AT(snapshot_us)},
    {"quire_snapshot_last_lsn", "gauge", "The LSN of the last snapshot.", FORM_U64, AT(snapshot_lsn)},
    {"quire_snapshot_last_bytes", "gauge", "Bytes of the last snapshot.", FORM_U64, AT(snapshot_bytes)},
    {"quire_provider_process_restarts_total", "counter", "Processes that ask providers of remote models started in place of one that died.", FORM_U64,
     AT(provider_restarts)},
    {"quire_pending_vectors", "gauge", "Chunks that wait for their vector.", FORM_U64, AT(pending_vectors)},
    {"quire_index_tail_chunks", "gauge", "Chunks not linked into their graph yet; searches scan them.", FORM_U64, AT(tail)},
    {"quire_index_linked_chunks", "gauge", "Chunks linked into their graphs.", FORM_U64, AT(linked)},
};

static void put_head(struct buf *b, const char *name, const char *type, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_figures(struct buf *b, const struct service_figures *f) {
    const char *base = (const char *)f;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
        const struct figure *row = &figures[i];
        const void *at = base + row->offset;
        put_head(b, row->name, row->type, row->help);
        switch (row->form) {
        case FORM_U32:
            buf_printf(b, "%s %" PRIu32 "\n", row->name, load_relaxed_u32((const uint32_t *)at));
            break;
        case FORM_U64:
            buf_printf(b, "%s %" PRIu64 "\n", row->name, load_relaxed_u64((const uint64_t *)at));
            break;
        case FORM_US:
            buf_printf(b, "%s %.6f\n", row->name, (double)__atomic_load_n((const int64_t *)at, __ATOMIC_RELAXED) / 1e6);
            break;
        }
    }
}

/* --- histograms --- */

static void histogram_add(struct control_histogram *sum, const struct control_histogram *h) {
    sum->sum_us += load_relaxed_u64(&h->sum_us);
    for (unsigned i = 0; i < CONTROL_HISTOGRAM_BUCKETS; i++) {
        sum->bucket[i] += load_relaxed_u64(&h->bucket[i]);
    }
}

/* `unit`: what one microsecond of the histogram is in the unit shown. The count is the sum of the buckets, so that they never
 * disagree. */
static void put_histogram(struct buf *b, const char *name, const char *help, const struct control_histogram *h, double unit) {
    struct control_histogram copy = {0};
    histogram_add(&copy, h);
    put_head(b, name, "histogram", help);
    uint64_t below = 0;
    for (unsigned i = 0; i + 1 < CONTROL_HISTOGRAM_BUCKETS; i++) {
        below += copy.bucket[i];
        buf_printf(b, "%s_bucket{le=\"%.9g\"} %" PRIu64 "\n", name, (double)(UINT64_C(1) << i) * unit, below);
    }
    below += copy.bucket[CONTROL_HISTOGRAM_BUCKETS - 1];
    buf_printf(b, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.6f\n%s_count %" PRIu64 "\n", name, below, name,
               (double)copy.sum_us * unit, name, below);
}

/* --- workers --- */

struct worker_sums {
    uint64_t requests, searches, candidates, embedded, overdue, auth_failures, auth_denials, audit_lost, alive, with_write, with_stream, awaiting, streamed_in, streamed_out;
    uint64_t by_class[6];
    uint64_t by_route[CONTROL_ROUTES];
    struct control_histogram request_time, search_time, write_time;
};

static void sum_workers(const struct control *c, struct worker_sums *s) {
    s->with_write = places_taken(&c->writers);
    s->with_stream = places_taken(&c->streams);
    s->awaiting = places_taken(&c->awaiting);
    uint32_t slots = c->workers < CONTROL_MAX_WORKERS ? c->workers : CONTROL_MAX_WORKERS;
    for (uint32_t i = 0; i < slots; i++) {
        const struct control_worker *w = &c->worker[i];
        s->alive += load_relaxed_u32(&w->state) != WORKER_ABSENT ? 1 : 0;
        s->requests += load_relaxed_u64(&w->requests);
        s->searches += load_relaxed_u64(&w->searches);
        s->candidates += load_relaxed_u64(&w->candidates);
        s->embedded += load_relaxed_u64(&w->embedded);
        s->overdue += load_relaxed_u64(&w->overdue);
        s->auth_failures += load_relaxed_u64(&w->auth_failures);
        s->auth_denials += load_relaxed_u64(&w->auth_denials);
        s->audit_lost += load_relaxed_u64(&w->audit_lost);
        s->streamed_in += load_relaxed_u64(&w->streamed_in);
        s->streamed_out += load_relaxed_u64(&w->streamed_out);
        for (size_t k = 0; k < sizeof s->by_class / sizeof s->by_class[0]; k++) {
            s->by_class[k] += load_relaxed_u64(&w->requests_by_class[k]);
        }
        for (size_t k = 0; k < CONTROL_ROUTES; k++) {
            s->by_route[k] += load_relaxed_u64(&w->requests_by_route[k]);
        }
        histogram_add(&s->request_time, &w->request_time);
        histogram_add(&s->search_time, &w->search_time);
        histogram_add(&s->write_time, &w->write_time);
    }
}

static void put_single(struct buf *b, const char *name, const char *type, const char *help, uint64_t value) {
    put_head(b, name, type, help);
    buf_printf(b, "%s %" PRIu64 "\n", name, value);
}

static void put_workers(struct buf *b, const struct worker_sums *s) {
    put_single(b, "quire_workers", "gauge", "Workers alive.", s->alive);
    put_single(b, "quire_workers_writing", "gauge", "Workers that have a request of the socket for writes.", s->with_write);
    put_single(b, "quire_min_lsn_waits", "gauge", "Searches that wait for their min_lsn.", s->awaiting);
    put_single(b, "quire_streams", "gauge", "Streams and exports under way.", s->with_stream);
    put_single(b, "quire_streamed_documents_total", "counter", "Documents that came by streams and were submitted.", s->streamed_in);
    put_single(b, "quire_exported_documents_total", "counter", "Documents sent by exports.", s->streamed_out);
    put_single(b, "quire_writes_overdue_total", "counter", "Writes refused because their deadline passed while they waited for a worker.", s->overdue);
    put_single(b, "quire_auth_failures_total", "counter", "Requests without a valid key (401).", s->auth_failures);
    put_single(b, "quire_auth_denials_total", "counter", "Requests with a key that does not allow them (403).", s->auth_denials);
    put_single(b, "quire_http_requests_total", "counter", "Requests answered.", s->requests);
    put_head(b, "quire_http_responses_total", "counter", "Responses by class of status.");
    for (unsigned k = 1; k < sizeof s->by_class / sizeof s->by_class[0]; k++) {
        buf_printf(b, "quire_http_responses_total{class=\"%uxx\"} %" PRIu64 "\n", k, s->by_class[k]);
    }
    put_head(b, "quire_http_route_requests_total", "counter", "Requests by route; none: no such path or method.");
    for (unsigned route = 0; route < CONTROL_ROUTES && api_route_name(route) != NULL; route++) {
        buf_printf(b, "quire_http_route_requests_total{route=\"%s\"} %" PRIu64 "\n", api_route_name(route), s->by_route[route]);
    }
    put_single(b, "quire_searches_total", "counter", "Searches answered.", s->searches);
    put_single(b, "quire_search_candidates_total", "counter", "Distances computed by searches.", s->candidates);
    put_single(b, "quire_embedded_texts_total", "counter", "Texts embedded by workers.", s->embedded);
    put_histogram(b, "quire_http_request_seconds", "Time from a request's head to its reply.", &s->request_time, 1e-6);
    put_histogram(b, "quire_search_seconds", "The same for searches.", &s->search_time, 1e-6);
    put_histogram(b, "quire_write_seconds", "The same for writes.", &s->write_time, 1e-6);
}

/* --- libraries --- */

enum library_figure { LIBRARY_DOCUMENTS, LIBRARY_CHUNKS, LIBRARY_DELETED, LIBRARY_TEXT, LIBRARY_RECORDS, LIBRARY_FIGURES };

static uint64_t library_figure(const struct library_view *v, enum library_figure which) {
    switch (which) {
    case LIBRARY_DOCUMENTS:
        return v->live_documents;
    case LIBRARY_CHUNKS:
        return v->live_chunks;
    case LIBRARY_DELETED:
        return v->chunk_slots - v->live_chunks;
    case LIBRARY_TEXT:
        return v->text_bytes;
    case LIBRARY_RECORDS:
        return v->records_used;
    case LIBRARY_FIGURES:
        break;
    }
    return 0;
}

static void put_libraries(struct buf *b, const struct library_view *views, size_t count) {
    static const struct {
        const char *name, *help;
    } heads[LIBRARY_FIGURES] = {{"quire_library_documents", "Documents of a library."},
                                {"quire_library_chunks", "Chunks of a library."},
                                {"quire_library_deleted_slots", "Slots of deleted chunks."},
                                {"quire_library_text_bytes", "Bytes of text of a library's chunks."},
                                {"quire_library_record_bytes", "Bytes of a library's records, deleted ones included."}};
    put_single(b, "quire_libraries", "gauge", "Libraries.", count);
    for (unsigned which = 0; which < LIBRARY_FIGURES; which++) {
        put_head(b, heads[which].name, "gauge", heads[which].help);
        for (size_t i = 0; i < count; i++) {
            char id[UUID_TEXT + 1];
            uuid_format(&views[i].id, id);
            buf_printf(b, "%s{library=\"%s\"} %" PRIu64 "\n", heads[which].name, id,
                       library_figure(&views[i], (enum library_figure)which));
        }
    }
}

/* --- remote models --- */

struct provider_figure {
    const char *name, *type, *help;
    size_t offset;
};

#define OF(field) offsetof(struct figures_provider, field)

static const struct provider_figure provider_figures[] = {
    {"quire_provider_calls_total", "counter", "Requests to the provider of a remote model, repeated ones included.", OF(calls)},
    {"quire_provider_retries_total", "counter", "Requests that were made again.", OF(retries)},
    {"quire_provider_texts_total", "counter", "Texts that got their vectors.", OF(texts)},
    {"quire_provider_tokens_total", "counter", "Tokens, as the provider counts them where it says.", OF(tokens)},
    {"quire_provider_failures_total", "counter", "Requests of ours that brought nothing.", OF(failures)},
    {"quire_query_cache_hits_total", "counter", "Queries whose vector was remembered.", OF(cache_hits)},
    {"quire_query_cache_misses_total", "counter", "Queries that the provider was asked for.", OF(cache_misses)},
    {"quire_query_cache_shared_total", "counter", "Queries that waited for another one of the same text.", OF(cache_shared)},
    {"quire_query_cache_bytes", "gauge", "Memory of remembered query vectors.", OF(cache_bytes)},
    {"quire_query_cache_entries", "gauge", "Query vectors that are remembered.", OF(cache_entries)},
};

static void put_label(struct buf *b, const char *name, const char *model, uint64_t value) {
    buf_printf(b, "%s{model=\"%s\"} %" PRIu64 "\n", name, model, value); /* a section's name needs no escapes */
}

/* The slots of the remote models among all; returns how many. */
static size_t remote_models(const struct embed_registry *r, const struct embedder *out[FIGURES_PROVIDERS]) {
    size_t count = 0;
    for (size_t i = 0; r != NULL && i < r->count; i++) {
        if (r->model[i].remote && count < FIGURES_PROVIDERS) {
            out[count++] = &r->model[i];
        }
    }
    return count;
}

static void put_providers(struct buf *b, const struct api_host *host) {
    const struct embedder *models[FIGURES_PROVIDERS];
    struct figures_provider known[FIGURES_PROVIDERS];
    size_t count = remote_models(host->models, models);
    if (count == 0) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        figures_provider_read(&host->figures->provider[i], &known[i]);
    }
    put_head(b, "quire_provider_up", "gauge", "1 when the provider answered when it was last asked.");
    for (size_t i = 0; i < count; i++) {
        put_label(b, "quire_provider_up", models[i]->name, known[i].state == PROVIDER_READY ? 1 : 0);
    }
    for (size_t f = 0; f < sizeof provider_figures / sizeof provider_figures[0]; f++) {
        const struct provider_figure *p = &provider_figures[f];
        put_head(b, p->name, p->type, p->help);
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, (const uint8_t *)&known[i] + p->offset, sizeof value);
            put_label(b, p->name, models[i]->name, value);
        }
    }
    put_head(b, "quire_provider_vectors_logged_total", "counter", "Vectors of a provider that were committed.");
    for (size_t i = 0; i < count; i++) {
        put_label(b, "quire_provider_vectors_logged_total", models[i]->name, load_relaxed_u64(&host->figures->provider[i].vectors_logged));
    }
    put_head(b, "quire_provider_refused_texts_total", "counter", "Texts that a provider will never embed; they are found by their words.");
    for (size_t i = 0; i < count; i++) {
        put_label(b, "quire_provider_refused_texts_total", models[i]->name, load_relaxed_u64(&host->figures->provider[i].refused_texts));
    }
}

bool handle_metrics(struct exchange *x, struct status *st) {
    const struct api_host *host = &x->api->host;
    struct library_view *views = NULL;
    size_t count = 0;
    /* pairs with: CONTROL_STATE; before that the directory is being filled */
    if (load_acquire_u32(&host->control->ready) != 0 && !store_list_libraries(host->reader, &views, &count, st)) {
        return false;
    }
    struct worker_sums *sums = (struct worker_sums *)pool_take(&x->pool, sizeof *sums);
    if (sums == NULL) {
        free(views);
        return status_no_memory(st);
    }
    sum_workers(host->control, sums);
    (void)reply_json(x, 200);
    x->response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    struct buf *b = &x->response->body;
    put_head(b, "quire_build_info", "gauge", "The version that runs.");
    buf_printf(b, "quire_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
    put_figures(b, host->figures);
    put_single(b, "quire_audit_lost_total", "counter", "Lines of the audit log that were lost.", sums->audit_lost + load_relaxed_u64(&host->figures->audit_lost));
    put_histogram(b, "quire_commit_seconds", "Time from reading the queue to answering.", &host->figures->commit_time, 1e-6);
    put_histogram(b, "quire_wal_sync_seconds", "Time of the log's sync.", &host->figures->sync_time, 1e-6);
    put_histogram(b, "quire_commit_batch_ops", "Operations in a batch.", &host->figures->batch_ops, 1);
    put_workers(b, sums);
    put_libraries(b, views, count);
    put_providers(b, host);
    free(views);
    return true;
}
