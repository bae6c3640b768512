/*
 * test_index_columns.c - typed columns: what is put is found, room that is counted suffices, readers beside a writer, a damaged file.
 *
 * The memory behind the columns is exactly as long as columns_need said, so a byte too few counted is a value left out, which the head would tell.
 */
#include "index/columns_internal.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    DETAIL = 160,
    PATHS = 12,
    VALUES_MAX = 24,
    KEYWORDS_MAX = 6,
    TEXT = 24,
    SLOTS = 9000,
    DAMAGES = 3000,
    READERS = 2,
    WRITTEN = 20000
};

static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static uint32_t pick(uint64_t *state, uint32_t below) {
    return (uint32_t)(next_random(state) % below);
}

/* --- columns in memory that grows as a mapped file does, without moving --- */

enum { RESERVED = 64 << 20 };

static void columns_begin(struct columns *c) {
    *c = (struct columns){.base = (uint8_t *)aligned_alloc(4096, RESERVED), .bytes = COLUMNS_FIRST_BYTES};
    assert_non_null(c->base);
    memset(c->base, 0xee, RESERVED); /* what is not put is not relied on to be zero */
    columns_init(c);
    assert_true(columns_valid(c));
}

static void assert_sound(const struct columns *c, uint32_t slots) {
    char detail[DETAIL];
    if (columns_validate(c, slots, detail) != 0) {
        fail_msg("%s", detail);
    }
}

static void assert_nothing_left_out(const struct columns *c) {
    assert_int_equal(columns_known_below(c, false), UINT32_MAX);
}

/* --- values of a slot, the same each time they are asked for --- */

struct made {
    struct field_value values[VALUES_MAX];
    struct slice keywords[VALUES_MAX][KEYWORDS_MAX];
    char text[VALUES_MAX][KEYWORDS_MAX][TEXT];
    struct field_values all;
};

static int compare_items(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static void make_keywords(uint64_t *random, struct made *m, uint32_t at, struct field_value *v) {
    uint32_t count = pick(random, 4) == 0 ? 1 + pick(random, KEYWORDS_MAX) : 1;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(m->text[at][i], TEXT, pick(random, 3) == 0 ? "word %u" : "w%u", pick(random, 1U << pick(random, 12)));
        m->keywords[at][i] = slice_str(m->text[at][i]);
    }
    qsort(m->keywords[at], count, sizeof(struct slice), compare_items);
    for (uint32_t i = 0; i < count; i++) {
        if (kept == 0 || !slice_equal(m->keywords[at][kept - 1], m->keywords[at][i])) {
            m->keywords[at][kept++] = m->keywords[at][i];
        }
    }
    v->as.keywords.items = m->keywords[at];
    v->as.keywords.count = pick(random, 50) == 0 ? 0 : kept;
    v->as.keywords.array = kept > 1 || pick(random, 4) == 0;
}

static const char *const path_names[PATHS] = {"a", "b", "c.d", "", "e", "f", "g", "h", "i", "j", "k.l.m", "n"};

static void make_value(uint64_t *random, struct made *m, uint32_t at, uint32_t path, enum column_type type) {
    struct field_value *v = &m->values[at];
    *v = (struct field_value){.path = slice_str(path_names[path]), .type = type};
    switch (type) {
    case COLUMN_KEYWORD:
        make_keywords(random, m, at, v);
        break;
    case COLUMN_NUMBER:
        v->as.number = (double)(int64_t)next_random(random) / (double)(UINT64_C(1) << pick(random, 60));
        break;
    case COLUMN_TIME:
        v->as.time_us = (int64_t)(next_random(random) >> 8) - (INT64_C(1) << 55);
        break;
    case COLUMN_BOOL:
        v->as.boolean = pick(random, 2) == 0;
        break;
    }
}

