/* test_durable_snapshot_keep.c - which snapshots stay: by count, by day, what others rest on, what verified; whatever the clock says. */
#include "durable_fixture.h"
#include "store_fixture.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "durable/snapshot_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RECORD "record"
#define DAY_US INT64_C(86400000000)

enum { AT_STEADY = 12, TAKEN_MAX = 40 };

struct keep {
    struct fixture *store;
    struct scratch dir;
    struct snapshot_record *record;
    struct snapshot_options options;
    struct snapshot_base *base;
    struct snapshot_info taken[TAKEN_MAX];
    size_t count;
};

static int set_up(void **state) {
    struct keep *k = (struct keep *)calloc(1, sizeof *k);
    void *store = NULL;
    struct status st;
    scratch_make(&k->dir);
    assert_int_equal(fixture_set_up(&store), 0);
    k->store = (struct fixture *)store;
    assert_true(snapshot_record_open(k->dir.fd, &k->record, &st));
    for (unsigned i = 1; i <= 4; i++) {
        struct uuid id = fixture_library_id(i);
        fixture_create(k->store, &id, INDEX_HNSW, "test");
    }
    *state = k;
    return 0;
}

static int tear_down(void **state) {
    struct keep *k = (struct keep *)*state;
    void *store = k->store;
    clock_set_shift(NULL);
    fault_disarm();
    snapshot_base_free(k->base);
    snapshot_record_free(k->record);
    scratch_remove(&k->dir);
    int failed = fixture_tear_down(&store);
    free(k);
    return failed;
}

static const char *take(struct keep *k) {
    struct snapshot_cut cut;
    struct snapshot_base *next = NULL;
    struct uuid id = fixture_library_id(1);
    struct status st = {0};
    struct snapshot_info *info = &k->taken[k->count++];
    fixture_put(k->store, &id, PUT_REPLACE, "d", 1, "text");
    assert_true(snapshot_cut_take(k->store->catalog, &cut, &st));
    k->options.compression = SNAPSHOT_ZSTD;
    k->options.base = k->base;
    bool ok = snapshot_write(k->dir.fd, &cut, &k->options, NULL, info, &next, &st);
    snapshot_cut_release(k->store->catalog, &cut);
    if (!ok) {
        fail_msg("snapshot_write: %s", st.detail);
    }
    snapshot_base_free(k->base);
    k->base = next;
    assert_true(snapshot_record_written(k->record, info, snapshot_base_sum(next), &st));
    return info->name;
}

static struct snapshot_pruned prune(struct keep *k, uint32_t keep, uint32_t days) {
    struct snapshot_retention retention = {.keep = keep, .keep_days = days, .record = k->record};
    struct snapshot_pruned pruned;
    struct status st = {0};
    if (!snapshot_prune(k->dir.fd, &retention, &pruned, &st)) {
        fail_msg("snapshot_prune: %s", st.detail);
    }
    return pruned;
}

static void reopen(struct keep *k) {
    struct status st;
    snapshot_record_free(k->record);
    assert_true(snapshot_record_open(k->dir.fd, &k->record, &st));
}

/* As if the server had been stopped for so long. */
static void days_pass(struct keep *k, double days) {
    struct buf content = {0};
    file_read(k->dir.fd, RECORD, &content);
    store_u64le(content.data + AT_STEADY, load_u64le(content.data + AT_STEADY) + (uint64_t)(days * (double)DAY_US));
    store_u32le(content.data + content.len - 4, crc32c(0, content.data, content.len - 4));
    file_write(k->dir.fd, RECORD, buf_slice(&content));
    buf_fini(&content);
    reopen(k);
}

static bool there(struct keep *k, size_t i) {
    return file_exists(k->dir.fd, k->taken[i].name);
}

/* --- tests --- */

