/* snapshot_api_keys.c - see snapshot_api_keys.h. What is read is encoded and decoded as an op once, so it keeps to the same rules. */
#include "durable/snapshot_api_keys.h"

#include "base/clock.h"
#include "base/json_front.h"
#include "base/json_out.h"

#include <stdio.h>

static const struct {
    const char *word;
    uint8_t scope;
} scope_words[] = {{"read", KEY_READ}, {"write", KEY_WRITE}, {"admin", KEY_ADMIN}};
enum { SCOPE_WORDS = sizeof scope_words / sizeof scope_words[0], HEX_BYTES = 2 * KEY_DIGEST_BYTES };

/* --- writing ---------------------------------------------------------------------------------------------------------- */

static void put_libraries(struct json_out *j, const struct op_key *key) {
    json_key(j, "libraries");
    json_begin_array(j);
    for (uint32_t i = 0; i < key->library_count; i++) {
        struct uuid id;
        memcpy(id.b, key->libraries.data + (size_t)i * UUID_BYTES, UUID_BYTES);
        json_uuid(j, &id);
    }
    json_end_array(j);
}

static void put_sum(struct json_out *j, const struct op_key *key) {
    char hex[HEX_BYTES + 1];
    for (size_t i = 0; i < KEY_DIGEST_BYTES; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", key->digest[i]);
    }
    json_member_cstring(j, "sha256", hex);
}

static bool put_line(const struct op_key *key, int64_t last_used_at, void *ctx, struct status *st) {
    struct buf *out = (struct buf *)ctx;
    struct json_out j = json_out_to(out);
    (void)st;
    json_begin_object(&j);
    json_key(&j, "id");
    json_uuid(&j, &key->id);
    json_member_string(&j, "name", key->name);
    json_key(&j, "scopes");
    json_begin_array(&j);
    for (size_t i = 0; i < SCOPE_WORDS; i++) {
        if ((key->scopes & scope_words[i].scope) != 0) {
            json_cstring(&j, scope_words[i].word);
        }
    }
    json_end_array(&j);
    if (!key->all) {
        put_libraries(&j, key);
    }
    json_member_time(&j, "created_at", key->created_at);
    if (key->expires_at != 0) {
        json_member_time(&j, "expires_at", key->expires_at);
    }
    if (last_used_at != 0) {
        json_member_time(&j, "last_used_at", last_used_at);
    }
    put_sum(&j, key);
    json_end_object(&j);
    buf_put_u8(out, '\n');
    return true;
}

void snapshot_put_api_keys(struct key_table *t, struct buf *out) {
    struct status ignored;
    (void)!key_table_each(t, put_line, out, &ignored); /* put_line does not fail */
}

/* --- reading ---------------------------------------------------------------------------------------------------------- */

static bool wrong(const char *what, struct status *st) {
    return status_set(st, STATUS_MALFORMED, "a line of API keys with %s", what);
}

static struct slice text_of(struct json_object *v) {
    return json_object_is_type(v, json_type_string) ? slice_of(json_object_get_string(v), (size_t)json_object_get_string_len(v)) : slice_of(NULL, 0);
}

static struct json_object *member(struct json_object *root, const char *name) {
    struct json_object *v = NULL;
    return json_object_object_get_ex(root, name, &v) ? v : NULL;
}

/* Left out: 0. */
static bool get_time(struct json_object *root, const char *name, int64_t *ret) {
    struct json_object *v = member(root, name);
    *ret = 0;
    return v == NULL || rfc3339_parse(text_of(v), ret);
}

static bool get_sum(struct slice hex, uint8_t ret[KEY_DIGEST_BYTES]) {
    if (hex.len != HEX_BYTES) {
        return false;
    }
    for (size_t i = 0; i < HEX_BYTES; i++) {
        uint8_t c = hex.data[i];
        uint8_t digit = c >= '0' && c <= '9' ? (uint8_t)(c - '0') : c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10) : UINT8_MAX;
        if (digit == UINT8_MAX) {
            return false;
        }
        ret[i / 2] = (uint8_t)(ret[i / 2] << 4 | digit);
    }
    return true;
}

static bool get_scopes(struct json_object *v, uint8_t *ret) {
    size_t count = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    *ret = 0;
    for (size_t i = 0; i < count; i++) {
        struct slice word = text_of(json_object_array_get_idx(v, i));
        size_t known = 0;
        while (known < SCOPE_WORDS && !slice_is(word, scope_words[known].word)) {
            known++;
        }
        if (known == SCOPE_WORDS) {
            return false;
        }
        *ret |= scope_words[known].scope;
    }
    return *ret != 0;
}

static bool get_libraries(struct json_object *v, struct uuid ids[KEY_LIBRARIES_MAX], struct op_key *key) {
    key->all = v == NULL;
    if (key->all) {
        return true;
    }
    size_t count = json_object_is_type(v, json_type_array) ? json_object_array_length(v) : 0;
    if (count == 0 || count > KEY_LIBRARIES_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!uuid_parse(text_of(json_object_array_get_idx(v, i)), &ids[i])) {
            return false;
        }
    }
    key->library_count = (uint32_t)count;
    key->libraries = slice_of(ids, count * sizeof *ids);
    return true;
}

static bool get_key(struct json_object *root, struct uuid ids[KEY_LIBRARIES_MAX], struct op_key *key, int64_t *ret_used, struct status *st) {
    key->name = text_of(member(root, "name"));
    return (uuid_parse(text_of(member(root, "id")), &key->id) || wrong("no id", st)) &&
           (get_sum(text_of(member(root, "sha256")), key->digest) || wrong("no SHA-256", st)) &&
           (get_scopes(member(root, "scopes"), &key->scopes) || wrong("no scopes", st)) &&
           (get_libraries(member(root, "libraries"), ids, key) || wrong("libraries that are none", st)) &&
           ((get_time(root, "created_at", &key->created_at) && get_time(root, "expires_at", &key->expires_at) && get_time(root, "last_used_at", ret_used)) ||
            wrong("a time that is none", st));
}

static bool read_line(struct slice line, key_table_fn fn, void *ctx, struct status *st) {
    static const struct json_limits limits = {.max_depth = 3, .max_tokens = 128, .max_keys = 16};
    struct json_document doc = {0};
    struct uuid ids[KEY_LIBRARIES_MAX];
    struct op_key key = {0};
    struct buf bytes = {0};
    struct op op;
    int64_t used = 0;
    if (!json_document_parse(line, &limits, NULL, &doc, st)) {
        return false;
    }
    bool ok = json_object_is_type(doc.root, json_type_object) ? get_key(doc.root, ids, &key, &used, st) : wrong("no object", st);
    if (ok) {
        op_encode_key_add(&bytes, &key);
        ok = buf_check(&bytes, st) && op_decode(buf_slice(&bytes), NULL, &op, st) && fn(&op.as.key, used, ctx, st);
    }
    buf_fini(&bytes);
    json_document_fini(&doc);
    return ok;
}

bool snapshot_each_api_key(struct slice lines, key_table_fn fn, void *ctx, struct status *st) {
    while (lines.len > 0) {
        const uint8_t *end = (const uint8_t *)memchr(lines.data, '\n', lines.len);
        size_t len = end == NULL ? lines.len : (size_t)(end - lines.data);
        if (len > 0 && !read_line(slice_of(lines.data, len), fn, ctx, st)) {
            return false;
        }
        len += end == NULL ? 0 : 1;
        lines = slice_of(lines.data + len, lines.len - len);
    }
    return true;
}
