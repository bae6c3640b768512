/* test_store_op.c - the op encoding: what is written is read back, and nothing else is read. */
#include "store/op.h"

#include "base/bytes.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/op_format.h"
#include "store_fixture.h"

enum { MUTATIONS = 60000, OP_KINDS = 17 };

static const struct uuid library = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static struct library_definition a_definition(void) {
    return (struct library_definition){.created_at = 1700000000000000,
                                       .index = {.type = INDEX_HNSW, .m = 16, .ef_construction = 200, .ef_search = 64},
                                       .quantization = {.strategy = QUANTIZATION_HYBRID, .bits = 8, .rerank_top_k = 300},
                                       .on_embedding_failure = ON_FAILURE_REJECT,
                                       .snapshot_vectors = true,
                                       .dimension = 384,
                                       .name = slice_str("a n\xc3\xa4me"),
                                       .description = slice_str("what it is"),
                                       .embedding_model = slice_str("hash-384"),
                                       .language = slice_str("de"),
                                       .metadata = slice_str("{\"a\":1}")};
}

static void put_document_op(struct buf *out, uint32_t dimension) {
    struct buf id = {0};
    float values[2 * 3] = {1, 0, 0, 0, -1, 0};
    struct op_document d = {.mode = PUT_REPLACE,
                            .created_at = -5,
                            .id = fixture_id(&id, "01890a5d-ac96-774b-bcce-b302099a8057"),
                            .title = slice_str("title"),
                            .author = slice_str("author"),
                            .document_type = slice_str("text"),
                            .source_url = slice_str("https://example.org/"),
                            .tags = slice_str("[\"x\"]"),
                            .metadata = slice_str("{}"),
                            .num_chunks = 2};
    op_encode_document(out, &library, &d);
    struct op_chunk first = {
        .id = fixture_id(&id, "chunk"), .text = slice_str("some text"), .metadata = slice_str("{\"p\":2}"), .page_number = 0};
    op_encode_chunk(out, &first);
    struct op_chunk second = {.id = fixture_id(&id, "c2"), .page_number = -1};
    op_encode_chunk(out, &second);
    op_encode_vectors(out, values, 2, dimension);
    buf_fini(&id);
}

static void put_key_op(struct buf *out, bool all) {
    static const uint8_t libraries[2 * UUID_BYTES] = {1, [UUID_BYTES] = 2};
    op_encode_key_add(out, &(struct op_key){.id = library,
                                            .digest = {9, 8, 7},
                                            .created_at = 1700000000000000,
                                            .expires_at = all ? 0 : 1700000001000000,
                                            .scopes = all ? KEY_ADMIN : KEY_READ | KEY_WRITE,
                                            .all = all,
                                            .name = slice_str("a key"),
                                            .library_count = all ? 0 : 2,
                                            .libraries = slice_of(libraries, all ? 0 : sizeof libraries)});
}

static struct library_exchange an_exchange(void) {
    return (struct library_exchange){.state = EXCHANGE_KEPT,
                                     .since = 1700000000000000,
                                     .task = library,
                                     .fingerprint = 0x123456789abcdef0,
                                     .dimension = 384,
                                     .model = slice_str("the one before")};
}

static void put_vectors_op(struct buf *out, uint32_t count, bool for_other) {
    static const float values[2][3] = {{1, 0, 0}, {0, -1, 0}};
    struct buf id = {0};
    struct buf other = {0};
    struct op_vector_of of[2] = {{.id = fixture_id(&id, "chunk"), .text_hash = 5, .values = values[0]},
                                 {.id = fixture_id(&other, "01890a5d-ac96-774b-bcce-b302099a8057"), .text_hash = UINT64_MAX, .values = values[1]}};
    const struct op_vectors head = {.other = for_other, .fingerprint = 0x1234567890abcdef, .dimension = 3, .count = count};
    op_encode_vectors_of(out, &library, &head, of);
    buf_fini(&id);
    buf_fini(&other);
}

