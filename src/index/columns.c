/*
 * columns.c - writing typed columns (the format and its invariants: columns_internal.h).
 *
 * Strings are interned once for all columns, and so are sets of them: a slot costs four bytes per keyword column, and to compare a slot with a value is to
 * compare two numbers. A string knows the newest set that holds it and each set the next older one for each of its strings, so the sets that an
 * `eq` accepts are listed without looking at any slot.
 *
 * Putting a value that the slot before had, too (the chunks of one document), costs a comparison with that one and no search.
 *
 * Should room be lacking (the caller reserved none: a bug, or the file is at its 64 GiB), the value is left out and the head says from which slot on. Then
 * filters read the records there: slower, and as right.
 */
#include "index/columns_internal.h"

#include "base/hash.h"

#include <math.h>

#define PATH_BYTES_EXPECTED 1024 /* at most; longer ones would be counted at so much */
#define TURNS 32                 /* pairs of bits in a hash */
#define SEED_STRING 0x51
#define SEED_SET 0x52
#define SEED_ARRAY 0x53
#define SEED_PATH 0x54
#define SEED_PAGE 0x59

struct columns_head *columns_head_of(const struct columns *c) {
    return (struct columns_head *)(void *)c->base;
}

/* Whoever is about to store says where. */
static void touch(const struct columns *c, const void *at, size_t bytes) {
    dirty_touch(c->dirty, c->base, at, bytes);
}

void columns_init(const struct columns *c) {
    struct columns_head *head = columns_head_of(c);
    touch(c, head, COLUMNS_HEAD_BYTES);
    memset(head, 0, COLUMNS_HEAD_BYTES);
    *head = (struct columns_head){.magic = COLUMNS_MAGIC,
                                  .format = COLUMNS_FORMAT,
                                  .used = COLUMNS_HEAD_BYTES,
                                  .no_column_from = UINT32_MAX,
                                  .no_room_from = UINT32_MAX};
}

bool columns_valid(const struct columns *c) {
    if (c->base == NULL || c->bytes < COLUMNS_HEAD_BYTES) {
        return false;
    }
    const struct columns_head *head = columns_head_of(c);
    uint64_t used = load_relaxed_u64(&head->used);
    return head->magic == COLUMNS_MAGIC && head->format == COLUMNS_FORMAT && used >= COLUMNS_HEAD_BYTES && used <= c->bytes;
}

uint64_t columns_used(const struct columns *c) {
    return load_relaxed_u64(&columns_head_of(c)->used);
}

/* --- the tries --- */

void *columns_at(const struct columns *c, uint32_t ref, uint64_t bytes) {
    uint64_t at = (uint64_t)ref * COLUMNS_UNIT;
    if (at < COLUMNS_HEAD_BYTES || at > c->bytes || bytes > c->bytes - at) {
        return NULL;
    }
    return c->base + at;
}

struct columns_node *columns_node_at(const struct columns *c, uint32_t ref, uint64_t extra) {
    return (struct columns_node *)columns_at(c, ref, sizeof(struct columns_node) + extra);
}

unsigned columns_turn(uint64_t hash, unsigned level) {
    return level < TURNS ? (unsigned)(hash >> (2 * (TURNS - 1 - level))) & 3U : 0;
}

uint64_t columns_string_hash(struct slice s) {
    return hash64(SEED_STRING, s.data, s.len);
}

uint64_t columns_set_hash(const uint32_t *strings, uint32_t count, bool array) {
    return hash64(array ? SEED_ARRAY : SEED_SET, strings, (size_t)count * sizeof *strings);
}

uint64_t columns_path_hash(struct slice path, enum column_type type) {
    return hash64(SEED_PATH + (uint64_t)type, path.data, path.len);
}

struct column_body *column_body_of(struct columns_node *node) {
    return (struct column_body *)(void *)(node + 1);
}

struct slice column_path_of(struct columns_node *node) {
    return slice_of(column_body_of(node) + 1, node->length);
}

