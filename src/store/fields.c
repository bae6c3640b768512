/*
 * fields.c - from records to values.
 *
 * Values of the document are the same for all its chunks: they are made once and stand at the beginning of what each chunk gives, so a chunk without metadata
 * of its own costs two numbers. One with metadata is parsed, and the document's values that it hides are left out of the copy.
 *
 * Paths and lists of strings live in arenas, one of the document and one of the chunk, which are emptied and not freed from one to the next. Strings
 * themselves stay where json-c has them.
 */
#include "store/fields.h"

#include "base/clock.h"
#include "base/hash.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>

#define JSON_DEPTH_MAX 514 /* of json_max_depth, what may be configured at most, and the two that json-c counts more */
#define BLOCK_BYTES 16384
#define LEAST_ROOM 32
#define CHUNK_FIELDS 2 /* page_number, chunk_index */
#define DATE_LENGTH 10
#define SEED_FIELD 0x61

/* Memory that is given out in pieces and taken back as a whole. */
struct block {
    struct block *next;
    size_t bytes;
    size_t used;
};
struct arena_memory {
    struct block *first;
};

/* Values and where to find their paths. */
struct field_list {
    struct field_value *items;
    uint32_t count;
    uint32_t room;
    uint32_t *table;     /* by hash of the path: index of its first value, and one; 0: free */
    uint32_t table_size; /* a power of two, over twice `room` */
    struct arena_memory memory;
    struct json_object *roots[2]; /* what strings point into: metadata, tags */
};

struct field_reader {
    struct json_tokener *tokener;
    bool keep_all;
    bool failed; /* an allocation */
    struct field_list document;
    struct field_list chunk;
    struct field_value *out;
    uint32_t out_room;
    bool out_begins_with_document;
};

/* --- memory --- */

static void *arena_take(struct field_reader *r, struct arena_memory *m, size_t bytes) {
    bytes = (bytes + 15) / 16 * 16;
    struct block *b = m->first;
    if (b == NULL || b->bytes - b->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        b = (struct block *)malloc(sizeof *b + size);
        if (b == NULL) {
            r->failed = true;
            return NULL;
        }
        *b = (struct block){.next = m->first, .bytes = size};
        m->first = b;
    }
    void *p = (uint8_t *)(b + 1) + b->used;
    b->used += bytes;
    return p;
}

/* Keeps one block. */
static void arena_reset(struct arena_memory *m) {
    while (m->first != NULL && m->first->next != NULL) {
        struct block *b = m->first;
        m->first = b->next;
        free(b);
    }
    if (m->first != NULL) {
        m->first->used = 0;
    }
}

static void list_reset(struct field_list *l) {
    if (l->count > 0) {
        memset(l->table, 0, l->table_size * sizeof *l->table);
    }
    l->count = 0;
    arena_reset(&l->memory);
    for (unsigned i = 0; i < 2; i++) {
        json_object_put(l->roots[i]);
        l->roots[i] = NULL;
    }
}

static void list_fini(struct field_list *l) {
    list_reset(l);
    free(l->memory.first);
    free(l->items);
    free(l->table);
}

struct field_reader *field_reader_new(void) {
    struct field_reader *r = (struct field_reader *)calloc(1, sizeof *r);
    if (r == NULL) {
        return NULL;
    }
    r->tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    if (r->tokener == NULL) {
        free(r);
        return NULL;
    }
    return r;
}

void field_reader_free(struct field_reader *r) {
    if (r == NULL) {
        return;
    }
    list_fini(&r->document);
    list_fini(&r->chunk);
    json_tokener_free(r->tokener);
    free(r->out);
    free(r);
}

void field_reader_keep_all(struct field_reader *r) {
    r->keep_all = true;
}

/* --- lists --- */

static uint32_t *list_place(const struct field_list *l, struct slice path) {
    uint32_t mask = l->table_size - 1;
    for (uint32_t at = (uint32_t)hash64(SEED_FIELD, path.data, path.len) & mask;; at = (at + 1) & mask) {
        if (l->table[at] == 0 || slice_equal(l->items[l->table[at] - 1].path, path)) {
            return &l->table[at];
        }
    }
}