/* One valid op of each kind. */
static void an_op(int kind, struct buf *out) {
    struct library_definition d = a_definition();
    struct buf id = {0};
    struct slice ids[2];
    struct buf other = {0};
    switch (kind) {
    case 0:
        op_encode_library(out, OP_LIBRARY_CREATE, &library, &d);
        break;
    case 1:
        op_encode_library(out, OP_LIBRARY_UPDATE, &library, &d);
        break;
    case 2:
        op_encode_library_delete(out, &library);
        break;
    case 3:
        put_document_op(out, 0);
        break;
    case 4:
        put_document_op(out, 3);
        break;
    case 5:
        op_encode_document_delete(out, &library, fixture_id(&id, "doc"));
        break;
    case 6:
        ids[0] = fixture_id(&id, "one");
        ids[1] = fixture_id(&other, "two");
        op_encode_chunks_delete(out, &library, ids, 2);
        break;
    case 7:
        put_key_op(out, true);
        break;
    case 8:
        put_key_op(out, false);
        break;
    case 9:
        op_encode_key_remove(out, &library);
        break;
    case 10:
        d.exchange = an_exchange();
        op_encode_library(out, OP_LIBRARY_UPDATE, &library, &d);
        break;
    case 11:
        d.exchange = an_exchange();
        op_encode_library_model(out, &library, &d, false);
        break;
    case 12:
        op_encode_library_model(out, &library, &d, true);
        break;
    case 13:
        put_vectors_op(out, 2, false);
        break;
    case 14:
        put_vectors_op(out, 0, false);
        break;
    case 15:
        put_vectors_op(out, 2, true);
        break;
    default:
        op_encode_log_close(out);
        break;
    }
    buf_fini(&id);
    buf_fini(&other);
}

/* Encodes again what was decoded. */
static void encode_again(const struct op *op, struct buf *out) {
    struct slice ids[64];
    uint32_t count = 0;
    size_t at = 0;
    switch (op->type) {
    case OP_LIBRARY_CREATE:
    case OP_LIBRARY_UPDATE:
        op_encode_library(out, (enum op_type)op->type, &op->library, &op->as.definition);
        break;
    case OP_LIBRARY_MODEL:
        op_encode_library_model(out, &op->library, &op->as.definition, op->switches);
        break;
    case OP_LIBRARY_DELETE:
        op_encode_library_delete(out, &op->library);
        break;
    case OP_DOCUMENT_PUT: {
        struct chunk_walk walk = {.bytes = op->as.document.chunks, .base = op->as.document.chunks_offset};
        struct op_chunk c;
        op_encode_document(out, &op->library, &op->as.document);
        while (chunk_walk_next(&walk, &c)) {
            assert_int_equal(out->len, c.offset);
            op_encode_chunk(out, &c);
            count++;
        }
        assert_int_equal(count, op->as.document.num_chunks);
        assert_int_equal(out->len, op->as.document.record_length);
        float *values = (float *)malloc(op->as.document.vectors.len + 1);
        assert_non_null(values);
        if (op->as.document.vectors.len > 0) {
            memcpy(values, op->as.document.vectors.data, op->as.document.vectors.len);
        }
        op_encode_vectors(out, values, count, op->as.document.vector_dimension);
        free(values);
        break;
    }
    case OP_DOCUMENT_DELETE:
        op_encode_document_delete(out, &op->library, op->as.document_id);
        break;
    case OP_CHUNKS_DELETE:
        while (count < 64 && chunk_ids_next(op->as.chunk_ids.ids, &at, &ids[count])) {
            count++;
        }
        assert_int_equal(count, op->as.chunk_ids.count);
        op_encode_chunks_delete(out, &op->library, ids, count);
        break;
    case OP_KEY_ADD:
        op_encode_key_add(out, &op->as.key);
        break;
    case OP_KEY_REMOVE:
        op_encode_key_remove(out, &op->as.key.id);
        break;
    case OP_VECTORS: {
        struct op_vector_of of[64];
        const struct op_vectors *v = &op->as.vectors;
        float *values = (float *)malloc(v->values.len + 1);
        assert_non_null(values);
        memcpy(values, v->values.data, v->values.len);
        while (count < 64 && op_vectors_next(v->chunks, &at, &of[count].id, &of[count].text_hash)) {
            of[count].values = values + (size_t)count * v->dimension;
            count++;
        }
        assert_int_equal(count, v->count);
        op_encode_vectors_of(out, &op->library, v, of);
        free(values);
        break;
    }
    default:
        op_encode_log_close(out);
        break;
    }
}

static void assert_encodes_again(const struct op *op, struct slice bytes) {
    struct buf again = {0};
    encode_again(op, &again);
    assert_true(buf_ok(&again));
    assert_int_equal(again.len, bytes.len);
    assert_memory_equal(again.data, bytes.data, bytes.len);
    buf_fini(&again);
}

