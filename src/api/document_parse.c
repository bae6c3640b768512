/*
 * document_parse.c - from one JSON object to a document that can be encoded.
 *
 * A document comes in one of three forms: texts (the chunks as they are), text (cut here, embed/chunker.h), or chunks with their
 * own vectors. All three end as the same list of chunk_input. Parts that are wrong are collected as problems; what is refused
 * outright (a wrong dimension, a number that is not finite, no memory) ends the parsing at once.
 */
#include "api/document.h"
#include "api/json_in.h"

#include "embed/chunker.h"
#include "store/model.h"

#include <inttypes.h>
#include <stdlib.h>

#define PAGE_NUMBER_MAX INT32_MAX
#define CHUNK_TOKENS_MAX 65536
#define OVERLAP_SHARE 8 /* where max_tokens is given alone and small, the overlap is at most this part of it */

static const char *const document_reserved[] = {"title", "author", "created_at", "document_type", "source_url", "tags", NULL};
static const char *const document_not_null[] = {"created_at", "document_type", "tags", "chunking", NULL};
static const char *const patch_not_null[] = {"title", NULL};
static const char *const chunking_not_null[] = {"max_tokens", "overlap", NULL};
static const char *const chunk_reserved[] = {"created_at", "chunk_index", "source_document_id", NULL};

/* The members of the object that is read. */
struct document_members {
    struct json_object *id, *title, *author, *created_at, *document_type, *source_url, *tags, *metadata;
    struct json_object *texts, *text, *chunking, *chunk_ids, *chunk_metadata, *embeddings, *chunks;
};

struct parsing {
    struct exchange *x;
    const struct place *at;
    const struct library_model *model;
    struct document_members m;
    struct document_input *out;
};

static void fresh_id(struct exchange *x, struct slice *ret) {
    struct uuid id;
    struct buf encoded;
    request_uuid(x, &id);
    buf_init(&encoded);
    item_id_encode_uuid(&id, &encoded);
    if (!buf_ok(&encoded) || !pool_copy(&x->pool, buf_slice(&encoded), ret)) {
        *ret = (struct slice){NULL, 0};
    }
    buf_fini(&encoded);
}

/* *ret is left where there is nothing, or nothing good. */
static void read_tags(struct exchange *x, const struct place *object_at, struct json_object *tags, struct slice *ret) {
    const struct limits *l = x->api->host.limits;
    struct place at = place_member(object_at, "tags");
    size_t count = 0;
    if (!json_in_array(x, &at, tags, 0, l->max_tags, &count)) {
        return;
    }
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(&at, i);
        struct json_object *v = json_object_array_get_idx(tags, i);
        struct slice tag;
        if (v == NULL) {
            problem_add(x, &element, "must be a string");
        }
        good = json_in_text(x, &element, v, 1, l->max_tag_bytes, &tag) && good;
    }
    if (good && count > 0) {
        size_t len = 0;
        const char *text = json_object_to_json_string_length(tags, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
        *ret = slice_of(text, text == NULL ? 0 : len);
    }
}

/* Custom metadata of a document; none at all where it is empty. */
static void read_metadata(struct exchange *x, const struct place *object_at, struct json_object *metadata, struct slice *ret) {
    struct place at = place_member(object_at, "metadata");
    (void)json_in_metadata(x, &at, metadata, document_reserved, ret);
    if (slice_is(*ret, "{}")) {
        *ret = (struct slice){NULL, 0};
    }
}

