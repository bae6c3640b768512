/*
 * texts.c - staging terms and field values (texts.h).
 *
 * The stage is one buffer in the process's own byte order, never in a file:
 *
 *   op      struct staged_op, then its chunks
 *   chunk   struct staged_chunk; per term: u64 hash, u32 count, u8 length, bytes; then its values as pieces:
 *             u32 bytes, value             a value
 *             u32 REPEAT | n, u32 index    n values as the chunk before had them from `index` on
 *   value   u8 type, u32 length and path, then 8 bytes (number, time), 1 byte (boolean), or u32 count * 2 + array and u32 length and bytes each
 *           (keywords)
 *
 * Values of the document come again with each of its chunks, hence the repetitions: without them a document of 10,000 chunks and 64 KiB of metadata
 * would take 640 MB here.
 *
 * What taking an op needs (arrays of terms, values and keywords) is allocated when it is staged.
 */
#include "store/texts.h"

#include <stdlib.h>

#define REPEAT 0x80000000U
#define LOOK_AHEAD 8        /* values that the chunk before had and this one has not, before a value counts as new */
#define KEEP_BYTES 1048576U /* an empty stage that is larger gives its memory back */
#define LEAST_ROOM 256
#define LEAST_TEXT_BYTES 4096

struct staged_op {
    size_t bytes; /* with this head */
    uint32_t chunks;
};

struct staged_chunk {
    uint32_t length; /* of the text, in terms */
    uint32_t terms;
    uint32_t values;
    uint32_t pieces;
};

struct language_analyzer {
    const char *language;
    struct analyzer *analyzer;
};

struct texts {
    struct language_analyzer *languages;
    size_t count;
    struct field_reader *reader;
    /* for taking */
    struct term *terms;
    size_t terms_room;
    struct field_value *values[2]; /* of this chunk and the one before, by turns */
    size_t values_room;
    unsigned turn;
    struct slice *keywords; /* of all values of an op */
    size_t keywords_room;
    /* for staging: where the values of this chunk and the one before begin, in the stage */
    size_t *places[2];
    size_t places_room;
};

bool texts_new(struct texts **ret, struct status *st) {
    struct texts *t = (struct texts *)calloc(1, sizeof *t);
    if (t == NULL) {
        return status_no_memory(st);
    }
    t->reader = field_reader_new();
    if (t->reader == NULL) {
        free(t);
        return status_no_memory(st);
    }
    *ret = t;
    return true;
}

void texts_free(struct texts *t) {
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->count; i++) {
        analyzer_free(t->languages[i].analyzer);
    }
    free(t->languages);
    field_reader_free(t->reader);
    free(t->terms);
    free(t->values[0]);
    free(t->values[1]);
    free(t->keywords);
    free(t->places[0]);
    free(t->places[1]);
    free(t);
}

/* --- analyzers --- */

const char *texts_language(struct slice name) {
    if (name.len == 0) {
        return LANGUAGE_DEFAULT;
    }
    const char *known = language_canonical(name);
    return known != NULL ? known : LANGUAGE_NONE;
}

static struct analyzer *find_analyzer(const struct texts *t, const char *language) {
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->languages[i].language, language) == 0) {
            return t->languages[i].analyzer;
        }
    }
    return NULL;
}

static bool add_analyzer(struct texts *t, const char *language, struct analyzer **ret, struct status *st) {
    struct language_analyzer *more =
        (struct language_analyzer *)realloc(t->languages, (t->count + 1) * sizeof(struct language_analyzer));
    if (more == NULL) {
        return status_no_memory(st);
    }
    t->languages = more;
    if (!analyzer_new(language, ret, st)) {
        return false;
    }
    t->languages[t->count++] = (struct language_analyzer){.language = language, .analyzer = *ret};
    return true;
}

bool texts_prepare(struct texts *t, const char *language, size_t text_bytes, struct status *st) {
    struct analyzer *a = find_analyzer(t, language);
    size_t room = LEAST_TEXT_BYTES;
    while (room < text_bytes) {
        room *= 2; /* so that texts of growing length do not each make the room anew */
    }
    return (a != NULL || add_analyzer(t, language, &a, st)) && analyzer_reserve(a, room, st);
}

void texts_analyze(struct texts *t, const char *language, struct slice text, struct terms *ret) {
    analyze(find_analyzer(t, language), text, ret);
}

/* --- memory --- */

static size_t room_for(size_t wanted) {
    return wanted < LEAST_ROOM ? LEAST_ROOM : wanted + wanted / 2;
}

/* *items with room for `wanted`, of `size` bytes each. */
static bool grow(void **items, size_t room, size_t size) {
    void *more = realloc(*items, room * size);
    if (more != NULL) {
        *items = more;
    }
    return more != NULL;
}

