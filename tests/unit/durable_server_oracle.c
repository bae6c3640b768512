/* durable_server_oracle.c - the script that a server of durable_server.h follows, what must be there after each of its steps, and the checks that it is. */
#include "durable_server_internal.h"

#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { BROUGHT_DIMENSION = 7, FAR_FINGERPRINT = 4711 };

/* --- the script --- */

static struct uuid library_of(uint32_t which) {
    return fixture_library_id(which + 1);
}

/* Some steps add an API key, some remove it again: `of` is the step that added it. */
static bool is_key_step(uint32_t n, bool *ret_adds, uint32_t *ret_of) {
    *ret_adds = n % 50 == 11;
    *ret_of = *ret_adds ? n : n - 22;
    return *ret_adds || n % 50 == 33;
}

static struct uuid key_of(uint32_t step) {
    struct uuid id = {{0xee}};
    memcpy(id.b + 1, &step, sizeof step);
    return id;
}

static void key_op(uint32_t n, struct buf *out) {
    static const uint8_t library[UUID_BYTES] = {7};
    bool adds = false;
    uint32_t of = 0;
    (void)is_key_step(n, &adds, &of);
    struct op_key key = {.id = key_of(of),
                         .created_at = 1763935200000000 + of,
                         .expires_at = of % 100 == 11 ? 0 : 4102444800000000,
                         .scopes = (uint8_t)(1 + of % KEY_SCOPES),
                         .all = of % 100 == 11,
                         .name = slice_str("a k\xc3\xa4y")};
    memcpy(key.digest, key.id.b, UUID_BYTES);
    if (!key.all) {
        key.library_count = 1;
        key.libraries = slice_of(library, sizeof library);
    }
    if (adds) {
        op_encode_key_add(out, &key);
    } else {
        op_encode_key_remove(out, &key.id);
    }
}

/* Some words come only once, some again and again, so that all kinds of pages change. */
static void words_of(uint32_t n, char *name, char *text, size_t size) {
    (void)snprintf(name, size, "document %u", n);
    (void)snprintf(text, size, "text of step %u: only%u once%ub some%u many%u w%u", n, n, n * 7919 % 1000, n % 23, n % 5, n * 31 % 211);
}

/* Step n of the script, always the same: creations, documents of three kinds of library, replacements, vectors of a provider, deletions of documents,
 * chunks and libraries. */
void script_op(uint32_t n, struct buf *out) {
    char name[160];
    char text[160];
    struct uuid texts = library_of(0);
    struct uuid brought = library_of(1);
    struct uuid far = library_of(2);
    struct uuid passing = library_of(10 + n / 50);
    struct buf id = {0};
    bool adds = false;
    uint32_t of = 0;
    buf_reset(out);
    if (is_key_step(n, &adds, &of)) {
        key_op(n, out);
        return;
    }
    words_of(n, name, text, sizeof text);
    if (n <= 2) {
        static const char *const models[] = {"test", "none", "far"};
        struct uuid library = library_of(n);
        fixture_library_op(out, OP_LIBRARY_CREATE, &library, n == 1 ? INDEX_FLAT : INDEX_HNSW, models[n]);
    } else if (n % 50 == 20) {
        fixture_library_op(out, OP_LIBRARY_CREATE, &passing, INDEX_HNSW, "test");
    } else if (n % 50 == 22) {
        fixture_put_op(out, &passing, PUT_CREATE, name, 2, text);
    } else if (n % 50 == 45) {
        op_encode_library_delete(out, &passing);
    } else if (n % 17 == 3) {
        fixture_put_op(out, &far, PUT_CREATE, name, 2, text);
    } else if (n % 17 == 4) {
        words_of(n - 1, name, text, sizeof text);
        fixture_vectors_op(out, &far, FAR_FINGERPRINT, name, 2, text);
    } else if (n % 9 == 5) {
        float values[2 * BROUGHT_DIMENSION];
        uint64_t seed = n;
        fixture_unit_vector(&seed, values, BROUGHT_DIMENSION);
        fixture_unit_vector(&seed, values + BROUGHT_DIMENSION, BROUGHT_DIMENSION);
        fixture_put_vectors_op(out, &brought, name, 2, BROUGHT_DIMENSION, values);
    } else if (n % 11 == 7) {
        (void)snprintf(name, sizeof name, "document %u", n - 4);
        fixture_put_op(out, &texts, PUT_REPLACE, name, 3, text);
    } else if (n % 13 == 9) {
        (void)snprintf(name, sizeof name, "document %u/1", n - 3);
        struct slice chunk = fixture_id(&id, name);
        op_encode_chunks_delete(out, &texts, &chunk, 1);
    } else {
        fixture_put_op(out, &texts, PUT_REPLACE, name, n % 4, text);
    }
    buf_fini(&id);
}