static const struct field_values *make(uint64_t seed, uint32_t slot, struct made *m) {
    uint64_t random = seed + (uint64_t)slot * 77777;
    uint32_t count = 0;
    (void)next_random(&random);
    for (uint32_t path = 0; path < PATHS && pick(&random, 6) > 0; path++) {
        for (unsigned type = COLUMN_KEYWORD; type <= COLUMN_BOOL && count < VALUES_MAX; type++) {
            if (pick(&random, 3 + path) == 0) {
                make_value(&random, m, count++, path, (enum column_type)type);
            }
        }
    }
    m->all = (struct field_values){.items = m->values, .count = count};
    return &m->all;
}

/* Slots by batches: first all are counted, then the map grows by just that, then all are put. Some slots have nothing at all. */
static void put_batches(struct columns *c, uint64_t seed, uint32_t from, uint32_t to) {
    uint64_t random = seed;
    static struct made m;
    for (uint32_t slot = from; slot < to;) {
        uint32_t end = slot + 1 + pick(&random, 200);
        struct columns_need need = {0};
        end = end < to ? end : to;
        for (uint32_t i = slot; i < end; i++) {
            columns_need(c, i, make(seed, i, &m), &need);
        }
        c->bytes = columns_used(c) + need.bytes;
        assert_true(c->bytes <= RESERVED);
        for (; slot < end; slot++) {
            if (slot % 7 != 3) {
                columns_put(c, slot, make(seed, slot, &m));
            }
        }
        assert_true(columns_valid(c));
    }
    assert_nothing_left_out(c);
}

/* --- tests --- */

static void test_put_and_hold(void **state) {
    struct columns c;
    static struct made m;
    struct field_values none = {0};
    (void)state;
    columns_begin(&c);
    put_batches(&c, 1, 0, SLOTS);
    assert_sound(&c, SLOTS);
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const struct field_values *v = make(1, slot, &m);
        assert_int_equal(columns_hold(&c, slot, v), slot % 7 != 3 || v->count == 0);
        assert_int_equal(columns_hold(&c, slot, &none), slot % 7 == 3 || v->count == 0);
        if (slot % 7 != 3 && v->count > 0) {
            struct field_values fewer = {.items = v->items, .count = v->count - 1};
            assert_false(columns_hold(&c, slot, &fewer));
            m.values[0].path = slice_str("elsewhere");
            assert_false(columns_hold(&c, slot, v));
        }
    }
    free(c.base);
}

static bool value_in(const struct field_value *v, const struct field_value *wanted) {
    if (!slice_equal(v->path, wanted->path) || v->type != wanted->type) {
        return false;
    }
    switch (v->type) {
    case COLUMN_NUMBER:
        return v->as.number >= wanted->as.number - 5 && v->as.number <= wanted->as.number + 5;
    case COLUMN_TIME:
        return v->as.time_us >= wanted->as.time_us - 1000000 && v->as.time_us <= wanted->as.time_us;
    case COLUMN_BOOL:
        return v->as.boolean == wanted->as.boolean;
    case COLUMN_KEYWORD:
        for (uint32_t i = 0; wanted->as.keywords.count > 0 && i < v->as.keywords.count; i++) {
            if (slice_equal(v->as.keywords.items[i], wanted->as.keywords.items[0])) {
                return true;
            }
        }
        return wanted->as.keywords.count == 0 && v->as.keywords.count == 0;
    }
    return false;
}

struct holding {
    const struct columns *c;
    uint32_t string;
};

static bool holds_string(void *ctx, uint32_t set) {
    const struct holding *h = (const struct holding *)ctx;
    struct keyword_set s = columns_set(h->c, set);
    for (uint32_t i = 0; i < s.count; i++) {
        if (keyword_set_string(&s, i) == h->string) {
            return true;
        }
    }
    return false;
}

