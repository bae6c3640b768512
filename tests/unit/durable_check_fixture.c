/* durable_check_fixture.c - see durable_check_fixture.h. */
#include "durable_check_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "store/backlog.h"

#include <stdio.h>
#include <stdlib.h>

enum { BROUGHT = 7, PATIENCE = 1000000, LINK_BATCH = 1000, SNAPSHOT_AT = 12 };

void stopped_path(const struct stopped *s, const char *name, char out[128]) {
    (void)snprintf(out, 128, "%s/%s", s->directory, name);
}

static float *vectors_of(const struct op *op) {
    struct chunk_walk walk = {.bytes = op->type == OP_DOCUMENT_PUT ? op->as.document.chunks : slice_of(NULL, 0)};
    struct op_chunk chunk;
    if (op->type != OP_DOCUMENT_PUT || op->as.document.vector_dimension != 0 || op->as.document.num_chunks == 0) {
        return NULL;
    }
    float *values = (float *)malloc((size_t)op->as.document.num_chunks * FIXTURE_DIMENSION * sizeof *values);
    for (size_t i = 0; chunk_walk_next(&walk, &chunk); i++) {
        fixture_embed(chunk.text, values + i * FIXTURE_DIMENSION);
    }
    return values;
}

static void append(struct server *s, struct slice bytes) {
    struct status st = {0};
    struct oplog_record record = {.lsn = s->account->next_lsn, .time_us = 1763935200000000, .op = bytes};
    if (!oplog_append(s->log, &record, 1, &st)) {
        fail_msg("append: %s", st.detail);
    }
    s->account->next_lsn++;
}

void stopped_commit(struct server *s, const struct buf *bytes) {
    struct status st = {0};
    struct op op;
    uint64_t lsn = s->account->next_lsn;
    if (!op_decode(buf_slice(bytes), &s->limits, &op, &st) || !catalog_check(s->catalog, &op, &st) ||
        !catalog_reserve(s->catalog, &op, &st)) {
        fail_msg("commit: %s", st.detail);
    }
    append(s, buf_slice(bytes));
    float *vectors = vectors_of(&op);
    catalog_apply(s->catalog, &op, lsn, 0, vectors, NULL);
    catalog_publish(s->catalog, lsn, PATIENCE, NULL, NULL);
    free(vectors);
}

void stopped_log_garbage(struct server *s) {
    append(s, slice_str("\x63 this is no op"));
}

void stopped_link(struct server *s) {
    struct status st = {0};
    struct uuid id = fixture_library_id(1);
    struct library *lib = catalog_acquire(s->catalog, &id);
    struct backlog_linker *linker = backlog_linker_new();
    size_t done = 1;
    while (done > 0) {
        if (!backlog_link_some(lib, linker, LINK_BATCH, &done, &st)) {
            fail_msg("link: %s", st.detail);
        }
    }
    backlog_linker_free(linker);
    catalog_release(s->catalog, lib);
}

/* --- what is in it --- */

static void put_chunk(struct buf *out, const char *document, uint32_t i, const char *text) {
    struct buf id = {0};
    char name[64];
    char words[256];
    (void)snprintf(name, sizeof name, "%s/%u", document, i);
    (void)snprintf(words, sizeof words, "%s, and in part %u the heron stands still", text, i);
    struct op_chunk c = {.id = fixture_id(&id, name),
                         .text = slice_str(words),
                         .metadata = i == 1 ? slice_str("{\"kind\":\"middle\"}") : slice_of(NULL, 0),
                         .page_number = (int64_t)i + 1};
    op_encode_chunk(out, &c);
    buf_fini(&id);
}

