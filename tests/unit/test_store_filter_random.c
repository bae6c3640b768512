/*
 * test_store_filter_random.c - filters on random documents, by random trees: the columns must say bit for bit what reading the records says, while the library grows, with
 * little memory for what was found, and with none at all.
 */
#include "filter_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { TREES = 1500, ROUNDS = 12, JSON_ROOM = 32768 };

/* --- random documents, random trees --- */

struct pool {
    struct filter nodes[256];
    const struct filter *children[256];
    struct filter_value values[4096];
    uint32_t node_count, child_count, value_count;
    uint64_t random;
};

static uint32_t pick(struct pool *p, uint32_t below) {
    return (uint32_t)(fixture_random(&p->random) % below);
}

static const char *const words[] = {"red",
                                    "green",
                                    "blue",
                                    "r",
                                    "",
                                    "\xc3\xa9t\xc3\xa9",
                                    "\xe6\x97\xa5\xe6\x9c\xac",
                                    "2024-05-01",
                                    "2024-05-01T00:00:00Z",
                                    "2024-05-01T12:30:00.25+02:00",
                                    "2025-01-01T00:00:00Z",
                                    "greenish",
                                    "10",
                                    "true"};
enum { WORDS = sizeof words / sizeof *words };
static const double numbers[] = {0, 1, -1, 2.5, 10, 1e18, -1e-9, 2024};
enum { NUMBERS = sizeof numbers / sizeof *numbers };
static const char *const paths[] = {"a",       "b.c",         "d",           "e",          "tags",
                                    "author",  "page_number", "chunk_index", "created_at", "source_url",
                                    "nowhere", "id",          "chunk_id",    "title",      "text"};
enum { PATHS = sizeof paths / sizeof *paths, CUSTOM = 4 };

static void put_text(struct buf *out, struct pool *p) {
    static const char filler[] =
        "green green green green green green green green green green green green green green green green green green ";
    if (pick(p, 40) == 0) { /* too long for a column */
        buf_printf(out, "\"%s%s%s %u\"", filler, filler, filler, pick(p, 3));
    } else if (pick(p, 8) == 0) {
        buf_printf(out, "\"word %u\"", pick(p, 500));
    } else {
        buf_printf(out, "\"%s\"", words[pick(p, WORDS)]);
    }
}

static void put_json(struct buf *out, struct pool *p) {
    switch (pick(p, 9)) {
    case 0:
        buf_put_str(out, "null");
        break;
    case 1:
        buf_put_str(out, pick(p, 2) == 0 ? "true" : "false");
        break;
    case 2:
    case 3:
        buf_printf(out, "%.17g", numbers[pick(p, NUMBERS)]);
        break;
    case 4:
    case 5:
        buf_put_u8(out, '[');
        for (uint32_t i = 0, n = pick(p, 4); i < n; i++) {
            buf_put_str(out, i > 0 ? "," : "");
            put_text(out, p);
        }
        buf_put_str(out, pick(p, 10) == 0 ? ",7]" : "]");
        if (out->data[out->len - 4] == '[') { /* "[,7]" */
            out->len -= 4;
            buf_put_str(out, "[7]");
        }
        break;
    default:
        put_text(out, p);
        break;
    }
}

static void put_metadata(struct buf *out, struct pool *p) {
    buf_reset(out);
    if (pick(p, 3) == 0) {
        buf_put_u8(out, 0);
        return;
    }
    buf_put_str(out, "{\"a\":");
    put_json(out, p);
    if (pick(p, 2) == 0) {
        buf_put_str(out, ",\"b\":{\"c\":");
        put_json(out, p);
        buf_put_u8(out, '}');
    }
    if (pick(p, 3) == 0) {
        buf_put_str(out, ",\"d\":");
        put_json(out, p);
    }
    if (pick(p, 30) == 0) {
        buf_put_str(out, ",\"e\":");
        put_json(out, p);
    }
    buf_put_u8(out, '}');
    buf_put_u8(out, 0);
}