static bool list_has(const struct field_list *l, struct slice path) {
    return l->count > 0 && *list_place(l, path) != 0;
}

static bool list_grow(struct field_list *l) {
    uint32_t room = l->room == 0 ? LEAST_ROOM : l->room * 2;
    uint32_t size = room * 4;
    struct field_value *items = (struct field_value *)realloc(l->items, room * sizeof *items);
    if (items == NULL) {
        return false;
    }
    l->items = items;
    uint32_t *table = (uint32_t *)calloc(size, sizeof *table);
    if (table == NULL) {
        return false;
    }
    free(l->table);
    l->table = table;
    l->table_size = size;
    l->room = room;
    for (uint32_t i = 0; i < l->count; i++) {
        uint32_t *place = list_place(l, l->items[i].path);
        *place = *place == 0 ? i + 1 : *place;
    }
    return true;
}

static void list_add(struct field_reader *r, struct field_list *l, const struct field_value *v) {
    if (l->count == l->room && !list_grow(l)) {
        r->failed = true;
        return;
    }
    uint32_t *place = list_place(l, v->path);
    l->items[l->count++] = *v;
    *place = *place == 0 ? l->count : *place;
}

/* --- values --- */

bool field_time_parse(struct slice text, int64_t *ret_us) {
    static const char midnight[] = "T00:00:00Z";
    char whole[DATE_LENGTH + sizeof midnight];
    if (text.len < DATE_LENGTH || text.len > RFC3339_MAX * 2 || text.data[0] < '0' || text.data[0] > '9') {
        return false; /* nearly all strings */
    }
    if (text.len != DATE_LENGTH) {
        return rfc3339_parse(text, ret_us);
    }
    memcpy(whole, text.data, DATE_LENGTH);
    memcpy(whole + DATE_LENGTH, midnight, sizeof midnight);
    return rfc3339_parse(slice_of(whole, DATE_LENGTH + sizeof midnight - 1), ret_us);
}

static void add_text(struct field_reader *r, struct field_list *l, struct slice path, struct slice text) {
    struct field_value v = {.path = path, .type = COLUMN_KEYWORD};
    if (text.len <= FIELD_KEYWORD_BYTES_MAX || r->keep_all) {
        struct slice *item = (struct slice *)arena_take(r, &l->memory, sizeof *item);
        if (item == NULL) {
            return;
        }
        *item = text;
        v.as.keywords.items = item;
        v.as.keywords.count = 1;
    }
    list_add(r, l, &v);
    struct field_value time = {.path = path, .type = COLUMN_TIME};
    if (field_time_parse(text, &time.as.time_us)) {
        list_add(r, l, &time);
    }
}

static void add_number(struct field_reader *r, struct field_list *l, struct slice path, double number) {
    struct field_value v = {.path = path, .type = COLUMN_NUMBER, .as.number = number};
    if (isfinite(number)) {
        list_add(r, l, &v);
    }
}

static int compare_slices(const void *a, const void *b) {
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static struct slice json_text(struct json_object *v) {
    return slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v));
}

/* The strings of an array into items, sorted, each once. Returns how many, 0 when something else is among them; *ret_longest in bytes. */
static uint32_t array_strings(struct json_object *array, struct slice *items, size_t *ret_longest) {
    size_t length = json_object_array_length(array);
    uint32_t count = 0;
    *ret_longest = 0;
    for (size_t i = 0; i < length; i++) {
        struct json_object *v = json_object_array_get_idx(array, i);
        if (!json_object_is_type(v, json_type_string)) {
            return 0;
        }
        items[i] = json_text(v);
        *ret_longest = items[i].len > *ret_longest ? items[i].len : *ret_longest;
    }
    if (length > 1) {
        qsort(items, length, sizeof *items, compare_slices);
    }
    for (size_t i = 0; i < length; i++) {
        if (count == 0 || !slice_equal(items[count - 1], items[i])) {
            items[count++] = items[i];
        }
    }
    return count;
}

