/* test_store_keys.c - the table of API keys, the page that workers read, and that looking for a key takes the same steps whatever is looked for. */
#include "store/key_table.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_KEYS = 10 };
#define NOW INT64_C(1764000000000000)

struct held {
    struct key_table *table;
    struct key_page *page;
    struct control *control;
    int page_fd, control_fd;
    uint64_t lsn;
};

static int set_up(void **state) {
    static struct held h;
    struct status st = {0};
    h = (struct held){.page_fd = -1, .control_fd = -1};
    assert_true(key_table_new(MAX_KEYS, &h.table, &st));
    assert_true(key_page_create(&h.page_fd, &h.page, &st));
    assert_true(control_create(1, 8, 1, 8, &h.control_fd, &h.control, &st));
    key_table_show(h.table, h.page, h.control);
    *state = &h;
    return 0;
}

static int tear_down(void **state) {
    struct held *h = (struct held *)*state;
    key_table_free(h->table);
    key_page_unmap(h->page);
    control_unmap(h->control);
    io_close(&h->page_fd);
    io_close(&h->control_fd);
    return 0;
}

static struct op_key a_key(uint8_t number) {
    struct op_key key = {.id = {{number, 1}},
                         .digest = {number, [KEY_DIGEST_BYTES - 1] = number},
                         .created_at = NOW,
                         .scopes = KEY_ADMIN,
                         .all = true,
                         .name = slice_str("name")};
    key.id.b[UUID_BYTES - 1] = number;
    return key;
}

static bool apply(struct held *h, const struct op_key *add, const struct uuid *remove, struct status *st) {
    struct buf bytes = {0};
    struct op op;
    if (add != NULL) {
        op_encode_key_add(&bytes, add);
    } else {
        op_encode_key_remove(&bytes, remove);
    }
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, st));
    bool ok = key_table_check(h->table, &op, st);
    if (ok) {
        assert_true(key_table_apply(h->table, &op, ++h->lsn));
        assert_false(key_table_apply(h->table, &op, h->lsn)); /* as a replay meets it again */
    }
    buf_fini(&bytes);
    return ok;
}

static void add(struct held *h, const struct op_key *key) {
    struct status st = {0};
    if (!apply(h, key, NULL, &st)) {
        fail_msg("%s", st.detail);
    }
}

