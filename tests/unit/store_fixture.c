/* store_fixture.c - see store_fixture.h */
#include "store_fixture.h"

#include "base/hash.h"
#include "base/io.h"
#include "index/distance.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool fixture_model_fails;
void (*fixture_while_embedding)(void *ctx);
void *fixture_while_embedding_ctx;

_Noreturn void fixture_die(const char *what, const struct status *st) {
    (void)fprintf(stderr, "fixture: %s: %s\n", what, st != NULL ? st->detail : "");
    abort();
}

/* --- numbers --- */

uint64_t fixture_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

void fixture_unit_vector(uint64_t *state, float *out, uint32_t dimension) {
    for (uint32_t i = 0; i < dimension; i++) {
        /* the sum of three uniform numbers is near enough to a normal one */
        float sum = 0;
        for (int j = 0; j < 3; j++) {
            sum += (float)(fixture_random(state) >> 40) / (float)(1 << 24) - 0.5F;
        }
        out[i] = sum;
    }
    (void)vector_normalize(out, dimension);
}

/* --- the model --- */

void fixture_embed(struct slice text, float out[FIXTURE_DIMENSION]) {
    uint64_t state = hash64(1, text.data, text.len);
    fixture_unit_vector(&state, out, FIXTURE_DIMENSION);
}

static bool embed_texts(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out,
                        struct status *st) {
    (void)e;
    (void)role;
    if (fixture_model_fails) {
        return status_set(st, STATUS_NO_EMBEDDING, "the model is away");
    }
    for (size_t i = 0; i < count; i++) {
        fixture_embed(texts[i], out + i * FIXTURE_DIMENSION);
    }
    if (fixture_while_embedding != NULL) {
        fixture_while_embedding(fixture_while_embedding_ctx);
    }
    return true;
}

/* --- opening --- */

static void open_catalog(struct fixture *f) {
    struct status st = {0};
    struct catalog_options options = {
        .vectors_dir_fd = f->dir_fd, .control = f->control, .limits = &f->limits, .models = &f->models};
    if (!catalog_new(&options, &f->catalog, &st)) {
        fixture_die("catalog_new", &st);
    }
}

static void open_control(struct fixture *f) {
    struct status st = {0};
    if (!control_create(FIXTURE_WORKERS, sizeof(struct library_view), 64, 64, &f->control_fd, &f->control, &st)) {
        fixture_die("control_create", &st);
    }
}

int fixture_set_up(void **state) {
    struct fixture *f = (struct fixture *)calloc(1, sizeof *f);
    const char *tmp = getenv("TMPDIR");
    if (f == NULL) {
        return -1;
    }
    (void)snprintf(f->dir, sizeof f->dir, "%s/quire-store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(f->dir) == NULL) {
        return -1;
    }
    f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    limits_default(&f->limits);
    f->models.count = 2;
    f->models.model[1] = (struct embedder){.name = "far", .remote = true, .where = "far away"};
    f->models.model[0] = (struct embedder){
        .name = "test", .dimension = FIXTURE_DIMENSION, .fingerprint = 77, .where = "here", .embed = embed_texts};
    fixture_model_fails = false;
    fixture_while_embedding = NULL;
    (void)distance_init(NULL);
    open_control(f);
    open_catalog(f);
    *state = f;
    return f->dir_fd >= 0 ? 0 : -1;
}

int fixture_tear_down(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct status st = {0};
    io_set_fault(NULL, NULL);
    catalog_free(f->catalog);
    control_unmap(f->control);
    (void)close(f->control_fd);
    (void)close(f->dir_fd);
    bool removed = io_remove_tree(AT_FDCWD, f->dir, &st);
    free(f);
    return removed ? 0 : -1;
}

void fixture_reopen(struct fixture *f) {
    catalog_free(f->catalog);
    control_unmap(f->control);
    (void)close(f->control_fd);
    open_control(f);
    open_catalog(f);
}

/* --- writing --- */

/* Vectors as a worker would send them beside the op; NULL when the op has its own, or none are wanted. */
static float *side_vectors(const struct fixture *f, const struct op *op) {
    if (f->pending || op->type != OP_DOCUMENT_PUT || op->as.document.vector_dimension != 0 || op->as.document.num_chunks == 0) {
        return NULL;
    }
    float *values = (float *)malloc((size_t)op->as.document.num_chunks * FIXTURE_DIMENSION * sizeof(float));
    struct chunk_walk walk = {.bytes = op->as.document.chunks};
    struct op_chunk chunk;
    for (size_t i = 0; values != NULL && chunk_walk_next(&walk, &chunk); i++) {
        fixture_embed(chunk.text, values + i * FIXTURE_DIMENSION);
    }
    return values;
}

bool fixture_try(struct fixture *f, struct buf *encoded, struct status *st) {
    struct op op;
    if (!buf_ok(encoded) || !op_decode(buf_slice(encoded), &f->limits, &op, st)) {
        return false;
    }
    if (!catalog_check(f->catalog, &op, st)) {
        return false;
    }
    if (!catalog_reserve(f->catalog, &op, st)) {
        catalog_abandon(f->catalog);
        return false;
    }
    float *vectors = side_vectors(f, &op);
    f->lsn++;
    catalog_apply(f->catalog, &op, f->lsn, 0, vectors, &f->effect);
    free(vectors);
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    return true;
}