static bool same_members(const struct columns_node *node, const struct columns_key *key) {
    const struct set_member *members = (const struct set_member *)(const void *)(node + 1);
    for (uint32_t i = 0; i < key->length; i++) {
        if (members[i].string != key->strings[i]) {
            return false;
        }
    }
    return true;
}

/* Bytes behind the head of an entry of this key. */
static uint64_t key_extra(const struct columns_key *key) {
    switch (key->trie) {
    case TRIE_STRINGS:
        return key->bytes.len;
    case TRIE_SETS:
        return (uint64_t)key->length * sizeof(struct set_member);
    default:
        return sizeof(struct column_body) + key->bytes.len;
    }
}

static bool is_key(const struct columns *c, uint32_t ref, const struct columns_key *key) {
    struct columns_node *node = columns_node_at(c, ref, key_extra(key));
    if (node == NULL || node->hash != key->hash) {
        return false;
    }
    if (key->trie == TRIE_SETS) {
        return node->length == key->length && node->tag == key->tag && same_members(node, key);
    }
    if (key->trie == TRIE_COLUMNS) {
        return node->length == key->bytes.len && node->tag == key->tag && slice_equal(column_path_of(node), key->bytes);
    }
    return node->length == key->bytes.len && memcmp(node + 1, key->bytes.data, node->length) == 0;
}

uint32_t columns_lookup(const struct columns *c, const struct columns_key *key, uint32_t **ret_link) {
    uint32_t *link = &columns_head_of(c)->root[key->trie];
    uint32_t before = 0;
    for (unsigned level = 0;; level++) {
        /* pairs with: COLUMN_LINK */
        uint32_t ref = load_acquire_u32(link);
        struct columns_node *node = ref > before ? columns_node_at(c, ref, 0) : NULL;
        if (node == NULL) {
            if (ret_link != NULL) {
                *ret_link = link;
            }
            return 0;
        }
        if (is_key(c, ref, key)) {
            return ref;
        }
        before = ref;
        link = &node->child[columns_turn(key->hash, level)];
    }
}

static struct columns_key string_key(struct slice s) {
    return (struct columns_key){.trie = TRIE_STRINGS, .hash = columns_string_hash(s), .bytes = s};
}

static struct columns_key set_key(const uint32_t *strings, uint32_t count, bool array) {
    return (struct columns_key){.trie = TRIE_SETS,
                                .hash = columns_set_hash(strings, count, array),
                                .strings = strings,
                                .length = count,
                                .tag = array ? 1 : 0};
}

static struct columns_key column_key(struct slice path, enum column_type type) {
    return (struct columns_key){
        .trie = TRIE_COLUMNS, .hash = columns_path_hash(path, type), .bytes = path, .tag = (uint32_t)type};
}

bool column_find(const struct columns *c, struct slice path, enum column_type type, struct column *ret) {
    struct columns_key key = column_key(path, type);
    uint32_t ref = columns_lookup(c, &key, NULL);
    if (ref == 0) {
        return false;
    }
    *ret = (struct column){.c = *c, .node = columns_node_at(c, ref, key_extra(&key)), .type = type};
    return true;
}

/* --- room --- */

static uint64_t align_up(uint64_t v, uint64_t to) {
    return (v + to - 1) / to * to;
}

/* Zeroed bytes at the end of what is in use; 0: there is no room. */
static uint32_t take_room(const struct columns *c, uint64_t bytes, uint64_t align) {
    struct columns_head *head = columns_head_of(c);
    uint64_t at = align_up(head->used, align);
    uint64_t end = at + align_up(bytes, COLUMNS_UNIT);
    if (end > c->bytes || end > COLUMNS_BYTES_MAX) {
        return 0;
    }
    touch(c, head, sizeof *head);
    touch(c, c->base + at, end - at);
    memset(c->base + at, 0, end - at);
    store_relaxed_u64(&head->used, end);
    return (uint32_t)(at / COLUMNS_UNIT);
}