static void match_keyword(const struct column *col, const struct field_value *wanted, uint32_t from, uint32_t to,
                          uint64_t *words) {
    static const uint32_t elsewhere = COLUMN_ELSEWHERE;
    uint32_t sets[COLUMN_SETS_MAX];
    bool more = false;
    if (wanted->as.keywords.count == 0) {
        assert_true(column_has_elsewhere(col));
        column_match_sets(col, &elsewhere, 1, from, to, words);
        return;
    }
    struct holding h = {.c = &col->c, .string = columns_find_string(&col->c, wanted->as.keywords.items[0])};
    assert_int_not_equal(h.string, 0);
    uint32_t count = columns_sets_of(&col->c, h.string, sets, COLUMN_SETS_MAX, &more);
    assert_true(count > 0);
    if (more) {
        column_match_keywords(col, holds_string, &h, NULL, from, to, words);
        return;
    }
    for (uint32_t i = 0; i < count / 2; i++) {
        uint32_t other = sets[i];
        sets[i] = sets[count - 1 - i]; /* newest first: descending */
        sets[count - 1 - i] = other;
    }
    column_match_sets(col, sets, count, from, to, words);
}

static void match(const struct columns *c, const struct field_value *wanted, uint32_t from, uint32_t to, uint64_t *words) {
    struct column col;
    assert_true(column_find(c, wanted->path, wanted->type, &col));
    switch (wanted->type) {
    case COLUMN_NUMBER:
        column_match_numbers(&col, wanted->as.number - 5, wanted->as.number + 5, from, to, words);
        break;
    case COLUMN_TIME:
        column_match_times(&col, wanted->as.time_us - 1000000, wanted->as.time_us, from, to, words);
        break;
    case COLUMN_BOOL:
        column_match_bool(&col, wanted->as.boolean, from, to, words);
        break;
    case COLUMN_KEYWORD:
        match_keyword(&col, wanted, from, to, words);
        break;
    }
}

static void test_match(void **state) {
    struct columns c;
    static struct made m;
    static struct made other;
    uint64_t random = 5;
    (void)state;
    columns_begin(&c);
    put_batches(&c, 2, 0, SLOTS);
    for (int i = 0; i < 60; i++) {
        uint64_t words[SLOTS / 64 + 1] = {0};
        uint32_t slot = pick(&random, SLOTS);
        uint32_t from = pick(&random, 2) == 0 ? 0 : pick(&random, SLOTS) / 64 * 64;
        uint32_t to = from + pick(&random, SLOTS - from + 1);
        const struct field_values *v = make(2, slot, &m);
        if (v->count == 0 || slot % 7 == 3) {
            continue;
        }
        const struct field_value *wanted = &v->items[pick(&random, v->count)];
        match(&c, wanted, from, to, words);
        for (uint32_t at = 0; at < SLOTS; at++) {
            const struct field_values *w = make(2, at, &other);
            bool expected = false;
            for (uint32_t j = 0; j < w->count && at % 7 != 3 && at >= from && at < to; j++) {
                expected = expected || value_in(&w->items[j], wanted);
            }
            assert_int_equal(words[at / 64] >> (at % 64) & 1, expected);
        }
    }
    free(c.base);
}

static void put_one(const struct columns *c, uint32_t slot, const struct field_value *v) {
    struct field_values all = {.items = v, .count = 1};
    columns_put(c, slot, &all);
}

static void test_no_value(void **state) {
    struct columns c;
    struct column col;
    uint64_t word = 0;
    struct field_value v = {.path = slice_str("n"), .type = COLUMN_NUMBER, .as.number = (double)NAN};
    (void)state;
    columns_begin(&c);
    put_one(&c, 0, &v);
    v.as.number = (double)INFINITY;
    put_one(&c, 1, &v);
    assert_false(column_find(&c, v.path, COLUMN_NUMBER, &col)); /* they are none */
    v.as.number = -0.0;
    put_one(&c, 2, &v);
    assert_true(column_find(&c, v.path, COLUMN_NUMBER, &col));
    column_match_numbers(&col, 0, 0, 0, 3, &word);
    assert_int_equal(word, 4);
    word = 0;
    column_match_any(&col, 0, 3, &word);
    assert_int_equal(word, 4);
    v.as.number = 8;
    put_one(&c, 2, &v); /* put before: a replay */
    word = 0;
    column_match_numbers(&col, 8, 8, 0, 3, &word);
    assert_int_equal(word, 0);
    assert_sound(&c, 3);
    free(c.base);
}

