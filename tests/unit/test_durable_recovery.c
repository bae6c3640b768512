/* test_durable_recovery.c - starting from every combination of checkpoint, snapshots, log and arenas, whole and damaged. */
#include "recovery_fixture.h"

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "durable/wal_format.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct snapshot_options ordinary = {.compression = SNAPSHOT_ZSTD};

static void must_refuse(struct server *s, const char *mentions) {
    struct status st = {0};
    assert_false(server_start(s, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    if (strstr(st.detail, mentions) == NULL) {
        fail_msg("\"%s\" does not speak of \"%s\"", st.detail, mentions);
    }
}

/* The newest snapshot's name, in path. */
static void newest_snapshot(struct server *s, size_t back, char path[128]) {
    char names[RECOVERY_NAMES_MAX][64];
    size_t count = recovery_names_in(s, "snapshots", "snapshot_", names);
    assert_true(count > back);
    (void)snprintf(path, 128, "snapshots/%s", names[count - 1 - back]);
}

static off_t size_of(struct server *s, const char *path) {
    int fd = openat(s->data.fd, path, O_RDONLY | O_CLOEXEC);
    off_t size = lseek(fd, 0, SEEK_END);
    assert_true(size >= 0);
    assert_int_equal(close(fd), 0);
    return size;
}

/* --- the good cases --- */

static void empty_directory(void **state) {
    struct server *s = (struct server *)*state;
    server_start_ok(s);
    assert_int_equal(s->report.library_count, 0);
    assert_int_equal(s->report.last_lsn, 0);
    assert_int_equal(server_check(s), 0);
    server_crash(s);
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
    recovery_stop_ok(s);
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    assert_int_equal(server_check(s), 0);
    server_steps_ok(s, 10);
    server_crash(s);
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
}

static void orderly_stop(void **state) {
    struct server *s = (struct server *)*state;
    recovery_live_a_little(s);
    for (int round = 0; round < 3; round++) {
        uint32_t until = s->account->steps + 15;
        recovery_stop_ok(s);
        server_start_ok(s);
        assert_true(s->report.from_checkpoint);
        assert_string_equal(s->report.why_not_checkpoint, "");
        assert_int_equal(s->report.replayed_ops, 0);
        assert_int_equal(server_check(s), 0);
        recovery_no_leftovers(s);
        server_steps_ok(s, until);
        uint32_t chunks = 0;
        uint32_t with_vector = 0;
        assert_true(catalog_digest(s->catalog, &chunks, &with_vector) == oracle_digest(until));
    }
}

static void the_report(void **state) {
    struct server *s = (struct server *)*state;
    recovery_live_a_little(s);
    server_crash(s);
    server_start_ok(s);
    const struct recovery_report *r = &s->report;
    const struct uuid far = fixture_library_id(3);
    uint32_t chunks = 0;
    uint32_t kept = 0;
    assert_true(s->told >= 3); /* looking at the checkpoint, verifying and loading the snapshot, replaying */
    assert_false(r->from_checkpoint);
    assert_int_equal(r->snapshot_lsn, 100);
    assert_int_equal(r->last_lsn, 140);
    assert_int_equal(r->replayed_ops, 40);
    assert_non_null(strstr(r->snapshot, "snapshot_"));
    assert_string_equal(r->why_not_checkpoint, "");
    assert_int_equal(r->torn_bytes, 0);
    for (size_t i = 0; i < r->library_count; i++) {
        chunks += r->libraries[i].chunks;
        kept += r->libraries[i].vectors_kept;
        assert_string_equal(r->libraries[i].name, "a library");
        /* of the provider's library just those that were never logged */
        assert_int_equal(r->libraries[i].vectors_pending, uuid_equal(&r->libraries[i].id, &far) ? 4 : 0);
    }
    assert_int_equal(chunks, oracle_chunks(140));
    assert_int_equal(kept, chunks - 4);
    assert_int_equal(server_check(s), 0);
}

/* With and without: a snapshot, the arenas. After a crash every vector is kept; without arenas those of the model are to be made
 * again, those brought are there. */
static void every_combination(void **state) {
    struct server *s = (struct server *)*state;
    for (int snapshots = 0; snapshots < 2; snapshots++) {
        for (int arenas = 0; arenas < 2; arenas++) {
            for (int stopped = 0; stopped < 2; stopped++) {
                struct status st;
                server_start_ok(s);
                (void)server_check(s);
                server_steps_ok(s, s->account->steps + 25);
                if (snapshots != 0) {
                    recovery_snapshot_ok(s);
                    server_steps_ok(s, s->account->steps + 7);
                }
                if (stopped != 0) {
                    recovery_stop_ok(s);
                } else {
                    server_crash(s);
                }
                if (arenas == 0) {
                    assert_true(io_remove_tree(s->data.fd, "vectors", &st));
                }
                server_start_ok(s);
                assert_int_equal(s->report.from_checkpoint, arenas != 0 && stopped != 0);
                uint32_t pending = server_check(s);
                if (arenas != 0) {
                    assert_int_equal(pending, 0);
                } else {
                    assert_true(pending > 0 && pending < oracle_chunks(s->account->steps));
                }
                recovery_no_leftovers(s);
                if (pending > 0) {
                    struct uuid id = fixture_library_id(1);
                    struct library *lib = catalog_acquire(s->catalog, &id);
                    size_t done = 1;
                    while (done > 0) {
                        assert_true(backlog_embed_some(lib, &s->models, 16, &done, &st));
                    }
                    catalog_release(s->catalog, lib);
                }
                server_crash(s);
            }
        }
    }
}

static void a_new_model_means_new_vectors(void **state) {
    struct server *s = (struct server *)*state;
    for (int stopped = 0; stopped < 2; stopped++) {
        s->models.model[0].fingerprint = 77;
        server_start_ok(s);
        (void)server_check(s);
        server_steps_ok(s, s->account->steps + 30);
        if (stopped != 0) {
            recovery_stop_ok(s);
        } else {
            server_crash(s);
        }
        s->models.model[0].fingerprint = 78;
        server_start_ok(s);
        assert_false(s->report.from_checkpoint);
        assert_true(server_check(s) > 0);
        if (stopped != 0) {
            assert_non_null(strstr(s->report.why_not_checkpoint, "another version of the model"));
        }
        server_crash(s);
    }
}

static void lower_limits_lose_nothing(void **state) {
    struct server *s = (struct server *)*state;
    recovery_live_a_little(s);
    server_crash(s);
    s->limits.max_text_bytes = 1;
    s->limits.max_title_bytes = 1;
    s->limits.max_chunks_per_library = 1000;
    s->limits.max_op_bytes = 1;
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
    limits_default(&s->limits);
}

static void strays_are_removed(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    recovery_live_a_little(s);
    recovery_stop_ok(s);
    assert_true(io_mkdir_at(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001", 0700, &st));
    assert_true(io_mkdir_at(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000002.old", 0700, &st));
    assert_true(io_mkdir_at(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000003.trash", 0700, &st));
    assert_true(io_mkdir_at(s->data.fd, "vectors/somebody's notes", 0700, &st));
    file_write(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001/chunks.mmap", slice_str("x"));
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    recovery_no_leftovers(s);
    assert_false(file_exists(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001"));
    assert_true(file_exists(s->data.fd, "vectors/somebody's notes"));
    assert_int_equal(server_check(s), 0);
}

/* A power loss kept the name of a new arena, and lost the removal of the one before under its number. */
static void an_arena_beside_an_old_one_of_its_number(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    recovery_live_a_little(s);
    server_crash(s);
    assert_true(io_mkdir_at(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001.2", 0700, &st));
    assert_true(io_mkdir_at(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001.2.old", 0700, &st));
    file_write(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001.2/chunks.mmap", slice_str("x"));
    file_write(s->data.fd, "vectors/0193a5b0-0000-7000-8000-000000000001.2.old/chunks.mmap", slice_str("y"));
    server_start_ok(s);
    recovery_no_leftovers(s);
    assert_int_equal(server_check(s), 0);
}

/* --- damage --- */

static void damaged_checkpoints(void **state) {
    struct server *s = (struct server *)*state;
    struct buf content = {0};
    recovery_live_a_little(s);
    recovery_stop_ok(s);
    file_read(s->data.fd, "vectors/checkpoint", &content);
    for (size_t at = 0; at < content.len; at += 1 + content.len / 40) {
        for (int kind = 0; kind < 2; kind++) {
            if (kind == 0) {
                file_flip(s->data.fd, "vectors/checkpoint", at, (uint8_t)(1 << at % 8));
            } else {
                file_write(s->data.fd, "vectors/checkpoint", slice_of(content.data, at));
            }
            server_start_ok(s);
            assert_false(s->report.from_checkpoint);
            assert_string_not_equal(s->report.why_not_checkpoint, "");
            assert_int_equal(server_check(s), 0);
            recovery_no_leftovers(s);
            recovery_stop_ok(s);
            file_read(s->data.fd, "vectors/checkpoint", &content);
        }
    }
    buf_fini(&content);
}

/* A flipped byte in any file of an arena, within what is in use: not taken as it is, and a vector that was hit is not kept. */
static void damaged_arenas(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    static const char *const files[] = {"vectors.mmap", "chunks.mmap",  "documents.mmap", "records.mmap", "ids.mmap",
                                        "terms.mmap",   "postings.mmap", "columns.mmap",   "graph.1.mmap"};
    struct uuid id = fixture_library_id(1);
    char text[UUID_TEXT + 1];
    uuid_format(&id, text);
    recovery_live_a_little(s);
    recovery_stop_ok(s);
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[128];
        char names[RECOVERY_NAMES_MAX][64];
        (void)snprintf(path, sizeof path, "vectors/%s", text);
        size_t count = recovery_names_in(s, path, files[f], names);
        if (count == 0) {
            fail_msg("there is no %s", files[f]);
        }
        (void)snprintf(path, sizeof path, "vectors/%s/%s", text, files[f]);
        for (size_t at = f == 0 ? VECTORS_HEAD_BYTES + 100 : 40; at < 4000 + VECTORS_HEAD_BYTES && (off_t)at < size_of(s, path);
             at += 1500) {
            file_flip(s->data.fd, path, at, 0x20);
            server_start_ok(s);
            if (s->report.from_checkpoint) {
                /* only behind what is in use */
                assert_true(f != 0 || at >= VECTORS_HEAD_BYTES + FIXTURE_DIMENSION * 4);
            } else {
                assert_non_null(strstr(s->report.why_not_checkpoint, files[f]));
            }
            uint32_t pending = server_check(s);
            assert_true(pending <= 1);
            if (f == 0 && at == VECTORS_HEAD_BYTES + 100) {
                assert_false(s->report.from_checkpoint);
            }
            struct library *lib = catalog_acquire(s->catalog, &id);
            size_t done = 1;
            while (done > 0) {
                assert_true(backlog_embed_some(lib, &s->models, 16, &done, &st));
            }
            catalog_release(s->catalog, lib);
            recovery_stop_ok(s);
        }
    }
    /* A file that is gone. */
    char path[128];
    (void)snprintf(path, sizeof path, "vectors/%s/vectors.mmap", text);
    assert_int_equal(unlinkat(s->data.fd, path, 0), 0);
    server_start_ok(s);
    assert_false(s->report.from_checkpoint);
    assert_true(server_check(s) > 0);
}

/* Any file that is gone, also one of which nothing was in use: a graph without upper layers. Empty, that one is as good as before. */
static void missing_arena_files(void **state) {
    struct server *s = (struct server *)*state;
    struct uuid id = fixture_library_id(1);
    char text[UUID_TEXT + 1];
    char directory[128];
    char names[RECOVERY_NAMES_MAX][64];
    uuid_format(&id, text);
    (void)snprintf(directory, sizeof directory, "vectors/%s", text);
    server_start_ok(s);
    server_steps_ok(s, 9); /* too few for a layer above the lowest */
    recovery_stop_ok(s);
    size_t count = recovery_names_in(s, directory, "", names);
    assert_true(count > 8);
    for (size_t i = 0; i < 2 * count; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "%s/%s", directory, names[i / 2]);
        if (names[i / 2][0] == '.' || !file_exists(s->data.fd, path)) {
            continue; /* of a graph that was made anew under another name */
        }
        if (i % 2 == 0) {
            assert_int_equal(unlinkat(s->data.fd, path, 0), 0);
        } else {
            file_write(s->data.fd, path, slice_of(NULL, 0));
        }
        server_start_ok(s);
        if (!s->report.from_checkpoint) {
            assert_non_null(strstr(s->report.why_not_checkpoint, names[i / 2]));
        } else {
            assert_true(i % 2 == 1 && strncmp(names[i / 2], "upper.", 6) == 0);
        }
        (void)server_check(s);
        recovery_stop_ok(s);
    }
}

/* What a server before the inverted index left: not taken as it is, and every vector is kept. */
static void arenas_of_the_version_before(void **state) {
    struct server *s = (struct server *)*state;
    static const char *const missing[] = {"terms.mmap", "postings.mmap", "columns.mmap"};
    enum { FORMAT_AT = 8, SUM_BYTES = 4 };
    struct buf content = {0};
    char directories[RECOVERY_NAMES_MAX][64];
    char path[128];
    recovery_live_a_little(s);
    recovery_stop_ok(s);
    server_start_ok(s);
    uint32_t pending = server_check(s);
    recovery_stop_ok(s);
    file_read(s->data.fd, "vectors/checkpoint", &content);
    store_u32le(content.data + FORMAT_AT, 1);
    store_u32le(content.data + content.len - SUM_BYTES, crc32c(0, content.data, content.len - SUM_BYTES));
    file_write(s->data.fd, "vectors/checkpoint", buf_slice(&content));
    size_t count = recovery_names_in(s, "vectors", "1", directories);
    assert_true(count > 0);
    for (size_t i = 0; i < count * 3; i++) {
        (void)snprintf(path, sizeof path, "vectors/%s/%s", directories[i / 3], missing[i % 3]);
        assert_int_equal(unlinkat(s->data.fd, path, 0), 0);
    }
    server_start_ok(s);
    assert_false(s->report.from_checkpoint);
    assert_non_null(strstr(s->report.why_not_checkpoint, "another version"));
    assert_int_equal(server_check(s), pending);
    recovery_stop_ok(s);
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    assert_int_equal(server_check(s), pending);
    buf_fini(&content);
}

/* What a crash beside a compaction leaves: the arena of before and the new one, or one that was being made. */
static void arenas_of_a_compaction(void **state) {
    struct server *s = (struct server *)*state;
    struct uuid id = fixture_library_id(1);
    struct status st = {0};
    char text[UUID_TEXT + 1];
    char from[128];
    char to[128];
    static const char *const suffixes[] = {".7", ".12.new"};
    uuid_format(&id, text);
    recovery_live_a_little(s);
    uint32_t pending = server_check(s);
    for (unsigned round = 0; round < 4; round++) {
        bool damaged = round >= 2; /* the arena of the bare name has lost its vectors */
        server_crash(s);
        char names[RECOVERY_NAMES_MAX][64];
        (void)snprintf(from, sizeof from, "vectors/%s", text);
        size_t count = recovery_names_in(s, from, "", names);
        (void)snprintf(to, sizeof to, "vectors/%s%s", text, suffixes[round % 2]);
        assert_true(io_mkdir_at(s->data.fd, to, 0700, &st));
        int directories[2] = {openat(s->data.fd, from, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                              openat(s->data.fd, to, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
        for (size_t i = 0; i < count; i++) {
            if (names[i][0] != '.') {
                file_copy(directories[0], names[i], directories[1], names[i]);
            }
        }
        if (damaged) {
            assert_int_equal(unlinkat(directories[0], "vectors.mmap", 0), 0);
        }
        assert_int_equal(close(directories[0]), 0);
        assert_int_equal(close(directories[1]), 0);
        server_start_ok(s);
        uint32_t missing = server_check(s);
        if (round == 3) {
            assert_true(missing > pending); /* what was being made is not asked */
        } else {
            assert_int_equal(missing, pending);
        }
        assert_int_equal(recovery_names_in(s, "vectors", text, names), 1);
        assert_string_equal(names[0], text);
        recovery_no_leftovers(s);
    }
}

static void a_stale_checkpoint_is_not_believed(void **state) {
    struct server *s = (struct server *)*state;
    recovery_live_a_little(s);
    recovery_stop_ok(s);
    file_copy(s->data.fd, "vectors/checkpoint", s->data.fd, "kept");
    server_start_ok(s);
    (void)server_check(s);
    server_steps_ok(s, 150);
    server_crash(s);
    /* As if the removal had been lost: the arenas have changed, and the log goes on. */
    file_copy(s->data.fd, "kept", s->data.fd, "vectors/checkpoint");
    server_start_ok(s);
    assert_false(s->report.from_checkpoint);
    assert_int_equal(server_check(s), 0);
}

static void damaged_snapshots(void **state) {
    struct server *s = (struct server *)*state;
    char newest[128];
    char older[128];
    recovery_live_a_little(s);
    server_crash(s);
    newest_snapshot(s, 0, newest);
    newest_snapshot(s, 1, older);
    /* The log begins behind the first snapshot: without the newest, that one and the log must do. Whether the log still reaches
     * so far back depends on where its segments end, so both outcomes are fine, but none is silent. */
    file_flip(s->data.fd, newest, (size_t)size_of(s, newest) / 2, 1);
    struct status st = {0};
    if (server_start(s, &st)) {
        assert_int_equal(s->report.snapshot_lsn, 60);
        assert_int_equal(server_check(s), 0);
        server_crash(s);
    } else {
        assert_int_equal(st.code, STATUS_CORRUPT);
        assert_non_null(strstr(st.detail, "are in no segment and in no good snapshot"));
    }
    file_flip(s->data.fd, newest, (size_t)size_of(s, newest) / 2, 1);
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
}

static void all_snapshots_damaged(void **state) {
    struct server *s = (struct server *)*state;
    char path[128];
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct status st = {0};
    server_start_ok(s);
    server_steps_ok(s, 80);
    /* A snapshot of which the log was not told, so it still holds everything. */
    assert_true(snapshot_cut_take(s->catalog, &cut, &st));
    assert_true(snapshot_write(s->snapshots_fd, &cut, &ordinary, NULL, &info, NULL, &st));
    snapshot_cut_release(s->catalog, &cut);
    server_steps_ok(s, 90);
    server_crash(s);
    newest_snapshot(s, 0, path);
    file_flip(s->data.fd, path, (size_t)size_of(s, path) - 40, 1);
    file_write(s->data.fd, "snapshots/snapshot_20200101_000000.tar.zst", slice_str("nothing"));
    server_start_ok(s);
    assert_string_equal(s->report.snapshot, "");
    assert_int_equal(s->report.replayed_ops, 90);
    assert_int_equal(server_check(s), 0);
}

/* It is good, newer than anything here, and within the log: and none of this server's. */
static void a_snapshot_of_another_log(void **state) {
    struct server *s = (struct server *)*state;
    struct server other;
    struct account account = {0};
    struct snapshot_info info;
    struct status st;
    server_make(&other);
    other.account = &account;
    account.next_lsn = 1;
    server_start_ok(&other);
    server_steps_ok(&other, 70);
    assert_true(server_snapshot(&other, &info, &st));
    server_start_ok(s);
    server_steps_ok(s, 90);
    server_crash(s);
    char path[128];
    (void)snprintf(path, sizeof path, "snapshots/%s", info.name);
    file_copy(other.data.fd, path, s->data.fd, "snapshots/snapshot_20300101_000000.tar.zst");
    server_crash(&other);
    server_remove(&other);
    server_start_ok(s);
    assert_string_equal(s->report.snapshot, "");
    assert_int_equal(s->report.replayed_ops, 90);
    assert_int_equal(server_check(s), 0);
}

/* A snapshot whose sums hold, but that contradicts itself: what it left in the catalog is taken back. */
static void a_snapshot_that_contradicts_itself(void **state) {
    struct server *s = (struct server *)*state;
    struct status st = {0};
    struct snapshot_cut cut;
    struct snapshot_info info;
    char command[2048];
    if (system("command -v tar zstd jq sha256sum >/dev/null 2>&1") != 0) {
        skip();
    }
    server_start_ok(s);
    server_steps_ok(s, 80);
    assert_true(snapshot_cut_take(s->catalog, &cut, &st));
    assert_true(snapshot_write(s->snapshots_fd, &cut, &ordinary, NULL, &info, NULL, &st));
    snapshot_cut_release(s->catalog, &cut);
    server_steps_ok(s, 90);
    server_crash(s);
    (void)snprintf(command, sizeof command,
                   "cd '%s' && mkdir x && cd x && tar --zstd -xf ../snapshots/%s && for f in libraries/*/*.jsonl; do tail -n 1 "
                   "$f >> $f; done && "
                   "sha256sum manifest.json libraries/*/* > SHA256SUMS && tar --zstd -cf ../snapshots/%s . && cd .. && rm -rf x",
                   s->data.path, info.name, info.name);
    assert_int_equal(system(command), 0);
    server_start_ok(s);
    assert_string_equal(s->report.snapshot, "");
    assert_int_equal(server_check(s), 0);
    recovery_no_leftovers(s);
}

static void a_lost_log(void **state) {
    struct server *s = (struct server *)*state;
    struct status st;
    recovery_live_a_little(s);
    server_crash(s);
    assert_true(io_remove_tree(s->data.fd, "wal", &st));
    must_refuse(s, "there is no log");
    s->repair = true;
    server_start_ok(s);
    assert_int_equal(s->report.last_lsn, 100);
    s->account->acknowledged = 100;
    assert_int_equal(server_check(s), 0);
    server_steps_ok(s, 120);
    server_crash(s);
    s->repair = false;
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
    /* The same after an orderly stop: the arenas have it all. */
    recovery_stop_ok(s);
    assert_true(io_remove_tree(s->data.fd, "wal", &st));
    must_refuse(s, "there is no log");
    s->repair = true;
    server_start_ok(s);
    assert_true(s->report.from_checkpoint);
    assert_int_equal(server_check(s), 0);
}

static void a_damaged_log(void **state) {
    struct server *s = (struct server *)*state;
    char names[RECOVERY_NAMES_MAX][64];
    char path[128];
    recovery_live_a_little(s);
    server_crash(s);
    size_t count = recovery_names_in(s, "wal", "wal_", names);
    (void)snprintf(path, sizeof path, "wal/%s", names[count - 2]);
    file_flip(s->data.fd, path, 4096 + 30, 1);
    must_refuse(s, names[count - 2]);
    s->repair = true;
    server_start_ok(s);
    assert_true(s->report.lost_records_bound > 0);
    assert_int_equal(s->report.last_lsn + s->report.lost_records_bound, 140);
    s->account->acknowledged = 0;
    (void)server_check(s);
    server_steps_ok(s, s->account->steps + 10);
    server_crash(s);
    s->repair = false;
    server_start_ok(s);
    assert_int_equal(server_check(s), 0);
}

/* Cuts the last segment of the log within its last record. */
static void tear_log(struct server *s, char name[64]) {
    char names[RECOVERY_NAMES_MAX][64];
    char path[128];
    struct buf content = {0};
    struct wal_header h;
    struct wal_record r;
    struct status st;
    size_t count = recovery_names_in(s, "wal", "wal_", names);
    memcpy(name, names[count - 1], 64);
    (void)snprintf(path, sizeof path, "wal/%s", name);
    file_read(s->data.fd, path, &content);
    assert_true(wal_header_decode(content.data, &h, &st));
    size_t at = WAL_HEADER_BYTES;
    while (wal_record_head(&h, content.data + at, content.len - at, content.len - at, &r) &&
           wal_record_check(&h, content.data + at, &r) && r.type == WAL_RECORD_OP) {
        at += r.head + r.length;
    }
    content.len = at - 5;
    file_write(s->data.fd, path, buf_slice(&content));
    buf_fini(&content);
}

static void a_torn_log(void **state) {
    struct server *s = (struct server *)*state;
    char name[64];
    recovery_live_a_little(s);
    server_crash(s);
    tear_log(s, name);
    server_start_ok(s);
    assert_true(s->report.torn_bytes > 0);
    assert_int_equal(s->report.last_lsn, 139);
    s->account->acknowledged = 139; /* the file was cut behind the server's back */
    assert_int_equal(server_check(s), 0);
    server_crash(s);
    /* After an orderly stop the checkpoint knows better. */
    server_start_ok(s);
    (void)server_check(s);
    recovery_stop_ok(s);
    tear_log(s, name);
    must_refuse(s, name);
    /* Also when the arenas themselves are no good any more. */
    struct uuid id = fixture_library_id(1);
    char text[UUID_TEXT + 1];
    char path[128];
    uuid_format(&id, text);
    (void)snprintf(path, sizeof path, "vectors/%s/chunks.mmap", text);
    file_flip(s->data.fd, path, 8, 1);
    must_refuse(s, name);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(empty_directory, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(orderly_stop, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(the_report, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(every_combination, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_new_model_means_new_vectors, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(lower_limits_lose_nothing, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(an_arena_beside_an_old_one_of_its_number, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(strays_are_removed, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(damaged_checkpoints, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(damaged_arenas, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(missing_arena_files, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(arenas_of_the_version_before, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(arenas_of_a_compaction, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_stale_checkpoint_is_not_believed, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(damaged_snapshots, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(all_snapshots_damaged, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_snapshot_of_another_log, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_snapshot_that_contradicts_itself, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_lost_log, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_log, recovery_set_up, recovery_tear_down),
        cmocka_unit_test_setup_teardown(a_torn_log, recovery_set_up, recovery_tear_down),
    };
    log_set_level(LOG_LEVEL_ERROR); /* what recovery warns of is what these tests do */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