static bool grow_terms(struct texts *t, size_t wanted) {
    size_t room = room_for(wanted);
    if (wanted <= t->terms_room) {
        return true;
    }
    void *items = t->terms;
    bool ok = grow(&items, room, sizeof(struct term));
    t->terms = (struct term *)items;
    t->terms_room = ok ? room : t->terms_room;
    return ok;
}

static bool grow_keywords(struct texts *t, size_t wanted) {
    size_t room = room_for(wanted);
    if (wanted <= t->keywords_room) {
        return true;
    }
    void *items = t->keywords;
    bool ok = grow(&items, room, sizeof(struct slice));
    t->keywords = (struct slice *)items;
    t->keywords_room = ok ? room : t->keywords_room;
    return ok;
}

static bool grow_values(struct texts *t, size_t wanted) {
    size_t room = room_for(wanted);
    bool ok = true;
    if (wanted <= t->values_room) {
        return true;
    }
    for (unsigned i = 0; ok && i < 2; i++) {
        void *items = t->values[i];
        ok = grow(&items, room, sizeof(struct field_value));
        t->values[i] = (struct field_value *)items;
    }
    t->values_room = ok ? room : t->values_room;
    return ok;
}

static bool grow_places(struct texts *t, size_t wanted) {
    size_t room = room_for(wanted);
    bool ok = true;
    if (wanted <= t->places_room) {
        return true;
    }
    for (unsigned i = 0; ok && i < 2; i++) {
        void *items = t->places[i];
        ok = grow(&items, room, sizeof(size_t));
        t->places[i] = (size_t *)items;
    }
    t->places_room = ok ? room : t->places_room;
    return ok;
}

/* --- staging --- */

/* One op on its way into the stage. */
struct staging {
    struct texts *t;
    struct buf *out;
    struct text_stage *stage;
    struct staged_op head;
    uint32_t before; /* values of the chunk before */
    size_t keywords; /* in the op so far */
    unsigned turn;   /* which of places is this chunk's */
};

static void put_native_u32(struct buf *out, size_t value) {
    uint32_t v = (uint32_t)value;
    buf_put(out, &v, sizeof v);
}

static uint32_t native_u32(const uint8_t *at) {
    uint32_t v = 0;
    memcpy(&v, at, sizeof v);
    return v;
}

static void put_counted(struct buf *out, struct slice s) {
    put_native_u32(out, s.len);
    buf_put_slice(out, s);
}

/* Some sixty terms a chunk: room for all of them is asked for once. */
static void put_terms(struct buf *out, const struct terms *terms) {
    enum { TERM_BYTES_MOST = sizeof(uint64_t) + sizeof(uint32_t) + 1 + TERM_BYTES_MAX };
    if (!buf_reserve(out, (size_t)terms->count * TERM_BYTES_MOST)) {
        return;
    }
    uint8_t *at = out->data + out->len;
    for (uint32_t i = 0; i < terms->count; i++) {
        const struct term *term = &terms->items[i];
        memcpy(at, &term->hash, sizeof term->hash);
        at += sizeof term->hash;
        memcpy(at, &term->count, sizeof term->count);
        at += sizeof term->count;
        *at++ = (uint8_t)term->bytes.len;
        memcpy(at, term->bytes.data, term->bytes.len);
        at += term->bytes.len;
    }
    out->len = (size_t)(at - out->data);
}

static void put_value(struct buf *out, const struct field_value *v) {
    buf_put_u8(out, (uint8_t)v->type);
    put_counted(out, v->path);
    switch (v->type) {
    case COLUMN_KEYWORD:
        put_native_u32(out, (size_t)v->as.keywords.count * 2 + (v->as.keywords.array ? 1 : 0));
        for (uint32_t i = 0; i < v->as.keywords.count; i++) {
            put_counted(out, v->as.keywords.items[i]);
        }
        break;
    case COLUMN_NUMBER:
        buf_put(out, &v->as.number, sizeof v->as.number);
        break;
    case COLUMN_TIME:
        buf_put(out, &v->as.time_us, sizeof v->as.time_us);
        break;
    case COLUMN_BOOL:
        buf_put_u8(out, v->as.boolean ? 1 : 0);
        break;
    }
}

/* Whether the pieces at two places of the stage are the same value. */
static bool same_value(const struct buf *b, size_t one, size_t other) {
    uint32_t bytes = native_u32(b->data + one);
    return native_u32(b->data + other) == bytes && memcmp(b->data + one, b->data + other, sizeof bytes + bytes) == 0;
}

