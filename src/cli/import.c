/*
 * import.c - quire import: reads documents, sends them in batches over several connections, shows how far it is.
 *
 * With --stream they go through one connection instead (import_stream.c).
 *
 * One thread (the caller's) reads the source and fills batches; `--jobs` threads send them. Running it again doubles nothing: ids
 * are the same on every run, so what is there already comes back as a conflict, which is counted and not an error; a file whose
 * content has changed is replaced.
 */
#include "cli/import.h"

#include "base/clock.h"
#include "base/json_out.h"

#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define BATCH_DOCUMENTS 200
#define BATCH_BYTES (1024 * 1024)
#define PRESET_JOBS 4
#define MAX_JOBS 64
#define MESSAGES_SHOWN 10
#define PROGRESS_TERMINAL_US 100000
#define PROGRESS_PLAIN_US 5000000

struct import_batch {
    struct import_document document[BATCH_DOCUMENTS];
    size_t count;
    size_t bytes;
};

static void batch_free(struct import_batch *b) {
    if (b == NULL)
        return;
    for (size_t i = 0; i < b->count; i++)
        import_document_fini(&b->document[i]);
    free(b);
}

void import_complain(struct import *im, const char *where, const char *detail) {
    im->refused++;
    if (im->shown++ == MESSAGES_SHOWN)
        fputs("quire: further messages of this kind are left out\n", stderr);
    if (im->shown > MESSAGES_SHOWN)
        return;
    if (im->terminal)
        fputs("\r\033[K", stderr);
    fputs("quire: ", stderr);
    if (where[0] != '\0')
        fprintf(stderr, "%s: ", where);
    cli_print_clean(stderr, detail, 400);
    fputc('\n', stderr);
}

static void document_path(const struct import *im, const char *id, struct buf *out) {
    buf_printf(out, "/v1/libraries/%s/documents/", im->library);
    client_escape(out, slice_str(id));
    buf_put_u8(out, 0);
}

/* What is stored under this id has the content of this file. */
static bool same_content(struct import *im, struct client *client, const struct import_document *d) {
    struct buf path;
    struct client_reply reply;
    bool same = false;
    buf_init(&path);
    document_path(im, d->id, &path);
    if (buf_ok(&path) && client_call(client, "GET", (const char *)path.data, slice_of(NULL, 0), true, &reply, NULL)) {
        same = strcmp(member_text(member(reply.json, "metadata"), "content_sha256"), d->content_sha256) == 0;
        client_reply_fini(&reply);
    }
    buf_fini(&path);
    return same;
}

/* A document whose id is taken: is it the same, or to be replaced? */
static void settle_conflict(struct import *im, struct client *client, const struct import_document *d) {
    bool replace = cli_has(im->cli, OPTION_REPLACE) || (d->content_sha256[0] != '\0' && !same_content(im, client, d));
    struct status st = {0};
    bool done = true;
    if (replace) {
        struct buf path;
        struct client_reply reply;
        buf_init(&path);
        document_path(im, d->id, &path);
        done =
            buf_check(&path, &st) && client_call(client, "PUT", (const char *)path.data, buf_slice(&d->json), true, &reply, &st);
        if (done)
            client_reply_fini(&reply);
        buf_fini(&path);
    }
    pthread_mutex_lock(&im->mutex);
    if (!done)
        import_complain(im, d->where, st.detail);
    else if (replace)
        im->replaced++;
    else
        im->present++;
    pthread_mutex_unlock(&im->mutex);
}

static void take_results(struct import *im, struct client *client, const struct import_batch *b, struct json_object *reply) {
    struct json_object *results = member(reply, "results");
    size_t count = json_object_is_type(results, json_type_array) ? json_object_array_length(results) : 0;
    for (size_t i = 0; i < b->count; i++) {
        struct json_object *result = i < count ? json_object_array_get_idx(results, i) : NULL;
        struct json_object *error = member(result, "error");
        bool success = json_object_get_boolean(member(result, "success"));
        if (!success && strcmp(member_text(error, "error_type"), "ConflictError") == 0) {
            settle_conflict(im, client, &b->document[i]);
            continue;
        }
        pthread_mutex_lock(&im->mutex);
        if (success)
            im->added++;
        else
            import_complain(im, b->document[i].where, error != NULL ? member_text(error, "detail") : "the server gave no result");
        pthread_mutex_unlock(&im->mutex);
    }
    pthread_mutex_lock(&im->mutex);
    im->chunks += (uint64_t)member_int(reply, "total_chunks_added");
    pthread_mutex_unlock(&im->mutex);
}

static bool send_batch(struct import *im, struct client *client, const struct import_batch *b, struct status *st) {
    struct buf body;
    char path[128];
    struct client_reply reply;
    buf_init(&body);
    buf_put_str(&body, "{\"documents\":[");
    for (size_t i = 0; i < b->count; i++) {
        if (i > 0)
            buf_put_u8(&body, ',');
        buf_put_slice(&body, buf_slice(&b->document[i].json));
    }
    buf_put_str(&body, "]}");
    snprintf(path, sizeof path, "/v1/libraries/%s/documents/batch", im->library);
    /* Sending a batch again after a lost reply is safe: what was committed comes back as a conflict. */
    bool ok = buf_check(&body, st) && client_call(client, "POST", path, buf_slice(&body), true, &reply, st);
    if (ok) {
        take_results(im, client, b, reply.json);
        client_reply_fini(&reply);
    }
    buf_fini(&body);
    return ok;
}

