/*
 * columns_read.c - from a column and a condition to a set of slots.
 *
 * A page is skipped, or taken whole, by its least and greatest value where that decides. Else its values are compared 64 at a time: first to bytes of 0 and
 * 1 in a loop without branches, which compilers turn into vector instructions, then eight bytes to eight bits by one multiplication. Where there is AVX2, columns_x86.c does it.
 *
 * An absent value compares as false by itself: NaN with anything, INT64_MIN with a range that begins above it, 0 with every set.
 */
#include "index/columns_internal.h"

#include <math.h>

#define WORD_SLOTS 64
#define BYTE_BITS 8
/* Moves the lowest bit of byte i to bit 56 + i; no two of its products meet, so nothing carries. */
#define GATHER_BITS UINT64_C(0x0102040810204080)
#define GATHER_SHIFT 56

bool columns_readable(const struct columns *c) {
    if (c->base == NULL || c->bytes < COLUMNS_HEAD_BYTES) {
        return false;
    }
    const struct columns_head *head = columns_head_of(c);
    return head->magic == COLUMNS_MAGIC && head->format == COLUMNS_FORMAT;
}

struct column_page *column_page_at(const struct column *col, uint32_t page) {
    const uint32_t mask = COLUMN_TABLE - 1;
    const uint32_t *table = column_body_of(col->node)->table;
    if (page >= COLUMN_PAGES_MAX) {
        return NULL;
    }
    for (int level = 2; level > 0; level--) {
        /* pairs with: COLUMN_LINK */
        uint32_t ref = load_acquire_u32(&table[page >> ((unsigned)level * COLUMN_TABLE_BITS) & mask]);
        table = (const uint32_t *)columns_at(&col->c, ref, COLUMN_TABLE * sizeof(uint32_t));
        if (table == NULL) {
            return NULL;
        }
    }
    uint32_t ref = load_acquire_u32(&table[page & mask]); /* pairs with: COLUMN_LINK */
    if (ref % (COLUMN_PAGE_ALIGN / COLUMNS_UNIT) != 0) {
        return NULL;
    }
    return (struct column_page *)columns_at(&col->c, ref, column_page_bytes(col->type));
}

uint32_t columns_known_below(const struct columns *c, bool has_all_types) {
    const struct columns_head *head = columns_head_of(c);
    uint32_t no_room = load_relaxed_u32(&head->no_room_from);
    uint32_t no_column = has_all_types ? UINT32_MAX : load_relaxed_u32(&head->no_column_from);
    return no_room < no_column ? no_room : no_column;
}

/* --- 64 values to a word --- */

static uint64_t gather(const uint8_t bytes[WORD_SLOTS]) {
    uint64_t word = 0;
    for (unsigned i = 0; i < WORD_SLOTS / BYTE_BITS; i++) {
        uint64_t eight;
        memcpy(&eight, bytes + i * BYTE_BITS, sizeof eight);
        word |= (eight * GATHER_BITS >> GATHER_SHIFT) << (i * BYTE_BITS);
    }
    return word;
}

static uint64_t match_numbers(const double *v, double least, double greatest) {
    uint8_t bytes[WORD_SLOTS];
    for (unsigned i = 0; i < WORD_SLOTS; i++) {
        bytes[i] = (uint8_t)((v[i] >= least) & (v[i] <= greatest));
    }
    return gather(bytes);
}

static uint64_t match_times(const int64_t *v, int64_t least, int64_t greatest) {
    uint8_t bytes[WORD_SLOTS];
    for (unsigned i = 0; i < WORD_SLOTS; i++) {
        bytes[i] = (uint8_t)((v[i] >= least) & (v[i] <= greatest));
    }
    return gather(bytes);
}

static uint64_t match_sets(const uint32_t *v, const uint32_t *sets, uint32_t count) {
    uint8_t bytes[WORD_SLOTS] = {0};
    for (uint32_t s = 0; s < count; s++) {
        uint32_t set = sets[s];
        for (unsigned i = 0; i < WORD_SLOTS; i++) {
            bytes[i] = (uint8_t)(bytes[i] | (v[i] == set));
        }
    }
    return gather(bytes);
}

const struct column_kernels column_kernels_plain = {.numbers = match_numbers, .times = match_times, .sets = match_sets};

const struct column_kernels *column_kernels(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        return &column_kernels_avx2;
    }
#endif
    return &column_kernels_plain;
}