/* The index from which on the chunk before has the value that was just put at `place`; its number of values: nowhere near. */
static uint32_t find_before(const struct staging *s, size_t place, uint32_t from) {
    const size_t *places = s->t->places[s->turn ^ 1U];
    for (uint32_t i = from; i < s->before && i - from < LOOK_AHEAD; i++) {
        if (same_value(s->out, places[i], place)) {
            return i;
        }
    }
    return s->before;
}

/* Puts the values; returns the number of pieces. */
static uint32_t put_values(struct staging *s, const struct field_values *values) {
    const size_t *before = s->t->places[s->turn ^ 1U];
    size_t *places = s->t->places[s->turn];
    uint32_t pieces = 0;
    uint32_t next = 0; /* of the chunk before */
    uint32_t run = 0;  /* values of the repetition that is open; it is the last piece */
    for (uint32_t i = 0; i < values->count && buf_ok(s->out); i++) {
        size_t place = s->out->len;
        put_native_u32(s->out, 0);
        put_value(s->out, &values->items[i]);
        if (!buf_ok(s->out)) {
            break;
        }
        uint32_t bytes = (uint32_t)(s->out->len - place - sizeof(uint32_t));
        memcpy(s->out->data + place, &bytes, sizeof bytes);
        uint32_t found = find_before(s, place, next);
        if (found == s->before) {
            places[i] = place;
            s->keywords += values->items[i].type == COLUMN_KEYWORD ? values->items[i].as.keywords.count : 0;
            run = 0;
            pieces++;
            continue;
        }
        s->out->len = place;
        places[i] = before[found];
        if (run > 0 && found == next) {
            run++;
            uint32_t tag = REPEAT | run;
            memcpy(s->out->data + place - 2 * sizeof(uint32_t), &tag, sizeof tag);
        } else {
            run = 1;
            pieces++;
            put_native_u32(s->out, REPEAT | run);
            put_native_u32(s->out, found);
        }
        next = found + 1;
    }
    return pieces;
}

static bool stage_chunk(struct staging *s, const char *language, const struct op_chunk *chunk, uint32_t index, uint32_t slot,
                        const struct lexical *x, const struct columns *c, struct status *st) {
    struct texts *t = s->t;
    struct terms terms;
    struct field_values values;
    if (!texts_prepare(t, language, chunk->text.len, st) || !fields_of_chunk(t->reader, chunk, index, &values, st)) {
        return false;
    }
    texts_analyze(t, language, chunk->text, &terms);
    if (!grow_terms(t, terms.count) || !grow_values(t, values.count) || !grow_places(t, values.count)) {
        return status_no_memory(st);
    }
    struct staged_chunk head = {.length = terms.length, .terms = terms.count, .values = values.count};
    size_t at = s->out->len;
    buf_put(s->out, &head, sizeof head);
    put_terms(s->out, &terms);
    head.pieces = put_values(s, &values);
    if (!buf_check(s->out, st)) {
        return false;
    }
    memcpy(s->out->data + at, &head, sizeof head);
    s->before = values.count;
    s->turn ^= 1U;
    lexical_need(x, &terms, &s->stage->terms);
    columns_need(c, slot, &values, &s->stage->columns);
    return true;
}

static bool stage_chunks(struct staging *s, const char *language, const struct op_document *d, uint32_t slot,
                         const struct lexical *x, const struct columns *c, struct status *st) {
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    if (!fields_of_document(s->t->reader, d, st)) {
        return false;
    }
    for (; s->head.chunks < d->num_chunks && chunk_walk_next(&walk, &chunk); s->head.chunks++) {
        if (!stage_chunk(s, language, &chunk, s->head.chunks, slot + s->head.chunks, x, c, st)) {
            return false;
        }
    }
    return grow_keywords(s->t, s->keywords) || status_no_memory(st);
}

bool text_stage_add(struct texts *t, struct text_stage *stage, const char *language, const struct op_document *d, uint32_t slot,
                    const struct lexical *x, const struct columns *c, struct status *st) {
    struct staging s = {.t = t, .out = &stage->bytes, .stage = stage};
    struct text_stage before = *stage;
    buf_put(s.out, &s.head, sizeof s.head);
    if (!buf_ok(s.out) || !stage_chunks(&s, language, d, slot, x, c, st)) {
        bool memory = !buf_ok(s.out);
        stage->bytes.failed = false;
        text_stage_drop_last(stage, &before);
        return memory ? status_no_memory(st) : false;
    }
    s.head.bytes = stage->bytes.len - before.bytes.len;
    memcpy(stage->bytes.data + before.bytes.len, &s.head, sizeof s.head);
    return true;
}

