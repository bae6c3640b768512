/*
 * import_stream.c - quire import --stream: documents through one connection, results read as it is written.
 *
 * What was sent and has no result yet is kept, in order; it is not much, because the server reads no faster than it answers. Should the connection break, or the server
 * stop, the next one begins with these. Ids make that safe: what was done although its result was lost is there already, and is passed over or replaced by itself.
 */
#include "cli/import.h"

#include "base/clock.h"

#include <stdlib.h>

#define PATIENCE_US (60 * INT64_C(1000000)) /* so long without any result, or anything new to send, it tries again */
#define PAUSE_MS 500L

struct sent {
    struct sent *next;
    struct import_document document;
};

struct queue {
    struct sent *first, **end;
};

struct stream_run {
    struct import *im;
    struct import_source *source;
    struct queue unanswered; /* sent by this connection */
    struct queue again;      /* to be sent first */
    struct sent *current;    /* being sent, */
    size_t at;               /* from this byte on */
    bool exhausted;          /* the source is */
    bool complete;           /* the last summary says so */
    bool stopped;            /* there is no use in trying again: *why */
    struct status why;
    struct buf line;         /* of the reply */
    int64_t moved_us;        /* when something came, from either side */
};

/* --- documents on their way ------------------------------------------------------------------------------------------------ */

static void queue_init(struct queue *q) {
    q->first = NULL;
    q->end = &q->first;
}

static void queue_put(struct queue *q, struct sent *s) {
    s->next = NULL;
    *q->end = s;
    q->end = &s->next;
}

static struct sent *queue_take(struct queue *q) {
    struct sent *s = q->first;
    if (s != NULL) {
        q->first = s->next;
        if (q->first == NULL)
            q->end = &q->first;
    }
    return s;
}

static void sent_free(struct sent *s) {
    if (s != NULL) {
        import_document_fini(&s->document);
        free(s);
    }
}

static void queue_move(struct queue *to, struct queue *from) {
    for (struct sent *s; (s = queue_take(from)) != NULL;)
        queue_put(to, s);
}

static void queue_free(struct queue *q) {
    for (struct sent *s; (s = queue_take(q)) != NULL;)
        sent_free(s);
}

static void stop(struct stream_run *r, const struct status *why) {
    r->stopped = true;
    r->why = *why;
}

/* The next document that is to be sent: of files the one that is new or has changed. As import_source_next. */
static int next_document(struct stream_run *r, struct import_document *ret, struct status *st) {
    for (;;) {
        int got = import_source_next(r->source, ret, st);
        if (got != 1 || ret->path == NULL)
            return got;
        enum import_loaded how = import_file_load(ret, cli_has(r->im->cli, OPTION_REPLACE), st);
        if (import_settle_loaded(r->im, ret, how, st))
            return 1;
        import_document_fini(ret);
    }
}

static struct sent *read_source(struct stream_run *r) {
    struct status st = {0};
    struct import_document d;
    int got = -1;
    while (!r->exhausted && !r->stopped && (got = next_document(r, &d, &st)) == -1)
        import_complain(r->im, import_source_order(r->source), "", st.detail);
    if (r->exhausted || r->stopped || got == 0) {
        r->exhausted = true;
        return NULL;
    }
    if (got < 0) {
        stop(r, &st);
        return NULL;
    }
    struct sent *s = calloc(1, sizeof *s);
    buf_put_u8(&d.json, '\n');
    if (s == NULL || !buf_ok(&d.json)) {
        (void)status_no_memory(&st);
        import_document_fini(&d);
        free(s);
        stop(r, &st);
        return NULL;
    }
    s->document = d;
    r->im->documents_read++;
    r->moved_us = clock_monotonic_us(); /* the source may have been waited for */
    return s;
}

static size_t on_read(void *ctx, char *to, size_t room) {
    struct stream_run *r = ctx;
    size_t put = 0;
    while (put < room) {
        if (r->current == NULL) {
            r->at = 0;
            r->current = queue_take(&r->again);
        }
        if (r->current == NULL && (r->current = read_source(r)) == NULL)
            break;
        const struct buf *json = &r->current->document.json;
        size_t n = json->len - r->at < room - put ? json->len - r->at : room - put;
        memcpy(to + put, json->data + r->at, n);
        put += n;
        r->at += n;
        if (r->at == json->len) {
            queue_put(&r->unanswered, r->current);
            r->current = NULL;
        }
    }
    import_progress(r->im, r->source, false);
    return put;
}