static void test_round_trip(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    for (int kind = 0; kind < OP_KINDS; kind++) {
        struct buf bytes = {0};
        struct op op;
        struct status st = {0};
        an_op(kind, &bytes);
        assert_true(op_decode(buf_slice(&bytes), &limits, &op, &st));
        assert_encodes_again(&op, buf_slice(&bytes));
        assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
        buf_fini(&bytes);
    }
}

static void test_fields(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    struct op_chunk c;
    put_document_op(&bytes, 3);
    assert_true(op_decode(buf_slice(&bytes), &limits, &op, &st));
    const struct op_document *d = &op.as.document;
    assert_int_equal(d->mode, PUT_REPLACE);
    assert_int_equal(d->created_at, -5);
    assert_int_equal(d->id.len, 1 + UUID_BYTES);
    assert_true(slice_is(d->source_url, "https://example.org/"));
    assert_int_equal(d->vector_dimension, 3);
    assert_int_equal(d->vectors.len, 2 * 3 * sizeof(float));
    struct chunk_walk walk = {.bytes = d->chunks, .base = d->chunks_offset};
    assert_true(chunk_walk_next(&walk, &c));
    assert_int_equal(c.page_number, 0);
    assert_true(slice_is(c.text, "some text"));
    assert_true(chunk_walk_next(&walk, &c));
    assert_int_equal(c.page_number, -1);
    assert_int_equal(c.text.len, 0);
    assert_false(chunk_walk_next(&walk, &c));

    /* the record: the op without its vectors */
    struct op_document record;
    assert_true(op_document_decode(slice_of(bytes.data, d->record_length), &record));
    assert_true(slice_equal(record.chunks, d->chunks));
    assert_int_equal(record.chunks_offset, d->chunks_offset);
    assert_true(slice_is(record.title, "title"));
    assert_true(op_chunk_decode(slice_of(bytes.data + c.offset, c.length), &c));
    buf_fini(&bytes);
}

/* What a document of this id and title takes, with so much of an author. */
static size_t document_bytes(struct slice id, struct slice author, struct buf *out) {
    struct op_document d = {.mode = PUT_CREATE,
                            .created_at = 7,
                            .id = id,
                            .title = slice_str("t"),
                            .author = author,
                            .document_type = slice_str("text")};
    buf_reset(out);
    op_encode_document(out, &library, &d);
    op_encode_vectors(out, NULL, 0, 0);
    return out->len;
}