/* Hangs what was filled where readers find it. */
static void publish(const struct columns *c, uint32_t *link, uint32_t ref) {
    touch(c, link, sizeof *link);
    /* pairs with: COLUMN_LINK. Without it a reader could walk into an entry, table or page whose bytes it still sees as zeros. */
    store_release_u32(link, ref);
}

/* Bytes that an entry of this key takes. */
static uint64_t entry_bytes(const struct columns_key *key) {
    return align_up(sizeof(struct columns_node) + key_extra(key), COLUMNS_UNIT);
}

/* A new entry, filled but for what its kind has behind the head and not hung up yet; 0: no room. */
static uint32_t new_entry(const struct columns *c, const struct columns_key *key) {
    uint32_t ref = take_room(c, entry_bytes(key), COLUMNS_UNIT);
    if (ref == 0) {
        return 0;
    }
    struct columns_node *node = columns_node_at(c, ref, 0);
    node->hash = key->hash;
    node->length = key->trie == TRIE_SETS ? key->length : (uint32_t)key->bytes.len;
    node->tag = key->tag;
    columns_head_of(c)->count[key->trie]++;
    return ref;
}

/* --- keywords --- */

static uint32_t intern_string(const struct columns *c, struct slice s) {
    struct columns_key key = string_key(s);
    uint32_t *link = NULL;
    uint32_t ref = columns_lookup(c, &key, &link);
    if (ref != 0) {
        return ref;
    }
    ref = new_entry(c, &key);
    if (ref != 0) {
        memcpy(columns_node_at(c, ref, 0) + 1, s.data == NULL ? (const uint8_t *)"" : s.data, s.len);
        publish(c, link, ref);
    }
    return ref;
}

/* Fills a new set and puts it in front of the lists of its strings. */
static void link_set(const struct columns *c, uint32_t ref, const uint32_t *strings, uint32_t count, uint32_t *link) {
    struct set_member *members = set_members_of(columns_node_at(c, ref, 0));
    for (uint32_t i = 0; i < count; i++) {
        members[i] = (struct set_member){.string = strings[i], .older = columns_node_at(c, strings[i], 0)->tag};
    }
    publish(c, link, ref);
    for (uint32_t i = 0; i < count; i++) {
        publish(c, &columns_node_at(c, strings[i], 0)->tag, ref);
    }
}

static uint32_t intern_set(const struct columns *c, const struct field_value *v) {
    uint32_t strings[COLUMN_KEYWORDS_MAX];
    uint32_t count = v->as.keywords.count;
    for (uint32_t i = 0; i < count; i++) {
        strings[i] = intern_string(c, v->as.keywords.items[i]);
        if (strings[i] == 0) {
            return 0;
        }
    }
    struct columns_key key = set_key(strings, count, v->as.keywords.array);
    uint32_t *link = NULL;
    uint32_t ref = columns_lookup(c, &key, &link);
    if (ref != 0) {
        return ref;
    }
    ref = new_entry(c, &key);
    if (ref != 0) {
        link_set(c, ref, strings, count, link);
    }
    return ref;
}

/* Whether the set at ref has exactly the strings of v. */
static bool set_is(const struct columns *c, uint32_t ref, const struct field_value *v) {
    if (ref == 0 || ref == COLUMN_ELSEWHERE) {
        return ref == COLUMN_ELSEWHERE && v->as.keywords.count == 0;
    }
    struct keyword_set set = columns_set(c, ref);
    if (set.count != v->as.keywords.count || set.array != v->as.keywords.array || set.count == 0) {
        return false;
    }
    for (uint32_t i = 0; i < set.count; i++) {
        if (!slice_equal(columns_string(c, keyword_set_string(&set, i)), v->as.keywords.items[i])) {
            return false;
        }
    }
    return true;
}