static void read_fields(struct parsing *p, struct slice id) {
    struct exchange *x = p->x;
    struct op_document *f = &p->out->fields;
    uint64_t most = x->api->host.limits->max_title_bytes;
    struct place title = place_member(p->at, "title");
    struct place author = place_member(p->at, "author");
    struct place type = place_member(p->at, "document_type");
    struct place url = place_member(p->at, "source_url");
    struct place created_at = place_member(p->at, "created_at");
    struct place id_at = place_member(p->at, "id");
    (void)json_in_require(x, p->at, "title", p->m.title);
    (void)json_in_text(x, &title, p->m.title, 1, most, &f->title);
    (void)json_in_text(x, &author, p->m.author, 0, most, &f->author);
    (void)json_in_time(x, &created_at, p->m.created_at, &f->created_at);
    f->document_type = slice_str("text");
    (void)json_in_text(x, &type, p->m.document_type, 1, most, &f->document_type);
    (void)json_in_text(x, &url, p->m.source_url, 0, most, &f->source_url);
    read_metadata(x, p->at, p->m.metadata, &f->metadata);
    read_tags(x, p->at, p->m.tags, &f->tags);
    bool given = json_in_item_id(x, &id_at, p->m.id, &f->id);
    if (given && id.len > 0 && !slice_equal(id, f->id)) {
        problem_add(x, &id_at, "is another id than that of the path");
    } else if (id.len > 0) {
        f->id = id;
    } else if (p->m.id == NULL) {
        fresh_id(x, &f->id);
    }
}

/* Room for that many chunks, each with a fresh id if none is given. */
static bool take_chunks(struct parsing *p, size_t count, struct status *st) {
    p->out->chunks = (struct chunk_input *)pool_take_array(&p->x->pool, count, sizeof *p->out->chunks);
    if (p->out->chunks == NULL) {
        return status_no_memory(st);
    }
    p->out->num_chunks = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        p->out->chunks[i].page_number = -1;
    }
    return true;
}

