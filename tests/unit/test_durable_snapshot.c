/* test_durable_snapshot.c - snapshots: what goes in comes out, people's tools can read them, and nothing that fails leaves
 * anything behind. */
#include "durable_fixture.h"
#include "store_fixture.h"

#include "base/clock.h"
#include "base/hash.h"
#include "durable/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NAMES_MAX = 64 };

static const struct snapshot_options ordinary = {.compression = SNAPSHOT_ZSTD};

struct snapshots {
    struct fixture *store;
    struct fixture *again; /* an empty one, to load into */
    struct scratch dir;
};

static int set_up(void **state) {
    struct snapshots *s = (struct snapshots *)calloc(1, sizeof *s);
    void *store = NULL;
    scratch_make(&s->dir);
    assert_int_equal(fixture_set_up(&store), 0);
    s->store = (struct fixture *)store;
    assert_int_equal(fixture_set_up(&store), 0);
    s->again = (struct fixture *)store;
    *state = s;
    return 0;
}

static int tear_down(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    void *store = s->store;
    void *again = s->again;
    fault_disarm();
    scratch_remove(&s->dir);
    int failed = fixture_tear_down(&store) | fixture_tear_down(&again);
    free(s);
    return failed;
}

/* --- content --- */

static void put_library(struct fixture *f, const struct uuid *id, const char *model, bool snapshot_vectors) {
    struct buf op = {0};
    struct library_definition d = {
        .created_at = 1763935200123456,
        .index = {.type = INDEX_HNSW, .m = 24, .ef_construction = 150, .ef_search = 77},
        .quantization = {.strategy = QUANTIZATION_SCALAR, .bits = 8, .rerank_top_k = 50},
        .on_embedding_failure = ON_FAILURE_REJECT,
        .snapshot_vectors = snapshot_vectors,
        .name = slice_str("Brehms \"Tierleben\"\t\xc3\xa4"),
        .description = slice_str("line one\nline two \\ \x7f"),
        .embedding_model = slice_str(model),
        .language = slice_str("de"),
        .metadata = slice_str("{\"owner\":\"x/y\",\"n\":[1,2.50,1e30,-7,18446744073709551615],\"deep\":{\"a\":{\"b\":null}}}"),
    };
    op_encode_library(&op, OP_LIBRARY_CREATE, id, &d);
    fixture_commit(f, &op);
    buf_fini(&op);
}

/* A document in which every field is used. dimension 0: without vectors. */
static void put_document(struct fixture *f, const struct uuid *library, const char *id, uint32_t chunks, uint32_t dimension) {
    struct buf op = {0};
    struct buf encoded = {0};
    struct op_document d = {.mode = PUT_CREATE,
                            .created_at = -62135596800000000 + 1, /* in the year 1 */
                            .id = fixture_id(&encoded, id),
                            .title = slice_str("T\xc3\xaftle \xf0\x9f\x98\x80"),
                            .author = slice_str("A. U. Thor"),
                            .document_type = slice_str("text"),
                            .source_url = slice_str("https://example.org/?a=b&c=\"d\""),
                            .tags = slice_str("[\"one\",\"\\u0001two\"]"),
                            .metadata = slice_str("{\"chunks\":7,\"id\":\"not ours\"}"),
                            .num_chunks = chunks};
    op_encode_document(&op, library, &d);
    uint64_t random = hash64(3, id, strlen(id));
    float *values = (float *)malloc(((size_t)chunks * dimension + 1) * sizeof *values);
    for (uint32_t i = 0; i < chunks; i++) {
        char name[64];
        char text[200];
        (void)snprintf(name, sizeof name, "%s #%u \xe2\x82\xac", id, i);
        (void)snprintf(text, sizeof text, "chunk %u of %s\r\n\ttab \"quoted\" back\\slash \x01 \xe2\x80\xa8 end", i, id);
        struct op_chunk c = {.id = fixture_id(&encoded, name),
                             .text = slice_str(text),
                             .metadata = i % 2 == 0 ? slice_str("{\"page\":\"A-7\"}") : slice_of(NULL, 0),
                             .page_number = i % 3 == 0 ? -1 : (int64_t)i - 1};
        op_encode_chunk(&op, &c);
        fixture_unit_vector(&random, values + (size_t)i * dimension, dimension);
    }
    op_encode_vectors(&op, values, chunks, dimension);
    fixture_commit(f, &op);
    free(values);
    buf_fini(&op);
    buf_fini(&encoded);
}

