/*
 * test_durable_check.c - a sound data directory is called sound; damage to files, checkpoint, log and snapshots is found; the advice is true. Faults
 * within arenas: test_durable_check_arena.c.
 */
#include "durable_check_fixture.h"

#include "base/log.h"
#include "index/lexical_internal.h"
#include "store/compact.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- sound --- */

static void a_sound_directory(void **state) {
    (void)state;
    struct check_report r = stopped_check(&stopped, false);
    assert_true(r.has_checkpoint);
    assert_int_equal(r.library_count, 2);
    assert_int_equal(r.total_faults, 0);
    assert_true(r.parts[CHECK_LOG].looked_at > 0);
    assert_int_equal(r.parts[CHECK_SNAPSHOTS].looked_at, 1);
    const struct check_library *l = &r.libraries[r.libraries[0].id.b[15] == 1 ? 0 : 1];
    for (int part = CHECK_FILES; part < CHECK_PARTS; part++) {
        assert_true(l->parts[part].checked);
    }
    const struct library_view *v = &stopped.saved->view;
    assert_int_equal(v->chunk_slots, (CHECKED_DOCUMENTS + 2) * CHUNKS_OF_ONE);
    assert_int_equal(l->parts[CHECK_ROWS].looked_at, v->chunk_slots + v->document_rows);
    assert_int_equal(l->parts[CHECK_VECTORS].looked_at, v->chunk_slots);
    assert_true(l->parts[CHECK_GRAPH].looked_at >= v->live_chunks - CHUNKS_OF_ONE);
    assert_int_equal(l->parts[CHECK_POSTINGS].looked_at, v->live_chunks);
    assert_int_equal(l->parts[CHECK_COLUMNS].looked_at, v->live_chunks);
    assert_string_equal(l->name, "a library");
    check_report_fini(&r);
}

static void nothing_is_written(void **state) {
    (void)state;
    struct fault_plan plan = {.calls = FAULT_CHANGES & ~FAULT_BIT(IO_OPEN), .times = UINT64_MAX, .error = EIO};
    fault_arm(&plan);
    must_be_sound(&stopped);
    assert_int_equal(plan.seen, 0);
    fault_disarm();
}

