/* test_store_idempotency.c - what is remembered of requests with an Idempotency-Key: its bytes, its bounds, its clock. */
#include "store/idempotency.h"

#include "store/model.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HOUR_S = 3600, US_PER_S = 1000000, MANY = 1000, BITS = 8 };
#define HOUR_US ((int64_t)HOUR_S * US_PER_S)
#define NOW_US ((int64_t)1764000000 * US_PER_S)

static struct idempotency_id an_id(unsigned number) {
    struct idempotency_id id;
    char text[32];
    (void)snprintf(text, sizeof text, "key %u", number);
    const struct slice key = slice_str(text), body = slice_str("body");
    idempotency_hash(&key, 1, id.scope);
    idempotency_hash(&body, 1, id.body);
    return id;
}

static struct idempotency_origin an_origin(void) {
    struct idempotency_origin o = {.created_at = NOW_US};
    uuid_make(&o.seed);
    return o;
}

/* `good` successes, then one failure with that detail (NULL: none). */
static void put_results(struct buf *out, unsigned good, const char *detail) {
    struct idempotency_results_writer w;
    idempotency_results_begin(&w, out, good + (detail == NULL ? 0 : 1));
    for (unsigned i = 0; i < good; i++) {
        idempotency_results_add(&w, &(struct idempotency_result){.chunks_added = 3, .replaced = i % 2 == 1});
    }
    if (detail != NULL) {
        idempotency_results_add(
            &w, &(struct idempotency_result){.code = STATUS_CONFLICT, .subject = SUBJECT_DOCUMENT, .detail = slice_str(detail)});
    }
    idempotency_results_end(&w);
}

static void put_entry(struct buf *out, unsigned number, int64_t clock) {
    const struct idempotency_id id = an_id(number);
    const struct idempotency_origin origin = an_origin();
    buf_reset(out);
    idempotency_entry_begin(out, &id, &origin, clock);
    put_results(out, 2, "taken");
    assert_true(buf_ok(out));
}

static struct idempotency *a_table(uint64_t keys, uint64_t bytes, int64_t ttl_us) {
    const struct idempotency_limits limits = {.max_keys = keys, .max_bytes = bytes, .ttl_us = ttl_us};
    struct idempotency *t = NULL;
    struct status st = {0};
    assert_true(idempotency_new(&limits, &t, &st));
    return t;
}

static void note(struct idempotency *t, unsigned number, uint64_t lsn, int64_t clock) {
    struct buf entry = {0};
    struct status st = {0};
    put_entry(&entry, number, clock);
    assert_true(idempotency_note(t, buf_slice(&entry), lsn, clock, &st));
    buf_fini(&entry);
}

static bool knows(struct idempotency *t, unsigned number, int64_t clock, uint64_t *ret_lsn) {
    const struct idempotency_id id = an_id(number);
    struct buf copy = {0};
    struct idempotency_entry e = {0};
    bool known = idempotency_find(t, id.scope, clock, &copy, &e);
    if (known && ret_lsn != NULL) {
        *ret_lsn = e.lsn;
    }
    buf_fini(&copy);
    return known;
}

/* --- hashes and ids --- */

static void test_parts_of_a_hash_are_kept_apart(void **state) {
    (void)state;
    uint8_t a[IDEMPOTENCY_HASH_BYTES], b[IDEMPOTENCY_HASH_BYTES], c[IDEMPOTENCY_HASH_BYTES];
    const struct slice one[] = {slice_str("ab"), slice_str("c")};
    const struct slice two[] = {slice_str("a"), slice_str("bc")};
    const struct slice three[] = {slice_str("ab"), slice_str("c"), slice_str("")};
    idempotency_hash(one, 2, a);
    idempotency_hash(two, 2, b);
    idempotency_hash(three, 3, c);
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a, c, sizeof a);
    idempotency_hash(one, 2, b);
    assert_memory_equal(a, b, sizeof a);
}

