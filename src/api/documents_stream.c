/*
 * documents_stream.c - documents as NDJSON, one a line, any number of them: what has come is committed while more comes, and each line has its result.
 *
 * Lines are parsed as they come and gathered. A batch goes down when it is large enough, or when the client has nothing more to send for LINGER_MS; so a
 * fast client shares each sync among many lines, and a slow one waits for nobody. Nothing is read meanwhile, and nothing more before the results have
 * been taken: memory is that of one batch, however long the stream is.
 *
 *   result     {"line":7,"success":true,"document_id":"a"}, as in a batch; "skipped":true where its id was there and on_conflict is skip
 *   progress   {"progress":{"line":7,...}} in place of those that succeed, where only failed ones are asked for: once a second at most
 *   summary    {"summary":{"complete":true,...}}, always the last line; where it says false, "next_line" is the first line that has no result that stands
 *
 * What has a result line is durable. A stream that ended without a summary, or with one that is not complete, is sent again from next_line, or from any line before it:
 * documents that bring ids are known by them, and on_conflict says what becomes of such as are there already. (A document without an id is new each
 * time.) A line that is cut off by the end of the connection is no line, and nothing of it is done.
 *
 * A bad line has a result with its error, and the stream goes on; one that is too long is skipped up to its newline. Trouble of the server's own (a full disk, no
 * memory, a stop) would meet every further line, too: it ends the stream, and the summary has it.
 */
#include "api/batch.h"
#include "api/json_in.h"

#include "store/model.h"

#include <inttypes.h>
#include <stdlib.h>

enum {
    BATCH_LINES = 1000,
    BATCH_BYTES = 1 << 21,
    READ_BYTES = 1 << 18,
    LINGER_MS = 2
};
#define PROGRESS_NS INT64_C(1000000000)

struct stream_line {
    struct batch_item item;
    struct json_document document; /* what the item's texts lie in, until the batch is done */
    uint64_t number;
    bool skipped, replaced;
};

struct ingest {
    struct exchange *x;
    struct batch_target target;
    struct buf in;            /* from `at` on not looked at; up to `scanned` there is no newline */
    size_t at, scanned;
    bool too_long;            /* within a line that has its result already */
    uint64_t lines;           /* taken, blank ones included */
    uint64_t resume;          /* first line without a result that stands; 0: none */
    struct stream_line *line; /* those of the batch */
    size_t count;
    size_t bytes;
    uint64_t lsn;
    uint64_t successful, failed, skipped, replaced, chunks_added, chunks_deleted;
    int64_t told_ns;          /* of the last progress line */
};

/* --- results ------------------------------------------------------------------------------------------------------------- */

static void write_result(struct ingest *in, const struct stream_line *line) {
    struct json_out j = json_out_to(&in->x->response->body);
    json_begin_object(&j);
    json_member_uint(&j, "line", line->number);
    batch_item_write(&j, &line->item);
    if (line->skipped) {
        json_member_bool(&j, "skipped", true);
    }
    if (line->replaced) {
        json_member_bool(&j, "replaced", true);
    }
    json_end_object(&j);
    buf_put_u8(&in->x->response->body, '\n');
}

static void write_counts(struct json_out *j, const struct ingest *in) {
    json_member_uint(j, "total_requested", in->successful + in->failed);
    json_member_uint(j, "successful", in->successful);
    json_member_uint(j, "failed", in->failed);
    json_member_uint(j, "skipped", in->skipped);
    json_member_uint(j, "replaced", in->replaced);
    json_member_uint(j, "total_chunks_added", in->chunks_added);
    json_member_uint(j, "total_chunks_deleted", in->chunks_deleted);
    json_member_uint(j, "lsn", in->lsn);
}

static void write_progress(struct ingest *in) {
    int64_t now = clock_monotonic_ns();
    if (!in->x->query.only_failed || now - in->told_ns < PROGRESS_NS) {
        return;
    }
    in->told_ns = now;
    struct json_out j = json_out_to(&in->x->response->body);
    json_begin_object(&j);
    json_key(&j, "progress");
    json_begin_object(&j);
    json_member_uint(&j, "line", in->lines);
    write_counts(&j, in);
    json_end_object(&j);
    json_end_object(&j);
    buf_put_u8(&in->x->response->body, '\n');
}

/* why: NULL: all of the body was taken. */
static void write_summary(struct ingest *in, const struct status *why) {
    struct json_out j = json_out_to(&in->x->response->body);
    json_begin_object(&j);
    json_key(&j, "summary");
    json_begin_object(&j);
    json_member_bool(&j, "complete", why == NULL);
    json_member_uint(&j, "lines", in->lines);
    write_counts(&j, in);
    if (why != NULL) {
        json_member_uint(&j, "next_line", in->resume != 0 ? in->resume : in->lines + 1);
        json_key(&j, "error");
        json_begin_object(&j);
        json_member_cstring(&j, "error_type", http_error_of(why).type);
        json_member_cstring(&j, "detail", public_detail(why));
        json_end_object(&j);
    }
    json_member_double(&j, "processing_time_ms", (double)(clock_monotonic_ns() - in->x->begun_ns) / 1e6);
    json_end_object(&j);
    json_end_object(&j);
    buf_put_u8(&in->x->response->body, '\n');
}

