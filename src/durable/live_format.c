/*
 * live_format.c - the bytes of a live checkpoint, and the sums in it.
 *
 *   vectors/checkpoint.live, little-endian
 *     u64 magic "QUIRELIV", u32 format (2; 1 where there are no API keys), u32 bytes of a library_view, u64 LSN, u64 place in the log, u64 number, i64 time (us), varint length and bytes of `extra`, format 2: of the API keys,
 *     u32 number of libraries
 *     per library:  its library_view as it stands in memory, u64 chunks without a vector, the sums (u32 each) of chunk rows, document rows and records (as many
 *        as the view's counts take), u32 number of page files and, per page file, u64 number of its name, u64 bytes, u32 CRC-32C
 *     u32 CRC-32C of all before it
 */
#include "durable/live_internal.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "base/parallel.h"
#include "durable/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PAGES_PREFIX "pages."

enum { SUM_BYTES = 4, WHY_BYTES = 200 };

/* --- names --- */

void live_pages_name(uint64_t number, char out[LIVE_NAME_BYTES]) {
    (void)snprintf(out, LIVE_NAME_BYTES, PAGES_PREFIX "%" PRIu64, number);
}

bool live_pages_parse(const char *name, uint64_t *ret_number) {
    char again[LIVE_NAME_BYTES];
    if (strncmp(name, PAGES_PREFIX, sizeof PAGES_PREFIX - 1) != 0) {
        return false;
    }
    *ret_number = strtoull(name + sizeof PAGES_PREFIX - 1, NULL, 10);
    live_pages_name(*ret_number, again);
    return strcmp(name, again) == 0;
}

/* --- memory --- */

void live_library_fini(struct live_library *l) {
    free(l->chunk_sums);
    free(l->document_sums);
    free(l->record_sums);
    l->chunk_sums = NULL;
    l->document_sums = NULL;
    l->record_sums = NULL;
}

void live_checkpoint_fini(struct live_checkpoint *c) {
    for (size_t i = 0; i < c->library_count; i++) {
        live_library_fini(&c->libraries[i]);
    }
    free(c->libraries);
    buf_fini(&c->extra);
    buf_fini(&c->api_keys);
    *c = (struct live_checkpoint){0};
}

bool live_library_make_sums(struct live_library *l, struct status *st) {
    l->chunk_sums = (uint32_t *)calloc(live_chunk_sums(&l->view) + 1, sizeof(uint32_t));
    l->document_sums = (uint32_t *)calloc(live_document_sums(&l->view) + 1, sizeof(uint32_t));
    l->record_sums = (uint32_t *)calloc(live_record_sums(&l->view) + 1, sizeof(uint32_t));
    return (l->chunk_sums != NULL && l->document_sums != NULL && l->record_sums != NULL) || status_no_memory(st);
}

const struct live_library *live_checkpoint_find(const struct live_checkpoint *c, const struct uuid *id) {
    for (size_t i = 0; i < c->library_count; i++) {
        if (uuid_equal(&c->libraries[i].view.id, id)) {
            return &c->libraries[i];
        }
    }
    return NULL;
}

/* --- sums --- */

struct summing {
    struct live_library *l;
    uint64_t lsn;
    const struct chunk_row *chunks;
    const struct document_row *documents;
    const uint8_t *records;
    size_t known;
};

static uint32_t rows_of(uint32_t all, size_t i) {
    uint64_t left = all - (uint64_t)i * LIVE_SUM_ROWS;
    return left < LIVE_SUM_ROWS ? (uint32_t)left : LIVE_SUM_ROWS;
}

static void sum_one(void *ctx, size_t i) {
    const struct summing *s = (const struct summing *)ctx;
    const struct library_view *v = &s->l->view;
    if (i < live_chunk_sums(v)) {
        s->l->chunk_sums[i] = chunk_rows_sum(s->chunks + i * LIVE_SUM_ROWS, rows_of(v->chunk_slots, i), s->lsn);
        return;
    }
    i -= live_chunk_sums(v);
    if (i < live_document_sums(v)) {
        s->l->document_sums[i] = document_rows_sum(s->documents + i * LIVE_SUM_ROWS, rows_of(v->document_rows, i), s->lsn);
        return;
    }
    i += s->known - live_document_sums(v);
    uint64_t left = v->records_used - i * LIVE_SUM_BYTES;
    s->l->record_sums[i] = crc32c(0, s->records + i * LIVE_SUM_BYTES, (size_t)(left < LIVE_SUM_BYTES ? left : LIVE_SUM_BYTES));
}

void live_sum(struct live_library *l, uint64_t lsn, const struct chunk_row *chunks, const struct document_row *documents,
              const uint8_t *records, size_t record_sums_known) {
    struct summing s = {l, lsn, chunks, documents, records, record_sums_known};
    parallel_for(live_chunk_sums(&l->view) + live_document_sums(&l->view) + live_record_sums(&l->view) - record_sums_known,
                 sum_one, &s);
}

/* --- encoding --- */

static void put_sums(struct buf *out, const uint32_t *sums, size_t count) {
    for (size_t i = 0; i < count; i++) {
        buf_put_u32le(out, sums[i]);
    }
}

static void put_library(struct buf *out, const struct live_library *l) {
    buf_put(out, &l->view, sizeof l->view);
    buf_put_u64le(out, l->missing);
    put_sums(out, l->chunk_sums, live_chunk_sums(&l->view));
    put_sums(out, l->document_sums, live_document_sums(&l->view));
    put_sums(out, l->record_sums, live_record_sums(&l->view));
    buf_put_u32le(out, l->page_files);
    for (uint32_t i = 0; i < l->page_files; i++) {
        buf_put_u64le(out, l->pages[i].number);
        buf_put_u64le(out, l->pages[i].bytes);
        buf_put_u32le(out, l->pages[i].crc);
    }
}