static void put_random(struct fixture *f, const struct uuid *library, struct pool *p) {
    struct buf metadata[MAX_CHUNKS + 2] = {{0}};
    char id[16];
    char url[32];
    (void)snprintf(id, sizeof id, "r%u", pick(p, 400));
    (void)snprintf(url, sizeof url, "http://host/%u", pick(p, 50));
    struct document_text d = {.id = id,
                              .title = words[pick(p, WORDS)],
                              .author = words[pick(p, 6)],
                              .url = pick(p, 2) == 0 ? url : "",
                              .created_at = (int64_t)pick(p, 1000) * 100000000000,
                              .chunks = 1 + pick(p, MAX_CHUNKS)};
    put_metadata(&metadata[MAX_CHUNKS], p);
    d.metadata = (const char *)metadata[MAX_CHUNKS].data;
    buf_printf(&metadata[MAX_CHUNKS + 1], "[\"tag%u\",\"%s\",\"tag%u\"]", pick(p, 30), words[pick(p, 3)], pick(p, 5));
    buf_put_u8(&metadata[MAX_CHUNKS + 1], 0);
    d.tags = pick(p, 2) == 0 ? "" : (const char *)metadata[MAX_CHUNKS + 1].data;
    for (uint32_t i = 0; i < d.chunks; i++) {
        put_metadata(&metadata[i], p);
        d.chunk[i] = (struct chunk_text){.metadata = pick(p, 2) == 0 ? "" : (const char *)metadata[i].data,
                                         .page = (int64_t)pick(p, 5) - 1};
    }
    filter_put(f, library, &d);
    for (size_t i = 0; i < MAX_CHUNKS + 2; i++) {
        buf_fini(&metadata[i]);
    }
}

static struct filter_value random_value(struct pool *p) {
    static char texts[64][16];
    char *text = texts[pick(p, 64)];
    switch (pick(p, 8)) {
    case 0:
        return (struct filter_value){.type = FILTER_NULL};
    case 1:
        return (struct filter_value){.type = FILTER_BOOL, .boolean = pick(p, 2) == 0};
    case 2:
    case 3:
        return (struct filter_value){.type = FILTER_NUMBER, .number = numbers[pick(p, NUMBERS)]};
    case 4:
        (void)snprintf(text, sizeof texts[0], pick(p, 2) == 0 ? "tag%u" : "r%u", pick(p, 30));
        return (struct filter_value){.type = FILTER_TEXT, .text = slice_str(text)};
    default:
        return (struct filter_value){.type = FILTER_TEXT, .text = slice_str(words[pick(p, WORDS)])};
    }
}

static const struct filter *random_tree(struct pool *p, unsigned depth) {
    struct filter *f = &p->nodes[p->node_count++];
    if (depth == 0 || pick(p, 3) == 0 || p->node_count > 200) {
        enum filter_operator op = (enum filter_operator)(OPERATOR_EQ + pick(p, OPERATOR_CONTAINS));
        uint32_t count = op == OPERATOR_IN ? pick(p, 16) : 1;
        *f = leaf_filter(paths[pick(p, pick(p, 2) == 0 ? CUSTOM : PATHS)], op, &p->values[p->value_count], count);
        for (uint32_t i = 0; i < count; i++) {
            p->values[p->value_count++] = random_value(p);
        }
        return f;
    }
    enum filter_kind kind = (enum filter_kind)(FILTER_AND + pick(p, 3));
    uint32_t count = kind == FILTER_NOT ? 1 : pick(p, 4);
    uint32_t first = p->child_count;
    *f = (struct filter){.kind = kind, .children = &p->children[first], .count = count};
    p->child_count += count;
    for (uint32_t i = 0; i < count; i++) {
        p->children[first + i] = random_tree(p, depth - 1);
    }
    return f;
}

static void ask_random(struct asking *a, struct pool *p, uint32_t trees) {
    for (uint32_t i = 0; i < trees; i++) {
        p->node_count = p->child_count = p->value_count = 0;
        assert_as_records(a, random_tree(p, 3));
    }
}