/* --- a batch ------------------------------------------------------------------------------------------------------------- */

static void batch_reset(struct ingest *in) {
    for (size_t i = 0; i < in->count; i++) {
        json_document_fini(&in->line[i].document);
    }
    in->count = 0;
    in->bytes = 0;
    document_batch_fini(&in->target.batch);
    document_batch_init(&in->target.batch);
    problems_clear(&in->x->problems);
    pool_reset(&in->x->pool);
}

static void take_op_result(struct ingest *in, struct stream_line *line, const struct api_op_result *r) {
    line->item.status = r->status;
    bool there = r->status.code == STATUS_CONFLICT && r->status.subject == SUBJECT_DOCUMENT;
    if (there && in->x->query.on_conflict == CONFLICT_SKIP) {
        line->skipped = true;
        line->item.status = (struct status){0};
    }
    line->replaced = r->replaced;
    in->chunks_added += r->chunks_added;
    in->chunks_deleted += r->chunks_deleted;
    in->lsn = r->lsn > in->lsn ? r->lsn : in->lsn;
}

/* Counts the lines and writes their results. False: one of them met trouble of the server's own. */
static bool settle_lines(struct ingest *in, const struct api_op_result *results, struct status *st) {
    bool good = true;
    size_t next = 0;
    for (size_t i = 0; i < in->count; i++) {
        struct stream_line *line = &in->line[i];
        if (line->item.submitted) {
            take_op_result(in, line, &results[next++]);
        }
        bool done = line->item.status.code == STATUS_OK;
        in->successful += done ? 1 : 0;
        in->failed += done ? 0 : 1;
        in->skipped += line->skipped ? 1 : 0;
        in->replaced += line->replaced ? 1 : 0;
        if (!done || !in->x->query.only_failed) {
            write_result(in, line);
        }
        if (good && !done && batch_fails_all(&line->item.status)) {
            *st = line->item.status;
            in->resume = line->number;
            good = false;
        }
    }
    return good;
}

/* Makes durable what was gathered, and hands out the results. False: the stream ends, *st says why. */
static bool commit(struct ingest *in, struct status *st) {
    struct exchange *x = in->x;
    size_t ops = document_batch_count(&in->target.batch);
    if (in->count == 0) {
        return true;
    }
    struct api_op_result *results = (struct api_op_result *)pool_take_array(&x->pool, ops, sizeof *results);
    bool good = access_holds(x, st) && (results != NULL || status_no_memory(st));
    good = good && document_batch_embed(&in->target.batch, x, &in->target.model, st) &&
           (ops == 0 || document_batch_submit(&in->target.batch, x, DOCUMENT_VERSION_NONE, results, st));
    if (good) {
        good = settle_lines(in, results, st);
        x->response->documents_in += ops;
        write_progress(in);
    } else {
        in->resume = in->line[0].number;
    }
    batch_reset(in);
    struct status sent;
    if (!reply_flush(x, &sent)) {
        *st = sent;
        x->response->cut = true;
        return false;
    }
    /* Looked up anew: it may have got another model meanwhile, or be gone. */
    return good && library_model_read(x, &in->target.library, &in->target.model, st);
}

/* --- lines --------------------------------------------------------------------------------------------------------------- */

static bool blank(struct slice s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] != ' ' && s.data[i] != '\t' && s.data[i] != '\r') {
            return false;
        }
    }
    return true;
}

/* Parses a line into the batch. False: the server's own trouble, or, with batch.full, that it must be empty first. */
static bool parse_line(struct ingest *in, struct slice text, struct stream_line *line, struct status *st) {
    struct exchange *x = in->x;
    if (!json_in_parse(x, text, &line->document, &line->item.status)) {
        *st = line->item.status;
        return !batch_fails_all(st);
    }
    x->document = line->document; /* vectors are looked up there */
    bool good = batch_add_document(x, &in->target, NULL, line->document.root, &line->item, st);
    x->document = (struct json_document){0};
    return good;
}

static struct stream_line *begin_line(struct ingest *in) {
    struct stream_line *line = &in->line[in->count];
    *line = (struct stream_line){.number = in->lines};
    return line;
}

/* False: the stream ends. */
static bool add_line(struct ingest *in, struct slice text, struct status *st) {
    in->lines++;
    if (blank(text)) {
        return true;
    }
    struct stream_line *line = begin_line(in);
    bool good = parse_line(in, text, line, st);
    if (!good && in->target.batch.full && in->count > 0) { /* together they are too much: alone it may go */
        json_document_fini(&line->document);
        if (!commit(in, st)) {
            in->resume = in->resume != 0 ? in->resume : in->lines; /* this line is none of those that have a result */
            return false;
        }
        line = begin_line(in);
        good = parse_line(in, text, line, st);
    }
    if (!good && !in->target.batch.full) {
        json_document_fini(&line->document);
        in->resume = in->lines;
        return false;
    }
    if (!good) {
        line->item.status = *st;
    }
    in->count++;
    in->bytes += text.len;
    return (in->count < BATCH_LINES && in->bytes < BATCH_BYTES && !in->target.batch.full) || commit(in, st);
}