static void fill(struct fixture *f) {
    struct uuid a = fixture_library_id(1);
    struct uuid b = fixture_library_id(2);
    struct uuid c = fixture_library_id(3);
    struct uuid empty = fixture_library_id(4);
    char name[64];
    put_library(f, &a, "test", false);
    put_library(f, &b, "none", false);
    put_library(f, &c, "test", true);
    put_library(f, &empty, "test", false);
    for (uint32_t i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof name, "document %u", i);
        put_document(f, &a, name, i % 5, 0);
        put_document(f, &b, name, i % 4, 10);
        put_document(f, &c, name, i % 3 + 1, 0);
    }
    put_document(f, &a, "0193a5b0-0000-7000-8000-000000000001", 2, 0);
    fixture_delete_document(f, &a, "document 4");
    fixture_delete_document(f, &b, "document 6");
    fixture_delete_chunk(f, &a, "document 8 #1 \xe2\x82\xac");
    fixture_delete_chunk(f, &a, "document 1 #0 \xe2\x82\xac"); /* its only one */
}

static struct snapshot_info take(struct snapshots *s) {
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct status st = {0};
    assert_true(snapshot_cut_take(s->store->catalog, &cut, &st));
    bool ok = snapshot_write(s->dir.fd, &cut, &ordinary, NULL, &info, NULL, &st);
    snapshot_cut_release(s->store->catalog, &cut);
    if (!ok) {
        fail_msg("snapshot_write: %s", st.detail);
    }
    return info;
}

struct into {
    struct fixture *f;
    uint64_t lsn;
    uint64_t ops;
    uint64_t with_vectors;
    uint64_t digest;
};

static bool load_op(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct into *into = (struct into *)ctx;
    if (!catalog_check(into->f->catalog, item->op, st) || !catalog_reserve(into->f->catalog, item->op, st)) {
        return false;
    }
    if (item->vectors != NULL) {
        assert_int_equal(item->model_fingerprint, 77);
        assert_int_equal(item->dimension, FIXTURE_DIMENSION);
    }
    catalog_apply(into->f->catalog, item->op, into->lsn, 0, item->vectors, NULL);
    into->with_vectors += item->vectors != NULL ? 1 : 0;
    into->ops++;
    return true;
}

static bool digest_op(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct into *into = (struct into *)ctx;
    (void)st;
    into->digest = hash64(into->digest, item->op->bytes.data, item->op->bytes.len);
    into->ops++;
    return true;
}

static bool load(struct snapshots *s, const char *name, struct into *into, struct status *st) {
    struct snapshot_info info;
    into->f = s->again;
    into->lsn = 99;
    bool ok = snapshot_load(s->dir.fd, name, NULL, load_op, into, &info, st);
    catalog_publish(s->again->catalog, 99, 1000000, NULL, NULL);
    return ok;
}

/* --- comparing --- */

static void same(struct slice a, struct slice b) {
    if (!slice_equal(a, b)) {
        fail_msg("\"%.*s\" is not \"%.*s\"", (int)a.len, (const char *)a.data, (int)b.len, (const char *)b.data);
    }
}

static void same_chunks(const struct reading *x, const struct reading *y, const struct stored_document *dx,
                        const struct stored_document *dy, bool vectors) {
    uint32_t at = dy->first_chunk;
    for (uint32_t i = 0; i < dx->num_chunks; i++) {
        struct stored_chunk cx;
        struct stored_chunk cy;
        struct status st;
        if (!reading_chunk_visible(x, dx->first_chunk + i)) {
            continue;
        }
        assert_true(reading_chunk(x, dx->first_chunk + i, &cx, &st) && reading_chunk(y, at, &cy, &st));
        same(cx.fields.id, cy.fields.id);
        same(cx.fields.text, cy.fields.text);
        same(cx.fields.metadata, cy.fields.metadata);
        assert_true(cx.fields.page_number == cy.fields.page_number);
        assert_int_equal(cy.has_vector, vectors);
        if (vectors) {
            assert_int_equal(x->view.dimension, y->view.dimension);
            assert_memory_equal(reading_vector(x, cx.slot), reading_vector(y, cy.slot), x->view.dimension * sizeof(float));
        }
        at++;
    }
    assert_int_equal(at, dy->first_chunk + dy->num_chunks);
}