/* Grows a library between rounds of questions, so that what was found is extended; a small memory for findings pushes them out all the time. */
static void check_random(struct fixture *f, uint64_t cache_bytes, uint64_t seed) {
    struct uuid library = fixture_library_id(1);
    static struct pool p;
    struct asking a;
    p.random = seed;
    f->pending = true;
    fixture_create(f, &library, INDEX_FLAT, "test");
    asking_begin(&a, f, &library, cache_bytes);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        ask_random(&a, &p, TREES / ROUNDS);
        for (uint32_t i = pick(&p, 100); i > 0; i--) {
            put_random(f, &library, &p);
        }
        ask_random(&a, &p, TREES / ROUNDS / 4); /* the view from before */
        asking_again(&a, &library);
    }
    asking_end(&a);
}

static void test_random(void **state) {
    check_random((struct fixture *)*state, CACHE_BYTES, 1);
}

static void test_random_little_memory(void **state) {
    check_random((struct fixture *)*state, 4000, 2);
}

static void test_random_no_memory(void **state) {
    check_random((struct fixture *)*state, 0, 3);
}

/* --- no memory: a filter fails or is answered without being remembered, and nothing dies (CRoaring does, when malloc fails inside it) --- */

struct filler {
    struct filler *next;
};

/* Takes all there is; then gives some back. */
static struct filler *fill_memory(struct pool *p) {
    struct filler *all = NULL;
    for (size_t size = 1 << 20; size >= sizeof(struct filler); size /= 2) {
        for (struct filler *one; (one = (struct filler *)malloc(size)) != NULL;) {
            one->next = all;
            all = one;
        }
    }
    for (uint32_t i = pick(p, 60); i > 0 && all != NULL; i--) {
        struct filler *one = all;
        for (uint32_t skip = pick(p, 200); skip > 0 && one->next != NULL && one->next->next != NULL; skip--) {
            one = one->next;
        }
        struct filler *taken = one->next;
        one->next = taken != NULL ? taken->next : NULL;
        free(taken);
    }
    return all;
}

static void free_filler(struct filler *all) {
    while (all != NULL) {
        struct filler *next = all->next;
        free(all);
        all = next;
    }
}

static _Noreturn void run_out_of_memory(struct fixture *f, const struct uuid *library, struct pool *p) {
    struct asking a;
    struct rlimit limit = {.rlim_cur = 24 << 20, .rlim_max = 24 << 20};
    uint32_t answered = 0;
    uint32_t refused = 0;
    asking_begin(&a, f, library, CACHE_BYTES);
    if (setrlimit(RLIMIT_DATA, &limit) != 0) {
        _exit(1);
    }
    for (int i = 0; i < 600; i++) {
        struct slot_set set;
        struct status st = {0};
        p->node_count = p->child_count = p->value_count = 0;
        const struct filter *tree = random_tree(p, 2);
        struct filler *all = fill_memory(p);
        bool ok = filter_evaluate(a.cache, &a.rd, tree, &set, &st);
        free_filler(all);
        if (!ok && st.code != STATUS_NO_MEMORY) {
            _exit(2);
        }
        answered += ok ? 1 : 0;
        refused += ok ? 0 : 1;
        for (uint32_t slot = 0; ok && slot < set.slots; slot++) {
            if (reading_chunk_visible(&a.rd, slot) && slot_set_has(&set, slot) != asking_record(&a, tree, slot)) {
                _exit(3);
            }
        }
    }
    _exit(answered > 10 && refused > 10 ? 0 : 4);
}

static void test_out_of_memory(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    static struct pool p;
    int outcome = 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their own memory counts, too */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    skip();
#endif
#endif
    p.random = 7;
    f->pending = true;
    fixture_create(f, &library, INDEX_FLAT, "test");
    for (int i = 0; i < 600; i++) {
        put_random(f, &library, &p);
    }
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        run_out_of_memory(f, &library, &p);
    }
    assert_int_equal(waitpid(pid, &outcome, 0), pid);
    assert_true(WIFEXITED(outcome));
    assert_int_equal(WEXITSTATUS(outcome), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_random_little_memory, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_random_no_memory, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_out_of_memory, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