static void put_document(struct server *s, uint32_t n, const char *text) {
    struct buf op = {0};
    struct buf id = {0};
    struct uuid library = fixture_library_id(1);
    char name[32];
    char metadata[160];
    (void)snprintf(name, sizeof name, "d%u", n);
    (void)snprintf(metadata, sizeof metadata, "{\"year\":%u,\"lang\":\"%s\",\"draft\":%s,\"when\":\"2024-01-%02u\"}", 1980 + n,
                   n % 2 == 0 ? "en" : "de", n % 3 == 0 ? "true" : "false", n % 28 + 1);
    struct op_document d = {.mode = PUT_REPLACE,
                            .created_at = 1700000000000000 + n,
                            .id = fixture_id(&id, name),
                            .title = slice_str("A title"),
                            .author = slice_str(n % 2 == 0 ? "Ida" : "Jon"),
                            .document_type = slice_str("text"),
                            .tags = slice_str(n % 2 == 0 ? "[\"birds\",\"water\"]" : "[\"bread\"]"),
                            .metadata = slice_str(metadata),
                            .num_chunks = CHUNKS_OF_ONE};
    op_encode_document(&op, &library, &d);
    for (uint32_t i = 0; i < CHUNKS_OF_ONE; i++) {
        put_chunk(&op, name, i, text);
    }
    op_encode_vectors(&op, NULL, 0, 0);
    stopped_commit(s, &op);
    buf_fini(&op);
    buf_fini(&id);
}

static void create_libraries(struct server *s) {
    struct buf op = {0};
    for (unsigned i = 1; i <= 2; i++) {
        struct uuid id = fixture_library_id(i);
        buf_reset(&op);
        fixture_library_op(&op, OP_LIBRARY_CREATE, &id, i == 1 ? INDEX_HNSW : INDEX_FLAT, i == 1 ? "test" : "none");
        stopped_commit(s, &op);
    }
    buf_fini(&op);
}

static void put_brought(struct server *s) {
    struct buf op = {0};
    struct uuid id = fixture_library_id(2);
    float values[2 * BROUGHT];
    uint64_t seed = 3;
    fixture_unit_vector(&seed, values, BROUGHT);
    fixture_unit_vector(&seed, values + BROUGHT, BROUGHT);
    fixture_put_vectors_op(&op, &id, "brought", 2, BROUGHT, values);
    stopped_commit(s, &op);
    buf_fini(&op);
}

static void delete_some(struct server *s) {
    struct buf op = {0};
    struct buf id = {0};
    struct uuid library = fixture_library_id(1);
    op_encode_document_delete(&op, &library, fixture_id(&id, "d5"));
    stopped_commit(s, &op);
    buf_reset(&op);
    op_encode_document_delete(&op, &library, fixture_id(&id, "d11"));
    stopped_commit(s, &op);
    buf_reset(&op);
    struct slice chunk = fixture_id(&id, "d7/1");
    op_encode_chunks_delete(&op, &library, &chunk, 1);
    stopped_commit(s, &op);
    put_document(s, 9, "another text for the ninth");
    buf_fini(&op);
    buf_fini(&id);
}

/* --- the directory --- */

void stopped_begin(struct stopped *s) {
    *s = (struct stopped){0};
    server_make(&s->server);
    server_start_ok(&s->server);
    create_libraries(&s->server);
    for (uint32_t n = 0; n < CHECKED_DOCUMENTS; n++) {
        char text[64];
        struct status st = {0};
        (void)snprintf(text, sizeof text, "Document %u tells of rivers, boats and word%u", n, n);
        put_document(&s->server, n, text);
        if (n == SNAPSHOT_AT && !server_snapshot(&s->server, NULL, &st)) {
            fail_msg("snapshot: %s", st.detail);
        }
    }
    put_brought(&s->server);
    stopped_link(&s->server);
    delete_some(&s->server);
    stopped_link(&s->server);
    put_document(&s->server, CHECKED_DOCUMENTS, "The last one is not linked");
}