static void add_array(struct field_reader *r, struct field_list *l, struct slice path, struct json_object *array) {
    size_t longest = 0;
    size_t length = json_object_array_length(array);
    struct slice *items = length == 0 ? NULL : (struct slice *)arena_take(r, &l->memory, length * sizeof *items);
    uint32_t count = items == NULL ? 0 : array_strings(array, items, &longest);
    if (count == 0) {
        return;
    }
    struct field_value v = {.path = path, .type = COLUMN_KEYWORD, .as.keywords.array = true};
    if (r->keep_all || (longest <= FIELD_KEYWORD_BYTES_MAX && count <= COLUMN_KEYWORDS_MAX)) {
        v.as.keywords.items = items;
        v.as.keywords.count = count;
    }
    list_add(r, l, &v);
}

/* --- custom metadata --- */

/* The paths that are not custom. */
static const char *const standard_paths[] = {"id",         "title",    "author", "document_type", "source_url", "tags",
                                             "created_at", "chunk_id", "text",   "page_number",   "chunk_index"};

static bool is_standard(struct slice path) {
    for (size_t i = 0; i < sizeof standard_paths / sizeof *standard_paths; i++) {
        if (slice_is(path, standard_paths[i])) {
            return true;
        }
    }
    return false;
}

/* A path under construction; only whole ones are copied to the arena. */
struct path {
    char text[FIELD_PATH_BYTES_MAX];
    size_t len;
};

static void add_member(struct field_reader *r, struct field_list *l, const struct path *path, struct json_object *value) {
    struct slice found = slice_of(path->text, path->len);
    if (is_standard(found) || list_has(l, found)) {
        return;
    }
    uint8_t *bytes = (uint8_t *)arena_take(r, &l->memory, path->len);
    if (bytes == NULL) {
        return;
    }
    memcpy(bytes, path->text, path->len);
    struct slice own = slice_of(bytes, path->len);
    struct field_value boolean = {.path = own, .type = COLUMN_BOOL};
    switch (json_object_get_type(value)) {
    case json_type_boolean:
        boolean.as.boolean = json_object_get_boolean(value) != 0;
        list_add(r, l, &boolean);
        break;
    case json_type_int:
    case json_type_double:
        add_number(r, l, own, json_object_get_double(value));
        break;
    case json_type_string:
        add_text(r, l, own, json_text(value));
        break;
    case json_type_array:
        add_array(r, l, own, value);
        break;
    default:
        break;
    }
}

/* Adds a step; false: too long. */
static bool path_push(struct path *path, const char *key, bool first) {
    size_t len = strlen(key);
    if (len + (first ? 0 : 1) > sizeof path->text - path->len) {
        return false;
    }
    if (!first) {
        path->text[path->len++] = '.';
    }
    memcpy(path->text + path->len, key, len);
    path->len += len;
    return true;
}

/* Each level adds a point to the path, so there are no more levels than a path has bytes. */
static void add_members(struct field_reader *r, struct field_list *l, struct path *path, bool first, struct json_object *object) {
    size_t before = path->len;
    json_object_object_foreach(object, key, value) {
        if (r->failed) {
            return;
        }
        if (path_push(path, key, first)) {
            if (json_object_is_type(value, json_type_object)) {
                add_members(r, l, path, false, value);
            } else if (value != NULL) {
                add_member(r, l, path, value);
            }
        }
        path->len = before;
    }
}

/* NULL: it does not parse, or there is no memory (r->failed). */
static struct json_object *parse(struct field_reader *r, struct slice text, enum json_type type) {
    if (text.len == 0 || text.len > INT32_MAX) {
        return NULL;
    }
    json_tokener_reset(r->tokener);
    struct json_object *root = json_tokener_parse_ex(r->tokener, (const char *)text.data, (int)text.len);
    if (root == NULL && json_tokener_get_error(r->tokener) == json_tokener_success && text.data[0] != 'n') {
        r->failed = true; /* it gave up without a fault in the text */
    }
    if (!json_object_is_type(root, type)) {
        json_object_put(root);
        return NULL;
    }
    return root;
}