float *script_vectors(const struct op *op) {
    if (op->type != OP_DOCUMENT_PUT || op->as.document.vector_dimension != 0 || op->as.document.num_chunks == 0) {
        return NULL;
    }
    float *values = (float *)malloc((size_t)op->as.document.num_chunks * FIXTURE_DIMENSION * sizeof *values);
    struct chunk_walk walk = {.bytes = op->as.document.chunks};
    struct op_chunk chunk;
    for (size_t i = 0; chunk_walk_next(&walk, &chunk); i++) {
        fixture_embed(chunk.text, values + i * FIXTURE_DIMENSION);
    }
    return values;
}

/* --- the oracle --- */

static void digest_bytes(uint64_t *digest, struct slice s) {
    *digest = hash64(*digest + 1, s.data, s.len);
}

static bool vector_is_right(const struct reading *rd, const struct stored_chunk *c, bool brought) {
    const float *vector = reading_vector(rd, c->slot);
    float expected[FIXTURE_DIMENSION];
    if (vector == NULL || brought) {
        return vector != NULL || !brought;
    }
    fixture_embed(c->fields.text, expected);
    return memcmp(vector, expected, sizeof expected) == 0;
}

static void digest_document(const struct reading *rd, const struct library_definition *library, uint32_t row, uint64_t *digest, uint32_t *chunks,
                            uint32_t *with_vector) {
    bool brought = slice_is(library->embedding_model, "none");
    bool far = slice_is(library->embedding_model, "far");
    struct stored_document d;
    struct stored_chunk c;
    struct status st;
    assert_true(reading_document(rd, row, &d, &st));
    digest_bytes(digest, d.fields.id);
    digest_bytes(digest, d.fields.title);
    for (uint32_t i = 0; i < d.num_chunks; i++) {
        if (!reading_chunk_visible(rd, d.first_chunk + i)) {
            continue;
        }
        assert_true(reading_chunk(rd, d.first_chunk + i, &c, &st));
        digest_bytes(digest, c.fields.id);
        digest_bytes(digest, c.fields.text);
        assert_true(vector_is_right(rd, &c, brought));
        if (brought) {
            digest_bytes(digest, slice_of(reading_vector(rd, c.slot), rd->view.dimension * sizeof(float)));
        }
        if (far) { /* none that was logged is missing, and none is there before it was logged */
            digest_bytes(digest, slice_of(&c.has_vector, sizeof c.has_vector));
        }
        *chunks += 1;
        *with_vector += c.has_vector || far ? 1 : 0;
    }
}

static int by_library_id(const void *a, const void *b) {
    struct reading x;
    struct reading y;
    library_reading(*(struct library *const *)a, &x);
    library_reading(*(struct library *const *)b, &y);
    return memcmp(x.view.id.b, y.view.id.b, UUID_BYTES);
}

uint64_t catalog_digest(struct catalog *c, uint32_t *ret_chunks, uint32_t *ret_with_vector) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st;
    uint64_t digest = 7;
    *ret_chunks = 0;
    *ret_with_vector = 0;
    assert_true(catalog_acquire_all(c, &libraries, &count, &st));
    qsort(libraries, count, sizeof(struct library *), by_library_id);
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        struct library_definition d;
        uint32_t chunks = *ret_chunks;
        library_reading(libraries[i], &rd);
        assert_true(reading_definition(&rd, &d, &st));
        digest_bytes(&digest, slice_of(rd.view.id.b, UUID_BYTES));
        digest_bytes(&digest, d.name);
        for (uint32_t row = reading_next_document(&rd, 0); row != ROW_NONE; row = reading_next_document(&rd, row + 1)) {
            digest_document(&rd, &d, row, &digest, ret_chunks, ret_with_vector);
        }
        assert_int_equal(rd.view.live_chunks, *ret_chunks - chunks);
        catalog_release(c, libraries[i]);
    }
    free(libraries);
    return digest;
}

static uint64_t oracle[SCRIPT_MAX + 1];
static uint32_t oracle_live[SCRIPT_MAX + 1];
static bool oracle_ready;

static void prepare_oracle(void) {
    void *state = NULL;
    struct buf op = {0};
    uint32_t with_vector = 0;
    assert_int_equal(fixture_set_up(&state), 0);
    struct fixture *f = (struct fixture *)state;
    oracle[0] = catalog_digest(f->catalog, &oracle_live[0], &with_vector);
    for (uint32_t n = 0; n < SCRIPT_MAX; n++) {
        bool adds = false;
        uint32_t of = 0;
        script_op(n, &op);
        if (!is_key_step(n, &adds, &of)) {
            fixture_commit(f, &op);
        }
        oracle[n + 1] = catalog_digest(f->catalog, &oracle_live[n + 1], &with_vector);
    }
    buf_fini(&op);
    assert_int_equal(fixture_tear_down(&state), 0);
    oracle_ready = true;
}

uint64_t oracle_digest(uint32_t steps) {
    if (!oracle_ready) {
        prepare_oracle();
    }
    return oracle[steps];
}

uint32_t oracle_chunks(uint32_t steps) {
    (void)oracle_digest(steps);
    return oracle_live[steps];
}