static void test_ids_are_drawn_from_the_seed(void **state) {
    (void)state;
    const struct idempotency_origin origin = an_origin(), other = an_origin();
    struct uuid before = {{0}};
    for (uint64_t i = 0; i < MANY; i++) {
        struct uuid id, again, foreign;
        char text[UUID_TEXT + 1];
        idempotency_uuid(&origin.seed, i * i, &id);
        idempotency_uuid(&origin.seed, i * i, &again);
        idempotency_uuid(&other.seed, i * i, &foreign);
        assert_true(uuid_equal(&id, &again));
        assert_false(uuid_equal(&id, &foreign));
        assert_true(memcmp(before.b, id.b, UUID_BYTES) < 0); /* ascending */
        uuid_format(&id, text);
        assert_int_equal(text[14], '7');
        assert_non_null(strchr("89ab", text[19]));
        before = id;
    }
}

/* --- bytes --- */

static void test_results_round_trip(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct idempotency_results_reader r;
    struct idempotency_result got;
    put_results(&bytes, 4, "why it failed");
    assert_true(idempotency_results_open(buf_slice(&bytes), &r));
    assert_int_equal(r.count, 5);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(idempotency_results_next(&r, &got));
        assert_int_equal(got.code, STATUS_OK);
        assert_int_equal(got.chunks_added, 3);
        assert_int_equal(got.replaced, i % 2 == 1);
    }
    assert_true(idempotency_results_next(&r, &got));
    assert_int_equal(got.code, STATUS_CONFLICT);
    assert_int_equal(got.subject, SUBJECT_DOCUMENT);
    assert_true(slice_is(got.detail, "why it failed"));
    assert_false(idempotency_results_next(&r, &got));
    buf_fini(&bytes);
}

/* A thousand documents that went the same way take a few bytes. */
static void test_equal_results_are_a_run(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct idempotency_results_writer w;
    struct idempotency_results_reader r;
    struct idempotency_result got;
    idempotency_results_begin(&w, &bytes, MANY);
    for (unsigned i = 0; i < MANY; i++) {
        idempotency_results_add(&w, &(struct idempotency_result){.chunks_added = 1});
    }
    idempotency_results_end(&w);
    assert_true(bytes.len <= 10);
    assert_true(idempotency_results_open(buf_slice(&bytes), &r));
    unsigned count = 0;
    while (idempotency_results_next(&r, &got)) {
        count++;
    }
    assert_int_equal(count, MANY);
    buf_reset(&bytes);
    idempotency_results_begin(&w, &bytes, 0);
    idempotency_results_end(&w);
    assert_true(idempotency_results_open(buf_slice(&bytes), &r));
    assert_false(idempotency_results_next(&r, &got));
    buf_fini(&bytes);
}

/* Walks what was accepted: it must hold together. */
static void walk_results(struct slice results) {
    struct idempotency_results_reader r;
    struct idempotency_result got;
    uint64_t count = 0;
    assert_true(idempotency_results_open(results, &r));
    uint64_t announced = r.count;
    while (idempotency_results_next(&r, &got)) {
        assert_true(got.detail.len < STATUS_DETAIL_MAX);
        count++;
    }
    assert_int_equal(count, announced);
}

/* In a block of its own, so that the sanitizer sees one byte too many. */
static bool decodes(const uint8_t *bytes, size_t len) {
    struct idempotency_entry e;
    struct status st = {0};
    uint8_t *copy = (uint8_t *)malloc(len + 1);
    assert_non_null(copy);
    memcpy(copy + 1, bytes, len);
    bool ok = idempotency_entry_decode(slice_of(copy + 1, len), &e, &st);
    assert_int_equal(st.code, ok ? STATUS_OK : STATUS_MALFORMED);
    if (ok) {
        walk_results(e.results);
    }
    free(copy);
    return ok;
}