static void same_library(struct fixture *f, struct fixture *g, const struct uuid *id, bool vectors) {
    struct library *lx = catalog_acquire(f->catalog, id);
    struct library *ly = catalog_acquire(g->catalog, id);
    struct reading x;
    struct reading y;
    struct library_definition dx;
    struct library_definition dy;
    struct status st;
    assert_non_null(lx);
    assert_non_null(ly);
    library_reading(lx, &x);
    library_reading(ly, &y);
    assert_true(reading_definition(&x, &dx, &st) && reading_definition(&y, &dy, &st));
    same(dx.name, dy.name);
    same(dx.description, dy.description);
    same(dx.embedding_model, dy.embedding_model);
    same(dx.language, dy.language);
    same(dx.metadata, dy.metadata);
    assert_true(dx.created_at == dy.created_at);
    assert_memory_equal(&dx.index, &dy.index, sizeof dx.index);
    assert_memory_equal(&dx.quantization, &dy.quantization, sizeof dx.quantization);
    assert_int_equal(dx.on_embedding_failure, dy.on_embedding_failure);
    assert_int_equal(dx.snapshot_vectors, dy.snapshot_vectors);
    assert_int_equal(x.view.live_chunks, y.view.live_chunks);
    assert_int_equal(x.view.live_documents, y.view.live_documents);
    assert_int_equal(x.view.dimension, y.view.dimension);
    assert_int_equal(x.view.text_bytes, y.view.text_bytes);
    uint32_t ry = reading_next_document(&y, 0);
    for (uint32_t rx = reading_next_document(&x, 0); rx != ROW_NONE; rx = reading_next_document(&x, rx + 1)) {
        struct stored_document a;
        struct stored_document b;
        assert_int_not_equal(ry, ROW_NONE);
        assert_true(reading_document(&x, rx, &a, &st) && reading_document(&y, ry, &b, &st));
        same(a.fields.id, b.fields.id);
        same(a.fields.title, b.fields.title);
        same(a.fields.author, b.fields.author);
        same(a.fields.document_type, b.fields.document_type);
        same(a.fields.source_url, b.fields.source_url);
        same(a.fields.tags, b.fields.tags);
        same(a.fields.metadata, b.fields.metadata);
        assert_true(a.created_at == b.created_at);
        same_chunks(&x, &y, &a, &b, vectors);
        ry = reading_next_document(&y, ry + 1);
    }
    assert_int_equal(ry, ROW_NONE);
    catalog_release(f->catalog, lx);
    catalog_release(g->catalog, ly);
}

/* --- tests --- */

static void everything_survives(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct into into = {0};
    struct status st = {0};
    fill(s->store);
    struct snapshot_info info = take(s);
    assert_int_equal(info.lsn, s->store->lsn);
    assert_int_equal(info.libraries, 4);
    assert_true(info.bytes > 0);
    if (!load(s, info.name, &into, &st)) {
        fail_msg("load: %s", st.detail);
    }
    for (unsigned i = 1; i <= 4; i++) {
        struct uuid id = fixture_library_id(i);
        same_library(s->store, s->again, &id, i == 2 || i == 3);
    }
    assert_int_equal(into.ops, 4 + info.documents);
    assert_int_equal(into.with_vectors, 20);

    struct snapshot_info verified;
    assert_true(snapshot_verify(s->dir.fd, info.name, &verified, &st));
    assert_string_equal(verified.name, info.name);
    assert_int_equal(verified.lsn, info.lsn);
    assert_int_equal(verified.documents, info.documents);
    assert_int_equal(verified.chunks, info.chunks);
    assert_int_equal(verified.bytes, info.bytes);
    assert_true(verified.created_at == info.created_at);
}