static void verify_texts(struct catalog *c) {
    struct library **libraries = NULL;
    size_t count = 0;
    struct status st = {0};
    assert_true(catalog_acquire_all(c, &libraries, &count, &st));
    for (size_t i = 0; i < count; i++) {
        struct reading rd;
        library_reading(libraries[i], &rd);
        fixture_verify_texts(c, &rd.view.id);
        catalog_release(c, libraries[i]);
    }
    free(libraries);
}

/* --- every third step is a request with an Idempotency-Key --- */

static bool is_keyed(uint32_t step) {
    bool adds = false;
    uint32_t of = 0;
    return step % 3 == 0 && !is_key_step(step, &adds, &of);
}

static void put_key(uint32_t step, struct buf *out) {
    struct idempotency_id id;
    const struct slice what = slice_of(&step, sizeof step);
    struct idempotency_origin origin = {.created_at = 1763935200000000};
    struct idempotency_results_writer w;
    idempotency_hash(&what, 1, id.scope);
    idempotency_hash(&what, 1, id.body);
    memcpy(origin.seed.b, id.body, UUID_BYTES);
    idempotency_entry_begin(out, &id, &origin, origin.created_at + step);
    idempotency_results_begin(&w, out, 1);
    idempotency_results_add(&w, &(struct idempotency_result){.chunks_added = step});
    idempotency_results_end(&w);
}

/* One of the API keys that are there, held against what the script says of it. */
struct key_count {
    uint32_t steps;
    size_t right, wrong;
};

static bool count_key(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st) {
    struct key_count *c = (struct key_count *)ctx;
    struct buf expected = {0}, found = {0};
    uint32_t step = 0;
    (void)last_used_at;
    (void)st;
    memcpy(&step, key->id.b + 1, sizeof step);
    key_op(step, &expected);
    op_encode_key_add(&found, key);
    bool right = step < c->steps && step + 22 >= c->steps && slice_equal(buf_slice(&expected), buf_slice(&found));
    c->right += right ? 1 : 0;
    c->wrong += right ? 0 : 1;
    buf_fini(&expected);
    buf_fini(&found);
    return true;
}

static bool api_keys_are(struct server *s, uint32_t steps) {
    struct key_count c = {.steps = steps};
    struct status st;
    size_t expected = 0;
    for (uint32_t n = 11; n < steps; n += 50) {
        expected += n + 22 >= steps ? 1 : 0;
    }
    return key_table_each(s->api_keys, count_key, &c, &st) && c.wrong == 0 && c.right == expected;
}

/* What is remembered are the keys of the steps that were done. */
static bool keys_are(struct server *s, uint32_t steps) {
    struct buf copy = {0};
    bool right = true;
    for (uint32_t step = 0; step < SCRIPT_MAX; step += 3) {
        uint8_t scope[IDEMPOTENCY_HASH_BYTES];
        struct idempotency_entry e;
        const struct slice what = slice_of(&step, sizeof step);
        idempotency_hash(&what, 1, scope);
        bool known = idempotency_find(s->keys, scope, 0, &copy, &e);
        right = right && known == (step < steps && is_keyed(step));
        right = right && (!known || (e.clock == 1763935200000000 + step && memcmp(e.id.body, scope, sizeof scope) == 0));
    }
    buf_fini(&copy);
    return right && api_keys_are(s, steps);
}

void script_record(uint32_t step, struct slice op, struct buf *out) {
    struct buf entry = {0};
    if (is_keyed(step)) {
        put_key(step, &entry);
        op_group_begin(out, buf_slice(&entry), 1);
        op_group_add(out, op);
    } else {
        buf_put_slice(out, op);
    }
    buf_fini(&entry);
}

uint32_t server_check(struct server *s) {
    struct oplog_position p;
    uint32_t chunks = 0;
    uint32_t with_vector = 0;
    oplog_position_get(s->log, &p);
    uint32_t steps = s->account->steps_at_lsn[p.durable_lsn];
    assert_true(steps >= s->account->acknowledged);
    assert_true(steps <= s->account->begun);
    assert_true(catalog_digest(s->catalog, &chunks, &with_vector) == oracle_digest(steps));
    assert_int_equal(catalog_published_lsn(s->catalog), p.durable_lsn);
    verify_texts(s->catalog);
    assert_true(keys_are(s, steps));
    /* From here on the script goes on behind what is there. */
    s->account->steps = steps;
    s->account->acknowledged = steps;
    s->account->begun = steps;
    s->account->next_lsn = p.durable_lsn + 1;
    server_tell(s);
    return chunks - with_vector;
}

bool server_find(struct server *s, uint32_t promised, uint32_t begun) {
    struct oplog_position p;
    uint32_t chunks = 0;
    uint32_t with_vector = 0;
    uint64_t digest = catalog_digest(s->catalog, &chunks, &with_vector);
    uint32_t steps = promised;
    while (steps <= begun && (oracle_digest(steps) != digest || !keys_are(s, steps))) {
        steps++;
    }
    oplog_position_get(s->log, &p);
    s->account->steps = steps;
    s->account->acknowledged = steps;
    s->account->begun = steps;
    s->account->steps_at_lsn[p.durable_lsn] = steps;
    s->account->next_lsn = p.durable_lsn + 1;
    return steps <= begun;
}
