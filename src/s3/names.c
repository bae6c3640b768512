/* names.c - see names.h. */
#include "s3/names.h"

#include "durable/snapshot_format.h"
#include "s3/frame.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WHOLE "whole"
#define ENCRYPTED "enc"
#define SIZE_MOST ((uint64_t)1 << 48)
enum { FIELDS_MAX = 6, LSN_DIGITS = 20, SIZE_DIGITS_MAX = 15, DECIMAL = 10 };

static const char *const kinds[] = {"snapshot", "wal"};

void s3_object_name(const struct s3_object *o, char out[S3_NAME_MAX]) {
    char instance[UUID_TEXT + 1];
    char hash[2 * S3_HASH_BYTES + 1];
    uuid_format(&o->instance, instance);
    for (size_t i = 0; i < sizeof o->hash; i++) {
        (void)snprintf(hash + 2 * i, 3, "%02x", o->hash[i]);
    }
    const char *end = o->encrypted ? "~" ENCRYPTED : "";
    if (o->kind == S3_SNAPSHOT) {
        (void)snprintf(out, S3_NAME_MAX, "%s/%s/%s~%020" PRIu64 "~%s~%" PRIu64 "~%s%s", instance, kinds[o->kind], o->file, o->lsn,
                       o->base[0] != '\0' ? o->base : WHOLE, o->size, hash, end);
    } else {
        (void)snprintf(out, S3_NAME_MAX, "%s/%s/%s~%020" PRIu64 "~%" PRIu64 "~%s%s", instance, kinds[o->kind], o->file, o->lsn + 1, o->size, hash, end);
    }
}

static bool take_number(struct slice text, size_t least, size_t most, uint64_t *ret) {
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || __builtin_mul_overflow(value, (uint64_t)DECIMAL, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text.data[i] - '0'), &value)) {
            return false;
        }
    }
    *ret = value;
    return text.len >= least && text.len <= most && (text.data[0] != '0' || text.len == 1 || least == most);
}

static bool take_hash(struct slice text, uint8_t out[S3_HASH_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    if (text.len != (size_t)2 * S3_HASH_BYTES) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        const char *at = text.data[i] == 0 ? NULL : strchr(digits, text.data[i]);
        if (at == NULL) {
            return false;
        }
        out[i / 2] = (uint8_t)(i % 2 == 0 ? (at - digits) << 4 : out[i / 2] | (at - digits));
    }
    return true;
}

static bool take_file(struct slice text, char out[SNAPSHOT_NAME_MAX]) {
    if (text.len == 0 || text.len >= SNAPSHOT_NAME_MAX) {
        return false;
    }
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

/* The fields between the '~'. Returns how many, 0 when there are too many. */
static size_t split(const char *text, struct slice fields[FIELDS_MAX]) {
    size_t count = 0;
    for (;;) {
        size_t len = strcspn(text, "~");
        if (count == FIELDS_MAX) {
            return 0;
        }
        fields[count++] = slice_of(text, len);
        if (text[len] == '\0') {
            return count;
        }
        text += len + 1;
    }
}

static bool parse_snapshot(const struct slice *f, struct s3_object *o) {
    return take_file(f[0], o->file) && snapshot_name_valid(o->file) && take_number(f[1], LSN_DIGITS, LSN_DIGITS, &o->lsn) &&
           (slice_is(f[2], WHOLE) || (take_file(f[2], o->base) && snapshot_name_valid(o->base) && strcmp(o->base, o->file) != 0));
}

static bool parse_segment(const struct slice *f, struct s3_object *o) {
    bool ok = take_file(f[0], o->file) && strlen(o->file) < WAL_NAME_MAX && wal_name_parse(o->file, &o->first_lsn) &&
              take_number(f[1], LSN_DIGITS, LSN_DIGITS, &o->lsn) && o->lsn > o->first_lsn;
    o->lsn -= ok ? 1 : 0;
    return ok;
}

bool s3_object_parse(const char *name, struct s3_object *ret) {
    struct s3_object o = {0};
    struct slice fields[FIELDS_MAX];
    if (strlen(name) >= S3_NAME_MAX || strlen(name) < UUID_TEXT + 2 || name[UUID_TEXT] != '/' || !uuid_parse(slice_of(name, UUID_TEXT), &o.instance)) {
        return false;
    }
    const char *kind = name + UUID_TEXT + 1;
    size_t len = strcspn(kind, "/");
    if (kind[len] == '\0') {
        return false;
    }
    o.kind = slice_is(slice_of(kind, len), kinds[S3_SNAPSHOT]) ? S3_SNAPSHOT : S3_SEGMENT;
    size_t own = o.kind == S3_SNAPSHOT ? 3 : 2; /* fields before the size */
    size_t count = split(kind + len + 1, fields);
    if ((o.kind == S3_SEGMENT && !slice_is(slice_of(kind, len), kinds[S3_SEGMENT])) || count < own + 2 || count > own + 3) {
        return false;
    }
    o.encrypted = count == own + 3;
    bool ok = (o.kind == S3_SNAPSHOT ? parse_snapshot(fields, &o) : parse_segment(fields, &o)) && take_number(fields[own], 1, SIZE_DIGITS_MAX, &o.size) &&
              o.size <= SIZE_MOST && take_hash(fields[own + 1], o.hash) && (!o.encrypted || slice_is(fields[own + 2], ENCRYPTED));
    if (ok) {
        *ret = o;
    }
    return ok;
}

uint64_t s3_object_bytes(const struct s3_object *o) {
    return o->encrypted ? frame_stored_bytes(o->size) : o->size;
}