static void values_that_json_cannot_carry(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct uuid id = fixture_library_id(1);
    struct into into = {0};
    struct status st = {0};
    struct buf op = {0};
    struct buf encoded = {0};
    /* As a worker that was broken into might send it: it must not make the archive unreadable. */
    static const char nul_text[] = "before\0after";
    put_library(s->store, &id, "test", false);
    struct op_document d = {.mode = PUT_CREATE,
                            .created_at = 1,
                            .id = fixture_id(&encoded, "d"),
                            .title = slice_of(nul_text, sizeof nul_text),
                            .tags = slice_str("{\"no\":\"array\"}"),
                            .metadata = slice_str("{\"broken\": tru"),
                            .num_chunks = 4};
    static const char *const metadata[] = {"{\"a\":1,\n\"b\":2}", "}{", "\"text\"", "{\"n\":1e999}"};
    op_encode_document(&op, &id, &d);
    for (uint32_t i = 0; i < 4; i++) {
        char name[8];
        (void)snprintf(name, sizeof name, "c%u", i);
        struct op_chunk c = {.id = fixture_id(&encoded, name),
                             .text = slice_of(nul_text, sizeof nul_text - i),
                             .metadata = slice_str(metadata[i]),
                             .page_number = INT64_MAX};
        op_encode_chunk(&op, &c);
    }
    op_encode_vectors(&op, NULL, 0, 0);
    fixture_commit(s->store, &op);
    struct snapshot_info info = take(s);
    if (!load(s, info.name, &into, &st)) {
        fail_msg("load: %s", st.detail);
    }
    same_library(s->store, s->again, &id, false);
    buf_fini(&op);
    buf_fini(&encoded);
}

static void names_do_not_collide(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    char names[NAMES_MAX][64];
    struct status st;
    struct snapshot_pruned pruned;
    fill(s->store);
    for (int i = 0; i < 5; i++) {
        struct uuid more = fixture_library_id(100U + (unsigned)i);
        put_library(s->store, &more, "test", false);
        (void)take(s);
    }
    assert_int_equal(names_with(s->dir.fd, "snapshot_", names, NAMES_MAX), 5);
    struct snapshot_info *infos = NULL;
    size_t count = 0;
    file_write(s->dir.fd, "snapshot_20200101_000000.tar.zst", slice_str("no archive"));
    file_write(s->dir.fd, ".snapshot_20200101_000000.tar.zst.tmp", slice_str("left by a crash"));
    file_write(s->dir.fd, "notes.txt", slice_str("not ours"));
    assert_true(snapshot_list(s->dir.fd, &infos, &count, &st));
    assert_int_equal(count, 5);
    for (size_t i = 1; i < count; i++) {
        assert_true(infos[i - 1].lsn > infos[i].lsn);
    }
    assert_true(snapshot_prune(s->dir.fd, &(struct snapshot_retention){.keep = 2}, &pruned, &st));
    assert_int_equal(pruned.removed, 4);
    assert_true(file_exists(s->dir.fd, infos[0].name) && file_exists(s->dir.fd, infos[1].name));
    assert_false(file_exists(s->dir.fd, infos[2].name));
    assert_false(file_exists(s->dir.fd, ".snapshot_20200101_000000.tar.zst.tmp"));
    assert_true(file_exists(s->dir.fd, "notes.txt"));
    assert_true(snapshot_prune(s->dir.fd, &(struct snapshot_retention){0}, &pruned, &st));
    assert_true(file_exists(s->dir.fd, infos[0].name));
    free(infos);
}

static void unknown_names(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    static const char *const names[] = {"snapshot_20200101_000000.tar.zst", "../snapshot_20200101_000000.tar.zst", "notes.txt",
                                        "", "snapshot_"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct snapshot_info info;
        struct status st;
        assert_false(snapshot_verify(s->dir.fd, names[i], &info, &st));
        assert_int_equal(st.code, STATUS_NOT_FOUND);
        assert_int_equal(st.subject, SUBJECT_SNAPSHOT);
    }
}

static void can_be_called_off(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct status st;
    bool cancel = true;
    char names[NAMES_MAX][64];
    fill(s->store);
    assert_true(snapshot_cut_take(s->store->catalog, &cut, &st));
    assert_false(snapshot_write(s->dir.fd, &cut, &ordinary, &cancel, &info, NULL, &st));
    assert_int_equal(st.code, STATUS_BUSY);
    snapshot_cut_release(s->store->catalog, &cut);
    assert_int_equal(names_with(s->dir.fd, ".snapshot_", names, NAMES_MAX), 0);
    assert_int_equal(names_with(s->dir.fd, "snapshot_", names, NAMES_MAX), 0);
}