/* A field that a document has not takes no byte, and one that is said to be there is not empty. */
static void test_absent_fields(void **state) {
    (void)state;
    struct buf id = {0};
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    size_t with = document_bytes(fixture_id(&id, "d"), slice_str("me"), &bytes);
    size_t without = document_bytes(fixture_id(&id, "d"), slice_of(NULL, 0), &bytes);
    assert_int_equal(with, without + 1 + 2);
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_true(slice_is(op.as.document.document_type, "text"));
    assert_int_equal(
        op.as.document.author.len + op.as.document.source_url.len + op.as.document.tags.len + op.as.document.metadata.len, 0);
    assert_encodes_again(&op, buf_slice(&bytes));
    (void)document_bytes(fixture_id(&id, "d"), slice_str("me"), &bytes);
    size_t author_at = OP_DOCUMENT_ID_OFFSET + 1 + id.len + 1 + 1;
    assert_int_equal(bytes.data[author_at], 2);
    bytes.data[author_at] = 0;
    memmove(bytes.data + author_at + 1, bytes.data + author_at + 3, bytes.len - author_at - 3);
    bytes.len -= 2;
    assert_false(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_non_null(strstr(st.detail, "as usual"));
    bytes.data[OP_HEADER_BYTES] |= 0x80;
    assert_false(op_decode(buf_slice(&bytes), NULL, &op, &st));
    buf_fini(&bytes);
    buf_fini(&id);
}

/* As servers before version 2 of a document put wrote it: a log, a record of an arena. */
static void put_old_document(struct buf *out, struct slice id) {
    buf_put_u8(out, OP_DOCUMENT_PUT);
    buf_put_u8(out, 1);
    buf_put(out, library.b, UUID_BYTES);
    buf_put_u8(out, PUT_REPLACE);
    buf_put_u64le(out, 1700000000000000);
    buf_put_bytes(out, id);
    buf_put_bytes(out, slice_str("title"));
    buf_put_bytes(out, slice_str("author"));
    buf_put_bytes(out, slice_of(NULL, 0));
    buf_put_bytes(out, slice_of(NULL, 0));
    buf_put_bytes(out, slice_of(NULL, 0));
    buf_put_bytes(out, slice_str("{}"));
    buf_put_varint(out, 0);
}

static void check_old_document(const struct op_document *d) {
    assert_int_equal(d->mode, PUT_REPLACE);
    assert_int_equal(d->created_at, 1700000000000000);
    assert_true(slice_is(d->title, "title") && slice_is(d->author, "author") && slice_is(d->metadata, "{}"));
    assert_int_equal(d->document_type.len + d->source_url.len + d->tags.len, 0);
}

static void test_old_documents_are_read(void **state) {
    (void)state;
    struct buf id = {0};
    struct buf bytes = {0};
    struct op op;
    struct op_document record;
    struct status st = {0};
    put_old_document(&bytes, fixture_id(&id, "d"));
    assert_true(op_document_decode(buf_slice(&bytes), &record));
    check_old_document(&record);
    op_encode_vectors(&bytes, NULL, 0, 0);
    assert_true(op_decode(buf_slice(&bytes), NULL, &op, &st));
    check_old_document(&op.as.document);
    bytes.data[OP_HEADER_BYTES] = PUT_REPLACE | 4; /* what it had not yet */
    assert_false(op_decode(buf_slice(&bytes), NULL, &op, &st));
    bytes.data[OP_HEADER_BYTES] = PUT_REPLACE;
    bytes.data[1] = 3;
    assert_false(op_decode(buf_slice(&bytes), NULL, &op, &st));
    assert_non_null(strstr(st.detail, "version 3, this server knows 2"));
    buf_fini(&bytes);
    buf_fini(&id);
}

static void test_prefixes_and_tails_are_refused(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    for (int kind = 0; kind < OP_KINDS; kind++) {
        struct buf bytes = {0};
        struct op op;
        struct status st = {0};
        an_op(kind, &bytes);
        for (size_t len = 0; len < bytes.len; len++) {
            /* in a block of its own, so that the sanitizer sees one byte too many */
            uint8_t *copy = (uint8_t *)malloc(len + 1);
            assert_non_null(copy);
            memcpy(copy + 1, bytes.data, len);
            st = (struct status){0};
            assert_false(op_decode(slice_of(copy + 1, len), &limits, &op, &st));
            assert_int_equal(st.code, STATUS_MALFORMED);
            free(copy);
        }
        buf_put_u8(&bytes, 0);
        assert_false(op_decode(buf_slice(&bytes), &limits, &op, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
        buf_fini(&bytes);
    }
}

/* Bytes changed, cut out, doubled. What is still accepted must be what the encoder writes. */
static void test_mutations(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    uint64_t random = 42;
    unsigned accepted = 0;
    for (int i = 0; i < MUTATIONS; i++) {
        struct buf bytes = {0};
        struct op op;
        struct status st = {0};
        an_op((int)(fixture_random(&random) % OP_KINDS), &bytes);
        for (uint64_t n = 1 + fixture_random(&random) % 4; n > 0; n--) {
            size_t at = (size_t)(fixture_random(&random) % bytes.len);
            uint64_t what = fixture_random(&random) % 4;
            if (what == 0 && bytes.len > 1) {
                memmove(bytes.data + at, bytes.data + at + 1, bytes.len - at - 1);
                bytes.len--;
            } else if (what == 1) {
                bytes.data[at] = (uint8_t)(bytes.data[at] ^ (1U << (fixture_random(&random) % 8)));
            } else if (what == 2) {
                static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff};
                bytes.data[at] = edges[fixture_random(&random) % sizeof edges];
            } else {
                bytes.data[at] = (uint8_t)fixture_random(&random);
            }
        }
        uint8_t *copy = (uint8_t *)malloc(bytes.len);
        assert_non_null(copy);
        memcpy(copy, bytes.data, bytes.len);
        if (op_decode(slice_of(copy, bytes.len), &limits, &op, &st)) {
            bool old = op.type == OP_DOCUMENT_PUT && copy[1] < OP_DOCUMENT_VERSION;
            if (!old) { /* which only other servers wrote */
                assert_encodes_again(&op, slice_of(copy, bytes.len));
            }
            accepted++;
        } else {
            assert_int_not_equal(st.code, STATUS_OK);
            assert_true(st.detail[0] != '\0');
        }
        free(copy);
        buf_fini(&bytes);
    }
    assert_true(accepted > MUTATIONS / 50); /* else the test looks at refusals only */
}

static enum status_code decode_code(const struct buf *bytes, const struct limits *limits) {
    struct op op;
    struct status st = {0};
    return op_decode(buf_slice(bytes), limits, &op, &st) ? STATUS_OK : st.code;
}

/* With one limit, at this offset in struct limits, set to a value. */
static enum status_code code_with(const struct buf *bytes, size_t limit, uint64_t value) {
    struct limits limits;
    limits_default(&limits);
    memcpy((uint8_t *)&limits + limit, &value, sizeof value);
    return decode_code(bytes, &limits);
}

static void test_limits(void **state) {
    (void)state;
    struct limits limits;
    struct buf bytes = {0};
    size_t url_bytes = strlen("https://example.org/");
    limits_default(&limits);
    put_document_op(&bytes, 3);
    assert_int_equal(decode_code(&bytes, &limits), STATUS_OK);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_op_bytes), bytes.len - 1), STATUS_TOO_LARGE);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_title_bytes), url_bytes - 1), STATUS_TOO_LARGE);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_title_bytes), url_bytes), STATUS_OK);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_text_bytes), strlen("some text") - 1), STATUS_TOO_LARGE);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_chunks_per_document), 1), STATUS_TOO_LARGE);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_metadata_bytes), 3), STATUS_TOO_LARGE);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_dimension), 2), STATUS_INVALID);
    assert_int_equal(code_with(&bytes, offsetof(struct limits, max_id_bytes), 4), STATUS_TOO_LARGE);
    /* what is logged already is read whatever the limits are today */
    assert_int_equal(decode_code(&bytes, NULL), STATUS_OK);
    buf_fini(&bytes);
}