void text_stage_drop_last(struct text_stage *s, const struct text_stage *before) {
    s->bytes.len = before->bytes.len;
    s->terms = before->terms;
    s->columns = before->columns;
}

void text_stage_clear(struct text_stage *s) {
    struct buf bytes = s->bytes;
    if (bytes.cap > KEEP_BYTES) {
        buf_fini(&bytes);
    }
    buf_reset(&bytes);
    *s = (struct text_stage){.bytes = bytes};
}

void text_stage_fini(struct text_stage *s) {
    buf_fini(&s->bytes);
    *s = (struct text_stage){0};
}

/* --- taking --- */

static struct staged_op head_at(const struct text_stage *s) {
    struct staged_op head = {0};
    if (s->at < s->bytes.len) {
        memcpy(&head, s->bytes.data + s->at, sizeof head);
    }
    return head;
}

void text_stage_begin(const struct text_stage *s, struct text_taking *ret) {
    *ret = (struct text_taking){.at = s->at + sizeof(struct staged_op), .left = head_at(s).chunks};
}

static uint32_t take_u32(const uint8_t **at) {
    uint32_t v = native_u32(*at);
    *at += sizeof v;
    return v;
}

static struct slice take_counted(const uint8_t **at) {
    uint32_t len = take_u32(at);
    struct slice s = slice_of(*at, len);
    *at += len;
    return s;
}

static void take_terms(struct term *out, uint32_t count, const uint8_t **at) {
    for (uint32_t i = 0; i < count; i++) {
        memcpy(&out[i].hash, *at, sizeof out[i].hash);
        *at += sizeof out[i].hash;
        out[i].count = take_u32(at);
        uint8_t len = *(*at)++;
        out[i].bytes = slice_of(*at, len);
        *at += len;
    }
}

static void take_keywords(struct texts *t, struct text_taking *taking, struct field_value *v, const uint8_t **at) {
    struct slice *items = t->keywords + taking->keywords;
    uint32_t count_and_array = take_u32(at);
    uint32_t count = count_and_array / 2;
    for (uint32_t i = 0; i < count; i++) {
        items[i] = take_counted(at);
    }
    v->as.keywords.items = items;
    v->as.keywords.count = count;
    v->as.keywords.array = count_and_array % 2 != 0;
    taking->keywords += count;
}

static struct field_value take_value(struct texts *t, struct text_taking *taking, const uint8_t **at) {
    struct field_value v = {.type = (enum column_type) * (*at)++};
    v.path = take_counted(at);
    switch (v.type) {
    case COLUMN_KEYWORD:
        take_keywords(t, taking, &v, at);
        break;
    case COLUMN_NUMBER:
        memcpy(&v.as.number, *at, sizeof v.as.number);
        *at += sizeof v.as.number;
        break;
    case COLUMN_TIME:
        memcpy(&v.as.time_us, *at, sizeof v.as.time_us);
        *at += sizeof v.as.time_us;
        break;
    case COLUMN_BOOL:
        v.as.boolean = *(*at)++ != 0;
        break;
    }
    return v;
}

static void take_values(struct texts *t, struct text_taking *taking, uint32_t pieces, const uint8_t **at) {
    struct field_value *out = t->values[t->turn];
    const struct field_value *before = t->values[t->turn ^ 1U];
    size_t count = 0;
    for (uint32_t i = 0; i < pieces; i++) {
        uint32_t tag = take_u32(at);
        if ((tag & REPEAT) == 0) {
            out[count++] = take_value(t, taking, at);
            continue;
        }
        uint32_t from = take_u32(at);
        memcpy(&out[count], &before[from], (tag & ~REPEAT) * sizeof *out);
        count += tag & ~REPEAT;
    }
}

void text_stage_next(struct texts *t, const struct text_stage *s, struct text_taking *taking, struct terms *ret_terms,
                     struct field_values *ret_values) {
    *ret_terms = (struct terms){0};
    *ret_values = (struct field_values){0};
    if (taking->left == 0) {
        return;
    }
    const uint8_t *at = s->bytes.data + taking->at;
    struct staged_chunk head;
    memcpy(&head, at, sizeof head);
    at += sizeof head;
    take_terms(t->terms, head.terms, &at);
    t->turn ^= 1U;
    take_values(t, taking, head.pieces, &at);
    taking->at = (size_t)(at - s->bytes.data);
    taking->left--;
    *ret_terms = (struct terms){.items = t->terms, .count = head.terms, .length = head.length};
    *ret_values = (struct field_values){.items = t->values[t->turn], .count = head.values};
}

void text_stage_end(struct text_stage *s) {
    struct staged_op head = head_at(s);
    s->at += head.bytes;
    if (s->at >= s->bytes.len) {
        text_stage_clear(s);
    }
}