/* A cut shows what was there when it was taken, whatever is written or deleted while it is being written out. */
static void a_cut_does_not_move(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct uuid id = fixture_library_id(1);
    struct uuid gone = fixture_library_id(2);
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct into into = {0};
    struct status st;
    put_library(s->store, &id, "test", false);
    put_library(s->store, &gone, "test", false);
    put_document(s->store, &id, "kept", 3, 0);
    put_document(s->store, &gone, "in a library that will be deleted", 2, 0);
    assert_true(snapshot_cut_take(s->store->catalog, &cut, &st));
    fixture_delete_document(s->store, &id, "kept");
    for (int i = 0; i < 2000; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "later %d", i);
        fixture_put(s->store, &id, PUT_CREATE, name, 2, "more");
    }
    struct buf op = {0};
    op_encode_library_delete(&op, &gone);
    fixture_commit(s->store, &op);
    buf_fini(&op);
    assert_true(snapshot_write(s->dir.fd, &cut, &ordinary, NULL, &info, NULL, &st));
    snapshot_cut_release(s->store->catalog, &cut);
    assert_int_equal(info.libraries, 2);
    assert_int_equal(info.documents, 2);
    assert_true(load(s, info.name, &into, &st));
    assert_int_equal(into.ops, 4);
}

struct writing {
    struct snapshots *s;
    struct snapshot_cut cut;
    struct snapshot_info info;
    bool ok;
    struct status st;
};

static void *write_beside(void *ctx) {
    struct writing *w = (struct writing *)ctx;
    w->ok = snapshot_write(w->s->dir.fd, &w->cut, &ordinary, NULL, &w->info, NULL, &w->st);
    return NULL;
}

