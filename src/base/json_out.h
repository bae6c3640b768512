/*
 * json_out.h - writing JSON straight into a buf.
 *
 * Commas are put by the writer. Bugs (an end without a begin) assert; running out of memory shows in the buf.
 */
#ifndef QUIRE_BASE_JSON_OUT_H
#define QUIRE_BASE_JSON_OUT_H

#include "base/buf.h"
#include "base/uuid.h"

struct json_out {
    struct buf *buf;
    uint64_t has_member; /* a bit per depth: something stands before */
    unsigned depth;
    bool after_key;
};

struct json_out json_out_to(struct buf *buf);
void json_begin_object(struct json_out *j);
void json_end_object(struct json_out *j);
void json_begin_array(struct json_out *j);
void json_end_array(struct json_out *j);
void json_key(struct json_out *j, const char *key);
void json_key_slice(struct json_out *j, struct slice key);
void json_string(struct json_out *j, struct slice text); /* valid UTF-8; escapes what RFC 8259 asks for, nothing else */
void json_cstring(struct json_out *j, const char *text); /* NULL writes null */
void json_int(struct json_out *j, int64_t v);
void json_uint(struct json_out *j, uint64_t v);
void json_boolean(struct json_out *j, bool v); /* json_bool is a type of json-c's */
void json_null(struct json_out *j);
void json_double(struct json_out *j, double v); /* %.9g without a locale; not finite: null */
void json_float(struct json_out *j, float v);   /* shortest text that reads back as the same float32 */
void json_uuid(struct json_out *j, const struct uuid *id);
void json_time(struct json_out *j, int64_t wall_us); /* RFC 3339 string */
void json_raw(struct json_out *j, struct slice json); /* a whole value that is JSON already; empty writes null */
/* The members of `object` ("{...}", minified or not), put into the object that is open. "{}" and empty add nothing. */
void json_splice_members(struct json_out *j, struct slice object);

/* key and value in one line */
void json_member_string(struct json_out *j, const char *key, struct slice text);
void json_member_cstring(struct json_out *j, const char *key, const char *text);
void json_member_int(struct json_out *j, const char *key, int64_t v);
void json_member_uint(struct json_out *j, const char *key, uint64_t v);
void json_member_bool(struct json_out *j, const char *key, bool v);
void json_member_double(struct json_out *j, const char *key, double v);
void json_member_time(struct json_out *j, const char *key, int64_t wall_us);

#endif
