/* durable_server.c - see durable_server.h. */
#include "durable_server.h"

#include "base/hash.h"
#include "durable/snapshot_api_keys.h"
#include "index/distance.h"
#include "store/backlog.h"
#include "store/compact.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORKERS = 4, CATALOG_CAPACITY = 64, PATIENCE_US = 1000000, BROUGHT_DIMENSION = 7, PENDING_EVERY = 5, FAR_FINGERPRINT = 4711 };

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
static void script_op(uint32_t n, struct buf *out) {
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

static float *vectors_for(const struct op *op) {
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

/* The record of a step: its op, or a group of it and its entry. */
static void make_record(uint32_t step, struct slice op, struct buf *out) {
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

static void tell(const struct server *s) {
    if (s->noted != NULL) {
        s->noted(s->noted_ctx, s->account);
    }
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
    tell(s);
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

/* --- the server --- */

static bool embed_texts(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out,
                        struct status *st) {
    (void)e;
    (void)role;
    (void)st;
    for (size_t i = 0; i < count; i++) {
        fixture_embed(texts[i], out + i * FIXTURE_DIMENSION);
    }
    return true;
}

static void make_rest(struct server *s) {
    (void)oracle_digest(0);
    limits_default(&s->limits);
    s->models.count = 4;
    s->models.model[1] = (struct embedder){.name = "far", .remote = true, .where = "far away"};
    s->models.model[0] = (struct embedder){
        .name = "test", .dimension = FIXTURE_DIMENSION, .fingerprint = 77, .where = "here", .embed = embed_texts};
    s->models.model[2] = (struct embedder){ /* the same vectors under another name: for exchanges */
        .name = "twin", .dimension = FIXTURE_DIMENSION, .fingerprint = 99, .where = "here", .embed = embed_texts};
    s->models.model[3] = (struct embedder){.name = "paid", .remote = true, .number = 1, .where = "far away"}; /* and a provider's */
    (void)distance_init(NULL);
    s->account = (struct account *)mmap(NULL, sizeof *s->account, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(s->account != MAP_FAILED);
    s->account->next_lsn = 1;
}

static const struct server closed = {.vectors_fd = -1, .snapshots_fd = -1, .control_fd = -1};

void server_make(struct server *s) {
    *s = closed;
    scratch_make(&s->data);
    make_rest(s);
}

void server_make_in(struct server *s, int data_dir_fd) {
    *s = closed;
    s->data.fd = data_dir_fd;
    make_rest(s);
}

void server_remove(struct server *s) {
    fault_disarm();
    (void)munmap(s->account, sizeof *s->account);
    if (s->data.path[0] != '\0') {
        scratch_remove(&s->data);
    }
}

static void note_progress(void *ctx, const char *what, double fraction) {
    struct server *s = (struct server *)ctx;
    assert_true(what[0] != '\0' && fraction >= 0 && fraction <= 1);
    s->told++;
}

bool server_start(struct server *s, struct status *st) {
    if (!io_mkdir_at(s->data.fd, "vectors", 0700, st) || !io_mkdir_at(s->data.fd, "snapshots", 0700, st) ||
        !io_open_at(s->data.fd, "vectors", O_RDONLY | O_DIRECTORY, 0, &s->vectors_fd, st) ||
        !io_open_at(s->data.fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &s->snapshots_fd, st) ||
        !control_create(WORKERS, sizeof(struct library_view), CATALOG_CAPACITY, 64, &s->control_fd, &s->control, st)) {
        server_crash(s);
        return false;
    }
    struct catalog_options c = {
        .vectors_dir_fd = s->vectors_fd, .control = s->control, .limits = &s->limits, .models = &s->models, .keep_replaced = true};
    struct recovery_options r = {.data_dir_fd = s->data.fd,
                                 .wal_segment_bytes = 8192,
                                 .max_record_bytes = 1 << 20,
                                 .limits = &s->limits,
                                 .repair = s->repair,
                                 .progress = note_progress,
                                 .progress_ctx = s};
    const struct idempotency_limits keys = {.max_keys = SCRIPT_MAX, .max_bytes = 1 << 20, .ttl_us = INT64_C(1) << 60};
    if (!idempotency_new(&keys, &s->keys, st) || !key_table_new(KEYS_MOST, &s->api_keys, st)) {
        server_crash(s);
        return false;
    }
    r.idempotency = s->keys;
    r.keys = s->api_keys;
    if (!catalog_new(&c, &s->catalog, st) || !recovery_run(&r, s->catalog, &s->log, &s->report, st)) {
        server_crash(s);
        return false;
    }
    return true;
}

void server_start_ok(struct server *s) {
    struct status st = {0};
    if (!server_start(s, &st)) {
        fail_msg("start: %s", st.detail);
    }
}

static void own_work(const struct server *s, bool begins) {
    if (s->own_work != NULL) {
        s->own_work(begins);
    }
}

struct step {
    struct buf bytes;  /* the op */
    struct buf record; /* what is logged */
    struct op op;
    float *vectors;
    struct idempotency_held *held;
};

/* What workers would send. Returns how many steps can go into one batch. */
static uint32_t make_steps(const struct server *s, struct step *steps, uint32_t most) {
    struct op_set *touched = op_set_new();
    struct status st = {0};
    uint32_t count = 0;
    assert_non_null(touched);
    while (count < most && s->account->steps + count < SCRIPT_MAX) {
        struct step *step = &steps[count];
        uint32_t number = s->account->steps + count;
        script_op(number, &step->bytes);
        assert_true(op_decode(buf_slice(&step->bytes), &s->limits, &step->op, &st));
        if (op_set_conflicts_or_add(touched, &step->op)) {
            break;
        }
        make_record(number, buf_slice(&step->bytes), &step->record);
        bool pending = s->some_pending && number % PENDING_EVERY == 0;
        step->vectors = pending ? NULL : vectors_for(&step->op);
        count++;
    }
    op_set_free(touched);
    return count;
}

static bool prepare_key(struct step *step, struct status *st) {
    struct op_walk walk;
    return op_walk_begin(&walk, buf_slice(&step->record), NULL, st) &&
           (walk.entry.len == 0 || idempotency_prepare(walk.entry, &step->held, st));
}

/* Those that can be done, checked and with what they need. 0: not even the first. */
static uint32_t form_batch(struct server *s, struct step *steps, uint32_t most, struct status *st) {
    uint32_t count = 0;
    while (count < most) {
        struct step *step = &steps[count];
        if (!(op_is_of_keys(&step->op) ? key_table_check(s->api_keys, &step->op, st) : catalog_check(s->catalog, &step->op, st))) {
            if (st->code != STATUS_NO_MEMORY) {
                fail_msg("step %u: %s", s->account->steps + count, st->detail);
            }
            break;
        }
        if (!prepare_key(step, st) || (!op_is_of_keys(&step->op) && !catalog_reserve(s->catalog, &step->op, st))) {
            break;
        }
        count++;
    }
    return count;
}

static bool append_batch(struct server *s, const struct step *steps, uint32_t count, struct status *st) {
    struct account *a = s->account;
    struct oplog_record records[SERVER_BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        records[i] = (struct oplog_record){.lsn = a->next_lsn + i,
                                           .time_us = 1763935200000000 + (int64_t)(a->next_lsn + i),
                                           .op = buf_slice(&steps[i].record)};
        a->steps_at_lsn[a->next_lsn + i] = a->steps + i + 1;
    }
    a->steps += count;
    a->begun = a->steps > a->begun ? a->steps : a->begun;
    tell(s);
    if (!oplog_append(s->log, records, count, st)) {
        a->steps -= count;
        return false;
    }
    return true;
}

bool server_idle(struct server *s, struct status *st) {
    return oplog_guard(s->log, st);
}

static void apply_batch(struct server *s, struct step *steps, uint32_t count) {
    struct account *a = s->account;
    for (uint32_t i = 0; i < count; i++) {
        if (steps[i].held != NULL) {
            idempotency_insert(s->keys, steps[i].held, a->next_lsn + i, 1763935200000000 + (int64_t)(a->next_lsn + i));
            steps[i].held = NULL;
        }
        if (op_is_of_keys(&steps[i].op)) {
            (void)key_table_apply(s->api_keys, &steps[i].op, a->next_lsn + i);
        } else {
            catalog_apply(s->catalog, &steps[i].op, a->next_lsn + i, 0, steps[i].vectors, NULL);
        }
    }
    a->next_lsn += count;
    catalog_publish(s->catalog, a->next_lsn - 1, PATIENCE_US, NULL, NULL);
    a->acknowledged = a->steps;
    a->begun = a->steps;
    tell(s);
}

static void drop_steps(struct step *steps) {
    for (uint32_t i = 0; i < SERVER_BATCH_MAX; i++) {
        buf_fini(&steps[i].bytes);
        buf_fini(&steps[i].record);
        free(steps[i].vectors);
        idempotency_drop(steps[i].held);
    }
}

bool server_batch(struct server *s, uint32_t most, struct status *st) {
    struct step steps[SERVER_BATCH_MAX] = {{.held = NULL}};
    assert_true(most > 0 && most <= SERVER_BATCH_MAX && s->account->steps < SCRIPT_MAX);
    own_work(s, true);
    uint32_t made = make_steps(s, steps, most);
    own_work(s, false);
    uint32_t count = form_batch(s, steps, made, st);
    bool ok = count > 0 && append_batch(s, steps, count, st);
    if (ok) {
        apply_batch(s, steps, count);
    } else {
        catalog_abandon(s->catalog);
    }
    drop_steps(steps);
    return ok;
}

bool server_step(struct server *s, struct status *st) {
    return server_batch(s, 1, st);
}

void server_steps_ok(struct server *s, uint32_t until) {
    while (s->account->steps < until) {
        struct status st = {0};
        if (!server_step(s, &st)) {
            fail_msg("step %u: %s", s->account->steps, st.detail);
        }
    }
}

/* What checkpoints leave of the log that a snapshot does not need. */
static uint64_t floor_of(const struct server *s, uint64_t lsn) {
    uint64_t floor = s->live != NULL ? live_checkpoint_floor(s->live) : s->report.live.lsn;
    return floor != 0 && floor < lsn ? floor : lsn;
}

/* One that fails ends them: what it has to say is said by the next step of the test. */
static void steps_between(struct server *s) {
    struct status ignored;
    bool ok = true;
    for (uint32_t i = 0; ok && i < s->steps_between && s->account->steps < s->steps_most; i++) {
        ok = server_step(s, &ignored);
    }
}

static bool call_between_steps(void *host, live_fn fn, void *ctx, struct status *st) {
    struct server *s = (struct server *)host;
    bool ok = fn(ctx, st);
    steps_between(s);
    return ok;
}

static void put_keys(void *host, uint64_t lsn, struct buf *out) {
    idempotency_encode(((struct server *)host)->keys, lsn, out);
}

static void put_api_keys(void *host, struct buf *out) {
    key_table_encode(((struct server *)host)->api_keys, out);
}

bool server_live_checkpoint(struct server *s, struct live_report *ret, struct status *st) {
    const struct live_options options = {
        .data_dir_fd = s->data.fd, .catalog = s->catalog, .log = s->log, .call = call_between_steps, .extra = put_keys, .api_keys = put_api_keys, .host = s};
    struct live_report report;
    if (s->live == NULL && !live_checkpointer_new(&options, &s->report.live, s->report.from_live, &s->live, st)) {
        return false;
    }
    return live_checkpoint_take(s->live, ret != NULL ? ret : &report, st);
}

bool server_snapshot(struct server *s, struct snapshot_info *ret, struct status *st) {
    const struct snapshot_options options = {.compression = SNAPSHOT_ZSTD, .chain_max = s->chain_max, .base = s->base};
    struct snapshot_base *base = NULL;
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct oplog_position p;
    if (!snapshot_cut_take(s->catalog, &cut, st)) {
        return false;
    }
    oplog_position_get(s->log, &p);
    cut.log_place = p.place;
    cut.keys = s->keys;
    snapshot_put_api_keys(s->api_keys, &cut.api_keys);
    bool ok = snapshot_write(s->snapshots_fd, &cut, &options, NULL, &info, &base, st) &&
              oplog_publish_snapshot(s->log, floor_of(s, cut.lsn), st);
    snapshot_cut_release(s->catalog, &cut);
    if (base != NULL) {
        snapshot_base_free(s->base);
        s->base = base;
    }
    if (ok && ret != NULL) {
        *ret = info;
    }
    return ok;
}

/* --- behind the commits --- */

typedef bool (*library_fn)(struct server *s, struct library *lib, void *ctx, struct status *st);

static bool for_all_libraries(struct server *s, library_fn fn, void *ctx, struct status *st) {
    struct library **libraries = NULL;
    size_t count = 0;
    if (!catalog_acquire_linkable(s->catalog, &libraries, &count, st)) {
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        ok = ok && fn(s, libraries[i], ctx, st);
        catalog_release(s->catalog, libraries[i]);
    }
    free(libraries);
    return ok;
}

static bool embed_library(struct server *s, struct library *lib, void *ctx, struct status *st) {
    size_t done = 1;
    bool ok = true;
    (void)ctx;
    while (ok && done > 0) {
        ok = backlog_embed_some(lib, &s->models, 32, &done, st);
    }
    return ok;
}

bool server_embed(struct server *s, struct status *st) {
    bool ok = for_all_libraries(s, embed_library, NULL, st);
    catalog_publish(s->catalog, s->account->next_lsn - 1, PATIENCE_US, NULL, NULL);
    return ok;
}

static bool link_library(struct server *s, struct library *lib, void *ctx, struct status *st) {
    size_t done = 1;
    bool ok = true;
    (void)s;
    while (ok && done > 0) {
        ok = backlog_link_some(lib, (struct backlog_linker *)ctx, 32, &done, st);
    }
    return ok;
}

bool server_link(struct server *s, struct status *st) {
    struct backlog_linker *linker = backlog_linker_new();
    bool ok = linker != NULL ? for_all_libraries(s, link_library, linker, st) : status_no_memory(st);
    backlog_linker_free(linker);
    return ok;
}

static bool carry_compaction(struct server *s, struct compaction *k, struct status *st) {
    bool ready = false;
    while (!ready) {
        uint64_t done = 0;
        uint64_t total = 0;
        bool more = false;
        if (!compaction_step(k, 8, &more, st) || !server_link(s, st)) {
            return false;
        }
        steps_between(s);
        compaction_progress(k, &done, &total, &ready);
    }
    return compaction_switch(k, st);
}

bool server_compact(struct server *s, const struct uuid *library, struct status *st) {
    struct library *lib = catalog_acquire(s->catalog, library);
    struct compaction *k = NULL;
    if (lib == NULL) {
        return true;
    }
    bool ok = compaction_new(s->catalog, lib, &k, st) && compaction_begin(k, st) && carry_compaction(s, k, st);
    catalog_publish(s->catalog, s->account->next_lsn - 1, PATIENCE_US, NULL, NULL);
    compaction_end(k);
    catalog_release(s->catalog, lib);
    return ok;
}

bool server_rebuild(struct server *s, const struct uuid *library, struct status *st) {
    struct library *lib = catalog_acquire(s->catalog, library);
    struct index_settings settings;
    bool ready = false;
    if (lib == NULL) {
        return true;
    }
    struct reading rd;
    library_reading(lib, &rd);
    settings = rd.view.index;
    bool ok = backlog_rebuild_begin(lib, &settings, st);
    bool begun = ok;
    while (ok && !ready) {
        uint64_t done = 0;
        uint64_t total = 0;
        ok = server_link(s, st);
        steps_between(s);
        backlog_rebuild_progress(lib, &done, &total, &ready);
    }
    ok = ok && backlog_rebuild_switch(s->catalog, lib, st);
    if (begun && !ok) {
        backlog_rebuild_cancel(lib);
    }
    catalog_publish(s->catalog, s->account->next_lsn - 1, PATIENCE_US, NULL, NULL);
    catalog_release(s->catalog, lib);
    return ok;
}

/* --- ends --- */

void server_crash(struct server *s) {
    live_checkpointer_free(s->live);
    snapshot_base_free(s->base);
    s->live = NULL;
    s->base = NULL;
    catalog_free(s->catalog);
    idempotency_free(s->keys);
    key_table_free(s->api_keys);
    oplog_close(s->log);
    if (s->control != NULL) {
        control_unmap(s->control);
    }
    recovery_report_fini(&s->report);
    io_close(&s->control_fd);
    io_close(&s->vectors_fd);
    io_close(&s->snapshots_fd);
    s->catalog = NULL;
    s->keys = NULL;
    s->api_keys = NULL;
    s->log = NULL;
    s->control = NULL;
}

bool server_stop(struct server *s, struct status *st) {
    struct account *a = s->account;
    struct buf bytes = {0};
    own_work(s, true);
    op_encode_log_close(&bytes);
    own_work(s, false);
    a->steps_at_lsn[a->next_lsn] = a->steps;
    const struct oplog_record close = {.lsn = a->next_lsn, .time_us = 1763935200000000 + (int64_t)a->next_lsn, .op = buf_slice(&bytes)};
    bool ok = oplog_append(s->log, &close, 1, st);
    if (ok) {
        a->next_lsn++;
        (void)!oplog_guard(s->log, NULL);
        ok = checkpoint_write(s->data.fd, s->catalog, s->keys, s->api_keys, a->next_lsn - 1, st);
    }
    buf_fini(&bytes);
    server_crash(s);
    return ok;
}