static void add_metadata(struct field_reader *r, struct field_list *l, struct slice metadata) {
    struct path path = {.len = 0};
    if (metadata.len <= sizeof "{}" - 1) {
        return;
    }
    l->roots[0] = parse(r, metadata, json_type_object);
    if (l->roots[0] != NULL) {
        add_members(r, l, &path, true, l->roots[0]);
    }
}

/* --- documents and chunks --- */

static void add_standard_text(struct field_reader *r, const char *path, struct slice text) {
    if (text.len > 0) {
        add_text(r, &r->document, slice_str(path), text);
    }
}

static void add_tags(struct field_reader *r, struct slice tags) {
    struct field_list *l = &r->document;
    if (tags.len <= sizeof "[]" - 1) {
        return;
    }
    l->roots[1] = parse(r, tags, json_type_array);
    if (l->roots[1] != NULL) {
        add_array(r, l, slice_str("tags"), l->roots[1]);
    }
}

bool fields_of_document(struct field_reader *r, const struct op_document *d, struct status *st) {
    struct field_value created = {.path = slice_str("created_at"), .type = COLUMN_TIME, .as.time_us = d->created_at};
    r->failed = false;
    r->out_begins_with_document = false;
    list_reset(&r->document);
    list_reset(&r->chunk);
    list_add(r, &r->document, &created);
    add_standard_text(r, "document_type", d->document_type);
    add_standard_text(r, "author", d->author);
    add_standard_text(r, "source_url", d->source_url);
    add_tags(r, d->tags);
    add_metadata(r, &r->document, d->metadata);
    return !r->failed || status_no_memory(st);
}

static bool out_grow(struct field_reader *r, uint32_t wanted) {
    if (wanted <= r->out_room) {
        return true;
    }
    uint32_t room = wanted + wanted / 2;
    struct field_value *out = (struct field_value *)realloc(r->out, room * sizeof *out);
    if (out == NULL) {
        return false;
    }
    r->out = out;
    r->out_room = room;
    return true;
}

/* The document's values that the chunk does not hide, to the beginning of what is given. Returns how many. */
static uint32_t copy_document(struct field_reader *r) {
    uint32_t count = 0;
    if (r->chunk.count == 0 && r->out_begins_with_document) {
        return r->document.count;
    }
    for (uint32_t i = 0; i < r->document.count; i++) {
        if (!list_has(&r->chunk, r->document.items[i].path)) {
            r->out[count++] = r->document.items[i];
        }
    }
    r->out_begins_with_document = count == r->document.count;
    return count;
}

bool fields_of_chunk(struct field_reader *r, const struct op_chunk *c, uint32_t chunk_index, struct field_values *ret,
                     struct status *st) {
    r->failed = false;
    if (r->chunk.count > 0 || r->chunk.roots[0] != NULL) {
        list_reset(&r->chunk);
    }
    add_metadata(r, &r->chunk, c->metadata);
    if (r->failed || !out_grow(r, r->document.count + CHUNK_FIELDS + r->chunk.count)) {
        return status_no_memory(st);
    }
    uint32_t count = copy_document(r);
    r->out[count++] =
        (struct field_value){.path = slice_str("chunk_index"), .type = COLUMN_NUMBER, .as.number = (double)chunk_index};
    if (c->page_number >= 0) {
        r->out[count++] =
            (struct field_value){.path = slice_str("page_number"), .type = COLUMN_NUMBER, .as.number = (double)c->page_number};
    }
    if (r->chunk.count > 0) {
        memcpy(r->out + count, r->chunk.items, r->chunk.count * sizeof *r->out);
    }
    *ret = (struct field_values){.items = r->out, .count = count + r->chunk.count};
    return true;
}