static void newest_and_days(void **state) {
    struct keep *k = (struct keep *)*state;
    /* four a day for ten days */
    for (int day = 0; day < 10; day++) {
        for (int i = 0; i < 4; i++) {
            (void)take(k);
        }
        if (day < 9) {
            days_pass(k, 1);
        }
    }
    struct snapshot_pruned pruned = prune(k, 3, 7);
    /* the last three; of the six days before this one the last of each */
    assert_int_equal(pruned.kept, 3 + 6);
    assert_int_equal(pruned.removed, 40 - 9);
    assert_true(there(k, 39) && there(k, 38) && there(k, 37) && !there(k, 36));
    for (size_t day = 3; day < 9; day++) {
        assert_true(there(k, day * 4 + 3));
        assert_false(there(k, day * 4 + 2));
    }
    assert_false(there(k, 2 * 4 + 3));
    assert_true(pruned.oldest_lsn == k->taken[3 * 4 + 3].lsn);
    /* again: nothing */
    assert_int_equal(prune(k, 3, 7).removed, 0);
    /* no days: the count alone */
    assert_int_equal(prune(k, 3, 0).kept, 3);
    days_pass(k, 30);
    /* and however old they are */
    assert_int_equal(prune(k, 3, 7).kept, 3);
    assert_int_equal(prune(k, 0, 0).kept, 1);
}

static void what_others_rest_on(void **state) {
    struct keep *k = (struct keep *)*state;
    struct snapshot_info info;
    struct status st;
    k->options.chain_max = 3;
    for (int i = 0; i < 11; i++) {
        (void)take(k); /* 0 whole, 1 2 3 on it, 4 whole, 5 6 7, 8 whole, 9 10 */
    }
    assert_int_equal(k->taken[10].depth, 2);
    assert_int_equal(prune(k, 1, 0).removed, 8);
    assert_true(there(k, 8) && there(k, 9) && there(k, 10));
    assert_true(snapshot_verify(k->dir.fd, k->taken[10].name, &info, &st));
    for (int i = 11; i < 13; i++) {
        (void)take(k);
    }
    assert_string_equal(k->taken[12].base, "");
    assert_int_equal(prune(k, 1, 0).kept, 1);
}

/* A crash in the middle leaves nothing without its base: what rests on others goes first. */
static void removal_is_cut_off(void **state) {
    struct keep *k = (struct keep *)*state;
    k->options.chain_max = 3;
    for (int i = 0; i < 9; i++) {
        (void)take(k);
    }
    for (uint64_t after = 0; after < 8; after++) {
        struct fault_plan plan = {.calls = FAULT_BIT(IO_UNLINK), .after = 1, .times = UINT64_MAX, .error = EIO};
        struct snapshot_retention retention = {.keep = 1, .record = k->record};
        struct snapshot_pruned pruned;
        struct snapshot_info *list = NULL;
        struct snapshot_info info;
        struct status st;
        size_t count = 0;
        fault_arm(&plan);
        (void)!snapshot_prune(k->dir.fd, &retention, &pruned, &st);
        fault_disarm();
        assert_true(snapshot_list(k->dir.fd, &list, &count, &st));
        for (size_t i = 0; i < count; i++) {
            assert_true(snapshot_verify(k->dir.fd, list[i].name, &info, &st));
        }
        assert_true(there(k, 8));
        free(list);
    }
}

static void the_last_that_verified(void **state) {
    struct keep *k = (struct keep *)*state;
    struct snapshot_note good;
    struct status st;
    k->options.chain_max = 1;
    for (int i = 0; i < 8; i++) {
        (void)take(k); /* whole ones are even */
    }
    assert_false(snapshot_record_last_good(k->record, &good));
    assert_true(snapshot_record_verified(k->record, &k->taken[3], true, &st));
    assert_true(snapshot_record_verified(k->record, &k->taken[1], true, &st));
    assert_true(snapshot_record_verified(k->record, &k->taken[5], false, &st));
    reopen(k);
    assert_true(snapshot_record_last_good(k->record, &good));
    assert_string_equal(good.name, k->taken[3].name);
    assert_true(good.good && good.verified_at != 0);
    assert_int_equal(prune(k, 1, 0).kept, 4);
    assert_true(there(k, 7) && there(k, 6) && there(k, 3) && there(k, 2));
    /* a newer one takes its place; one that failed since does not count */
    assert_true(snapshot_record_verified(k->record, &k->taken[6], true, &st));
    assert_true(snapshot_record_last_good(k->record, &good));
    assert_string_equal(good.name, k->taken[6].name);
    assert_true(snapshot_record_verified(k->record, &k->taken[6], false, &st));
    assert_true(snapshot_record_last_good(k->record, &good));
    assert_string_equal(good.name, k->taken[3].name);
}