/* --- results --------------------------------------------------------------------------------------------------------------- */

/* The server's own trouble: the document may go later. */
static bool worth_again(const char *error_type) {
    static const char *const types[] = {"InternalError", "NotReadyError", "OverloadedError", "EmbeddingUnavailableError", "InsufficientStorageError"};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(error_type, types[i]) == 0)
            return true;
    return false;
}

static void take_result(struct stream_run *r, struct json_object *result) {
    struct json_object *error = member(result, "error");
    struct sent *s = queue_take(&r->unanswered);
    if (s == NULL)
        return;
    if (error != NULL && worth_again(member_text(error, "error_type"))) {
        queue_put(&r->again, s);
        return;
    }
    r->moved_us = clock_monotonic_us();
    if (error != NULL)
        import_complain(r->im, s->document.order, s->document.where, member_text(error, "detail"));
    else if (json_object_get_boolean(member(result, "skipped")))
        r->im->present++;
    else if (json_object_get_boolean(member(result, "replaced")))
        r->im->replaced++;
    else
        r->im->added++;
    sent_free(s);
}

static void take_summary(struct stream_run *r, struct json_object *summary) {
    r->im->chunks += (uint64_t)member_int(summary, "total_chunks_added");
    r->complete = json_object_get_boolean(member(summary, "complete"));
    if (!r->complete)
        (void)status_set(&r->why, STATUS_IO, "%s", member_text(member(summary, "error"), "detail"));
}

static bool on_write(void *ctx, const char *bytes, size_t len) {
    struct stream_run *r = ctx;
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline == NULL ? len : (size_t)(newline - bytes) + 1;
        buf_put(&r->line, bytes, n);
        if (newline != NULL) {
            buf_put_u8(&r->line, 0);
            if (!buf_ok(&r->line))
                return false;
            struct json_object *line = json_tokener_parse((const char *)r->line.data);
            struct json_object *summary = member(line, "summary");
            if (summary != NULL)
                take_summary(r, summary);
            else
                take_result(r, line);
            json_object_put(line);
            buf_reset(&r->line);
        }
        bytes += n;
        len -= n;
    }
    return true;
}

/* --- connections ----------------------------------------------------------------------------------------------------------- */

/* What this connection leaves without a result goes first in the next. */
static void keep_unanswered(struct stream_run *r) {
    struct queue all;
    queue_init(&all);
    queue_move(&all, &r->unanswered);
    if (r->current != NULL)
        queue_put(&all, r->current);
    r->current = NULL;
    queue_move(&all, &r->again);
    queue_move(&r->again, &all);
}

static bool attempt(struct stream_run *r, struct status *st) {
    char path[160];
    struct client *client = NULL;
    /* A file comes this far only when it is new or has changed. */
    bool replace = cli_has(r->im->cli, OPTION_REPLACE) || import_source_has_files(r->source);
    snprintf(path, sizeof path, "/v1/libraries/%s/documents/stream?on_conflict=%s", r->im->library, replace ? "replace" : "skip");
    const struct client_stream stream = {.method = "POST", .path = path, .read = on_read, .write = on_write, .ctx = r};
    r->complete = false;
    status_clear(&r->why);
    buf_reset(&r->line);
    bool ok = client_new(&r->im->cli->server, &client, st) && client_run_stream(client, &stream, st);
    client_free(client);
    if (r->stopped || (ok && !r->complete)) {
        *st = r->why;
        ok = false;
    }
    if (!ok && st->code == STATUS_OK)
        (void)status_set(st, STATUS_IO, "the server ended the stream without a summary");
    return ok;
}

bool import_stream(struct import *im, struct import_source *source, struct status *st) {
    struct stream_run r = {.im = im, .source = source, .moved_us = clock_monotonic_us()};
    queue_init(&r.unanswered);
    queue_init(&r.again);
    bool ok = false;
    while (!(ok = attempt(&r, st))) {
        bool begun = im->added + im->replaced + im->present + im->refused > 0;
        keep_unanswered(&r);
        if (!begun || r.stopped || (st->code != STATUS_IO && st->code != STATUS_NO_SPACE) || clock_monotonic_us() - r.moved_us > PATIENCE_US)
            break;
        client_pause_ms(PAUSE_MS);
    }
    sent_free(r.current);
    queue_free(&r.unanswered);
    queue_free(&r.again);
    buf_fini(&r.line);
    return ok;
}