static void test_entries_round_trip_and_nothing_else_is_read(void **state) {
    (void)state;
    struct buf bytes = {0};
    struct idempotency_entry e;
    struct status st = {0};
    const struct idempotency_id id = an_id(7);
    const struct idempotency_origin origin = an_origin();
    idempotency_entry_begin(&bytes, &id, &origin, NOW_US + 5);
    put_results(&bytes, 2, "taken");
    assert_true(idempotency_entry_decode(buf_slice(&bytes), &e, &st));
    assert_memory_equal(&e.id, &id, sizeof id);
    assert_true(uuid_equal(&e.origin.seed, &origin.seed));
    assert_int_equal(e.origin.created_at, NOW_US);
    assert_int_equal(e.clock, NOW_US + 5);
    for (size_t len = 0; len < bytes.len; len++) {
        assert_false(decodes(bytes.data, len));
    }
    for (size_t bit = 0; bit < bytes.len * BITS; bit++) {
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
        (void)decodes(bytes.data, bytes.len);
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
    }
    bytes.data[0] = 2;
    assert_false(idempotency_entry_decode(buf_slice(&bytes), &e, &st));
    assert_non_null(strstr(st.detail, "version 2"));
    bytes.data[0] = 1;
    buf_put_u8(&bytes, 0);
    assert_false(decodes(bytes.data, bytes.len));
    buf_fini(&bytes);
}

/* --- the table --- */

static void test_a_key_is_found(void **state) {
    (void)state;
    struct idempotency *t = a_table(MANY, 1U << 20, HOUR_US);
    uint64_t lsn = 0;
    assert_false(knows(t, 1, NOW_US, NULL));
    note(t, 1, 10, NOW_US);
    note(t, 2, 20, NOW_US + 1);
    assert_true(knows(t, 1, NOW_US + 2, &lsn));
    assert_int_equal(lsn, 10);
    assert_true(knows(t, 2, NOW_US + 2, &lsn));
    assert_int_equal(lsn, 20);
    assert_false(knows(t, 3, NOW_US + 2, NULL));
    /* replay meets records again */
    note(t, 3, 20, NOW_US);
    note(t, 3, 15, NOW_US);
    assert_false(knows(t, 3, NOW_US + 2, NULL));
    assert_int_equal(idempotency_count(t), 2);
    /* the same key, after it was forgotten by the clock */
    note(t, 1, 30, NOW_US + 3);
    assert_true(knows(t, 1, NOW_US + 3, &lsn));
    assert_int_equal(lsn, 30);
    assert_int_equal(idempotency_count(t), 2);
    idempotency_free(t);
}

static void test_two_steps(void **state) {
    (void)state;
    struct idempotency *t = a_table(4, 1U << 20, HOUR_US);
    struct idempotency_held *held = NULL;
    struct buf entry = {0};
    struct status st = {0};
    put_entry(&entry, 1, NOW_US);
    assert_true(idempotency_prepare(buf_slice(&entry), &held, &st));
    idempotency_drop(held);
    idempotency_drop(NULL);
    assert_false(knows(t, 1, NOW_US, NULL));
    assert_true(idempotency_prepare(buf_slice(&entry), &held, &st));
    idempotency_insert(t, held, 1, NOW_US);
    assert_true(knows(t, 1, NOW_US, NULL));
    entry.len--;
    assert_false(idempotency_prepare(buf_slice(&entry), &held, &st));
    assert_int_equal(st.code, STATUS_MALFORMED);
    buf_fini(&entry);
    idempotency_free(t);
}

static void test_bounds(void **state) {
    (void)state;
    /* by number */
    struct idempotency *t = a_table(8, 1U << 20, HOUR_US);
    for (unsigned i = 0; i < 100; i++) {
        note(t, i, i + 1, NOW_US + i);
        assert_true(idempotency_count(t) <= 8);
        assert_true(knows(t, i, NOW_US + i, NULL));
    }
    assert_true(knows(t, 92, NOW_US + 100, NULL));
    assert_false(knows(t, 91, NOW_US + 100, NULL));
    uint64_t bytes = idempotency_bytes(t);
    idempotency_free(t);
    /* by bytes */
    t = a_table(MANY, bytes, HOUR_US);
    for (unsigned i = 0; i < 100; i++) {
        note(t, i, i + 1, NOW_US + i);
        assert_true(idempotency_bytes(t) <= bytes);
    }
    assert_int_equal(idempotency_count(t), 8);
    idempotency_free(t);
    /* one that alone is too large, and a table that remembers nothing */
    t = a_table(MANY, 16, HOUR_US);
    note(t, 1, 1, NOW_US);
    assert_int_equal(idempotency_count(t), 0);
    idempotency_free(t);
    t = a_table(0, 1U << 20, HOUR_US);
    note(t, 1, 1, NOW_US);
    assert_false(knows(t, 1, NOW_US, NULL));
    idempotency_free(t);
}