/* Pages that one answer settles: all below, all above, all within, and full. */
static void test_zones(void **state) {
    struct columns c;
    struct column col;
    enum { FULL = 4 * COLUMN_PAGE_SLOTS };
    (void)state;
    columns_begin(&c);
    c.bytes = RESERVED;
    for (uint32_t slot = 0; slot < FULL; slot++) {
        struct field_value v = {.path = slice_str("n"), .type = COLUMN_NUMBER, .as.number = (double)slot};
        put_one(&c, slot, &v);
    }
    assert_true(column_find(&c, slice_str("n"), COLUMN_NUMBER, &col));
    const uint32_t bounds[] = {0, 1, 100, 1023, 1024, 1025, 2047, 2048, 3000, FULL - 1};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
        for (size_t j = i; j < sizeof bounds / sizeof *bounds; j++) {
            uint64_t words[FULL / 64] = {0};
            uint32_t to = FULL - (uint32_t)(i * 10 + j);
            column_match_numbers(&col, bounds[i], bounds[j], 64, to, words);
            for (uint32_t slot = 0; slot < FULL; slot++) {
                assert_int_equal(words[slot / 64] >> (slot % 64) & 1,
                                 slot >= bounds[i] && slot <= bounds[j] && slot >= 64 && slot < to);
            }
        }
    }
    free(c.base);
}

/* What the CPU has beside the plain C, on every edge. */
static void test_kernels(void **state) {
    const struct column_kernels *best = column_kernels();
    uint64_t random = 11;
    double numbers[64];
    int64_t times[64];
    uint32_t sets[64];
    (void)state;
    for (int round = 0; round < 2000; round++) {
        for (int i = 0; i < 64; i++) {
            numbers[i] = pick(&random, 9) == 0 ? (double)NAN : (double)(int)pick(&random, 20) - 10;
            times[i] = pick(&random, 9) == 0 ? INT64_MIN : (int64_t)pick(&random, 20) - 10;
            sets[i] = pick(&random, 6) * 0x2aaaaaabU;
        }
        double least = pick(&random, 9) == 0 ? -(double)INFINITY : (double)(int)pick(&random, 20) - 10;
        int64_t from = pick(&random, 9) == 0 ? INT64_MIN + 1 : (int64_t)pick(&random, 20) - 10;
        int64_t to = pick(&random, 9) == 0 ? INT64_MAX : (int64_t)pick(&random, 20) - 10;
        uint32_t wanted[3] = {pick(&random, 6) * 0x2aaaaaabU, pick(&random, 6) * 0x2aaaaaabU, 7};
        uint64_t expected[3] = {0};
        for (int i = 0; i < 64; i++) {
            expected[0] |= (uint64_t)(numbers[i] >= least && numbers[i] <= 3) << i;
            expected[1] |= (uint64_t)(times[i] >= from && times[i] <= to) << i;
            expected[2] |= (uint64_t)(sets[i] == wanted[0] || sets[i] == wanted[1]) << i;
        }
        const struct column_kernels *both[] = {best, &column_kernels_plain};
        for (int k = 0; k < 2; k++) {
            assert_true(both[k]->numbers(numbers, least, 3) == expected[0]);
            assert_true(both[k]->times(times, from, to) == expected[1]);
            assert_true(both[k]->sets(sets, wanted, 3) == expected[2]);
        }
    }
}

