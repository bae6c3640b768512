/*
 * remote_dialect.c - see remote_dialect.h.
 *
 * | dialect | asks | is answered |
 * |---|---|---|
 * | openai | {model, input[], encoding_format?, dimensions?} | {data: [{index, embedding: [numbers] or base64}], usage: {total_tokens}} |
 * | cohere | {model, texts[], input_type, embedding_types, truncate, output_dimension?} | {embeddings: {float: [[numbers]]}, meta: {billed_units: {input_tokens}}} |
 * | ollama | {model, input[], truncate, dimensions?} | {embeddings: [[numbers]], prompt_eval_count} |
 * | tei | {inputs[], truncate, normalize} | [[numbers]] |
 *
 * Replies go through base/json_front.h: one pass that bounds depth and number of values and reads the vectors itself, before json-c sees anything.
 * Members that are not named above are passed over. An index is believed only when all of them together are 0 to count - 1, each once.
 */
#include "embed/remote_dialect.h"

#include "base/json_front.h"
#include "base/json_out.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DEPTH_MAX = 12,
    TOKENS_BASE = 4096,
    TOKENS_PER_TEXT = 64, /* members around a vector, and a text's echo */
    MEMBERS_MAX = 256,
    NUMBER_BYTES = 48,  /* of a number on a line of its own, indented */
    REPLY_BASE = 65536, /* what surrounds the vectors */
    ECHO_FACTOR = 6     /* of a request whose texts are repeated with \u escapes */
};

const char *remote_dialect_path(enum remote_dialect dialect) {
    switch (dialect) {
    case REMOTE_OPENAI:
        return "/embeddings";
    case REMOTE_COHERE:
        return "/v2/embed";
    case REMOTE_OLLAMA:
        return "/api/embed";
    case REMOTE_TEI:
        return "/embed";
    }
    return "";
}

/* --- requests ----------------------------------------------------------------------------------------------------------- */

static void put_texts(struct json_out *j, const char *key, const char *prefix, const struct slice *texts, size_t count) {
    struct buf whole = {0};
    json_key(j, key);
    json_begin_array(j);
    for (size_t i = 0; i < count; i++) {
        if (prefix[0] == '\0') {
            json_string(j, texts[i]);
            continue;
        }
        buf_reset(&whole);
        buf_put_str(&whole, prefix);
        buf_put_slice(&whole, texts[i]);
        json_string(j, buf_slice(&whole));
        j->buf->failed = j->buf->failed || whole.failed;
    }
    json_end_array(j);
    buf_fini(&whole);
}

static void put_dimension(struct json_out *j, const struct remote_settings *s, const char *key) {
    if (s->request_dimension == REMOTE_ON) {
        json_member_uint(j, key, s->dimension);
    }
}

static void put_cohere(struct json_out *j, const struct remote_settings *s, enum embed_role role) {
    json_member_cstring(j, "input_type", role == EMBED_QUERY ? "search_query" : "search_document");
    json_key(j, "embedding_types");
    json_begin_array(j);
    json_cstring(j, "float");
    json_end_array(j);
    json_member_cstring(j, "truncate", "END");
    put_dimension(j, s, "output_dimension");
}

void remote_dialect_request(const struct remote_settings *s, enum embed_role role, const struct slice *texts, size_t count, struct buf *out) {
    static const char *const keys[] = {[REMOTE_OPENAI] = "input", [REMOTE_COHERE] = "texts", [REMOTE_OLLAMA] = "input", [REMOTE_TEI] = "inputs"};
    struct json_out j = json_out_to(out);
    json_begin_object(&j);
    if (s->model[0] != '\0' && s->dialect != REMOTE_TEI) {
        json_member_cstring(&j, "model", s->model);
    }
    put_texts(&j, keys[s->dialect], role == EMBED_QUERY ? s->query_prefix : s->document_prefix, texts, count);
    switch ((enum remote_dialect)s->dialect) {
    case REMOTE_OPENAI:
        if (s->encoding == REMOTE_ENCODING_BASE64) { /* the other is the preset, and some servers do not know its name */
            json_member_cstring(&j, "encoding_format", "base64");
        }
        put_dimension(&j, s, "dimensions");
        break;
    case REMOTE_COHERE:
        put_cohere(&j, s, role);
        break;
    case REMOTE_OLLAMA:
        json_member_bool(&j, "truncate", true);
        put_dimension(&j, s, "dimensions");
        break;
    case REMOTE_TEI:
        json_member_bool(&j, "truncate", true);
        json_member_bool(&j, "normalize", true);
        break;
    }
    json_end_object(&j);
}