/* A batch that is refused as a whole (one line is not what the server takes) is sent one document at a time. */
static bool send_one_by_one(struct import *im, struct client *client, struct import_batch *b, struct status *st) {
    for (size_t i = 0; i < b->count; i++) {
        struct import_batch one = {.count = 1};
        one.document[0] = b->document[i];
        if (send_batch(im, client, &one, st))
            continue;
        if (st->code == STATUS_IO)
            return false;
        pthread_mutex_lock(&im->mutex);
        import_complain(im, b->document[i].where, st->detail);
        pthread_mutex_unlock(&im->mutex);
    }
    return true;
}

static struct import_batch *take_batch(struct import *im) {
    pthread_mutex_lock(&im->mutex);
    while (im->waiting == NULL && !im->finished && !im->failed)
        pthread_cond_wait(&im->filled, &im->mutex);
    struct import_batch *b = im->failed ? NULL : im->waiting;
    if (b != NULL)
        im->waiting = NULL;
    pthread_cond_signal(&im->emptied);
    pthread_mutex_unlock(&im->mutex);
    return b;
}

static void *sender(void *ctx) {
    struct import *im = ctx;
    struct client *client = NULL;
    struct status st = {0};
    bool ok = client_new(&im->cli->server, &client, &st);
    for (struct import_batch *b; ok && (b = take_batch(im)) != NULL; batch_free(b)) {
        ok = send_batch(im, client, b, &st);
        if (!ok && st.code != STATUS_IO)
            ok = send_one_by_one(im, client, b, &st);
    }
    if (!ok) {
        pthread_mutex_lock(&im->mutex);
        if (!im->failed)
            im->why = st;
        im->failed = true;
        pthread_cond_broadcast(&im->filled);
        pthread_cond_broadcast(&im->emptied);
        pthread_mutex_unlock(&im->mutex);
    }
    client_free(client);
    return NULL;
}

/* Hands a batch to the senders; false when they have given up. */
static bool give_batch(struct import *im, struct import_batch *b) {
    pthread_mutex_lock(&im->mutex);
    while (im->waiting != NULL && !im->failed)
        pthread_cond_wait(&im->emptied, &im->mutex);
    bool ok = !im->failed;
    if (ok)
        im->waiting = b;
    pthread_cond_signal(&im->filled);
    pthread_mutex_unlock(&im->mutex);
    if (!ok)
        batch_free(b);
    return ok;
}

static void draw_bar(double share, char bar[31]) {
    for (int i = 0; i < 30; i++)
        bar[i] = i < (int)(share * 30) ? '#' : '.';
    bar[30] = '\0';
}

void import_progress(struct import *im, const struct import_source *source, bool last) {
    int64_t now = clock_monotonic_us();
    if (im->cli->json || (!last && now - im->last_line < (im->terminal ? PROGRESS_TERMINAL_US : PROGRESS_PLAIN_US)))
        return;
    im->last_line = now;
    uint64_t done, total;
    import_source_progress(source, &done, &total);
    double seconds = (double)(now - im->began) / 1e6;
    pthread_mutex_lock(&im->mutex);
    uint64_t documents = im->added + im->replaced + im->present + im->refused;
    pthread_mutex_unlock(&im->mutex);
    double rate = seconds > 0 ? (double)documents / seconds : 0;
    double share = total > 0 ? (double)done / (double)total : 0;
    if (share > 1)
        share = 1;
    double left = share > 0.01 ? seconds / share - seconds : 0;
    if (im->terminal) {
        char bar[31];
        draw_bar(last ? 1 : share, bar);
        if (total > 0)
            fprintf(stderr, "\r\033[K[%s] %3.0f%%  %llu documents  %.0f/s  %.0f s left", bar, (last ? 1 : share) * 100,
                    (unsigned long long)documents, rate, last ? 0 : left);
        else
            fprintf(stderr, "\r\033[K%llu documents  %.0f/s", (unsigned long long)documents, rate);
        if (last)
            fputc('\n', stderr);
    } else if (!last) {
        fprintf(stderr, "%llu documents, %.0f/s", (unsigned long long)documents, rate);
        if (total > 0)
            fprintf(stderr, ", %.0f%%, %.0f s left", share * 100, left);
        fputc('\n', stderr);
    }
}

