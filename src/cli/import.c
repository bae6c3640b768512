/*
 * import.c - quire import: reads documents, sends them in batches over several connections, shows how far it is.
 *
 * With --stream they go through one connection instead (import_stream.c).
 *
 * One thread (the caller's) walks the source and fills batches; `--jobs` threads read, convert and send them. Running it again doubles nothing: ids
 * are the same on every run. Of files it is known before what the library has (import_known.h): what is the same is not sent, what has changed is replaced. Of lines,
 * and where the key may not read, what is there already comes back as a conflict, which is counted and not an error.
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
#define PROGRESS_US 100000
#define WEIGHT_MAX ((size_t)256 * 1024) /* of a file in a batch: a PDF is mostly pictures */

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

void import_complain(struct import *im, uint64_t order, const char *where, const char *detail) {
    im->refused++;
    import_messages_add(&im->messages, order, where, detail);
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

/* False: not done, *st says why. */
static bool replace_document(struct import *im, struct client *client, const struct import_document *d, struct status *st) {
    struct buf path;
    struct client_reply reply;
    buf_init(&path);
    document_path(im, d->id, &path);
    bool done = buf_check(&path, st) && client_call(client, "PUT", (const char *)path.data, buf_slice(&d->json), true, &reply, st);
    if (done)
        client_reply_fini(&reply);
    buf_fini(&path);
    return done;
}

static void note_replaced(struct import *im, const struct import_document *d, bool done, const struct status *why) {
    pthread_mutex_lock(&im->mutex);
    if (done)
        im->replaced++;
    else
        import_complain(im, d->order, d->where, why->detail);
    pthread_mutex_unlock(&im->mutex);
}

/* A document whose id is taken: is it the same, or to be replaced? */
static void settle_conflict(struct import *im, struct client *client, const struct import_document *d) {
    struct status st = {0};
    if (cli_has(im->cli, OPTION_REPLACE) || (d->content_sha256[0] != '\0' && !same_content(im, client, d))) {
        note_replaced(im, d, replace_document(im, client, d, &st), &st);
        return;
    }
    pthread_mutex_lock(&im->mutex);
    im->present++;
    pthread_mutex_unlock(&im->mutex);
}

bool import_settle_loaded(struct import *im, const struct import_document *d, enum import_loaded how, const struct status *why) {
    struct import_known_file *known = how == IMPORT_EMPTY ? import_known_find(&im->known, d->id) : NULL;
    im->file_bytes += d->bytes;
    if (known != NULL)
        known->seen = false; /* nothing is left of it */
    if (how == IMPORT_UNCHANGED)
        im->present++;
    else if (how == IMPORT_EMPTY)
        im->empty++;
    else if (how == IMPORT_FAILED)
        import_complain(im, d->order, d->where, why->detail);
    else if (d->warning[0] != '\0')
        import_messages_add(&im->messages, d->order, d->where, d->warning);
    return how == IMPORT_LOADED;
}

/* Reads and converts the files of a batch; what stays in it is new. One that the library has in another state is replaced here. False: the server cannot be used. */
static bool load_files(struct import *im, struct client *client, struct import_batch *b, struct status *st) {
    size_t kept = 0, count = b->count;
    bool usable = true;
    for (size_t i = 0; i < count; i++) {
        struct import_document *d = &b->document[i];
        struct status why = {0};
        bool goes = true;
        if (d->path != NULL) {
            enum import_loaded how = usable ? import_file_load(d, cli_has(im->cli, OPTION_REPLACE), &why) : IMPORT_FAILED;
            pthread_mutex_lock(&im->mutex);
            goes = usable && import_settle_loaded(im, d, how, &why);
            pthread_mutex_unlock(&im->mutex);
        }
        if (goes && d->known_sha256[0] != '\0') {
            bool done = replace_document(im, client, d, &why);
            usable = done || (why.code != STATUS_IO && why.code != STATUS_NO_SPACE);
            if (usable)
                note_replaced(im, d, done, &why);
            else
                *st = why;
            goes = false;
        }
        if (goes) {
            struct import_document moved = *d;
            *d = (struct import_document){0};
            b->document[kept++] = moved;
        } else {
            import_document_fini(d);
        }
    }
    b->count = kept;
    return usable;
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
            import_complain(im, b->document[i].order, b->document[i].where, error != NULL ? member_text(error, "detail") : "the server gave no result");
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
        if (st->code != STATUS_INVALID && st->code != STATUS_CONFLICT)
            return false;
        pthread_mutex_lock(&im->mutex);
        import_complain(im, b->document[i].order, b->document[i].where, st->detail);
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
        ok = load_files(im, client, b, &st) && (b->count == 0 || send_batch(im, client, b, &st));
        if (!ok && st.code == STATUS_INVALID)
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
    if (im->cli->json || !im->terminal || (!last && now - im->last_line < PROGRESS_US))
        return;
    im->last_line = now;
    uint64_t done, total;
    import_source_progress(source, &done, &total);
    double seconds = (double)(now - im->began) / 1e6;
    pthread_mutex_lock(&im->mutex);
    uint64_t documents = im->added + im->replaced + im->present + im->refused;
    done += im->file_bytes;
    pthread_mutex_unlock(&im->mutex);
    double rate = seconds > 0 ? (double)documents / seconds : 0;
    double share = total > 0 ? (double)done / (double)total : 0;
    if (share > 1)
        share = 1;
    double left = share > 0.01 ? seconds / share - seconds : 0;
    char bar[31];
    draw_bar(last ? 1 : share, bar);
    if (total > 0)
        fprintf(stderr, "\r\033[K[%s] %3.0f%%  %llu documents  %.0f/s  %.0f s left", bar, (last ? 1 : share) * 100, (unsigned long long)documents, rate, last ? 0 : left);
    else
        fprintf(stderr, "\r\033[K%llu documents  %.0f/s", (unsigned long long)documents, rate);
    if (last)
        fputc('\n', stderr);
}

/* Bytes that a document takes in a batch, or will. */
static size_t weight(const struct import_document *d) {
    if (d->path == NULL)
        return d->json.len;
    return d->kind == IMPORT_PDF && d->bytes > WEIGHT_MAX ? WEIGHT_MAX : (size_t)d->bytes;
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
            import_complain(im, import_source_order(source), "", st->detail);
            pthread_mutex_unlock(&im->mutex);
            continue;
        }
        if (b != NULL && b->bytes + weight(&d) > BATCH_BYTES) {
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
        b->bytes += weight(&d);
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

static void print_passed(const char **separator, uint64_t count, const char *what) {
    if (count == 0)
        return;
    printf("%s%llu %s", *separator, (unsigned long long)count, what);
    *separator = ", ";
}

/* What was left alone, and why. */
static void print_passed_over(const struct import *im, const struct import_passed *p) {
    const char *separator = "passed over: ";
    print_passed(&separator, p->other_kinds, "of other kinds");
    print_passed(&separator, p->pdf, "PDF (pdftotext is not there; Debian: poppler-utils)");
    print_passed(&separator, p->hidden, "hidden");
    print_passed(&separator, p->excluded, "by --exclude");
    print_passed(&separator, im->empty, "without text");
    print_passed(&separator, p->links, "symbolic links");
    if (separator[0] == ',')
        putchar('\n');
    if (p->other_kinds > 0)
        printf("taken are: %s\n", IMPORT_KINDS);
    if (p->dangling_count > 0) {
        fflush(stdout);
        fputs("quire: ", stderr);
        cli_print_clean(stderr, p->dangling, sizeof p->dangling);
        fprintf(stderr, ": a link that leads nowhere%s\n", p->dangling_count > 1 ? ", and it is not the only one" : "");
    }
}

static void print_json_summary(const struct import *im, const struct import_passed *p, double seconds) {
    printf("{\"library_id\":\"%s\",\"added\":%llu,\"replaced\":%llu,\"already_there\":%llu,\"failed\":%llu,\"removed\":%llu,\"chunks_added\":%llu,\"seconds\":%.3f,", im->library,
           (unsigned long long)im->added, (unsigned long long)im->replaced, (unsigned long long)im->present, (unsigned long long)im->refused,
           (unsigned long long)im->removed, (unsigned long long)im->chunks, seconds);
    printf("\"passed_over\":{\"other_kinds\":%llu,\"hidden\":%llu,\"excluded\":%llu,\"empty\":%llu,\"symbolic_links\":%llu,\"dangling_links\":%llu}}\n",
           (unsigned long long)(p->other_kinds + p->pdf), (unsigned long long)p->hidden, (unsigned long long)p->excluded, (unsigned long long)im->empty,
           (unsigned long long)p->links, (unsigned long long)p->dangling_count);
}

static void print_summary(const struct import *im, const struct import_source *source) {
    double seconds = (double)(clock_monotonic_us() - im->began) / 1e6;
    uint64_t documents = im->added + im->replaced + im->present + im->refused;
    double rate = seconds > 0 ? (double)documents / seconds : 0;
    if (im->cli->json) {
        print_json_summary(im, import_source_passed(source), seconds);
        return;
    }
    printf("%llu added (%llu chunk%s), %llu replaced, %llu already there, %llu failed", (unsigned long long)im->added, (unsigned long long)im->chunks, im->chunks == 1 ? "" : "s",
           (unsigned long long)im->replaced, (unsigned long long)im->present, (unsigned long long)im->refused);
    if (cli_has(im->cli, OPTION_SYNC))
        printf(", %llu removed", (unsigned long long)im->removed);
    printf("; %.1f s, %.0f documents/s\n", seconds, rate);
    print_passed_over(im, import_source_passed(source));
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

/* What the library has of files already. A key that may not read goes without. */
static bool learn(struct import *im, const struct import_source *source, struct status *st) {
    if (!import_source_has_files(source))
        return true;
    im->knows = import_known_load(&im->known, im->cli, im->library, st);
    if (im->knows || st->code == STATUS_DENIED) {
        status_clear(st);
        return true;
    }
    return false;
}

static bool do_import(struct import *im, struct import_source *source, struct status *st) {
    if (!find_or_create(im, im->cli->argv[0], st) || !learn(im, source, st))
        return false;
    bool ok = cli_has(im->cli, OPTION_STREAM) ? import_stream(im, source, st) : run(im, source, st);
    if (ok)
        import_progress(im, source, true);
    import_messages_print(&im->messages, stderr);
    ok = ok && (!cli_has(im->cli, OPTION_SYNC) || import_sync(im, source, st));
    print_summary(im, source);
    return ok;
}

int command_import(struct cli *cli) {
    struct status st = {0};
    struct import_source *source = NULL;
    struct import im = {.cli = cli, .began = clock_monotonic_us(), .terminal = isatty(STDERR_FILENO) != 0};
    const struct import_source_options options = {
        .excludes = cli->given[OPTION_EXCLUDE].texts, .exclude_count = (size_t)cli->given[OPTION_EXCLUDE].count, .known = &im.known};
    im.last_line = im.began;
    if (!import_source_open(cli->argv + 1, (size_t)cli->argc - 1, &options, &source, &st))
        return cli_fail(&st);
    if (cli_has(cli, OPTION_SYNC) && (cli->argc != 2 || import_source_root(source) == NULL)) {
        import_source_close(source);
        return cli_usage(cli, "--sync goes with one directory");
    }
    pthread_mutex_init(&im.mutex, NULL);
    pthread_cond_init(&im.filled, NULL);
    pthread_cond_init(&im.emptied, NULL);
    int rc = EX_OK;
    if (!do_import(&im, source, &st)) {
        rc = cli_fail(&st);
        if (im.documents_read > 0)
            fputs("quire: run the same command again to go on where it stopped\n", stderr);
    } else if (im.refused > 0) {
        rc = EX_DATAERR;
    }
    pthread_cond_destroy(&im.emptied);
    pthread_cond_destroy(&im.filled);
    pthread_mutex_destroy(&im.mutex);
    import_known_fini(&im.known);
    import_source_close(source);
    return rc;
}