static void test_too_many_columns(void **state) {
    struct columns c;
    struct column col;
    char name[16];
    (void)state;
    columns_begin(&c);
    c.bytes = RESERVED;
    for (uint32_t i = 0; i < COLUMNS_MAX + 10; i++) {
        (void)snprintf(name, sizeof name, "field %u", i);
        struct field_value v = {.path = slice_str(name), .type = COLUMN_BOOL, .as.boolean = true};
        put_one(&c, i, &v);
    }
    assert_int_equal(columns_known_below(&c, false), COLUMNS_MAX);
    assert_int_equal(columns_known_below(&c, true), UINT32_MAX);
    assert_true(column_find(&c, slice_str("field 1023"), COLUMN_BOOL, &col));
    assert_false(column_find(&c, slice_str("field 1024"), COLUMN_BOOL, &col));
    assert_sound(&c, COLUMNS_MAX + 10);
    free(c.base);
}

/* A map that is too short is a bug of the caller; it costs speed, not truth. */
static void test_no_room(void **state) {
    static struct made m;
    (void)state;
    for (uint32_t bytes = COLUMNS_HEAD_BYTES; bytes < 60000; bytes += 1000) {
        struct columns c;
        columns_begin(&c);
        c.bytes = bytes;
        for (uint32_t slot = 0; slot < 100; slot++) {
            columns_put(&c, slot, make(3, slot, &m));
        }
        assert_true(columns_valid(&c));
        assert_sound(&c, 100);
        uint32_t known = columns_known_below(&c, true);
        assert_true(known < 100);
        for (uint32_t slot = 0; slot < 100; slot++) {
            assert_true(slot >= known || columns_hold(&c, slot, make(3, slot, &m)));
        }
        free(c.base);
    }
}

/* What a batch of chunks of one document is counted at: the page once, not for each chunk. */
static void test_need_is_near(void **state) {
    struct columns c;
    static struct columns_need need;
    struct slice keyword = slice_str("an author who is new");
    struct field_value v[3] = {
        {.path = slice_str("author"), .type = COLUMN_KEYWORD, .as.keywords = {.items = &keyword, .count = 1}},
        {.path = slice_str("year"), .type = COLUMN_NUMBER},
        {.path = slice_str("at"), .type = COLUMN_TIME}};
    struct field_values all = {.items = v, .count = 3};
    (void)state;
    columns_begin(&c);
    c.bytes = RESERVED;
    for (uint32_t slot = 0; slot < 10000; slot++) {
        columns_need(&c, slot, &all, &need);
    }
    for (uint32_t slot = 0; slot < 10000; slot++) {
        columns_put(&c, slot, &all);
    }
    assert_true(columns_used(&c) <= COLUMNS_HEAD_BYTES + need.bytes);
    assert_true(need.bytes < columns_used(&c) * 5 / 4);
    free(c.base);
}

/* --- the validator --- */

struct planted {
    const char *what;
    void (*plant)(const struct columns *c, const struct column *number, const struct column *keyword);
};