static uint64_t match_nonzero(const uint32_t *v) {
    uint8_t bytes[WORD_SLOTS];
    for (unsigned i = 0; i < WORD_SLOTS; i++) {
        bytes[i] = (uint8_t)(v[i] != 0);
    }
    return gather(bytes);
}

static uint64_t match_bools(const uint8_t *v, uint8_t value) {
    uint8_t bytes[WORD_SLOTS];
    for (unsigned i = 0; i < WORD_SLOTS; i++) {
        bytes[i] = (uint8_t)(v[i] == value);
    }
    return gather(bytes);
}

static uint64_t match_any_bool(const uint8_t *v) {
    uint8_t bytes[WORD_SLOTS];
    for (unsigned i = 0; i < WORD_SLOTS; i++) {
        bytes[i] = (uint8_t)(v[i] != 0);
    }
    return gather(bytes);
}

/* What a page is asked. */
struct question {
    enum column_type type;
    const struct column_kernels *kernels;
    double least_number, greatest_number;
    int64_t least_time, greatest_time;
    uint8_t boolean;
    const uint32_t *sets; /* ascending; COLUMN_SETS_MAX at most */
    uint32_t set_count;
    bool any;
};

/* The answers for the 64 values from `at` on. */
static uint64_t match_word(const struct question *q, const void *values, uint32_t at) {
    switch (q->type) {
    case COLUMN_NUMBER:
        return q->kernels->numbers((const double *)values + at, q->least_number, q->greatest_number);
    case COLUMN_TIME:
        return q->kernels->times((const int64_t *)values + at, q->least_time, q->greatest_time);
    case COLUMN_KEYWORD:
        return q->any ? match_nonzero((const uint32_t *)values + at)
                      : q->kernels->sets((const uint32_t *)values + at, q->sets, q->set_count);
    default:
        return q->any ? match_any_bool((const uint8_t *)values + at) : match_bools((const uint8_t *)values + at, q->boolean);
    }
}

/* --- pages --- */

enum page_answer { PAGE_NONE, PAGE_SOME, PAGE_ALL };