/* Reads everything and hands it out. False: stopped early (im->why, or *st). */
static bool feed(struct import *im, struct import_source *source, struct status *st) {
    struct import_batch *b = NULL;
    for (;;) {
        struct import_document d;
        int got = import_source_next(source, &d, st);
        if (got == -2) {
            batch_free(b);
            return false;
        }
        if (got == 0)
            break;
        if (got < 0) {
            pthread_mutex_lock(&im->mutex);
            import_complain(im, "", st->detail);
            pthread_mutex_unlock(&im->mutex);
            continue;
        }
        if (b != NULL && b->bytes + d.json.len > BATCH_BYTES) {
            if (!give_batch(im, b)) {
                import_document_fini(&d);
                return false;
            }
            b = NULL;
        }
        if (b == NULL && (b = calloc(1, sizeof *b)) == NULL) {
            import_document_fini(&d);
            return status_no_memory(st);
        }
        b->bytes += d.json.len;
        b->document[b->count++] = d;
        im->documents_read++;
        if (b->count == BATCH_DOCUMENTS) {
            if (!give_batch(im, b))
                return false;
            b = NULL;
        }
        import_progress(im, source, false);
    }
    return b == NULL || give_batch(im, b);
}

static void print_summary(const struct import *im, const struct import_source *source) {
    double seconds = (double)(clock_monotonic_us() - im->began) / 1e6;
    uint64_t documents = im->added + im->replaced + im->present + im->refused;
    double rate = seconds > 0 ? (double)documents / seconds : 0;
    if (im->cli->json) {
        printf("{\"library_id\":\"%s\",\"added\":%llu,\"replaced\":%llu,\"already_there\":%llu,\"failed\":%llu,\"chunks_added\":%"
               "llu,\"seconds\":%.3f}\n",
               im->library, (unsigned long long)im->added, (unsigned long long)im->replaced, (unsigned long long)im->present,
               (unsigned long long)im->refused, (unsigned long long)im->chunks, seconds);
        return;
    }
    printf("%llu added (%llu chunks), %llu replaced, %llu already there, %llu failed; %.1f s, %.0f documents/s\n",
           (unsigned long long)im->added, (unsigned long long)im->chunks, (unsigned long long)im->replaced,
           (unsigned long long)im->present, (unsigned long long)im->refused, seconds, rate);
    if (import_source_skipped(source) > 0)
        printf("%llu files of other kinds were passed over (taken: .md .markdown .txt .text .rst .ndjson .jsonl)\n",
               (unsigned long long)import_source_skipped(source));
}

static bool find_or_create(struct import *im, const char *name, struct status *st) {
    if (cli_find_library(im->cli, name, im->library, st))
        return true;
    if (st->code != STATUS_NOT_FOUND)
        return false;
    struct buf body;
    buf_init(&body);
    struct json_out j = json_out_to(&body);
    json_begin_object(&j);
    json_member_cstring(&j, "name", name);
    json_end_object(&j);
    bool ok = buf_check(&body, st) && cli_create_library(im->cli, buf_slice(&body), im->library, NULL, st);
    buf_fini(&body);
    if (ok && !im->cli->json)
        printf("made library '%s', %s\n", name, im->library);
    return ok;
}

static bool run(struct import *im, struct import_source *source, struct status *st) {
    pthread_t threads[MAX_JOBS];
    long jobs = cli_number(im->cli, OPTION_JOBS, PRESET_JOBS), started = 0;
    if (jobs > MAX_JOBS)
        jobs = MAX_JOBS;
    while (started < jobs && pthread_create(&threads[started], NULL, sender, im) == 0)
        started++;
    bool ok = started > 0 || status_set(st, STATUS_NO_MEMORY, "no thread could be started");
    ok = ok && feed(im, source, st);
    pthread_mutex_lock(&im->mutex);
    im->finished = true;
    pthread_cond_broadcast(&im->filled);
    pthread_mutex_unlock(&im->mutex);
    for (long i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    batch_free(im->waiting);
    im->waiting = NULL;
    if (im->failed)
        *st = im->why;
    return ok && !im->failed;
}

int command_import(struct cli *cli) {
    struct status st = {0};
    struct import_source *source = NULL;
    struct import im = {.cli = cli, .began = clock_monotonic_us(), .terminal = isatty(STDERR_FILENO) != 0};
    im.last_line = im.began;
    if (!import_source_open(cli->argv[1], &source, &st))
        return cli_fail(&st);
    if (!find_or_create(&im, cli->argv[0], &st)) {
        import_source_close(source);
        return cli_fail(&st);
    }
    pthread_mutex_init(&im.mutex, NULL);
    pthread_cond_init(&im.filled, NULL);
    pthread_cond_init(&im.emptied, NULL);
    bool ok = cli_has(cli, OPTION_STREAM) ? import_stream(&im, source, &st) : run(&im, source, &st);
    if (ok)
        import_progress(&im, source, true);
    print_summary(&im, source);
    pthread_cond_destroy(&im.emptied);
    pthread_cond_destroy(&im.filled);
    pthread_mutex_destroy(&im.mutex);
    int rc = EX_OK;
    if (!ok) {
        rc = cli_fail(&st);
        fputs("quire: run the same command again to go on where it stopped\n", stderr);
    } else if (im.refused > 0) {
        rc = EX_DATAERR;
    }
    import_source_close(source);
    return rc;
}