static void plant_head(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_head_of(c)->magic++;
}
static void plant_used(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_head_of(c)->used /= 2;
}
static void plant_count(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_head_of(c)->count[TRIE_STRINGS]++;
}
static void plant_slots(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_head_of(c)->next_slot = SLOTS + 1;
}
static void plant_hash(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_node_at(c, columns_head_of(c)->root[TRIE_SETS], 0)->hash ^= 1;
}
static void plant_circle(const struct columns *c, const struct column *number, const struct column *keyword) {
    uint32_t root = columns_head_of(c)->root[TRIE_STRINGS];
    (void)number;
    (void)keyword;
    columns_node_at(c, columns_node_at(c, root, 0)->child[0], 0)->child[1] = root;
}
static void plant_string(const struct columns *c, const struct column *number, const struct column *keyword) {
    uint32_t root = columns_head_of(c)->root[TRIE_STRINGS];
    (void)number;
    (void)keyword;
    ((uint8_t *)(columns_node_at(c, root, 1) + 1))[0] ^= 1;
}
static void plant_length(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_node_at(c, columns_head_of(c)->root[TRIE_STRINGS], 0)->length = UINT32_MAX;
}
static void plant_member(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    set_members_of(columns_node_at(c, columns_head_of(c)->root[TRIE_SETS], 0))[0].string++;
}
static void plant_list(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)number;
    (void)keyword;
    columns_node_at(c, columns_head_of(c)->root[TRIE_STRINGS], 0)->tag++;
}
static void plant_value(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)keyword;
    struct column_page *page = column_page_at(number, 0);
    double above = 1;
    memcpy(&above, &page->greatest, sizeof above);
    above = above + fabs(above) + 1;
    for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
        double *value = (double *)(void *)(page + 1) + i;
        if (!isnan(*value)) {
            *value = above;
            return;
        }
    }
}
static void plant_absence(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)keyword;
    double *values = (double *)(void *)(column_page_at(number, 1) + 1);
    for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
        values[i] = (double)NAN;
    }
}
static void plant_set(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)number;
    struct column_page *page = column_page_at(keyword, 0);
    for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
        uint32_t *value = (uint32_t *)(void *)(page + 1) + i;
        *value = *value != 0 ? 2 : 0; /* within the head */
    }
    page->least = page->greatest = 2;
}
static void plant_page(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)keyword;
    uint32_t *table = (uint32_t *)columns_at(c, column_body_of(number->node)->table[0], 4);
    table = (uint32_t *)columns_at(c, table[0], 4);
    table[0] = (uint32_t)(c->bytes / COLUMNS_UNIT);
}
static void plant_table(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)keyword;
    column_body_of(number->node)->table[5] = column_body_of(number->node)->table[0];
}
static void plant_type(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)keyword;
    number->node->tag = 9;
}
static void plant_path(const struct columns *c, const struct column *number, const struct column *keyword) {
    (void)c;
    (void)keyword;
    ((uint8_t *)(column_body_of(number->node) + 1))[0] ^= 1;
}

static void test_planted_faults(void **state) {
    static const struct planted faults[] = {
        {"head", plant_head},     {"used", plant_used},     {"count", plant_count},   {"slots", plant_slots},
        {"hash", plant_hash},     {"circle", plant_circle}, {"string", plant_string}, {"length", plant_length},
        {"member", plant_member}, {"list", plant_list},     {"value", plant_value},   {"absence", plant_absence},
        {"set", plant_set},       {"page", plant_page},     {"table", plant_table},   {"type", plant_type},
        {"path", plant_path},
    };
    struct columns c;
    (void)state;
    columns_begin(&c);
    put_batches(&c, 4, 0, SLOTS);
    uint64_t used = columns_used(&c);
    uint8_t *good = (uint8_t *)malloc(used);
    assert_non_null(good);
    memcpy(good, c.base, used);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct column number;
        struct column keyword;
        char detail[DETAIL];
        assert_true(column_find(&c, slice_str("a"), COLUMN_NUMBER, &number));
        assert_true(column_find(&c, slice_str("a"), COLUMN_KEYWORD, &keyword));
        faults[i].plant(&c, &number, &keyword);
        if (columns_validate(&c, SLOTS, detail) == 0 || detail[0] == '\0') {
            fail_msg("not found: %s", faults[i].what);
        }
        memcpy(c.base, good, used);
        assert_sound(&c, SLOTS);
    }
    free(good);
    free(c.base);
}

/* --- damage: any bytes, and nobody leaves the map or runs for ever. Under ASan the map ends where the memory ends. --- */