static void test_age(void **state) {
    (void)state;
    struct idempotency *t = a_table(MANY, 1U << 20, HOUR_US);
    note(t, 1, 1, NOW_US);
    note(t, 2, 2, NOW_US + HOUR_US / 2);
    assert_true(knows(t, 1, NOW_US + HOUR_US - 1, NULL));
    assert_false(knows(t, 1, NOW_US + HOUR_US, NULL));
    assert_int_equal(idempotency_count(t), 2);
    idempotency_expire(t, NOW_US + HOUR_US);
    assert_int_equal(idempotency_count(t), 1);
    idempotency_expire(t, NOW_US + 2 * HOUR_US);
    assert_int_equal(idempotency_count(t), 0);
    assert_int_equal(idempotency_bytes(t), 0);
    idempotency_free(t);
}

/* A wall clock that jumps while the server is down makes a key at most half as old as it may get, and never younger. */
static void test_clock_jumps(void **state) {
    (void)state;
    struct {
        int64_t wall_us;  /* at the restart */
        int64_t clock_us; /* of the table then */
    } cases[] = {{NOW_US + 1, NOW_US + 1},
                 {NOW_US + HOUR_US / 2, NOW_US + HOUR_US / 2},
                 {NOW_US + 24 * HOUR_US, NOW_US + HOUR_US / 2},
                 {NOW_US - 24 * HOUR_US, NOW_US},
                 {INT64_MAX, NOW_US + HOUR_US / 2},
                 {INT64_MIN, NOW_US}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct idempotency *t = a_table(MANY, 1U << 20, HOUR_US);
        note(t, 1, 1, NOW_US);
        idempotency_start(t, cases[i].wall_us, 500);
        assert_int_equal(idempotency_clock(t, 500), cases[i].clock_us);
        assert_true(knows(t, 1, idempotency_clock(t, 500), NULL));
        /* from then on only the monotonic clock counts */
        assert_int_equal(idempotency_clock(t, 500 + HOUR_US), cases[i].clock_us + HOUR_US);
        assert_false(knows(t, 1, idempotency_clock(t, 500 + HOUR_US), NULL));
        idempotency_free(t);
    }
    struct idempotency *empty = a_table(MANY, 1U << 20, HOUR_US);
    idempotency_start(empty, INT64_MAX, 0);
    assert_int_equal(idempotency_clock(empty, 7), 7);
    idempotency_free(empty);
}

/* --- written out and read back --- */

static struct idempotency *a_full_table(void) {
    struct idempotency *t = a_table(MANY, 1U << 20, HOUR_US);
    for (unsigned i = 0; i < 700; i++) {
        note(t, i % 600, 2 * i + 2, NOW_US + i); /* some replaced, so that there are gaps */
    }
    return t;
}

static void assert_same_table(struct idempotency *a, struct idempotency *b) {
    struct buf left = {0}, right = {0};
    idempotency_encode(a, UINT64_MAX, &left);
    idempotency_encode(b, UINT64_MAX, &right);
    assert_true(buf_ok(&left) && buf_ok(&right));
    assert_true(slice_equal(buf_slice(&left), buf_slice(&right)));
    buf_fini(&left);
    buf_fini(&right);
}

static void test_a_table_in_bytes(void **state) {
    (void)state;
    struct idempotency *t = a_full_table();
    struct buf bytes = {0};
    struct status st = {0};
    idempotency_encode(t, UINT64_MAX, &bytes);
    struct idempotency *u = a_table(MANY, 1U << 20, HOUR_US);
    assert_true(idempotency_decode(u, buf_slice(&bytes), &st));
    assert_int_equal(idempotency_count(u), 600);
    assert_same_table(t, u);
    /* once more: known already */
    assert_true(idempotency_decode(u, buf_slice(&bytes), &st));
    assert_same_table(t, u);
    idempotency_free(u);
    /* up to an LSN */
    buf_reset(&bytes);
    idempotency_encode(t, 1001, &bytes);
    u = a_table(MANY, 1U << 20, HOUR_US);
    assert_true(idempotency_decode(u, buf_slice(&bytes), &st));
    uint64_t lsn = 0;
    assert_true(knows(u, 499, NOW_US + 800, &lsn));
    assert_int_equal(lsn, 1000);
    assert_false(knows(u, 500, NOW_US + 800, NULL));
    idempotency_free(u);
    idempotency_free(t);
    buf_fini(&bytes);
}