void stopped_stop(struct stopped *s) {
    struct status st = {0};
    char why[CHECKPOINT_WHY_MAX];
    char name[ARENA_DIRECTORY_MAX];
    struct uuid first = fixture_library_id(1);
    uint32_t with_vector = 0;
    bool there = false;
    s->digest = catalog_digest(s->server.catalog, &s->chunks, &with_vector);
    assert_int_equal(with_vector, s->chunks);
    if (!server_stop(&s->server, &st)) {
        fail_msg("stop: %s", st.detail);
    }
    assert_true(checkpoint_read(s->server.data.fd, &s->checkpoint, &there, why, &st) && there);
    for (size_t i = 0; i < s->checkpoint.library_count; i++) {
        if (uuid_equal(&s->checkpoint.libraries[i].view.id, &first)) {
            s->saved = &s->checkpoint.libraries[i];
        }
    }
    assert_non_null(s->saved);
    arena_directory_name(&first, s->saved->view.directory, name);
    (void)snprintf(s->directory, sizeof s->directory, "vectors/%s", name);
}

void stopped_make(struct stopped *s) {
    stopped_begin(s);
    stopped_stop(s);
}

void stopped_remove(struct stopped *s) {
    checkpoint_fini(&s->checkpoint);
    server_crash(&s->server);
    server_remove(&s->server);
}

void stopped_set_view(struct stopped *s, const struct library_view *view) {
    struct buf content = {0};
    file_read(s->server.data.fd, CHECKPOINT_PATH, &content);
    size_t at = 0;
    while (memcmp(content.data + at, &s->saved->view, sizeof *view) != 0) {
        at++;
        assert_true(at + sizeof *view < content.len);
    }
    memcpy(content.data + at, view, sizeof *view);
    size_t body = content.len - sizeof(uint32_t);
    store_u32le(content.data + body, crc32c(0, content.data, body));
    file_write(s->server.data.fd, CHECKPOINT_PATH, buf_slice(&content));
    buf_fini(&content);
}

/* --- one for all tests --- */

struct stopped stopped;

int make_stopped(void **state) {
    (void)state;
    stopped_make(&stopped);
    return 0;
}

int remove_stopped(void **state) {
    (void)state;
    stopped_remove(&stopped);
    return 0;
}

struct check_report stopped_check(const struct stopped *s, bool skip_sums) {
    struct check_options options = {.data_dir_fd = s->server.data.fd, .skip_sums = skip_sums};
    struct check_report report = {0};
    struct status st = {0};
    if (!check_run(&options, &report, &st)) {
        fail_msg("check: %s", st.detail);
    }
    return report;
}

void must_be_sound(const struct stopped *s) {
    struct check_report r = stopped_check(s, false);
    if (r.total_faults != 0) {
        fail_msg("%s: %s", r.faults[0].file, r.faults[0].what);
    }
    check_report_fini(&r);
}

static unsigned complaints;

/* Goes on, so that the file is put back and the next fault planted; no_complaints ends the test. */
static void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void complain(const char *fmt, ...) {
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    print_error("%s\n", text);
    complaints++;
}

int no_complaints(void **state) {
    (void)state;
    unsigned count = complaints;
    complaints = 0;
    return count == 0 ? 0 : -1;
}

void must_find(const char *label, bool skip_sums, enum check_part part, unsigned also, const char *file, const char *mentions) {
    struct check_report r = stopped_check(&stopped, skip_sums);
    bool found = false;
    for (size_t i = 0; i < r.fault_count; i++) {
        const struct check_fault *f = &r.faults[i];
        if (f->part == part && strstr(f->file, file) != NULL && strstr(f->what, mentions) != NULL) {
            found = true;
        }
        if (f->part != part && (also & ALSO(f->part)) == 0) {
            complain("%s: %s, %s: %s", label, check_part_name(f->part), f->file, f->what);
        }
    }
    if (!found) {
        complain("%s: not found; %llu faults, the first: %s", label, (unsigned long long)r.total_faults,
                 r.fault_count > 0 ? r.faults[0].what : "");
    }
    check_report_fini(&r);
}