/* The set of a value, COLUMN_ELSEWHERE, or 0: no room. */
static uint32_t set_of(const struct column *col, const struct field_value *v) {
    struct column_body *body = column_body_of(col->node);
    touch(&col->c, body, sizeof *body);
    if (!set_is(&col->c, body->last, v)) {
        bool elsewhere = v->as.keywords.count == 0 || v->as.keywords.count > COLUMN_KEYWORDS_MAX;
        body->last = elsewhere ? COLUMN_ELSEWHERE : intern_set(&col->c, v);
    }
    if (body->last == COLUMN_ELSEWHERE) {
        store_relaxed_u32(&body->elsewhere, 1);
    }
    return body->last;
}

/* --- columns and pages --- */

static size_t value_bytes(enum column_type type) {
    switch (type) {
    case COLUMN_NUMBER:
        return sizeof(double);
    case COLUMN_TIME:
        return sizeof(int64_t);
    case COLUMN_KEYWORD:
        return sizeof(uint32_t);
    default:
        return sizeof(uint8_t);
    }
}

uint64_t column_page_bytes(enum column_type type) {
    return sizeof(struct column_page) + COLUMN_PAGE_SLOTS * value_bytes(type);
}

/* The page may be given up in the middle of three steps for want of room; what was made then stays, empty. */
static uint32_t *table_entry(const struct columns *c, uint32_t *table, uint32_t index) {
    if (table[index] == 0) {
        uint32_t ref = take_room(c, COLUMN_TABLE * sizeof(uint32_t), COLUMNS_UNIT);
        if (ref == 0) {
            return NULL;
        }
        publish(c, &table[index], ref);
    }
    return (uint32_t *)columns_at(c, table[index], COLUMN_TABLE * sizeof(uint32_t));
}

static void page_clear(struct column_page *page, enum column_type type) {
    void *values = page + 1;
    if (type == COLUMN_NUMBER) {
        double *numbers = (double *)values;
        for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
            numbers[i] = (double)NAN;
        }
    } else if (type == COLUMN_TIME) {
        int64_t *times = (int64_t *)values;
        for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
            times[i] = INT64_MIN;
        }
    }
}

/* The page of a slot, made when it is not there; NULL: no room. */
static struct column_page *obtain_page(const struct column *col, uint32_t slot) {
    const uint32_t mask = COLUMN_TABLE - 1;
    uint32_t page = slot / COLUMN_PAGE_SLOTS;
    uint32_t *table = column_body_of(col->node)->table;
    if (page >= COLUMN_PAGES_MAX || (table = table_entry(&col->c, table, page >> (2 * COLUMN_TABLE_BITS))) == NULL ||
        (table = table_entry(&col->c, table, page >> COLUMN_TABLE_BITS & mask)) == NULL) {
        return NULL;
    }
    uint32_t *link = &table[page & mask];
    if (*link == 0) {
        uint32_t ref = take_room(&col->c, column_page_bytes(col->type), COLUMN_PAGE_ALIGN);
        if (ref == 0) {
            return NULL;
        }
        page_clear((struct column_page *)columns_at(&col->c, ref, column_page_bytes(col->type)), col->type);
        publish(&col->c, link, ref);
    }
    return (struct column_page *)columns_at(&col->c, *link, column_page_bytes(col->type));
}

/* False: no room, or COLUMNS_MAX are there. */
static bool obtain_column(const struct columns *c, const struct field_value *v, struct column *ret, bool *ret_too_many) {
    struct columns_key key = column_key(v->path, v->type);
    uint32_t *link = NULL;
    uint32_t ref = columns_lookup(c, &key, &link);
    if (ref == 0) {
        *ret_too_many = columns_head_of(c)->count[TRIE_COLUMNS] >= COLUMNS_MAX;
        ref = *ret_too_many ? 0 : new_entry(c, &key);
        if (ref == 0) {
            return false;
        }
        struct columns_node *node = columns_node_at(c, ref, 0);
        memcpy(column_body_of(node) + 1, v->path.data == NULL ? (const uint8_t *)"" : v->path.data, v->path.len);
        publish(c, link, ref);
    }
    *ret = (struct column){.c = *c, .node = columns_node_at(c, ref, 0), .type = v->type};
    return true;
}

/* --- putting --- */