void fixture_commit(struct fixture *f, struct buf *op) {
    struct status st = {0};
    if (!fixture_try(f, op, &st)) {
        fixture_die("commit", &st);
    }
}

struct uuid fixture_library_id(unsigned number) {
    struct uuid id = {{0}};
    id.b[0] = 0x10;
    id.b[14] = (uint8_t)(number >> 8);
    id.b[15] = (uint8_t)number;
    return id;
}

void fixture_library_op(struct buf *out, enum op_type type, const struct uuid *id, uint32_t index_type, const char *model) {
    struct library_definition d = {.created_at = 1,
                                   .index = {.type = index_type, .m = 16, .ef_construction = 100, .ef_search = 64},
                                   .quantization = {.strategy = QUANTIZATION_HYBRID, .bits = 8},
                                   .name = slice_str("a library"),
                                   .embedding_model = slice_str(model)};
    op_encode_library(out, type, id, &d);
}

void fixture_create(struct fixture *f, const struct uuid *id, uint32_t index_type, const char *model) {
    struct buf op = {0};
    fixture_library_op(&op, OP_LIBRARY_CREATE, id, index_type, model);
    fixture_commit(f, &op);
    buf_fini(&op);
}

struct slice fixture_id(struct buf *out, const char *text) {
    buf_reset(out);
    if (!item_id_encode(slice_str(text), out)) {
        fixture_die("not an id", NULL);
    }
    return buf_slice(out);
}

static void put_op(struct buf *out, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                   const char *text) {
    struct buf id = {0};
    struct op_document d = {.mode = (uint8_t)mode,
                            .created_at = 5,
                            .id = fixture_id(&id, document),
                            .title = slice_str(text),
                            .document_type = slice_str("text"),
                            .num_chunks = count};
    op_encode_document(out, library, &d);
    for (uint32_t i = 0; i < count; i++) {
        char name[ITEM_ID_TEXT_MAX];
        char words[512];
        (void)snprintf(name, sizeof name, "%s/%u", document, i);
        (void)snprintf(words, sizeof words, "%s %u", text, i);
        struct op_chunk c = {.id = fixture_id(&id, name), .text = slice_str(words), .page_number = -1};
        op_encode_chunk(out, &c);
    }
    buf_fini(&id);
}

void fixture_put_op(struct buf *out, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                    const char *text) {
    put_op(out, library, mode, document, count, text);
    op_encode_vectors(out, NULL, 0, 0);
}

void fixture_put(struct fixture *f, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                 const char *text) {
    struct buf op = {0};
    fixture_put_op(&op, library, mode, document, count, text);
    fixture_commit(f, &op);
    buf_fini(&op);
}

void fixture_put_vectors_op(struct buf *out, const struct uuid *library, const char *document, uint32_t count, uint32_t dimension,
                            const float *values) {
    put_op(out, library, PUT_CREATE, document, count, document);
    op_encode_vectors(out, values, count, dimension);
}

void fixture_vectors_op(struct buf *out, const struct uuid *library, uint64_t fingerprint, const char *document, uint32_t count, const char *text) {
    enum { MOST = 64 };
    struct buf ids[MOST] = {{0}};
    float values[MOST][FIXTURE_DIMENSION];
    struct op_vector_of of[MOST];
    for (uint32_t i = 0; i < count && i < MOST; i++) {
        char name[ITEM_ID_TEXT_MAX];
        char words[512];
        (void)snprintf(name, sizeof name, "%s/%u", document, i);
        (void)snprintf(words, sizeof words, "%s %u", text, i);
        fixture_embed(slice_str(words), values[i]);
        of[i] = (struct op_vector_of){.id = fixture_id(&ids[i], name), .text_hash = text_hash(slice_str(words)), .values = values[i]};
    }
    const struct op_vectors head = {.fingerprint = fingerprint, .dimension = FIXTURE_DIMENSION, .count = count};
    op_encode_vectors_of(out, library, &head, of);
    for (uint32_t i = 0; i < MOST; i++) {
        buf_fini(&ids[i]);
    }
}

void fixture_delete_document(struct fixture *f, const struct uuid *library, const char *document) {
    struct buf op = {0};
    struct buf id = {0};
    op_encode_document_delete(&op, library, fixture_id(&id, document));
    fixture_commit(f, &op);
    buf_fini(&op);
    buf_fini(&id);
}

void fixture_delete_chunk(struct fixture *f, const struct uuid *library, const char *chunk) {
    struct buf op = {0};
    struct buf id = {0};
    struct slice encoded = fixture_id(&id, chunk);
    op_encode_chunks_delete(&op, library, &encoded, 1);
    fixture_commit(f, &op);
    buf_fini(&op);
    buf_fini(&id);
}

void fixture_catch_up(struct fixture *f, const struct uuid *library) {
    struct status st = {0};
    struct library *lib = catalog_acquire(f->catalog, library);
    struct backlog_linker *linker = backlog_linker_new();
    size_t done = 1;
    while (done > 0) {
        if (!backlog_embed_some(lib, &f->models, 64, &done, &st)) {
            fixture_die("embed", &st);
        }
    }
    catalog_publish(f->catalog, f->lsn, 1000000, NULL, NULL);
    for (done = 1; done > 0;) {
        if (!backlog_link_some(lib, linker, 1000, &done, &st)) {
            fixture_die("link", &st);
        }
    }
    backlog_linker_free(linker);
    catalog_release(f->catalog, lib);
}