static void test_a_damaged_table_changes_nothing(void **state) {
    (void)state;
    struct idempotency *t = a_table(MANY, 1U << 20, HOUR_US);
    struct idempotency *u = a_table(MANY, 1U << 20, HOUR_US);
    struct buf bytes = {0};
    struct status st = {0};
    for (unsigned i = 0; i < 3; i++) {
        note(t, i, 5 * i + 5, NOW_US + i);
    }
    idempotency_encode(t, UINT64_MAX, &bytes);
    for (size_t len = 0; len < bytes.len; len++) {
        st = (struct status){0};
        uint8_t *copy = (uint8_t *)malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy + 1, bytes.data, len);
        assert_false(idempotency_decode(u, slice_of(copy + 1, len), &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
        assert_int_equal(idempotency_count(u), 0);
        free(copy);
    }
    for (size_t bit = 0; bit < bytes.len * BITS; bit++) {
        struct idempotency *v = a_table(MANY, 1U << 20, HOUR_US);
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
        bool ok = idempotency_decode(v, buf_slice(&bytes), &st);
        assert_true(ok || idempotency_count(v) == 0);
        bytes.data[bit / BITS] ^= (uint8_t)(1U << bit % BITS);
        idempotency_free(v);
    }
    idempotency_free(u);
    idempotency_free(t);
    buf_fini(&bytes);
}

static void test_a_table_in_lines(void **state) {
    (void)state;
    struct idempotency *t = a_full_table();
    struct idempotency *u = a_table(MANY, 1U << 20, HOUR_US);
    struct buf text = {0};
    struct status st = {0};
    idempotency_write_jsonl(t, UINT64_MAX, &text);
    assert_true(idempotency_read_jsonl(u, buf_slice(&text), &st));
    assert_same_table(t, u);
    idempotency_free(u);
    idempotency_free(t);
    static const char *const bad[] = {
        "x",
        "{}",
        "[]",
        "{\"lsn\":1,\"time\":\"2026-01-01T00:00:00Z\"}",
        "{\"lsn\":1,\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"!\"}",
        "{\"lsn\":1,\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"AQ==\"}",
        "{\"lsn\":-1,\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"\"}",
        "{\"lsn\":\"1\",\"time\":\"2026-01-01T00:00:00Z\",\"entry\":\"\"}",
        "{\"lsn\":1,\"time\":5,\"entry\":\"\"}",
        "{\"lsn\":1,\"time\":\"never\",\"entry\":\"\"}",
        "\x01\xff",
    };
    u = a_table(MANY, 1U << 20, HOUR_US);
    size_t whole = text.len;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        text.len = whole;
        buf_put_str(&text, bad[i]);
        st = (struct status){0};
        assert_false(idempotency_read_jsonl(u, buf_slice(&text), &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
        assert_int_equal(idempotency_count(u), 0); /* all or nothing */
    }
    assert_true(idempotency_read_jsonl(u, slice_of(NULL, 0), &st));
    idempotency_free(u);
    buf_fini(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_of_a_hash_are_kept_apart),
        cmocka_unit_test(test_ids_are_drawn_from_the_seed),
        cmocka_unit_test(test_results_round_trip),
        cmocka_unit_test(test_equal_results_are_a_run),
        cmocka_unit_test(test_entries_round_trip_and_nothing_else_is_read),
        cmocka_unit_test(test_a_key_is_found),
        cmocka_unit_test(test_two_steps),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_age),
        cmocka_unit_test(test_clock_jumps),
        cmocka_unit_test(test_a_table_in_bytes),
        cmocka_unit_test(test_a_damaged_table_changes_nothing),
        cmocka_unit_test(test_a_table_in_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