/* --- replies ------------------------------------------------------------------------------------------------------------ */

uint64_t remote_dialect_reply_max(size_t count, uint32_t dimension, size_t request_bytes) {
    return REPLY_BASE + (uint64_t)count * dimension * NUMBER_BYTES + (uint64_t)request_bytes * ECHO_FACTOR;
}

void remote_reply_fini(struct remote_reply *r) {
    buf_fini(&r->floats);
    *r = (struct remote_reply){0};
}

struct reading {
    struct json_document doc;
    struct remote_reply *reply;
    size_t count;
    struct buf scratch; /* of base64 */
};

static struct json_object *member(struct json_object *of, const char *key) {
    struct json_object *found = NULL;
    return json_object_is_type(of, json_type_object) && json_object_object_get_ex(of, key, &found) ? found : NULL;
}

/* Puts a vector in its place; the first one decides on the dimension where it was open. */
static bool take_vector(struct reading *r, size_t at, struct json_object *value, struct status *st) {
    const float *values;
    uint32_t length;
    if (!json_document_vector(&r->doc, value, &r->scratch, &values, &length, st)) {
        return false;
    }
    if (r->reply->dimension == 0) {
        r->reply->dimension = length;
    }
    if (length != r->reply->dimension || length == 0) {
        return status_set(st, STATUS_MALFORMED, "vector %zu has %u numbers instead of %u", at, length, r->reply->dimension);
    }
    size_t bytes = length * sizeof(float);
    if (r->reply->floats.len == 0) {
        buf_put_zero(&r->reply->floats, r->count * bytes);
        if (!buf_check(&r->reply->floats, st)) {
            return false;
        }
    }
    memcpy(r->reply->floats.data + at * bytes, values, bytes);
    return true;
}

static bool check_count(const struct reading *r, struct json_object *array, struct status *st) {
    if (!json_object_is_type(array, json_type_array)) {
        return status_set(st, STATUS_MALFORMED, "the array of vectors is missing");
    }
    size_t count = json_object_array_length(array);
    return count == r->count || status_set(st, STATUS_MALFORMED, "there are %zu vectors for %zu texts", count, r->count);
}

static bool take_rows(struct reading *r, struct json_object *rows, struct status *st) {
    if (!check_count(r, rows, st)) {
        return false;
    }
    for (size_t i = 0; i < r->count; i++) {
        if (!take_vector(r, i, json_object_array_get_idx(rows, i), st)) {
            return false;
        }
    }
    return true;
}

/* OpenAI's elements say which text they belong to. */
static bool take_indexed(struct reading *r, struct json_object *data, struct status *st) {
    if (!check_count(r, data, st)) {
        return false;
    }
    bool *taken = (bool *)calloc(r->count + 1, sizeof *taken);
    if (taken == NULL) {
        return status_no_memory(st);
    }
    bool ok = true;
    for (size_t i = 0; i < r->count && ok; i++) {
        struct json_object *element = json_object_array_get_idx(data, i);
        struct json_object *number = member(element, "index");
        int64_t index = json_object_is_type(number, json_type_int) ? json_object_get_int64(number) : -1;
        if (index < 0 || (uint64_t)index >= r->count || taken[index]) {
            ok = status_set(st, STATUS_MALFORMED, "element %zu has no index, or one that is out of range or was there before", i);
        } else {
            taken[index] = true;
            ok = take_vector(r, (size_t)index, member(element, "embedding"), st);
        }
    }
    free(taken);
    return ok;
}