/* Set the clock as you like: while the machine is up nothing gets older or younger by it. */
static void clocks_that_jump(void **state) {
    struct keep *k = (struct keep *)*state;
    static const int64_t jumps[] = {DAY_US, -DAY_US, 40 * DAY_US, -40 * DAY_US, 0};
    int64_t shift = 0;
    clock_set_shift(&shift);
    for (int day = 0; day < 7; day++) {
        (void)take(k);
        days_pass(k, day < 6 ? 1 : 0.9);
    }
    for (size_t i = 0; i < sizeof jumps / sizeof jumps[0]; i++) {
        shift = jumps[i];
        (void)take(k);
        (void)prune(k, 1, 7);
        reopen(k); /* a restart within the same boot */
        (void)prune(k, 1, 7);
        for (size_t day = 0; day < 6; day++) {
            assert_true(there(k, day)); /* the oldest is not quite seven days old */
        }
        assert_true(there(k, k->count - 1));
    }
    assert_int_equal(prune(k, 1, 7).kept, 7);
}

/* Without a record, or with one that is no good, everything counts as just seen. */
static void records_that_are_no_good(void **state) {
    struct keep *k = (struct keep *)*state;
    struct snapshot_note note;
    struct buf content = {0};
    struct status st;
    for (int i = 0; i < 3; i++) {
        (void)take(k);
    }
    assert_true(snapshot_record_verified(k->record, &k->taken[1], true, &st));
    file_read(k->dir.fd, RECORD, &content);
    for (size_t at = 0; at < content.len; at += 7) {
        file_flip(k->dir.fd, RECORD, at, 0x10);
        reopen(k);
        assert_false(snapshot_record_find(k->record, k->taken[1].name, &note));
        file_write(k->dir.fd, RECORD, buf_slice(&content));
    }
    for (size_t len = 0; len < content.len; len += 11) {
        file_write(k->dir.fd, RECORD, slice_of(content.data, len));
        reopen(k);
        assert_false(snapshot_record_find(k->record, k->taken[1].name, &note));
    }
    assert_int_equal(unlinkat(k->dir.fd, RECORD, 0), 0);
    reopen(k);
    assert_int_equal(prune(k, 1, 7).kept, 1); /* all of one day */
    buf_fini(&content);
}

static void a_full_disk_does_not_keep_old_ones(void **state) {
    struct keep *k = (struct keep *)*state;
    struct fault_plan plan = {.calls = FAULT_BIT(IO_WRITE) | FAULT_BIT(IO_OPEN), .times = UINT64_MAX, .error = ENOSPC, .path = RECORD};
    for (int i = 0; i < 3; i++) {
        (void)take(k);
    }
    fault_arm(&plan);
    assert_int_equal(prune(k, 1, 0).kept, 1);
    fault_disarm();
}

static void marks(void **state) {
    struct keep *k = (struct keep *)*state;
    struct status st;
    assert_int_equal(snapshot_record_lsn_before(k->record, 0), 0);
    for (uint64_t lsn = 100; lsn < 110; lsn++) {
        assert_true(snapshot_record_mark(k->record, lsn, &st));
        assert_true(snapshot_record_mark(k->record, lsn + 1000, &st)); /* too soon */
        days_pass(k, 1);
    }
    assert_int_equal(snapshot_record_lsn_before(k->record, 0), 109);
    assert_int_equal(snapshot_record_lsn_before(k->record, 1), 109);
    assert_int_equal(snapshot_record_lsn_before(k->record, 7), 103);
    assert_int_equal(snapshot_record_lsn_before(k->record, 30), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(newest_and_days, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_others_rest_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(removal_is_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_last_that_verified, set_up, tear_down),
        cmocka_unit_test_setup_teardown(clocks_that_jump, set_up, tear_down),
        cmocka_unit_test_setup_teardown(records_that_are_no_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_does_not_keep_old_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(marks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