static bool add_too_long(struct ingest *in, struct status *st) {
    in->lines++;
    struct stream_line *line = begin_line(in);
    (void)status_set(&line->item.status, STATUS_TOO_LARGE, "the line has more than %" PRIu64 " bytes; it was skipped",
                     in->x->api->host.limits->max_body_bytes);
    in->count++;
    return in->count < BATCH_LINES || commit(in, st);
}

/* Takes the whole lines out of what was read. False: the stream ends. */
static bool take_lines(struct ingest *in, struct status *st) {
    uint64_t most = in->x->api->host.limits->max_body_bytes;
    while (in->scanned < in->in.len) {
        const uint8_t *from = in->in.data + in->scanned;
        const uint8_t *newline = (const uint8_t *)memchr(from, '\n', in->in.len - in->scanned);
        size_t end = newline == NULL ? in->in.len : (size_t)(newline - in->in.data);
        struct slice text = slice_of(in->in.data + in->at, end - in->at);
        bool over = text.len > most;
        if (newline == NULL && !over && !in->too_long) {
            in->scanned = end;
            return true;
        }
        in->scanned = newline == NULL ? end : end + 1;
        in->at = in->scanned;
        bool good = in->too_long || (over ? add_too_long(in, st) : add_line(in, text, st));
        in->too_long = newline == NULL;
        if (!good) {
            return false;
        }
    }
    return true;
}

/* A last line without a newline. */
static bool take_rest(struct ingest *in, struct status *st) {
    struct slice text = slice_of(in->in.data + in->at, in->in.len - in->at);
    in->at = in->in.len;
    in->scanned = in->in.len;
    return in->too_long || text.len == 0 || add_line(in, text, st);
}

static void drop_taken(struct ingest *in) {
    size_t left = in->in.len - in->at;
    if (in->at > 0 && left > 0) {
        memmove(in->in.data, in->in.data + in->at, left);
    }
    in->in.len = left;
    in->scanned -= in->at;
    in->at = 0;
    if (left == 0 && in->in.cap > BATCH_BYTES) { /* of a long line */
        buf_fini(&in->in);
        buf_init(&in->in);
    }
}

/* --- the stream ---------------------------------------------------------------------------------------------------------- */

static bool silent(struct status *st) {
    return status_set(st, STATUS_MALFORMED, "nothing came for too long; what has a result is done, send the rest again");
}

static bool stopping(struct status *st) {
    return status_set(st, STATUS_NOT_READY, "the server stops, or replaces this process; what has a result is done, send the rest again");
}

/* To the end of the body. False: to some other end, *st says which. */
static bool run(struct ingest *in, struct status *st) {
    const struct api_stream *stream = in->x->stream;
    for (;;) {
        drop_taken(in);
        enum api_stream_read got = stream->read(stream->ctx, &in->in, READ_BYTES, in->count > 0 ? LINGER_MS : -1, st);
        if (!buf_check(&in->in, st)) {
            return false;
        }
        switch (got) {
        case API_STREAM_BYTES:
            if (!take_lines(in, st)) {
                return false;
            }
            break;
        case API_STREAM_NOTHING:
            if (!commit(in, st)) {
                return false;
            }
            break;
        case API_STREAM_END:
            return take_rest(in, st) && commit(in, st);
        case API_STREAM_SILENT:
            return silent(st);
        case API_STREAM_STOP:
            return commit(in, st) && stopping(st);
        case API_STREAM_GONE:
            in->x->response->cut = true;
            return false;
        }
    }
}

static bool ingest_init(struct ingest *in, struct status *st) {
    struct exchange *x = in->x;
    in->target.mode = x->query.on_conflict == CONFLICT_REPLACE ? PUT_REPLACE : PUT_CREATE;
    document_batch_init(&in->target.batch);
    in->line = (struct stream_line *)calloc(BATCH_LINES, sizeof *in->line);
    return in->line != NULL || status_no_memory(st);
}

bool handle_document_stream(struct exchange *x, struct status *st) {
    struct ingest in = {.x = x};
    struct pool head = {0};
    if (!library_param(x, &in.target.library, st) || !library_model_read(x, &in.target.library, &in.target.model, st) ||
        !x->stream->begin(x->stream->ctx, st)) {
        return false;
    }
    head = x->pool; /* the head of the request lives as long as the stream, what a batch takes does not */
    x->pool = (struct pool){0};
    reply_stream(x);
    bool good = ingest_init(&in, st) && reply_flush(x, st);
    if (good) {
        struct status why = {0};
        bool complete = run(&in, &why);
        good = !x->response->cut;
        if (good) {
            write_summary(&in, complete ? NULL : &why);
        } else {
            *st = why;
        }
        batch_reset(&in);
    }
    document_batch_fini(&in.target.batch);
    free(in.line);
    buf_fini(&in.in);
    pool_fini(&x->pool);
    x->pool = head;
    return good;
}