/* Whether the first of two values, as bits, is the lesser. */
static bool bits_less(enum column_type type, uint64_t a, uint64_t b) {
    if (type == COLUMN_NUMBER) {
        double x;
        double y;
        memcpy(&x, &a, sizeof x);
        memcpy(&y, &b, sizeof y);
        return x < y;
    }
    return type == COLUMN_TIME ? (int64_t)a < (int64_t)b : a < b;
}

static void widen(struct column_page *page, enum column_type type, uint64_t bits) {
    if (page->count == 0 || bits_less(type, bits, page->least)) {
        store_relaxed_u64(&page->least, bits);
    }
    if (page->count == 0 || bits_less(type, page->greatest, bits)) {
        store_relaxed_u64(&page->greatest, bits);
    }
    store_relaxed_u32(&page->count, page->count + 1);
}

static void page_put(const struct columns *c, struct column_page *page, enum column_type type, uint32_t at, uint64_t bits) {
    uint8_t *values = (uint8_t *)(page + 1);
    touch(c, page, sizeof *page);
    touch(c, values + at * value_bytes(type), value_bytes(type));
    switch (type) {
    case COLUMN_NUMBER:
    case COLUMN_TIME:
        memcpy(values + at * sizeof bits, &bits, sizeof bits);
        break;
    case COLUMN_KEYWORD:
        ((uint32_t *)(void *)values)[at] = (uint32_t)bits;
        break;
    case COLUMN_BOOL:
        values[at] = (uint8_t)bits;
        break;
    }
    widen(page, type, bits);
}

/* The value as it stands in a page; false: it is none, or there is no room for its strings. */
static bool value_bits(const struct column *col, const struct field_value *v, uint64_t *ret) {
    double number = v->as.number + 0.0; /* no negative zero */
    switch (v->type) {
    case COLUMN_NUMBER:
        memcpy(ret, &number, sizeof number);
        return true;
    case COLUMN_TIME:
        *ret = (uint64_t)v->as.time_us;
        return true;
    case COLUMN_BOOL:
        *ret = v->as.boolean ? 2 : 1;
        return true;
    case COLUMN_KEYWORD:
        *ret = set_of(col, v);
        return *ret != 0;
    }
    return false;
}

static bool is_value(const struct field_value *v) {
    return !(v->type == COLUMN_NUMBER && !isfinite(v->as.number)) && !(v->type == COLUMN_TIME && v->as.time_us == INT64_MIN);
}

static void left_out(uint32_t *from, uint32_t slot) {
    if (*from > slot) {
        store_relaxed_u32(from, slot);
    }
}

static void put_value(const struct columns *c, uint32_t slot, const struct field_value *v) {
    struct columns_head *head = columns_head_of(c);
    struct column col;
    bool too_many = false;
    uint64_t bits = 0;
    if (!is_value(v)) {
        return;
    }
    if (!obtain_column(c, v, &col, &too_many)) {
        left_out(too_many ? &head->no_column_from : &head->no_room_from, slot);
        return;
    }
    struct column_page *page = obtain_page(&col, slot);
    if (page == NULL || !value_bits(&col, v, &bits)) {
        left_out(&head->no_room_from, slot);
        return;
    }
    page_put(c, page, v->type, slot % COLUMN_PAGE_SLOTS, bits);
}

void columns_put(const struct columns *c, uint32_t slot, const struct field_values *v) {
    struct columns_head *head = columns_head_of(c);
    if (slot < head->next_slot) {
        return;
    }
    touch(c, head, sizeof *head);
    for (uint32_t i = 0; i < v->count; i++) {
        put_value(c, slot, &v->items[i]);
    }
    head->next_slot = slot + 1;
}

/* --- how much it takes --- */