static void a_running_server(void **state) {
    (void)state;
    struct check_options options = {.data_dir_fd = stopped.server.data.fd};
    struct check_report report = {0};
    struct status st = {0};
    int lock = -1;
    assert_true(data_lock(stopped.server.data.fd, &lock, &st));
    assert_false(check_run(&options, &report, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    io_close(&lock);
    must_be_sound(&stopped);
}

static void no_data_directory(void **state) {
    (void)state;
    struct scratch empty;
    struct check_report report = {0};
    struct status st = {0};
    scratch_make(&empty);
    struct check_options options = {.data_dir_fd = empty.fd};
    assert_false(check_run(&options, &report, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    scratch_remove(&empty);
}

/* --- files --- */

static void every_file_gone_or_short(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    for (size_t i = 0; i < stopped.saved->file_count; i++) {
        struct buf content = {0};
        char path[128];
        const struct checkpoint_file *f = &stopped.saved->files[i];
        stopped_path(&stopped, f->name, path);
        file_read(fd, path, &content);
        assert_int_equal(unlinkat(fd, path, 0), 0);
        must_find(f->name, true, CHECK_FILES, 0, f->name, "missing");
        file_write(fd, path, slice_of(content.data, f->used > 0 ? f->used - 1 : 0));
        if (f->used > 0) {
            must_find(f->name, true, CHECK_FILES, ALSO(CHECK_GRAPH), f->name, "shorter");
        }
        file_write(fd, path, buf_slice(&content));
        buf_fini(&content);
    }
    must_be_sound(&stopped);
}

/* A disk that fails: what it cannot give is not mapped. */
static void every_file_unreadable(void **state) {
    (void)state;
    for (size_t i = 0; i < stopped.saved->file_count; i++) {
        const char *name = stopped.saved->files[i].name;
        struct fault_plan plan = {.calls = FAULT_BIT(IO_READ), .times = UINT64_MAX, .error = EIO, .path = name};
        fault_arm(&plan);
        must_find(name, false, CHECK_FILES, 0, name, "is not as it was saved");
        fault_disarm();
        assert_true(plan.failed >= 2);
    }
    must_be_sound(&stopped);
}

static void the_arena_gone(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    assert_int_equal(renameat(fd, stopped.directory, fd, "vectors/elsewhere"), 0);
    must_find("directory", false, CHECK_FILES, 0, stopped.directory, "cannot be opened");
    assert_int_equal(renameat(fd, "vectors/elsewhere", fd, stopped.directory), 0);
}

/* --- the checkpoint --- */

struct view_plant {
    const char *label;
    size_t offset;
    size_t bytes;
    enum check_part part;
    const char *mentions;
};
#define VIEW_PLANT(member, part, mentions)                                                                                       \
    { #member, offsetof(struct library_view, member), sizeof((struct library_view *)0)->member, part, mentions }

static void every_count_of_the_view(void **state) {
    static const struct view_plant views[] = {
        VIEW_PLANT(live_chunks, CHECK_ROWS, "living chunks"),    VIEW_PLANT(live_documents, CHECK_ROWS, "living documents"),
        VIEW_PLANT(text_bytes, CHECK_ROWS, "bytes of text"),     VIEW_PLANT(live_tokens, CHECK_ROWS, "terms"),
        VIEW_PLANT(stride, CHECK_ROWS, "hold together"),         VIEW_PLANT(terms_used, CHECK_FILES, "another length"),
        VIEW_PLANT(columns_used, CHECK_FILES, "another length"), VIEW_PLANT(document_rows, CHECK_FILES, "another length"),
        VIEW_PLANT(definition, CHECK_ROWS, "definition"),        VIEW_PLANT(model_fingerprint, CHECK_VECTORS, "another model"),
    };
    (void)state;
    struct buf sound = {0};
    file_read(stopped.server.data.fd, CHECKPOINT_PATH, &sound);
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        struct library_view v = stopped.saved->view;
        uint64_t value = 0;
        memcpy(&value, (const uint8_t *)&v + views[i].offset, views[i].bytes);
        value++;
        memcpy((uint8_t *)&v + views[i].offset, &value, views[i].bytes);
        stopped_set_view(&stopped, &v);
        must_find(views[i].label, true, views[i].part, UINT32_MAX, "vectors/", views[i].mentions);
        file_write(stopped.server.data.fd, CHECKPOINT_PATH, buf_slice(&sound));
    }
    buf_fini(&sound);
    must_be_sound(&stopped);
}

static void a_damaged_checkpoint(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    file_flip(fd, CHECKPOINT_PATH, 100, 4);
    must_find("checkpoint", false, CHECK_CHECKPOINT, 0, CHECKPOINT_PATH, "damaged");
    file_flip(fd, CHECKPOINT_PATH, 100, 4);
}

static void no_checkpoint(void **state) {
    (void)state;
    int fd = stopped.server.data.fd;
    assert_int_equal(renameat(fd, CHECKPOINT_PATH, fd, "vectors/aside"), 0);
    struct check_report r = stopped_check(&stopped, false);
    assert_false(r.has_checkpoint);
    assert_int_equal(r.library_count, 0);
    assert_int_equal(r.total_faults, 0);
    assert_true(r.parts[CHECK_LOG].looked_at > 0);
    assert_non_null(strstr(r.parts[CHECK_CHECKPOINT].note, "made again at the next start"));
    check_report_fini(&r);
    assert_int_equal(renameat(fd, "vectors/aside", fd, CHECKPOINT_PATH), 0);
}

/* --- log and snapshots --- */

static void damage_in_the_log(void **state) {
    (void)state;
    char names[64][64];
    char path[128];
    int fd = stopped.server.data.fd;
    int wal = openat(fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = names_with(wal, "wal_", names, 64);
    assert_true(count >= 3);
    for (size_t i = 0; i < count - 1; i++) {
        file_flip(wal, names[i], 4096 + 600, 1);
        must_find("a record", false, CHECK_LOG, 0, "wal", names[i]);
        file_flip(wal, names[i], 4096 + 600, 1);
    }
    file_flip(wal, names[1], 9, 1);
    must_find("a header", false, CHECK_LOG, 0, "wal", names[1]);
    file_flip(wal, names[1], 9, 1);
    assert_int_equal(renameat(wal, names[1], wal, "aside"), 0);
    must_find("a segment", false, CHECK_LOG, 0, "wal", "missing");
    assert_int_equal(renameat(wal, "aside", wal, names[1]), 0);
    assert_int_equal(renameat(fd, "wal", fd, "aside"), 0);
    must_find("the log", false, CHECK_LOG, 0, "wal", "missing");
    assert_int_equal(renameat(fd, "aside", fd, "wal"), 0);
    (void)snprintf(path, sizeof path, "wal/%s", names[0]);
    assert_true(file_exists(fd, path));
    assert_int_equal(close(wal), 0);
    must_be_sound(&stopped);
}

static void damage_in_a_snapshot(void **state) {
    (void)state;
    char names[4][64];
    struct buf content = {0};
    int fd = openat(stopped.server.data.fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(names_with(fd, "snapshot_", names, 4), 1);
    file_read(fd, names[0], &content);
    /* Without a good snapshot the log is short of its beginning. */
    file_flip(fd, names[0], content.len / 2, 1);
    must_find("a byte", false, CHECK_SNAPSHOTS, ALSO(CHECK_LOG), names[0], "");
    file_write(fd, names[0], slice_of(content.data, content.len - 40));
    must_find("cut", false, CHECK_SNAPSHOTS, ALSO(CHECK_LOG), names[0], "");
    file_write(fd, names[0], buf_slice(&content));
    assert_int_equal(renameat(fd, names[0], fd, "aside"), 0);
    must_find("no snapshot", false, CHECK_LOG, 0, "wal", "in no segment and in no good snapshot");
    assert_int_equal(renameat(fd, "aside", fd, names[0]), 0);
    assert_int_equal(close(fd), 0);
    buf_fini(&content);
    must_be_sound(&stopped);
}

static void a_record_that_is_no_op(void **state) {
    (void)state;
    struct stopped s;
    stopped_begin(&s);
    stopped_log_garbage(&s.server);
    stopped_stop(&s);
    struct check_report r = stopped_check(&s, false);
    assert_int_equal(r.total_faults, 1);
    assert_int_equal(r.faults[0].part, CHECK_LOG);
    assert_int_equal(r.faults[0].place, CHECK_LSN);
    check_report_fini(&r);
    stopped_remove(&s);
}

static void a_checkpoint_of_another_time(void **state) {
    (void)state;
    struct stopped s;
    struct buf old = {0};
    struct buf op = {0};
    struct uuid library = fixture_library_id(7);
    stopped_make(&s);
    file_read(s.server.data.fd, CHECKPOINT_PATH, &old);
    checkpoint_fini(&s.checkpoint);
    server_start_ok(&s.server);
    fixture_library_op(&op, OP_LIBRARY_CREATE, &library, INDEX_FLAT, "test");
    stopped_commit(&s.server, &op);
    server_crash(&s.server);
    file_write(s.server.data.fd, CHECKPOINT_PATH, buf_slice(&old));
    struct check_report r = stopped_check(&s, true);
    assert_int_equal(r.parts[CHECK_CHECKPOINT].faults, 1);
    assert_non_null(strstr(r.faults[0].what, "another time"));
    check_report_fini(&r);
    stopped_remove(&s);
    buf_fini(&old);
    buf_fini(&op);
}

/* --- what to do about it --- */

static void follow(struct stopped *s, const char *directory) {
    struct status st = {0};
    uint32_t chunks = 0;
    uint32_t with_vector = 0;
    assert_true(io_remove_tree(s->server.data.fd, directory, &st));
    server_start_ok(&s->server);
    assert_false(s->server.report.from_checkpoint);
    assert_true(catalog_digest(s->server.catalog, &chunks, &with_vector) == s->digest);
    assert_int_equal(chunks, s->chunks);
    stopped_link(&s->server);
    checkpoint_fini(&s->checkpoint);
}

/* A fault that no sum finds: the checkpoint is written with it. */
static void the_advice_is_true(void **state) {
    (void)state;
    struct stopped s;
    char advice[1024];
    char path[128];
    char full[640];
    stopped_begin(&s);
    stopped_stop(&s);
    stopped_path(&s, "terms.mmap", path);
    file_flip(s.server.data.fd, path, offsetof(struct terms_head, postings), 1);
    struct check_report r = stopped_check(&s, true);
    assert_true(r.total_faults > 0);
    assert_int_equal(r.faults[0].part, CHECK_POSTINGS);
    check_advice(&r, &r.faults[0], s.server.data.path, advice, sizeof advice);
    (void)snprintf(full, sizeof full, "delete %s/%s while the server is stopped: it is made again from the log and the snapshots",
                   s.server.data.path, s.directory);
    assert_string_equal(advice, full);
    check_report_fini(&r);
    follow(&s, s.directory);
    stopped_remove(&s);
}

/* Where the log could not make them again, nobody is told to delete arenas. */
static void no_bad_advice(void **state) {
    (void)state;
    char names[4][64];
    char advice[1024];
    int fd = openat(stopped.server.data.fd, "snapshots", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(names_with(fd, "snapshot_", names, 4), 1);
    assert_int_equal(renameat(fd, names[0], fd, "aside"), 0);
    struct check_report r = stopped_check(&stopped, false);
    struct check_fault f = {.part = CHECK_GRAPH, .file = "vectors/x/graph.1.mmap"};
    assert_true(r.total_faults > 0);
    check_advice(&r, &f, "DIR", advice, sizeof advice);
    assert_non_null(strstr(advice, "Delete nothing under DIR/vectors"));
    check_report_fini(&r);
    assert_int_equal(renameat(fd, "aside", fd, names[0]), 0);
    assert_int_equal(close(fd), 0);
}

/* --- other ways to a checkpoint --- */

static void after_a_recovery_and_a_compaction(void **state) {
    (void)state;
    struct stopped s;
    struct status st = {0};
    struct uuid id = fixture_library_id(1);
    struct compaction *k = NULL;
    bool more = true;
    stopped_begin(&s);
    server_crash(&s.server);
    server_start_ok(&s.server);
    struct library *lib = catalog_acquire(s.server.catalog, &id);
    assert_true(compaction_new(s.server.catalog, lib, &k, &st) && compaction_begin(k, &st));
    while (more) {
        assert_true(compaction_step(k, 10, &more, &st));
    }
    assert_true(compaction_switch(k, &st));
    catalog_publish(s.server.catalog, s.server.account->next_lsn - 1, 1000000, NULL, NULL);
    compaction_end(k);
    catalog_release(s.server.catalog, lib);
    stopped_link(&s.server);
    stopped_stop(&s);
    assert_int_equal(s.saved->view.chunk_slots, s.saved->view.live_chunks);
    must_be_sound(&s);
    stopped_remove(&s);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_sound_directory, no_complaints),
        cmocka_unit_test_teardown(nothing_is_written, no_complaints),
        cmocka_unit_test_teardown(a_running_server, no_complaints),
        cmocka_unit_test_teardown(no_data_directory, no_complaints),
        cmocka_unit_test_teardown(every_file_gone_or_short, no_complaints),
        cmocka_unit_test_teardown(every_file_unreadable, no_complaints),
        cmocka_unit_test_teardown(the_arena_gone, no_complaints),
        cmocka_unit_test_teardown(every_count_of_the_view, no_complaints),
        cmocka_unit_test_teardown(a_damaged_checkpoint, no_complaints),
        cmocka_unit_test_teardown(no_checkpoint, no_complaints),
        cmocka_unit_test_teardown(damage_in_the_log, no_complaints),
        cmocka_unit_test_teardown(damage_in_a_snapshot, no_complaints),
        cmocka_unit_test_teardown(a_record_that_is_no_op, no_complaints),
        cmocka_unit_test_teardown(a_checkpoint_of_another_time, no_complaints),
        cmocka_unit_test_teardown(the_advice_is_true, no_complaints),
        cmocka_unit_test_teardown(no_bad_advice, no_complaints),
        cmocka_unit_test_teardown(after_a_recovery_and_a_compaction, no_complaints),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, make_stopped, remove_stopped);
}