static enum status_code definition_code(const struct library_definition *d) {
    struct buf bytes = {0};
    struct limits limits;
    limits_default(&limits);
    op_encode_library(&bytes, OP_LIBRARY_CREATE, &library, d);
    enum status_code code = decode_code(&bytes, &limits);
    buf_fini(&bytes);
    return code;
}

static void refuse_key(const struct op_key *key) {
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    op_encode_key_add(&bytes, key);
    assert_false(op_decode(buf_slice(&bytes), NULL, &op, &st));
    buf_fini(&bytes);
}

static void test_keys(void **state) {
    (void)state;
    static const uint8_t twice[2 * UUID_BYTES];
    static const char long_name[KEY_NAME_MAX + 1] = {'n'};
    const struct op_key good = {.scopes = KEY_READ, .all = true, .name = slice_str("k")};
    struct op_key key = good;
    key.scopes = 0;
    refuse_key(&key);
    key.scopes = KEY_SCOPES + 1;
    refuse_key(&key);
    key = good;
    key.name = slice_of(long_name, sizeof long_name);
    refuse_key(&key);
    key = good;
    key.all = false; /* for no library at all */
    refuse_key(&key);
    key.library_count = 2;
    key.libraries = slice_of(twice, sizeof twice);
    refuse_key(&key);
    key.library_count = 1; /* for all, and for one */
    key.libraries.len = UUID_BYTES;
    key.all = true;
    refuse_key(&key);
}

static void test_definitions(void **state) {
    (void)state;
    struct library_definition d = a_definition();
    assert_int_equal(definition_code(&d), STATUS_OK);
    d.index.m = 3;
    assert_int_equal(definition_code(&d), STATUS_INVALID);
    d.index.type = INDEX_FLAT; /* needs no graph's settings */
    d.index.m = 0;
    d.index.ef_construction = 0;
    d.index.ef_search = 0;
    assert_int_equal(definition_code(&d), STATUS_OK);
    d.index.type = 3;
    assert_int_equal(definition_code(&d), STATUS_MALFORMED);
    d = a_definition();
    d.name = slice_of("\xff", 1);
    assert_int_equal(definition_code(&d), STATUS_MALFORMED);
    d = a_definition();
    d.created_at = INT64_MAX;
    assert_int_equal(definition_code(&d), STATUS_MALFORMED);
    d = a_definition();
    d.quantization.strategy = 9;
    assert_int_equal(definition_code(&d), STATUS_MALFORMED);
    d = a_definition();
    d.exchange = an_exchange();
    assert_int_equal(definition_code(&d), STATUS_OK);
    d.exchange.state = 4;
    assert_int_equal(definition_code(&d), STATUS_MALFORMED);
}