static bool read_texts(struct parsing *p, struct status *st) {
    const struct limits *l = p->x->api->host.limits;
    struct place at = place_member(p->at, "texts");
    size_t count = 0;
    if (p->m.chunking != NULL) {
        struct place chunking = place_member(p->at, "chunking");
        problem_add(p->x, &chunking, "goes with \"text\": \"texts\" are taken as they are");
    }
    if (!json_in_array(p->x, &at, p->m.texts, 1, l->max_chunks_per_document, &count)) {
        return true;
    }
    if (!take_chunks(p, count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(&at, i);
        struct json_object *v = json_object_array_get_idx(p->m.texts, i);
        if (v == NULL) {
            problem_add(p->x, &element, "must be a string");
        }
        (void)json_in_text(p->x, &element, v, 1, l->max_text_bytes, &p->out->chunks[i].text);
    }
    return true;
}

static void read_chunking(struct parsing *p, uint32_t *max_tokens, uint32_t *overlap) {
    const struct limits *l = p->x->api->host.limits;
    *max_tokens = (uint32_t)l->chunk_max_tokens;
    *overlap = (uint32_t)l->chunk_overlap < *max_tokens ? (uint32_t)l->chunk_overlap : *max_tokens / OVERLAP_SHARE;
    struct json_object *tokens = NULL, *over = NULL;
    const struct member members[] = {{"max_tokens", &tokens}, {"overlap", &over}};
    struct place at = place_member(p->at, "chunking");
    if (p->m.chunking == NULL || !json_in_members(p->x, &at, p->m.chunking, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(p->x, &at, p->m.chunking, chunking_not_null);
    struct place tokens_at = place_member(&at, "max_tokens");
    struct place over_at = place_member(&at, "overlap");
    (void)json_in_uint(p->x, &tokens_at, tokens, 1, CHUNK_TOKENS_MAX, max_tokens);
    if (over == NULL && *overlap > *max_tokens / OVERLAP_SHARE) {
        *overlap = *max_tokens / OVERLAP_SHARE;
    }
    (void)json_in_uint(p->x, &over_at, over, 0, *max_tokens - 1, overlap);
}

static bool is_markdown(struct slice document_type) {
    return slice_is(document_type, "markdown") || slice_is(document_type, "text/markdown");
}

/* One chunk of the input for each span. */
static bool take_spans(struct parsing *p, struct slice text, const struct chunk_list *list, struct status *st) {
    struct slice sections = {NULL, 0};
    if (!take_chunks(p, list->count, st)) {
        return false;
    }
    if (list->sections.len > 0 && !pool_copy(&p->x->pool, buf_slice(&list->sections), &sections)) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < list->count; i++) {
        const struct chunk_span *span = &list->spans[i];
        struct chunk_input *c = &p->out->chunks[i];
        c->source_begin = span->begin - span->overlap;
        c->text = slice_of(text.data + c->source_begin, span->end - c->source_begin);
        c->section = slice_of(sections.data == NULL ? NULL : sections.data + span->section_at, span->section_len);
    }
    return true;
}

static bool cut_text(struct parsing *p, struct status *st) {
    struct exchange *x = p->x;
    const struct limits *l = x->api->host.limits;
    struct place at = place_member(p->at, "text");
    struct slice text;
    struct chunking how = {.format = is_markdown(p->out->fields.document_type) ? TEXT_MARKDOWN : TEXT_PLAIN,
                           .vocabulary = p->model->model == NULL ? NULL : p->model->model->vocabulary,
                           .max_chunks = l->max_chunks_per_document};
    unsigned before = x->problems.count;
    read_chunking(p, &how.max_tokens, &how.overlap);
    if (!json_in_text(x, &at, p->m.text, 1, l->max_text_bytes, &text) || x->problems.count > before) {
        return true;
    }
    struct chunk_list list;
    if (!chunker_cut(text, &how, &list, st)) {
        return false;
    }
    bool good = take_spans(p, text, &list, st);
    chunk_list_fini(&list);
    return good;
}

/* Custom metadata of a chunk; page_number is a field of its own. */
static void read_chunk_metadata(struct parsing *p, const struct place *at, struct json_object *v, struct chunk_input *c) {
    if (v == NULL) {
        return;
    }
    struct json_object *page = NULL;
    if (json_object_is_type(v, json_type_object) && json_object_object_get_ex(v, "page_number", &page)) {
        struct place page_at = place_member(at, "page_number");
        uint32_t number = 0;
        if (json_in_uint(p->x, &page_at, page, 0, PAGE_NUMBER_MAX, &number)) {
            c->page_number = number;
        }
        json_object_object_del(v, "page_number");
    }
    (void)json_in_metadata(p->x, at, v, chunk_reserved, &c->metadata);
    if (slice_is(c->metadata, "{}")) {
        c->metadata = (struct slice){NULL, 0};
    }
}

/* The array of a per-chunk member, if it is there and as long as there are chunks. */
static bool per_chunk(struct parsing *p, const struct place *at, struct json_object *v) {
    if (v == NULL) {
        return false;
    }
    if (!json_object_is_type(v, json_type_array)) {
        problem_add(p->x, at, "must be an array");
        return false;
    }
    size_t count = json_object_array_length(v);
    if (count != p->out->num_chunks) {
        problem_add(p->x, at, "has %zu elements, but the document has %" PRIu32 " chunks", count, p->out->num_chunks);
        return false;
    }
    return true;
}

static bool read_chunk_vector(struct parsing *p, const struct place *at, struct json_object *v, struct chunk_input *c,
                              struct status *st) {
    float *vector = NULL;
    switch (json_in_vector(p->x, at, v, &p->out->dimension, &vector, st)) {
    case VECTOR_REFUSED:
        return false;
    case VECTOR_READ:
        c->vector = vector;
        break;
    case VECTOR_PROBLEM:
        break;
    }
    return true;
}

static bool read_per_chunk(struct parsing *p, struct status *st) {
    struct place ids = place_member(p->at, "chunk_ids");
    struct place metadata = place_member(p->at, "chunk_metadata");
    struct place embeddings = place_member(p->at, "embeddings");
    bool with_ids = per_chunk(p, &ids, p->m.chunk_ids);
    bool with_metadata = per_chunk(p, &metadata, p->m.chunk_metadata);
    bool with_vectors = per_chunk(p, &embeddings, p->m.embeddings);
    for (uint32_t i = 0; i < p->out->num_chunks; i++) {
        struct chunk_input *c = &p->out->chunks[i];
        if (with_ids) {
            struct place element = place_element(&ids, i);
            struct json_object *v = json_object_array_get_idx(p->m.chunk_ids, i);
            (void)(v != NULL ? json_in_item_id(p->x, &element, v, &c->id) : (fresh_id(p->x, &c->id), true));
        }
        if (with_metadata) {
            struct place element = place_element(&metadata, i);
            read_chunk_metadata(p, &element, json_object_array_get_idx(p->m.chunk_metadata, i), c);
        }
        if (with_vectors) {
            struct place element = place_element(&embeddings, i);
            if (!read_chunk_vector(p, &element, json_object_array_get_idx(p->m.embeddings, i), c, st)) {
                return false;
            }
        }
    }
    p->out->has_vectors = with_vectors;
    return true;
}

static bool read_embedded_chunk(struct parsing *p, const struct place *at, struct json_object *v, struct chunk_input *c,
                                struct status *st) {
    struct json_object *text = NULL, *embedding = NULL, *id = NULL, *metadata = NULL;
    const struct member members[] = {{"text", &text}, {"embedding", &embedding}, {"id", &id}, {"metadata", &metadata}};
    if (!json_in_members(p->x, at, v, members, sizeof members / sizeof members[0])) {
        return true;
    }
    struct place text_at = place_member(at, "text");
    struct place id_at = place_member(at, "id");
    struct place metadata_at = place_member(at, "metadata");
    struct place embedding_at = place_member(at, "embedding");
    (void)json_in_require(p->x, at, "text", text);
    (void)json_in_text(p->x, &text_at, text, 1, p->x->api->host.limits->max_text_bytes, &c->text);
    (void)json_in_item_id(p->x, &id_at, id, &c->id);
    read_chunk_metadata(p, &metadata_at, metadata, c);
    return !json_in_require(p->x, at, "embedding", embedding) || read_chunk_vector(p, &embedding_at, embedding, c, st);
}

static bool read_embedded_chunks(struct parsing *p, struct status *st) {
    struct place at = place_member(p->at, "chunks");
    size_t count = 0;
    if (!json_in_require(p->x, p->at, "chunks", p->m.chunks) ||
        !json_in_array(p->x, &at, p->m.chunks, 1, p->x->api->host.limits->max_chunks_per_document, &count)) {
        return true;
    }
    if (!take_chunks(p, count, st)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct place element = place_element(&at, i);
        if (!read_embedded_chunk(p, &element, json_object_array_get_idx(p->m.chunks, i), &p->out->chunks[i], st)) {
            return false;
        }
    }
    p->out->has_vectors = true;
    return true;
}

/* Where in the source a chunk stands, before the caller's own metadata; what that has under the same name stays the caller's. */
static void write_place(struct json_out *j, const struct chunk_input *c, struct json_object *own) {
    json_begin_object(j);
    if (c->section.len > 0 && !json_object_object_get_ex(own, "section", NULL)) {
        json_member_string(j, "section", c->section);
    }
    if (!json_object_object_get_ex(own, "start", NULL)) {
        json_member_uint(j, "start", c->source_begin);
    }
    if (!json_object_object_get_ex(own, "end", NULL)) {
        json_member_uint(j, "end", c->source_begin + c->text.len);
    }
    json_splice_members(j, c->metadata);
    json_end_object(j);
}

/* Puts section, start and end into the metadata of chunks that were cut here. */
static bool place_chunks(struct parsing *p, struct status *st) {
    struct buf metadata;
    bool good = true;
    buf_init(&metadata);
    for (uint32_t i = 0; good && i < p->out->num_chunks; i++) {
        struct chunk_input *c = &p->out->chunks[i];
        struct json_object *own = p->m.chunk_metadata == NULL ? NULL : json_object_array_get_idx(p->m.chunk_metadata, i);
        buf_reset(&metadata);
        struct json_out j = json_out_to(&metadata);
        write_place(&j, c, own);
        if (metadata.len > p->x->api->host.limits->max_metadata_bytes) {
            continue; /* the caller's own goes first */
        }
        good = buf_check(&metadata, st) && (pool_copy(&p->x->pool, buf_slice(&metadata), &c->metadata) || status_no_memory(st));
    }
    buf_fini(&metadata);
    return good;
}

static bool read_plain_chunks(struct parsing *p, struct status *st) {
    if ((p->m.texts == NULL) == (p->m.text == NULL)) {
        struct place at = place_member(p->at, "texts");
        problem_add(p->x, &at,
                    p->m.texts == NULL ? "is required (or \"text\", to be cut into chunks)" : "and \"text\" exclude each other");
        return true;
    }
    if (!(p->m.texts != NULL ? read_texts(p, st) : cut_text(p, st))) {
        return false;
    }
    if (p->out->num_chunks == 0) {
        return true; /* a problem is noted already */
    }
    unsigned before = p->x->problems.count;
    return read_per_chunk(p, st) && (p->m.text == NULL || p->x->problems.count > before || place_chunks(p, st));
}

static int compare_ids(const void *a, const void *b) {
    const struct chunk_input *const *left = (const struct chunk_input *const *)a;
    const struct chunk_input *const *right = (const struct chunk_input *const *)b;
    return slice_compare((*left)->id, (*right)->id);
}

/* Chunk ids given twice within the document. Made ones are unique, but sorting them costs less than keeping them apart. */
static bool check_chunk_ids(struct parsing *p, struct status *st) {
    uint32_t count = p->out->num_chunks;
    const struct chunk_input **sorted = (const struct chunk_input **)pool_take_array(&p->x->pool, count, sizeof *sorted);
    if (sorted == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < count; i++) {
        sorted[i] = &p->out->chunks[i];
    }
    qsort((void *)sorted, count, sizeof *sorted, compare_ids);
    for (uint32_t i = 1; i < count; i++) {
        if (sorted[i]->id.len > 0 && slice_equal(sorted[i - 1]->id, sorted[i]->id)) {
            bool embedded = p->m.chunks != NULL;
            struct place ids = place_member(p->at, embedded ? "chunks" : "chunk_ids");
            struct place element = place_element(&ids, (size_t)(sorted[i] - p->out->chunks));
            problem_add(p->x, &element, "has an id that another chunk of this document has, too");
            break;
        }
    }
    return true;
}

static bool finish_chunks(struct parsing *p, struct status *st) {
    struct document_input *d = p->out;
    bool brings_ids = p->m.chunks != NULL || p->m.chunk_ids != NULL;
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        if (d->chunks[i].id.len == 0) {
            fresh_id(p->x, &d->chunks[i].id);
        }
        if (d->chunks[i].id.len == 0) {
            return status_no_memory(st);
        }
        d->text_bytes += d->chunks[i].text.len + d->chunks[i].metadata.len;
    }
    if (d->text_bytes > p->x->api->host.limits->max_op_bytes) {
        return status_set(st, STATUS_TOO_LARGE,
                          "the chunks of a document have %zu bytes of text and metadata, overlaps counted; at most %" PRIu64
                          " can be written at once",
                          d->text_bytes, p->x->api->host.limits->max_op_bytes);
    }
    if (p->model->by_caller && !d->has_vectors && d->num_chunks > 0) {
        struct place at = place_member(p->at, "embeddings");
        problem_add(
            p->x, &at,
            "is required: this library has no embedding model, so every chunk needs its vector (\"embeddings\", or the call "
            "documents/with-embeddings)");
    }
    return !brings_ids || check_chunk_ids(p, st);
}

/* The chunks' vectors one after the other, as an op takes them. */
static bool gather_vectors(struct parsing *p, struct status *st) {
    struct document_input *d = p->out;
    size_t row = d->dimension * sizeof(float);
    uint8_t *vectors = (uint8_t *)pool_take_array(&p->x->pool, d->num_chunks, row);
    if (vectors == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        memcpy(vectors + i * row, d->chunks[i].vector, row);
    }
    d->vectors = (const float *)(const void *)vectors;
    return true;
}

static bool distribute(struct parsing *p, struct json_object *object, enum document_shape shape) {
    struct document_members *m = &p->m;
    const struct member common[] = {{"id", &m->id},
                                    {"title", &m->title},
                                    {"author", &m->author},
                                    {"created_at", &m->created_at},
                                    {"document_type", &m->document_type},
                                    {"source_url", &m->source_url},
                                    {"tags", &m->tags},
                                    {"metadata", &m->metadata},
                                    {"chunks", &m->chunks},
                                    {"texts", &m->texts},
                                    {"text", &m->text},
                                    {"chunking", &m->chunking},
                                    {"chunk_ids", &m->chunk_ids},
                                    {"chunk_metadata", &m->chunk_metadata},
                                    {"embeddings", &m->embeddings}};
    enum { SHARED = 8, OF_EMBEDDED = 1 };
    if (shape == DOCUMENT_EMBEDDED) {
        return json_in_members(p->x, p->at, object, common, SHARED + OF_EMBEDDED);
    }
    struct member plain[sizeof common / sizeof common[0] - OF_EMBEDDED];
    memcpy(plain, common, SHARED * sizeof common[0]);
    memcpy(plain + SHARED, common + SHARED + OF_EMBEDDED, sizeof plain - SHARED * sizeof common[0]);
    return json_in_members(p->x, p->at, object, plain, sizeof plain / sizeof plain[0]);
}

bool document_parse(struct exchange *x, const struct place *at, struct json_object *object, enum document_shape shape,
                    const struct library_model *model, struct slice id, struct document_input *ret, struct status *st) {
    *ret = (struct document_input){.fields.created_at = request_time(x), .dimension = model->dimension};
    struct parsing p = {.x = x, .at = at, .model = model, .out = ret};
    if (!distribute(&p, object, shape)) {
        return true;
    }
    unsigned before = x->problems.count;
    json_in_no_nulls(x, at, object, document_not_null);
    read_fields(&p, id);
    if (ret->fields.id.len == 0 && x->problems.count == before) {
        return status_no_memory(st);
    }
    bool good = shape == DOCUMENT_EMBEDDED ? read_embedded_chunks(&p, st) : read_plain_chunks(&p, st);
    if (!good || !finish_chunks(&p, st)) {
        return false;
    }
    return !ret->has_vectors || x->problems.count > before || gather_vectors(&p, st);
}

void document_fields_read(struct exchange *x, const struct place *at, struct json_object *object, struct document_fields *ret) {
    struct json_object *title = NULL, *author = NULL, *tags = NULL, *metadata = NULL;
    const struct member members[] = {{"title", &title}, {"author", &author}, {"tags", &tags}, {"metadata", &metadata}};
    uint64_t most = x->api->host.limits->max_title_bytes;
    *ret = (struct document_fields){0};
    if (!json_in_members(x, at, object, members, sizeof members / sizeof members[0])) {
        return;
    }
    json_in_no_nulls(x, at, object, patch_not_null);
    struct place title_at = place_member(at, "title");
    struct place author_at = place_member(at, "author");
    (void)json_in_text(x, &title_at, title, 1, most, &ret->title);
    (void)json_in_text(x, &author_at, author, 0, most, &ret->author);
    read_tags(x, at, tags, &ret->tags);
    read_metadata(x, at, metadata, &ret->metadata);
    ret->sets_title = title != NULL;
    ret->sets_author = json_object_object_get_ex(object, "author", NULL);
    ret->sets_tags = json_object_object_get_ex(object, "tags", NULL);
    ret->sets_metadata = json_object_object_get_ex(object, "metadata", NULL);
}

void document_fields_apply(const struct document_fields *f, struct op_document *d) {
    d->title = f->sets_title ? f->title : d->title;
    d->author = f->sets_author ? f->author : d->author;
    d->tags = f->sets_tags ? f->tags : d->tags;
    d->metadata = f->sets_metadata ? f->metadata : d->metadata;
}

void document_encode(struct buf *out, const struct uuid *library, const struct document_input *d, enum put_mode mode) {
    struct op_document fields = d->fields;
    fields.mode = (uint8_t)mode;
    fields.num_chunks = d->num_chunks;
    op_encode_document(out, library, &fields);
    for (uint32_t i = 0; i < d->num_chunks; i++) {
        const struct chunk_input *c = &d->chunks[i];
        const struct op_chunk chunk = {.id = c->id, .text = c->text, .metadata = c->metadata, .page_number = c->page_number};
        op_encode_chunk(out, &chunk);
    }
    op_encode_vectors(out, d->vectors, d->vectors == NULL ? 0 : d->num_chunks, d->vectors == NULL ? 0 : d->dimension);
}