static void use_all(const struct columns *c, uint64_t *words) {
    static struct made m;
    char detail[DETAIL];
    for (uint32_t path = 0; path < PATHS; path++) {
        for (unsigned type = COLUMN_KEYWORD; type <= COLUMN_BOOL; type++) {
            struct column col;
            if (!column_find(c, slice_str(path_names[path]), (enum column_type)type, &col)) {
                continue;
            }
            column_match_any(&col, 0, 2000, words);
            if (type == COLUMN_KEYWORD) {
                struct holding h = {.c = c, .string = columns_find_string(c, slice_str("w1"))};
                uint32_t sets[COLUMN_SETS_MAX];
                bool more;
                (void)columns_sets_of(c, h.string, sets, COLUMN_SETS_MAX, &more);
                column_match_keywords(&col, holds_string, &h, NULL, 0, 2000, words);
            }
        }
    }
    for (uint32_t slot = 0; slot < 2000; slot += 333) {
        (void)columns_hold(c, slot, make(6, slot, &m));
    }
    (void)columns_validate(c, 2000, detail);
}

static void test_damage(void **state) {
    struct columns c;
    uint64_t words[2000 / 64 + 1];
    uint64_t random = 9;
    (void)state;
    columns_begin(&c);
    put_batches(&c, 6, 0, 2000);
    uint64_t used = columns_used(&c);
    for (int i = 0; i < DAMAGES; i++) {
        struct columns damaged = {.base = (uint8_t *)aligned_alloc(64, (used + 63) / 64 * 64), .bytes = used};
        assert_non_null(damaged.base);
        memcpy(damaged.base, c.base, used);
        for (uint32_t n = 1 + pick(&random, 8); n > 0; n--) {
            /* mostly where links are */
            uint64_t at = pick(&random, 4) == 0 ? next_random(&random) % used : next_random(&random) % (used / 16) * 16 % used;
            damaged.base[at] = (uint8_t)next_random(&random);
        }
        if (columns_valid(&damaged)) {
            use_all(&damaged, words);
        }
        free(damaged.base);
    }
    free(c.base);
}

/* --- a reader whose map ends where its view does --- */

static void put_tags(const struct columns *c, uint32_t slot, const char *other) {
    struct slice tags[2] = {slice_str("common"), slice_str(other)};
    struct field_value v = {
        .path = slice_str("tags"), .type = COLUMN_KEYWORD, .as.keywords = {.items = tags, .count = 2, .array = true}};
    put_one(c, slot, &v);
}

static void test_older_map(void **state) {
    struct columns c;
    struct column col;
    uint32_t sets[COLUMN_SETS_MAX];
    uint64_t word = 0;
    bool more = false;
    (void)state;
    columns_begin(&c);
    c.bytes = RESERVED;
    put_tags(&c, 0, "one");
    put_tags(&c, 1, "two");
    struct columns view = {.base = c.base, .bytes = columns_used(&c)};
    struct holding h = {.c = &view, .string = columns_find_string(&view, slice_str("common"))};
    assert_int_equal(columns_sets_of(&view, h.string, sets, COLUMN_SETS_MAX, &more), 2);
    assert_false(more);
    put_tags(&c, 2, "zzz"); /* the newest set with "common" lies behind the end of the view's map now */
    assert_int_equal(columns_sets_of(&view, h.string, sets, COLUMN_SETS_MAX, &more), 0);
    assert_true(more);
    assert_true(columns_readable(&view));
    assert_true(column_find(&view, slice_str("tags"), COLUMN_KEYWORD, &col));
    column_match_keywords(&col, holds_string, &h, NULL, 0, 2, &word);
    assert_int_equal(word, 3);
    assert_int_equal(columns_find_string(&view, slice_str("zzz")), 0);
    free(c.base);
}

/* --- readers beside the writer --- */

struct beside {
    struct columns c;
    uint64_t used;      /* of the slots that are published, as a view says */
    uint32_t published; /* slots; the lock of the control segment orders this in the server */
    uint32_t done;
};