/* A record of an arena says by its length alone whether there is an exchange. */
static void test_exchange_in_records(void **state) {
    (void)state;
    struct library_definition d = a_definition();
    struct library_definition found;
    struct limits limits;
    struct status st = {0};
    limits_default(&limits);
    for (int with = 0; with <= 1; with++) {
        struct buf bytes = {0};
        struct op op;
        d.exchange = with != 0 ? an_exchange() : (struct library_exchange){0};
        op_encode_library_model(&bytes, &library, &d, true);
        assert_true(op_decode(buf_slice(&bytes), &limits, &op, &st));
        assert_true(op.switches);
        assert_true(op_is_of_library(&op));
        assert_true(library_definition_decode(op_definition_bytes(&op), &found));
        assert_int_equal(found.exchange.state, d.exchange.state);
        assert_true(slice_equal(found.exchange.model, d.exchange.model));
        assert_int_equal(found.exchange.fingerprint, d.exchange.fingerprint);
        assert_int_equal(found.exchange.dimension, d.exchange.dimension);
        assert_int_equal(found.exchange.since, d.exchange.since);
        assert_true(uuid_equal(&found.exchange.task, &d.exchange.task));
        assert_true(slice_equal(found.name, d.name));
        bytes.data[1] = with != 0 ? 1 : 2; /* the other version */
        assert_false(op_decode(buf_slice(&bytes), &limits, &op, &st));
        assert_int_equal(st.code, STATUS_MALFORMED);
        buf_fini(&bytes);
    }
}

static void test_vectors_are_finite(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf bytes = {0};
        put_document_op(&bytes, 3);
        memcpy(bytes.data + bytes.len - sizeof(float), &bad[i], sizeof(float));
        assert_int_equal(decode_code(&bytes, &limits), STATUS_MALFORMED);
        buf_fini(&bytes);
    }
}

static void test_counts_are_bounded_by_bytes(void **state) {
    (void)state;
    struct limits limits;
    limits_default(&limits);
    struct buf bytes = {0};
    op_encode_chunks_delete(&bytes, &library, NULL, 0);
    bytes.len--; /* the count */
    buf_put_varint(&bytes, UINT64_MAX);
    assert_int_equal(decode_code(&bytes, &limits), STATUS_MALFORMED);
    buf_fini(&bytes);
    /* a varint that is longer than it need be has the same meaning and other bytes */
    struct buf longer = {0};
    op_encode_chunks_delete(&longer, &library, NULL, 0);
    longer.data[longer.len - 1] = 0x80;
    buf_put_u8(&longer, 0);
    assert_int_equal(decode_code(&longer, &limits), STATUS_MALFORMED);
    buf_fini(&longer);
}

/* --- ids --- */

static bool encodes(const char *text) {
    struct buf out = {0};
    bool ok = item_id_encode(slice_str(text), &out);
    assert_true(!ok || item_id_valid(buf_slice(&out)));
    buf_fini(&out);
    return ok;
}

static void test_vectors_of_a_provider(void **state) {
    (void)state;
    struct limits limits;
    struct op op;
    struct status st = {0};
    struct buf bytes = {0};
    struct slice id;
    char text[ITEM_ID_TEXT_MAX + 1];
    uint64_t hash = 0;
    size_t at = 0;
    float second[3];
    limits_default(&limits);
    put_vectors_op(&bytes, 2, false);
    assert_true(op_decode(buf_slice(&bytes), &limits, &op, &st));
    assert_int_equal(op.type, OP_VECTORS);
    assert_true(op.as.vectors.fingerprint == 0x1234567890abcdef);
    assert_int_equal(op.as.vectors.dimension, 3);
    assert_true(op_vectors_next(op.as.vectors.chunks, &at, &id, &hash) && hash == 5);
    (void)item_id_text(id, text);
    assert_string_equal(text, "chunk");
    assert_true(op_vectors_next(op.as.vectors.chunks, &at, &id, &hash) && hash == UINT64_MAX);
    assert_false(op_vectors_next(op.as.vectors.chunks, &at, &id, &hash));
    memcpy(second, op.as.vectors.values.data + 3 * sizeof(float), sizeof second);
    assert_true(second[1] == -1);
    const size_t head = OP_HEADER_BYTES;
    memset(bytes.data + head, 0, 8); /* of no model */
    assert_int_equal(decode_code(&bytes, &limits), STATUS_MALFORMED);
    buf_reset(&bytes);
    put_vectors_op(&bytes, 2, false);
    const float infinite = INFINITY;
    memcpy(bytes.data + bytes.len - sizeof infinite, &infinite, sizeof infinite);
    assert_int_equal(decode_code(&bytes, NULL), STATUS_MALFORMED);
    buf_fini(&bytes);
}

