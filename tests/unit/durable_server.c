/* durable_server.c - see durable_server.h. The script and its oracle are in durable_server_oracle.c. */
#include "durable_server_internal.h"

#include "durable/snapshot_api_keys.h"
#include "index/distance.h"
#include "store/backlog.h"
#include "store/compact.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WORKERS = 4, CATALOG_CAPACITY = 64, PATIENCE_US = 1000000, PENDING_EVERY = 5 };

void server_tell(const struct server *s) {
    if (s->noted != NULL) {
        s->noted(s->noted_ctx, s->account);
    }
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
        script_record(number, buf_slice(&step->bytes), &step->record);
        bool pending = s->some_pending && number % PENDING_EVERY == 0;
        step->vectors = pending ? NULL : script_vectors(&step->op);
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
    server_tell(s);
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
    server_tell(s);
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
