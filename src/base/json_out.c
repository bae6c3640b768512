/* json_out.c - the JSON writer: where a comma goes is known from one bit for each open object or array. */
#include "base/json_out.h"

#include "base/clock.h"
#include "base/decimal.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum { JSON_OUT_DEPTH_MAX = 63, INTEGER_TEXT_MAX = 24 };

struct json_out json_out_to(struct buf *buf) {
    return (struct json_out){.buf = buf};
}

static void separate(struct json_out *j) {
    uint64_t here = UINT64_C(1) << j->depth;
    if ((j->has_member & here) != 0) {
        buf_put_u8(j->buf, ',');
    }
    j->has_member |= here;
}

static void before_value(struct json_out *j) {
    if (j->after_key) {
        j->after_key = false;
    } else {
        separate(j);
    }
}

static void begin(struct json_out *j, uint8_t bracket) {
    before_value(j);
    assert(j->depth < JSON_OUT_DEPTH_MAX);
    j->depth++;
    j->has_member &= ~(UINT64_C(1) << j->depth);
    buf_put_u8(j->buf, bracket);
}

static void end(struct json_out *j, uint8_t bracket) {
    assert(j->depth > 0 && !j->after_key);
    j->depth--;
    buf_put_u8(j->buf, bracket);
}

void json_begin_object(struct json_out *j) {
    begin(j, '{');
}

void json_end_object(struct json_out *j) {
    end(j, '}');
}

void json_begin_array(struct json_out *j) {
    begin(j, '[');
}

void json_end_array(struct json_out *j) {
    end(j, ']');
}

static bool needs_escape(uint8_t c) {
    return c < 0x20 || c == '"' || c == '\\';
}

static void put_escape(struct buf *b, uint8_t c) {
    static const char digits[] = "0123456789abcdef";
    static const char letters[] = "\b\f\n\r\t\"\\";
    static const char escapes[] = "bfnrt\"\\";
    const char *found = c == '\0' ? NULL : strchr(letters, c);
    if (found != NULL) {
        char pair[2] = {'\\', escapes[found - letters]};
        buf_put(b, pair, sizeof pair);
    } else {
        char six[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 0xf]};
        buf_put(b, six, sizeof six);
    }
}

static void put_quoted(struct buf *b, struct slice text) {
    size_t from = 0;
    buf_put_u8(b, '"');
    for (size_t i = 0; i < text.len; i++) {
        if (needs_escape(text.data[i])) {
            buf_put(b, text.data + from, i - from);
            put_escape(b, text.data[i]);
            from = i + 1;
        }
    }
    if (from < text.len) {
        buf_put(b, text.data + from, text.len - from);
    }
    buf_put_u8(b, '"');
}

void json_key_slice(struct json_out *j, struct slice key) {
    assert(!j->after_key);
    separate(j);
    put_quoted(j->buf, key);
    buf_put_u8(j->buf, ':');
    j->after_key = true;
}

void json_key(struct json_out *j, const char *key) {
    json_key_slice(j, slice_str(key));
}

void json_string(struct json_out *j, struct slice text) {
    before_value(j);
    put_quoted(j->buf, text);
}

void json_cstring(struct json_out *j, const char *text) {
    if (text == NULL) {
        json_null(j);
    } else {
        json_string(j, slice_str(text));
    }
}

static void put_text(struct json_out *j, const char *text, size_t len) {
    before_value(j);
    buf_put(j->buf, text, len);
}

void json_int(struct json_out *j, int64_t v) {
    char text[INTEGER_TEXT_MAX];
    int len = snprintf(text, sizeof text, "%" PRId64, v);
    put_text(j, text, (size_t)len);
}

void json_uint(struct json_out *j, uint64_t v) {
    char text[INTEGER_TEXT_MAX];
    int len = snprintf(text, sizeof text, "%" PRIu64, v);
    put_text(j, text, (size_t)len);
}

void json_boolean(struct json_out *j, bool v) {
    before_value(j);
    buf_put_str(j->buf, v ? "true" : "false");
}

void json_null(struct json_out *j) {
    before_value(j);
    buf_put_str(j->buf, "null");
}

void json_double(struct json_out *j, double v) {
    char text[DECIMAL_TEXT_MAX];
    if (isfinite(v)) {
        put_text(j, text, decimal_format_double(v, text));
    } else {
        json_null(j);
    }
}

void json_float(struct json_out *j, float v) {
    char text[DECIMAL_TEXT_MAX];
    if (isfinite(v)) {
        put_text(j, text, decimal_format_float(v, text));
    } else {
        json_null(j);
    }
}

void json_uuid(struct json_out *j, const struct uuid *id) {
    char text[UUID_TEXT + 1];
    uuid_format(id, text);
    json_string(j, slice_of(text, UUID_TEXT));
}

void json_time(struct json_out *j, int64_t wall_us) {
    char text[RFC3339_MAX];
    size_t len = rfc3339_format(wall_us, text);
    json_string(j, slice_of(text, len));
}

void json_raw(struct json_out *j, struct slice json) {
    if (json.len == 0) {
        json_null(j);
    } else {
        before_value(j);
        buf_put_slice(j->buf, json);
    }
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct slice trimmed(struct slice s) {
    while (s.len > 0 && is_space(s.data[0])) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && is_space(s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

void json_splice_members(struct json_out *j, struct slice object) {
    struct slice s = trimmed(object);
    if (s.len == 0) {
        return;
    }
    assert(s.len >= 2 && s.data[0] == '{' && s.data[s.len - 1] == '}');
    struct slice members = trimmed(slice_of(s.data + 1, s.len - 2));
    if (members.len > 0) {
        assert(!j->after_key);
        separate(j);
        buf_put_slice(j->buf, members);
    }
}

void json_member_string(struct json_out *j, const char *key, struct slice text) {
    json_key(j, key);
    json_string(j, text);
}

void json_member_cstring(struct json_out *j, const char *key, const char *text) {
    json_key(j, key);
    json_cstring(j, text);
}

void json_member_int(struct json_out *j, const char *key, int64_t v) {
    json_key(j, key);
    json_int(j, v);
}

void json_member_uint(struct json_out *j, const char *key, uint64_t v) {
    json_key(j, key);
    json_uint(j, v);
}

void json_member_bool(struct json_out *j, const char *key, bool v) {
    json_key(j, key);
    json_boolean(j, v);
}

void json_member_double(struct json_out *j, const char *key, double v) {
    json_key(j, key);
    json_double(j, v);
}

void json_member_time(struct json_out *j, const char *key, int64_t wall_us) {
    json_key(j, key);
    json_time(j, wall_us);
}