static void test_ids(void **state) {
    (void)state;
    struct buf a = {0};
    struct buf b = {0};
    char text[ITEM_ID_TEXT_MAX + 1];
    char longest[ITEM_ID_TEXT_MAX + 2];
    assert_true(encodes("x"));
    assert_true(encodes("D\xc3\xbcrer"));
    assert_false(encodes(""));
    assert_false(encodes("a\nb"));
    assert_false(encodes("\xc2\x85")); /* a control character of two bytes */
    assert_false(encodes("\xff"));
    memset(longest, 'y', sizeof longest);
    longest[ITEM_ID_TEXT_MAX + 1] = '\0';
    assert_false(encodes(longest));
    longest[ITEM_ID_TEXT_MAX] = '\0';
    assert_true(encodes(longest));
    (void)fixture_id(&a, longest);
    assert_int_equal(item_id_text(buf_slice(&a), text), ITEM_ID_TEXT_MAX);
    assert_string_equal(text, longest);

    /* a canonical UUID takes 17 bytes; the same id in capitals is another id, and a text */
    const char *uuid = "01890a5d-ac96-774b-bcce-b302099a8057";
    (void)fixture_id(&a, uuid);
    assert_int_equal(a.len, 1 + UUID_BYTES);
    (void)item_id_text(buf_slice(&a), text);
    assert_string_equal(text, uuid);
    (void)fixture_id(&b, "01890A5D-AC96-774B-BCCE-B302099A8057");
    assert_int_equal(b.data[0], ITEM_ID_TEXT);

    /* the text form of a UUID is no valid encoding */
    buf_reset(&b);
    buf_put_u8(&b, ITEM_ID_TEXT);
    buf_put_str(&b, uuid);
    assert_false(item_id_valid(buf_slice(&b)));
    buf_reset(&b);
    buf_put_u8(&b, 3);
    buf_put_str(&b, "abc");
    assert_false(item_id_valid(buf_slice(&b)));

    /* the order is that of the texts */
    (void)fixture_id(&b, "0");
    assert_true(item_id_compare(buf_slice(&b), buf_slice(&a)) < 0);
    (void)fixture_id(&b, "01890a5d-ac96-774b-bcce-b302099a805");
    assert_true(item_id_compare(buf_slice(&b), buf_slice(&a)) < 0);
    (void)fixture_id(&b, "02");
    assert_true(item_id_compare(buf_slice(&b), buf_slice(&a)) > 0);
    assert_int_equal(item_id_compare(buf_slice(&a), buf_slice(&a)), 0);
    buf_fini(&a);
    buf_fini(&b);
}

static void test_text_hash(void **state) {
    (void)state;
    assert_true(text_hash(slice_str("")) != 0);
    assert_true(text_hash(slice_str("a")) != text_hash(slice_str("b")));
    /* SHA-256 of "abc" begins with ba7816bf 8f01cfea */
    assert_true(text_hash(slice_str("abc")) == 0xeacf018fbf1678baULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_fields),
        cmocka_unit_test(test_absent_fields),
        cmocka_unit_test(test_old_documents_are_read),
        cmocka_unit_test(test_prefixes_and_tails_are_refused),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_definitions),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_exchange_in_records),
        cmocka_unit_test(test_vectors_are_finite),
        cmocka_unit_test(test_counts_are_bounded_by_bytes),
        cmocka_unit_test(test_vectors_of_a_provider),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_text_hash),
    };
    return cmocka_run_group_tests_name("store op", tests, NULL, NULL);
}