/* In slot s: number s, keyword "k<s % 10>", boolean s even; each tenth slot without. */
static void put_known(const struct columns *c, uint32_t slot) {
    char text[16];
    (void)snprintf(text, sizeof text, "k%u", slot % 10);
    struct slice keyword = slice_str(text);
    char own[16];
    (void)snprintf(own, sizeof own, "own %u", slot);
    struct slice both[2] = {keyword, slice_str(own)};
    struct field_value v[] = {
        {.path = slice_str("n"), .type = COLUMN_NUMBER, .as.number = slot},
        {.path = slice_str("k"), .type = COLUMN_KEYWORD, .as.keywords = {.items = &keyword, .count = 1}},
        {.path = slice_str("both"), .type = COLUMN_KEYWORD, .as.keywords = {.items = both, .count = 2, .array = true}},
        {.path = slice_str("b"), .type = COLUMN_BOOL, .as.boolean = slot % 2 == 0}};
    struct field_values all = {.items = v, .count = slot % 10 == 9 ? 0 : 4};
    columns_put(c, slot, &all);
}

static uint32_t count_words(const uint64_t *words, uint32_t slots) {
    uint32_t count = 0;
    for (uint32_t i = 0; i <= slots / 64; i++) {
        count += (uint32_t)__builtin_popcountll(words[i]);
    }
    return count;
}

static bool read_known(const struct columns *c, uint32_t slots) {
    static _Thread_local uint64_t words[WRITTEN / 64 + 1];
    struct column n;
    struct column both;
    struct holding h = {.c = c, .string = columns_find_string(c, slice_str("k3"))};
    if (slots < 10) {
        return true;
    }
    if (!column_find(c, slice_str("n"), COLUMN_NUMBER, &n) || !column_find(c, slice_str("both"), COLUMN_KEYWORD, &both)) {
        return false;
    }
    memset(words, 0, sizeof words);
    column_match_numbers(&n, slots / 2, slots, 0, slots, words);
    uint32_t expected = 0;
    for (uint32_t slot = slots / 2; slot < slots; slot++) {
        expected += slot % 10 != 9 ? 1 : 0;
    }
    bool right = count_words(words, slots) == expected;
    memset(words, 0, sizeof words);
    column_match_keywords(&both, holds_string, &h, NULL, 0, slots, words);
    return right && count_words(words, slots) == (slots + 6) / 10;
}

static void *read_beside(void *ctx) {
    struct beside *b = (struct beside *)ctx;
    intptr_t wrong = 0;
    while (load_acquire_u32(&b->done) == 0) {
        uint32_t slots = load_acquire_u32(&b->published);
        wrong += read_known(&b->c, slots) ? 0 : 1;
    }
    return (void *)wrong; // NOLINT: a count
}

static void test_beside_a_writer(void **state) {
    struct beside b = {0};
    pthread_t readers[READERS];
    (void)state;
    columns_begin(&b.c);
    b.c.bytes = RESERVED;
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_beside, &b), 0);
    }
    for (uint32_t slot = 0; slot < WRITTEN; slot++) {
        put_known(&b.c, slot);
        if (slot % 3 == 0) {
            store_release_u32(&b.published, slot + 1);
        }
    }
    store_release_u32(&b.done, 1);
    for (int i = 0; i < READERS; i++) {
        void *wrong = NULL;
        assert_int_equal(pthread_join(readers[i], &wrong), 0);
        assert_null(wrong);
    }
    assert_sound(&b.c, WRITTEN);
    assert_true(read_known(&b.c, WRITTEN));
    free(b.c.base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_hold), cmocka_unit_test(test_match),        cmocka_unit_test(test_no_value),
        cmocka_unit_test(test_zones),        cmocka_unit_test(test_kernels),      cmocka_unit_test(test_too_many_columns),
        cmocka_unit_test(test_no_room),      cmocka_unit_test(test_need_is_near), cmocka_unit_test(test_planted_faults),
        cmocka_unit_test(test_damage),       cmocka_unit_test(test_older_map),    cmocka_unit_test(test_beside_a_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