static double bits_number(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* What least and greatest say about the values that are present. */
static enum page_answer ask_zone(const struct question *q, uint64_t low, uint64_t high) {
    switch (q->type) {
    case COLUMN_NUMBER: {
        double least = bits_number(low);
        double greatest = bits_number(high);
        if (greatest < q->least_number || least > q->greatest_number) {
            return PAGE_NONE;
        }
        return least >= q->least_number && greatest <= q->greatest_number ? PAGE_ALL : PAGE_SOME;
    }
    case COLUMN_TIME:
        if ((int64_t)high < q->least_time || (int64_t)low > q->greatest_time) {
            return PAGE_NONE;
        }
        return (int64_t)low >= q->least_time && (int64_t)high <= q->greatest_time ? PAGE_ALL : PAGE_SOME;
    case COLUMN_KEYWORD:
        if (q->any) {
            return PAGE_ALL;
        }
        if (q->set_count == 0 || high < q->sets[0] || low > q->sets[q->set_count - 1]) {
            return PAGE_NONE;
        }
        return low == high && q->set_count == 1 ? PAGE_ALL : PAGE_SOME;
    default:
        if (q->any) {
            return PAGE_ALL;
        }
        return q->boolean < low || q->boolean > high ? PAGE_NONE : low == high ? PAGE_ALL : PAGE_SOME;
    }
}

static enum page_answer ask_page(const struct question *q, const struct column_page *page) {
    uint32_t count = load_relaxed_u32(&page->count);
    if (count == 0) {
        return PAGE_NONE;
    }
    enum page_answer answer = ask_zone(q, load_relaxed_u64(&page->least), load_relaxed_u64(&page->greatest));
    return answer == PAGE_ALL && count != COLUMN_PAGE_SLOTS ? PAGE_SOME : answer;
}

static uint64_t low_bits(uint32_t count) {
    return count >= WORD_SLOTS ? UINT64_MAX : (UINT64_C(1) << count) - 1;
}

/* Values that lie beyond `left` are another thread's: they are not looked at, not even in vain. */
static uint64_t match_last_word(const struct question *q, const void *values, uint32_t at, uint32_t left) {
    uint64_t few[WORD_SLOTS] = {0}; /* room for the widest type */
    size_t size = q->type == COLUMN_KEYWORD ? sizeof(uint32_t) : q->type == COLUMN_BOOL ? sizeof(uint8_t) : sizeof(uint64_t);
    memcpy(few, (const uint8_t *)values + at * size, left * size);
    return match_word(q, few, 0) & low_bits(left);
}

/* [begin, end) lies within the page. */
static void match_page(const struct question *q, const struct column_page *page, uint32_t begin, uint32_t end, uint64_t *words) {
    enum page_answer answer = ask_page(q, page);
    const void *values = page + 1;
    if (answer == PAGE_NONE) {
        return;
    }
    for (uint32_t slot = begin; slot < end; slot += WORD_SLOTS) {
        uint32_t left = end - slot;
        uint64_t word = answer == PAGE_ALL   ? low_bits(left)
                        : left >= WORD_SLOTS ? match_word(q, values, slot % COLUMN_PAGE_SLOTS)
                                             : match_last_word(q, values, slot % COLUMN_PAGE_SLOTS, left);
        words[slot / WORD_SLOTS] |= word;
    }
}

/* The end of the page that `slot` is in, or `to`. */
static uint32_t page_end(uint32_t slot, uint32_t to) {
    uint64_t end = ((uint64_t)slot / COLUMN_PAGE_SLOTS + 1) * COLUMN_PAGE_SLOTS;
    return end < to ? (uint32_t)end : to;
}

static void match_pages(const struct column *col, struct question *q, uint32_t from, uint32_t to, uint64_t *words) {
    q->kernels = column_kernels();
    for (uint32_t slot = from, end; slot < to; slot = end) {
        end = page_end(slot, to);
        const struct column_page *page = column_page_at(col, slot / COLUMN_PAGE_SLOTS);
        if (page != NULL) {
            match_page(q, page, slot, end, words);
        }
    }
}

void column_match_any(const struct column *col, uint32_t from, uint32_t to, uint64_t *words) {
    struct question q = {.type = col->type,
                         .least_number = -(double)INFINITY,
                         .greatest_number = (double)INFINITY,
                         .least_time = INT64_MIN + 1,
                         .greatest_time = INT64_MAX,
                         .any = true};
    match_pages(col, &q, from, to, words);
}

void column_match_numbers(const struct column *col, double least, double greatest, uint32_t from, uint32_t to, uint64_t *words) {
    struct question q = {.type = COLUMN_NUMBER, .least_number = least, .greatest_number = greatest};
    match_pages(col, &q, from, to, words);
}

void column_match_times(const struct column *col, int64_t least, int64_t greatest, uint32_t from, uint32_t to, uint64_t *words) {
    struct question q = {
        .type = COLUMN_TIME, .least_time = least == INT64_MIN ? INT64_MIN + 1 : least, .greatest_time = greatest};
    match_pages(col, &q, from, to, words);
}

void column_match_bool(const struct column *col, bool value, uint32_t from, uint32_t to, uint64_t *words) {
    struct question q = {.type = COLUMN_BOOL, .boolean = value ? 2 : 1};
    match_pages(col, &q, from, to, words);
}

void column_match_sets(const struct column *col, const uint32_t *sets, uint32_t count, uint32_t from, uint32_t to,
                       uint64_t *words) {
    struct question q = {.type = COLUMN_KEYWORD, .sets = sets, .set_count = count};
    match_pages(col, &q, from, to, words);
}

void column_match_wide(const struct column *col, bool (*matches)(void *ctx, uint64_t bits), void *ctx, uint32_t from, uint32_t to,
                       uint64_t *words) {
    for (uint32_t slot = from, end; slot < to; slot = end) {
        end = page_end(slot, to);
        const struct column_page *page = column_page_at(col, slot / COLUMN_PAGE_SLOTS);
        if (page == NULL || load_relaxed_u32(&page->count) == 0) {
            continue;
        }
        const uint64_t *values = (const uint64_t *)(const void *)(page + 1);
        for (uint32_t at = slot; at < end; at++) {
            uint64_t bit = matches(ctx, values[at % COLUMN_PAGE_SLOTS]) ? 1 : 0;
            words[at / WORD_SLOTS] |= bit << (at % WORD_SLOTS);
        }
    }
}

void column_match_listed(const struct column *col, const struct set_list *list, uint32_t from, uint32_t to, uint64_t *words) {
    for (uint32_t slot = from, end; slot < to; slot = end) {
        end = page_end(slot, to);
        const struct column_page *page = column_page_at(col, slot / COLUMN_PAGE_SLOTS);
        if (page == NULL || load_relaxed_u32(&page->count) == 0) {
            continue;
        }
        const uint32_t *values = (const uint32_t *)(const void *)(page + 1);
        for (uint32_t at = slot; at < end; at++) {
            uint32_t place = values[at % COLUMN_PAGE_SLOTS] - list->first; /* what is below it becomes large */
            uint64_t bit = place < list->span ? list->bits[place / WORD_SLOTS] >> (place % WORD_SLOTS) & 1 : 0;
            words[at / WORD_SLOTS] |= bit << (at % WORD_SLOTS);
        }
    }
}

/* --- keywords by what they say --- */

bool column_has_elsewhere(const struct column *col) {
    return load_relaxed_u32(&column_body_of(col->node)->elsewhere) != 0;
}

struct asking {
    bool (*matches)(void *ctx, uint32_t set);
    void *ctx;
    uint32_t set; /* asked about last */
    bool answer;
};

static bool ask(struct asking *a, uint32_t set) {
    if (set != a->set) {
        a->set = set;
        a->answer = set != COLUMN_ELSEWHERE && a->matches(a->ctx, set);
    }
    return a->answer;
}

void column_match_keywords(const struct column *col, bool (*matches)(void *ctx, uint32_t set), void *ctx, const uint64_t *among,
                           uint32_t from, uint32_t to, uint64_t *words) {
    struct asking a = {.matches = matches, .ctx = ctx};
    for (uint32_t slot = from, end; slot < to; slot = end) {
        end = page_end(slot, to);
        const struct column_page *page = column_page_at(col, slot / COLUMN_PAGE_SLOTS);
        if (page == NULL) {
            continue;
        }
        const uint32_t *values = (const uint32_t *)(const void *)(page + 1);
        for (uint32_t at = slot; at < end; at++) {
            if (among != NULL && (among[at / WORD_SLOTS] >> (at % WORD_SLOTS) & 1) == 0) {
                continue;
            }
            uint64_t bit = ask(&a, values[at % COLUMN_PAGE_SLOTS]) ? 1 : 0;
            words[at / WORD_SLOTS] |= bit << (at % WORD_SLOTS);
        }
    }
}

uint32_t columns_find_string(const struct columns *c, struct slice s) {
    struct columns_key key = {.trie = TRIE_STRINGS, .hash = columns_string_hash(s), .bytes = s};
    return columns_lookup(c, &key, NULL);
}

struct keyword_set columns_set(const struct columns *c, uint32_t set) {
    struct columns_node *node = columns_node_at(c, set, 0);
    if (node == NULL || columns_node_at(c, set, (uint64_t)node->length * sizeof(struct set_member)) == NULL) {
        return (struct keyword_set){0};
    }
    return (struct keyword_set){.members = set_members_of(node), .count = node->length, .array = node->tag == 1};
}

uint32_t keyword_set_string(const struct keyword_set *s, uint32_t i) {
    return ((const struct set_member *)s->members)[i].string;
}

/* The next older set that holds the string; 0: none. False: the set is not within the map, or does not hold the string. */
static bool older_set(const struct columns *c, uint32_t set, uint32_t string, uint32_t *ret) {
    struct keyword_set s = columns_set(c, set);
    const struct set_member *members = (const struct set_member *)s.members;
    for (uint32_t i = 0; i < s.count; i++) {
        if (members[i].string == string) {
            *ret = members[i].older;
            return members[i].older < set;
        }
    }
    return false;
}

uint32_t columns_sets_of(const struct columns *c, uint32_t string, uint32_t *sets, uint32_t room, bool *ret_more) {
    const struct columns_node *node = columns_node_at(c, string, 0);
    uint32_t count = 0;
    /* pairs with: COLUMN_LINK */
    uint32_t set = node == NULL ? 0 : load_acquire_u32(&node->tag);
    *ret_more = false;
    while (set != 0) {
        uint32_t older = 0;
        if (count == room || !older_set(c, set, string, &older)) {
            *ret_more = true;
            break;
        }
        sets[count++] = set;
        set = older;
    }
    return count;
}

struct slice columns_string(const struct columns *c, uint32_t string) {
    const struct columns_node *node = columns_node_at(c, string, 0);
    if (node == NULL || columns_node_at(c, string, node->length) == NULL) {
        return slice_of(NULL, 0);
    }
    return slice_of(node + 1, node->length);
}