/* A thread writes the cut while commits go on, grow the files and delete what the cut shows. (Made for ThreadSanitizer.) */
static void written_beside_commits(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct uuid id = fixture_library_id(1);
    char name[32];
    put_library(s->store, &id, "test", true);
    for (int round = 0; round < 8; round++) {
        struct writing w = {.s = s};
        struct into into = {0};
        struct snapshot_info info;
        pthread_t thread;
        for (int i = 0; i < 40; i++) {
            (void)snprintf(name, sizeof name, "before %d.%d", round, i);
            put_document(s->store, &id, name, 3, 0);
        }
        uint32_t lsn = (uint32_t)s->store->lsn;
        assert_true(snapshot_cut_take(s->store->catalog, &w.cut, &w.st));
        assert_int_equal(pthread_create(&thread, NULL, write_beside, &w), 0);
        for (int i = 0; i < 40; i++) {
            (void)snprintf(name, sizeof name, "before %d.%d", round, i);
            fixture_delete_document(s->store, &id, name);
            (void)snprintf(name, sizeof name, "while %d.%d", round, i);
            fixture_put(s->store, &id, PUT_CREATE, name, 5, "words");
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        snapshot_cut_release(s->store->catalog, &w.cut);
        assert_true(w.ok);
        assert_int_equal(w.info.lsn, lsn);
        assert_int_equal(w.info.documents, 40 * (round + 1));
        assert_true(snapshot_load(s->dir.fd, w.info.name, NULL, digest_op, &into, &info, &w.st));
        assert_int_equal(into.ops, 1 + w.info.documents);
    }
}

/* --- failures --- */

static void every_call_fails(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    static const int errors[] = {ENOSPC, EIO};
    char names[NAMES_MAX][64];
    fill(s->store);
    struct snapshot_info before = take(s);
    for (size_t e = 0; e < 2; e++) {
        for (uint64_t after = 0;; after++) {
            struct snapshot_cut cut;
            struct snapshot_info info;
            struct status st = {0};
            struct fault_plan plan = {.calls = FAULT_CHANGES & ~FAULT_BIT(IO_UNLINK),
                                      .after = after,
                                      .times = UINT64_MAX,
                                      .error = errors[e],
                                      .path = s->dir.path};
            assert_true(snapshot_cut_take(s->store->catalog, &cut, &st));
            fault_arm(&plan);
            bool ok = snapshot_write(s->dir.fd, &cut, &ordinary, NULL, &info, NULL, &st);
            fault_disarm();
            snapshot_cut_release(s->store->catalog, &cut);
            assert_int_equal(names_with(s->dir.fd, ".snapshot_", names, NAMES_MAX), 0);
            if (ok) {
                assert_true(after >= 4); /* open, write, fsync, rename, fsync */
                assert_int_equal(plan.failed, 0);
                break;
            }
            assert_int_equal(st.code, errors[e] == ENOSPC ? STATUS_NO_SPACE : STATUS_IO);
            struct snapshot_info still;
            assert_true(snapshot_verify(s->dir.fd, before.name, &still, &st));
        }
    }
}

static void killed_at_every_call(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    char names[NAMES_MAX][64];
    fill(s->store);
    for (uint64_t after = 0;; after++) {
        struct status st = {0};
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct fault_plan plan = {.calls = FAULT_CHANGES, .after = after, .times = 1, .error = 0, .path = s->dir.path};
            struct snapshot_cut cut;
            struct snapshot_info info;
            fault_arm(&plan);
            bool ok = snapshot_cut_take(s->store->catalog, &cut, &st) && snapshot_write(s->dir.fd, &cut, &ordinary, NULL, &info, NULL, &st);
            _exit(ok ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        /* Whatever bears a snapshot's name is whole. */
        size_t count = names_with(s->dir.fd, "snapshot_", names, NAMES_MAX);
        for (size_t i = 0; i < count; i++) {
            struct snapshot_info info;
            assert_true(snapshot_verify(s->dir.fd, names[i], &info, &st));
        }
        struct snapshot_pruned pruned;
        assert_true(snapshot_prune(s->dir.fd, &(struct snapshot_retention){.keep = 1}, &pruned, &st));
        assert_int_equal(names_with(s->dir.fd, ".snapshot_", names, NAMES_MAX), 0);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            assert_true(count > 0 && after >= 4);
            break;
        }
    }
}

/* Whatever byte is flipped: refused, or the content is what it was. */
static void flipped_bytes(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct into whole = {0};
    struct snapshot_info info;
    struct status st = {0};
    fill(s->store);
    struct snapshot_info taken = take(s);
    assert_true(snapshot_load(s->dir.fd, taken.name, NULL, digest_op, &whole, &info, &st));
    size_t refused = 0;
    size_t tried = 0;
    for (size_t at = 0; at < taken.bytes; at += 1 + taken.bytes / 1500) {
        struct into damaged = {0};
        file_flip(s->dir.fd, taken.name, at, (uint8_t)(1 << at % 8));
        if (snapshot_load(s->dir.fd, taken.name, NULL, digest_op, &damaged, &info, &st)) {
            assert_int_equal(damaged.digest, whole.digest);
        } else {
            assert_true(st.code == STATUS_CORRUPT || st.code == STATUS_MALFORMED || st.code == STATUS_TOO_LARGE);
            refused++;
        }
        file_flip(s->dir.fd, taken.name, at, (uint8_t)(1 << at % 8));
        tried++;
    }
    assert_true(refused > tried * 99 / 100);
    for (size_t len = 0; len < taken.bytes; len += 1 + taken.bytes / 200) {
        struct buf content = {0};
        file_read(s->dir.fd, taken.name, &content);
        content.len = len;
        file_write(s->dir.fd, "snapshot_20000101_000000.tar.zst", buf_slice(&content));
        assert_false(snapshot_verify(s->dir.fd, "snapshot_20000101_000000.tar.zst", &info, &st));
        buf_fini(&content);
    }
}

/* --- people's tools --- */

static int shell(const struct snapshots *s, const char *name, const char *script) {
    char command[4096];
    (void)snprintf(command, sizeof command, "cd '%s' && rm -rf x && mkdir x && cd x && A='../%s' && { %s; } >/dev/null 2>&1",
                   s->dir.path, name, script);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool have_tools(void) {
    return system("command -v tar zstd jq sha256sum >/dev/null 2>&1") == 0;
}

static void tools_can_read_it(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    if (!have_tools()) {
        skip();
    }
    fill(s->store);
    struct snapshot_info info = take(s);
    assert_int_equal(shell(s, info.name, "tar --zstd -xf $A && sha256sum -c --strict SHA256SUMS"), 0);
    assert_int_equal(
        shell(s, info.name,
              "tar --zstd -xf $A && test $(jq -s 'length' libraries/*/*.jsonl) = $(jq .num_documents manifest.json)"),
        0);
    assert_int_equal(
        shell(
            s, info.name,
            "tar --zstd -xf $A && test $(cat libraries/*/*.jsonl | jq '.chunks[].id' | wc -l) = $(jq .num_chunks manifest.json)"),
        0);
    assert_int_equal(
        shell(s, info.name,
              "tar --zstd -xf $A && jq -e '.name and .created_at and .index_config.M == 24' libraries/*/library.json"),
        0);
    assert_int_equal(
        shell(s, info.name,
              "test \"$(tar --zstd -tf $A | head -1)\" = manifest.json && test \"$(tar --zstd -tf $A | tail -1)\" = SHA256SUMS"),
        0);
}

static bool find_text(struct fixture *f, const struct uuid *id, const char *chunk, const char *text, bool *ret_vector) {
    struct library *lib = catalog_acquire(f->catalog, id);
    struct reading rd;
    struct stored_chunk c;
    struct status st;
    struct buf encoded = {0};
    assert_non_null(lib);
    library_reading(lib, &rd);
    bool found = reading_find_chunk(&rd, fixture_id(&encoded, chunk), &c, &st) && slice_is(c.fields.text, text);
    *ret_vector = found && c.has_vector;
    catalog_release(f->catalog, lib);
    buf_fini(&encoded);
    return found;
}

static void edited_by_hand(void **state) {
    struct snapshots *s = (struct snapshots *)*state;
    struct uuid a = fixture_library_id(1);
    struct uuid c = fixture_library_id(3);
    struct into into = {0};
    struct status st = {0};
    bool vector = false;
    if (!have_tools()) {
        skip();
    }
    fill(s->store);
    struct snapshot_info info = take(s);
    /* One text changed everywhere, one document left out, everything packed in tar's own order with directories, and a "./"
     * before the names. */
    assert_int_equal(
        shell(s, info.name,
              "tar --zstd -xf $A && for f in libraries/*/*.jsonl; do jq -c 'select(.id != \"document 3\") | "
              "(.chunks[] | select(.id | startswith(\"document 2 #0\")) | .text) = \"changed\"' $f > t && mv t $f; done && "
              "sha256sum manifest.json libraries/*/* > SHA256SUMS && tar --zstd -cf ../snapshot_20300101_000000.tar.zst ."),
        0);
    if (!load(s, "snapshot_20300101_000000.tar.zst", &into, &st)) {
        fail_msg("load: %s", st.detail);
    }
    assert_int_equal(into.ops, 4 + info.documents - 3);
    assert_true(find_text(s->again, &a, "document 2 #0 \xe2\x82\xac", "changed", &vector));
    /* A model made its vector from the old text: it must not be kept; the others of the document are. */
    assert_true(find_text(s->again, &c, "document 2 #0 \xe2\x82\xac", "changed", &vector));
    assert_false(vector);
    assert_true(find_text(s->again, &c, "document 2 #1 \xe2\x82\xac",
                          "chunk 1 of document 2\r\n\ttab \"quoted\" back\\slash \x01 \xe2\x80\xa8 end", &vector));
    assert_true(vector);
    assert_false(find_text(s->again, &a, "document 3 #0 \xe2\x82\xac", "", &vector));

    /* Without new sums it is refused. */
    assert_int_equal(shell(s, info.name,
                           "tar --zstd -xf $A && for f in libraries/*/*.jsonl; do jq -c 'select(.id != \"document 3\")' $f > t "
                           "&& mv t $f; done && "
                           "tar --zstd -cf ../snapshot_20300101_000001.tar.zst ."),
                     0);
    assert_false(snapshot_verify(s->dir.fd, "snapshot_20300101_000001.tar.zst", &info, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_survives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_that_json_cannot_carry, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_do_not_collide, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(can_be_called_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_cut_does_not_move, set_up, tear_down),
        cmocka_unit_test_setup_teardown(written_beside_commits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_call_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(killed_at_every_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(flipped_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tools_can_read_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(edited_by_hand, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