void live_checkpoint_encode(const struct live_checkpoint *c, struct buf *out) {
    buf_put_u64le(out, LIVE_MAGIC);
    buf_put_u32le(out, c->api_keys.len > 0 ? LIVE_FORMAT : LIVE_FORMAT_WITHOUT_KEYS);
    buf_put_u32le(out, sizeof(struct library_view));
    buf_put_u64le(out, c->lsn);
    buf_put_u64le(out, c->place);
    buf_put_u64le(out, c->number);
    buf_put_u64le(out, (uint64_t)clock_wall_us());
    buf_put_bytes(out, buf_slice(&c->extra));
    if (c->api_keys.len > 0) {
        buf_put_bytes(out, buf_slice(&c->api_keys));
    }
    buf_put_u32le(out, (uint32_t)c->library_count);
    for (size_t i = 0; i < c->library_count; i++) {
        put_library(out, &c->libraries[i]);
    }
    buf_put_u32le(out, crc32c(0, out->data, out->len));
}

/* --- decoding --- */

static void read_sums(struct reader *r, uint32_t *sums, size_t count) {
    for (size_t i = 0; i < count; i++) {
        sums[i] = read_u32le(r);
    }
}

static bool decode_library(struct reader *r, struct live_library *l, struct status *st) {
    struct slice view = read_slice(r, sizeof l->view);
    l->missing = read_u64le(r);
    if (r->failed) {
        return true;
    }
    memcpy(&l->view, view.data, sizeof l->view);
    size_t sums = live_chunk_sums(&l->view) + live_document_sums(&l->view) + live_record_sums(&l->view);
    if (sums > reader_left(r) / sizeof(uint32_t)) {
        memset(&l->view, 0, sizeof l->view);
        r->failed = true;
        return true;
    }
    if (!live_library_make_sums(l, st)) {
        return false;
    }
    read_sums(r, l->chunk_sums, live_chunk_sums(&l->view));
    read_sums(r, l->document_sums, live_document_sums(&l->view));
    read_sums(r, l->record_sums, live_record_sums(&l->view));
    l->page_files = read_u32le(r);
    if (l->page_files > LIVE_PAGE_FILES_MAX) {
        l->page_files = 0;
        r->failed = true;
    }
    for (uint32_t i = 0; i < l->page_files; i++) {
        l->pages[i].number = read_u64le(r);
        l->pages[i].bytes = read_u64le(r);
        l->pages[i].crc = read_u32le(r);
    }
    return true;
}

static bool decode_libraries(struct reader *r, struct live_checkpoint *c, struct status *st) {
    uint32_t count = read_u32le(r);
    if (r->failed || count > reader_left(r) / sizeof(struct library_view)) {
        r->failed = true;
        return true;
    }
    c->libraries = (struct live_library *)calloc((size_t)count + 1, sizeof *c->libraries);
    if (c->libraries == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        c->library_count = (size_t)i + 1;
        if (!decode_library(r, &c->libraries[i], st)) {
            return false;
        }
    }
    return true;
}

/* false: no memory. *ret_why: NULL when it is good. */
static bool decode(struct slice content, struct live_checkpoint *c, const char **ret_why, struct status *st) {
    *ret_why = "the checkpoint is damaged";
    if (content.len < SUM_BYTES ||
        load_u32le(content.data + content.len - SUM_BYTES) != crc32c(0, content.data, content.len - SUM_BYTES)) {
        return true;
    }
    struct reader r = reader_of(slice_of(content.data, content.len - SUM_BYTES));
    uint64_t magic = read_u64le(&r);
    uint32_t format = read_u32le(&r);
    uint32_t view_bytes = read_u32le(&r);
    c->lsn = read_u64le(&r);
    c->place = read_u64le(&r);
    c->number = read_u64le(&r);
    (void)read_u64le(&r);
    if (magic != LIVE_MAGIC || format < LIVE_FORMAT_WITHOUT_KEYS || format > LIVE_FORMAT || view_bytes != sizeof(struct library_view)) {
        *ret_why = "the checkpoint was written by another version";
        return true;
    }
    struct slice extra = read_bytes(&r);
    buf_put_slice(&c->extra, extra);
    if (format != LIVE_FORMAT_WITHOUT_KEYS) {
        buf_put_slice(&c->api_keys, read_bytes(&r));
    }
    if (!buf_check(&c->extra, st) || !buf_check(&c->api_keys, st) || !decode_libraries(&r, c, st)) {
        return false;
    }
    if (reader_done(&r)) {
        *ret_why = NULL;
    }
    return true;
}

bool live_checkpoint_read(int data_dir_fd, const char *path, struct live_checkpoint *ret, bool *ret_there, char why[200],
                          struct status *st) {
    struct buf content = {0};
    struct live_checkpoint c = {0};
    struct status failed = {0};
    const char *bad = NULL;
    bool ok = true;
    *ret_there = false;
    why[0] = '\0';
    if (!io_read_file(data_dir_fd, path, CHECKPOINT_BYTES_MAX, &content, &failed)) {
        if (failed.sys_errno != ENOENT) {
            (void)snprintf(why, WHY_BYTES, "the checkpoint cannot be read: %.150s", failed.detail);
        }
    } else {
        ok = decode(buf_slice(&content), &c, &bad, st);
        if (ok && bad != NULL) {
            (void)snprintf(why, WHY_BYTES, "%s", bad);
        } else if (ok) {
            *ret = c;
            *ret_there = true;
            c = (struct live_checkpoint){0};
        }
    }
    live_checkpoint_fini(&c);
    buf_fini(&content);
    return ok;
}