static uint64_t number_or_zero(struct json_object *value) {
    int64_t number = json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double) ? json_object_get_int64(value) : 0;
    return number > 0 ? (uint64_t)number : 0;
}

static bool take_reply(struct reading *r, enum remote_dialect dialect, struct status *st) {
    struct json_object *root = r->doc.root;
    switch (dialect) {
    case REMOTE_OPENAI:
        r->reply->tokens = number_or_zero(member(member(root, "usage"), "total_tokens"));
        return take_indexed(r, member(root, "data"), st);
    case REMOTE_COHERE:
        r->reply->tokens = number_or_zero(member(member(member(root, "meta"), "billed_units"), "input_tokens"));
        return take_rows(r, member(member(root, "embeddings"), "float"), st);
    case REMOTE_OLLAMA:
        r->reply->tokens = number_or_zero(member(root, "prompt_eval_count"));
        return take_rows(r, member(root, "embeddings"), st);
    case REMOTE_TEI:
        return take_rows(r, root, st);
    }
    return false;
}

bool remote_dialect_parse(enum remote_dialect dialect, struct slice body, size_t count, uint32_t dimension, struct remote_reply *ret,
                          struct status *st) {
    static const char *const places[][2] = {[REMOTE_OPENAI] = {"data.[].embedding", NULL},
                                            [REMOTE_COHERE] = {"embeddings.float.[]", NULL},
                                            [REMOTE_OLLAMA] = {"embeddings.[]", NULL},
                                            [REMOTE_TEI] = {"[]", NULL}};
    struct json_limits limits = {.max_depth = DEPTH_MAX,
                                 .max_tokens = TOKENS_BASE + (uint32_t)count * TOKENS_PER_TEXT,
                                 .max_vector_length = EMBED_MAX_DIMENSION,
                                 .max_keys = MEMBERS_MAX};
    struct reading r = {.reply = ret, .count = count};
    buf_reset(&ret->floats);
    ret->dimension = dimension;
    ret->tokens = 0;
    bool ok = json_document_parse(body, &limits, places[dialect], &r.doc, st);
    if (ok) {
        ok = take_reply(&r, dialect, st);
        json_document_fini(&r.doc);
    }
    buf_fini(&r.scratch);
    if (!ok && st->code != STATUS_NO_MEMORY) {
        st->code = STATUS_MALFORMED;
    }
    return ok;
}

/* --- errors ------------------------------------------------------------------------------------------------------------- */

static bool mentions(struct slice body, const char *const *words) {
    for (; *words != NULL; words++) {
        size_t len = strlen(*words);
        for (size_t at = 0; at + len <= body.len; at++) {
            if (strncasecmp((const char *)body.data + at, *words, len) == 0) {
                return true;
            }
        }
    }
    return false;
}

enum remote_complaint remote_dialect_complaint(struct slice body) {
    static const char *const quota[] = {"insufficient_quota", "exceeded your current quota", "credit balance", "billing_hard_limit", "billing hard limit",
                                        "account is not active", NULL};
    static const char *const too_many[] = {"batch size", "too many inputs", "too many texts", "number of texts", "max_tokens_per_request", "tokens per request",
                                           "input array", "array length", NULL};
    static const char *const too_long[] = {"context length", "context_length", "context window", "too long",   "too large",         "too many tokens",
                                           "number of tokens", "maximum tokens", "token limit", "must have less than", "exceeds the max", NULL};
    if (mentions(body, quota)) {
        return REMOTE_COMPLAINT_QUOTA;
    }
    if (mentions(body, too_many)) {
        return REMOTE_COMPLAINT_TOO_MANY;
    }
    return mentions(body, too_long) ? REMOTE_COMPLAINT_TOO_LONG : REMOTE_COMPLAINT_OTHER;
}