static void test_add_and_remove(void **state) {
    struct held *h = (struct held *)*state;
    struct status st = {0};
    struct key_entry e;
    uint32_t slot = 0;
    struct op_key one = a_key(1), two = a_key(2);
    add(h, &one);
    add(h, &two);
    assert_int_equal(key_table_count(h->table), 2);
    assert_true(key_page_find(h->page, one.digest, &e, &slot, NULL));
    assert_true(uuid_equal(&e.id, &one.id) && e.all && e.scopes == KEY_ADMIN && e.name_bytes == 4);
    assert_false(apply(h, &one, NULL, &st));
    assert_int_equal(st.code, STATUS_CONFLICT);
    assert_true(apply(h, NULL, &one.id, &st));
    assert_false(key_page_find(h->page, one.digest, &e, &slot, NULL));
    assert_false(key_page_entry(h->page, slot, &e));
    assert_true(key_page_find(h->page, two.digest, &e, &slot, NULL));
    assert_false(apply(h, NULL, &one.id, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    assert_int_equal(st.subject, SUBJECT_KEY);
    const uint8_t nothing[KEY_DIGEST_BYTES] = {0}; /* as a free slot has it */
    assert_false(key_page_find(h->page, nothing, &e, &slot, NULL));
}

static void test_limit(void **state) {
    struct held *h = (struct held *)*state;
    struct status st = {0};
    for (uint8_t i = 1; i <= MAX_KEYS; i++) {
        struct op_key key = a_key(i);
        add(h, &key);
    }
    struct op_key more = a_key(MAX_KEYS + 1);
    assert_false(apply(h, &more, NULL, &st));
    assert_int_equal(st.code, STATUS_TOO_LARGE);
    struct op_key first = a_key(1);
    assert_true(apply(h, NULL, &first.id, &st));
    add(h, &more);
}

/* None, one, all; found, not found, wrong in the first byte or the last, first slot or last: the same number of comparisons. */
static void test_steps(void **state) {
    struct held *h = (struct held *)*state;
    struct key_entry e;
    uint32_t slot = 0;
    for (uint8_t keys = 0; keys <= MAX_KEYS; keys++) {
        for (uint8_t wanted = 0; wanted <= MAX_KEYS; wanted++) {
            struct op_key key = a_key(wanted);
            uint64_t steps = 0;
            bool found = key_page_find(h->page, key.digest, &e, &slot, &steps);
            assert_true(found == (wanted > 0 && wanted <= keys));
            assert_int_equal(steps, MAX_KEYS);
            key.digest[0] ^= 0x80;
            assert_false(key_page_find(h->page, key.digest, &e, &slot, &steps));
            assert_int_equal(steps, MAX_KEYS);
            key.digest[0] ^= 0x80;
            key.digest[KEY_DIGEST_BYTES - 1] ^= 1;
            assert_false(key_page_find(h->page, key.digest, &e, &slot, &steps));
            assert_int_equal(steps, MAX_KEYS);
        }
        if (keys < MAX_KEYS) {
            struct op_key key = a_key((uint8_t)(keys + 1));
            add(h, &key);
        }
    }
}

/* What a worker inherits cannot be written in any way. */
static void test_page_is_read_only(void **state) {
    struct held *h = (struct held *)*state;
    const struct key_page *page = NULL;
    struct status st = {0};
    struct key_entry e;
    uint32_t slot = 0;
    struct op_key one = a_key(1);
    assert_true(key_page_map(h->page_fd, &page, &st));
    void *at = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, h->page_fd, 0);
    assert_true(at == MAP_FAILED && errno == EPERM);
    assert_int_equal(mprotect((void *)(uintptr_t)page, sizeof *page, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(pwrite(h->page_fd, "x", 1, 0), -1);
    assert_int_equal(errno, EPERM);
    assert_int_equal(ftruncate(h->page_fd, 0), -1);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", h->page_fd);
    int again = open(path, O_RDWR | O_CLOEXEC); /* opened anew, it is the same sealed file */
    assert_true(again >= 0);
    assert_true(mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED);
    (void)close(again);
    add(h, &one); /* while the supervisor goes on writing */
    assert_true(key_page_find(page, one.digest, &e, &slot, NULL));
    key_page_unmap(page);
    assert_false(key_page_map(h->control_fd, &page, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
}

static void test_libraries(void **state) {
    struct held *h = (struct held *)*state;
    static const struct uuid libraries[2] = {{{3}}, {{5}}};
    static const struct uuid other = {{4}};
    struct key_entry e;
    uint32_t slot = 0;
    struct op_key key = a_key(1);
    key.all = false;
    key.library_count = 2;
    key.libraries = slice_of(libraries, sizeof libraries);
    key.expires_at = NOW + 1;
    add(h, &key);
    assert_true(key_page_find(h->page, key.digest, &e, &slot, NULL));
    assert_true(key_entry_reaches(&e, &libraries[0]) && key_entry_reaches(&e, &libraries[1]));
    assert_false(key_entry_reaches(&e, &other));
    assert_false(key_entry_expired(&e, NOW));
    assert_true(key_entry_expired(&e, NOW + 1));
}

static void test_who_rules(void **state) {
    struct held *h = (struct held *)*state;
    static const struct uuid library = {{3}};
    struct op_key good = a_key(1), limited = a_key(2), writer = a_key(3), expired = a_key(4), configured = a_key(5);
    limited.all = false;
    limited.library_count = 1;
    limited.libraries = slice_of(library.b, UUID_BYTES);
    writer.scopes = KEY_READ | KEY_WRITE;
    expired.expires_at = NOW;
    add(h, &good);
    add(h, &limited);
    add(h, &writer);
    add(h, &expired);
    assert_true(key_table_rules(h->table, good.digest, NOW));
    assert_false(key_table_rules(h->table, limited.digest, NOW));
    assert_false(key_table_rules(h->table, writer.digest, NOW));
    assert_false(key_table_rules(h->table, expired.digest, NOW));
    assert_false(key_table_rules(h->table, configured.digest, NOW));
    key_table_set_configured(h->table, configured.digest);
    assert_true(key_table_rules(h->table, configured.digest, NOW));
    key_table_set_configured(h->table, NULL);
    assert_false(key_table_rules(h->table, configured.digest, NOW));
}

static void test_last_use(void **state) {
    struct held *h = (struct held *)*state;
    struct status st = {0};
    struct op_key one = a_key(1), two = a_key(2);
    uint64_t *word = &h->control->key_use[0];
    add(h, &one);
    assert_int_equal(key_use_read(word, &one.id), 0);
    key_use_note(word, &one.id, NOW + 1);
    assert_int_equal(key_use_read(word, &one.id), NOW / 60000000 * 60000000);
    /* The slot's next key has not been used. */
    assert_true(apply(h, NULL, &one.id, &st));
    add(h, &two);
    assert_int_equal(key_use_read(word, &two.id), 0);
}

static void test_bytes(void **state) {
    struct held *h = (struct held *)*state;
    struct key_table *other = NULL;
    struct buf bytes = {0}, again = {0};
    struct status st = {0};
    struct op_key one = a_key(1), two = a_key(2);
    key_table_encode(h->table, &bytes);
    assert_int_equal(bytes.len, 0);
    add(h, &one);
    add(h, &two);
    key_use_note(&h->control->key_use[1], &two.id, NOW);
    key_table_encode(h->table, &bytes);
    assert_true(key_table_new(MAX_KEYS, &other, &st));
    for (size_t len = 1; len < bytes.len; len++) {
        assert_false(key_table_decode(other, slice_of(bytes.data, len), 1, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
    }
    assert_true(key_table_decode(other, buf_slice(&bytes), 1, &st));
    key_table_encode(other, &again);
    assert_true(slice_equal(buf_slice(&bytes), buf_slice(&again)));
    buf_fini(&bytes);
    buf_fini(&again);
    key_table_free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_add_and_remove, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_page_is_read_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_libraries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_rules, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_last_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bytes, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("store_keys", tests, NULL, NULL);
}