/* Whether it was counted before; now it is. In each group the newest stands first. */
static bool counted(uint64_t *table, uint64_t key) {
    key |= 1; /* a zeroed table holds nothing */
    uint64_t *group = table + (key >> 32) % COLUMNS_NEED_GROUPS * COLUMNS_NEED_WAYS;
    uint64_t moved = key;
    for (unsigned i = 0; i < COLUMNS_NEED_WAYS; i++) {
        uint64_t here = group[i];
        group[i] = moved;
        moved = here;
        if (moved == key) {
            return true;
        }
    }
    return false;
}

/* With the tables that lead to it, should they not be there. */
static uint64_t page_need(enum column_type type) {
    return column_page_bytes(type) + COLUMN_PAGE_ALIGN + 2 * COLUMN_TABLE * sizeof(uint32_t);
}

/* Adds to *sum and to the total, but not more than `most` altogether. */
static void add_bounded(struct columns_need *total, uint64_t *sum, uint64_t bytes, uint64_t most) {
    uint64_t more = *sum + bytes <= most ? bytes : most - *sum;
    *sum += more;
    total->bytes += more;
}

/* What a new column and a new page take. However many are counted again because the tables have forgotten them: there are COLUMNS_MAX columns at most. */
static void pages_need(const struct columns_key *key, const struct column *col, uint32_t page, struct columns_need *total) {
    const uint64_t most_columns =
        COLUMNS_MAX * align_up(sizeof(struct columns_node) + sizeof(struct column_body) + PATH_BYTES_EXPECTED, COLUMNS_UNIT);
    if (total->page != page) {
        total->page = page;
        total->page_bytes = 0;
    }
    if (col->node == NULL && !counted(total->pages, key->hash)) {
        add_bounded(total, &total->column_bytes, entry_bytes(key), most_columns);
    }
    if ((col->node == NULL || column_page_at(col, page) == NULL) &&
        !counted(total->pages, hash64(SEED_PAGE + page, &key->hash, sizeof key->hash))) {
        add_bounded(total, &total->page_bytes, page_need(col->type), COLUMNS_MAX * page_need(COLUMN_NUMBER));
    }
}

/* The strings that are not there, and the set unless it is. */
static uint64_t set_need(const struct columns *c, const struct field_value *v) {
    uint32_t strings[COLUMN_KEYWORDS_MAX] = {0};
    uint32_t count = v->as.keywords.count;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct columns_key key = string_key(v->as.keywords.items[i]);
        strings[i] = columns_lookup(c, &key, NULL);
        bytes += strings[i] == 0 ? entry_bytes(&key) : 0;
    }
    struct columns_key key = set_key(strings, count, v->as.keywords.array);
    return bytes == 0 && columns_lookup(c, &key, NULL) != 0 ? 0 : bytes + entry_bytes(&key);
}

static uint64_t set_identity(const struct field_value *v) {
    uint64_t hash = v->as.keywords.array ? SEED_ARRAY : SEED_SET;
    for (uint32_t i = 0; i < v->as.keywords.count; i++) {
        hash = hash64(hash, v->as.keywords.items[i].data, v->as.keywords.items[i].len);
    }
    return hash;
}

static void keywords_need(const struct columns *c, uint32_t last, const struct field_value *v, struct columns_need *total) {
    if (v->as.keywords.count == 0 || v->as.keywords.count > COLUMN_KEYWORDS_MAX || set_is(c, last, v)) {
        return;
    }
    if (!counted(total->sets, set_identity(v))) {
        total->bytes += set_need(c, v);
    }
}

void columns_need(const struct columns *c, uint32_t slot, const struct field_values *v, struct columns_need *total) {
    for (uint32_t i = 0; i < v->count; i++) {
        const struct field_value *value = &v->items[i];
        struct columns_key key = column_key(value->path, value->type);
        uint32_t ref = columns_lookup(c, &key, NULL);
        struct column col = {.c = *c, .node = columns_node_at(c, ref, key_extra(&key)), .type = value->type};
        pages_need(&key, &col, slot / COLUMN_PAGE_SLOTS, total);
        if (value->type == COLUMN_KEYWORD) {
            keywords_need(c, col.node == NULL ? 0 : column_body_of(col.node)->last, value, total);
        }
    }
}
