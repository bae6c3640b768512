/* wal_format.c - encoding and decoding of segment headers and records. The layout stands in wal.c. */
#include "durable/wal_format.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    AT_MAGIC = 0,
    AT_FORMAT = 8,
    AT_HEADER_BYTES = 12,
    AT_SEGMENT_ID = 16,
    AT_PREVIOUS_ID = 24,
    AT_INSTANCE = 32,
    AT_FIRST_LSN = 48,
    AT_CREATED = 56,
    AT_BYTES = 64,
    AT_NEEDS_LSN = 72,
    AT_ZEROED = 80,
    AT_CRC = WAL_HEADER_BYTES - 4
};

enum { AT_CHECK = 4, AT_HEAD = 5, KIND_TYPE_BITS = 2, KIND_TYPE_MASK = 3 };

static uint32_t seed_of(uint64_t segment_id) {
    uint8_t bytes[8];
    store_u64le(bytes, segment_id);
    return crc32c(0, bytes, sizeof bytes);
}

void wal_header_renew(struct wal_header *h) {
    uint32_t old_seed = h->seed;
    do {
        struct uuid random;
        uuid_make(&random);
        h->segment_id = load_u64le(random.b + 8); /* the random half of a UUIDv7 */
        h->seed = seed_of(h->segment_id);
        /* CRCs of the same bytes under two seeds differ, so a record of the life before cannot pass for one of this life. */
    } while (h->seed == old_seed);
}

void wal_header_encode(const struct wal_header *h, uint8_t out[WAL_HEADER_BYTES]) {
    memset(out, 0, WAL_HEADER_BYTES);
    store_u64le(out + AT_MAGIC, WAL_MAGIC);
    store_u32le(out + AT_FORMAT, WAL_FORMAT);
    store_u32le(out + AT_HEADER_BYTES, WAL_HEADER_BYTES);
    store_u64le(out + AT_SEGMENT_ID, h->segment_id);
    store_u64le(out + AT_PREVIOUS_ID, h->previous_id);
    memcpy(out + AT_INSTANCE, h->instance.b, UUID_BYTES);
    store_u64le(out + AT_FIRST_LSN, h->first_lsn);
    store_u64le(out + AT_CREATED, (uint64_t)h->created_at);
    store_u64le(out + AT_BYTES, h->bytes);
    store_u64le(out + AT_NEEDS_LSN, h->needs_lsn);
    store_u32le(out + AT_ZEROED, h->zeroed ? 1 : 0);
    store_u32le(out + AT_CRC, crc32c(0, out, AT_CRC));
}

bool wal_header_decode(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *ret, struct status *st) {
    if (load_u64le(in + AT_MAGIC) != WAL_MAGIC) {
        return status_set(st, STATUS_CORRUPT, "it does not begin as a log segment");
    }
    if (load_u32le(in + AT_CRC) != crc32c(0, in, AT_CRC)) {
        return status_set(st, STATUS_CORRUPT, "its header fails its checksum");
    }
    if (load_u32le(in + AT_FORMAT) != WAL_FORMAT || load_u32le(in + AT_HEADER_BYTES) != WAL_HEADER_BYTES) {
        return status_set(st, STATUS_CORRUPT,
                          "it has format %" PRIu32 ", this program knows format %d: was it written by a newer one?",
                          load_u32le(in + AT_FORMAT), WAL_FORMAT);
    }
    struct wal_header h = {
        .segment_id = load_u64le(in + AT_SEGMENT_ID),
        .previous_id = load_u64le(in + AT_PREVIOUS_ID),
        .first_lsn = load_u64le(in + AT_FIRST_LSN),
        .created_at = (int64_t)load_u64le(in + AT_CREATED),
        .bytes = load_u64le(in + AT_BYTES),
        .needs_lsn = load_u64le(in + AT_NEEDS_LSN),
        .zeroed = load_u32le(in + AT_ZEROED) != 0,
    };
    memcpy(h.instance.b, in + AT_INSTANCE, UUID_BYTES);
    h.seed = seed_of(h.segment_id);
    if (h.first_lsn == 0 || h.needs_lsn >= h.first_lsn || h.bytes < WAL_HEADER_BYTES) {
        return status_set(st, STATUS_CORRUPT, "its header makes no sense");
    }
    *ret = h;
    return true;
}

bool wal_header_is_newer(const uint8_t in[WAL_HEADER_BYTES], uint32_t *ret_format) {
    *ret_format = load_u32le(in + AT_FORMAT);
    return load_u64le(in + AT_MAGIC) == WAL_MAGIC && load_u32le(in + AT_CRC) == crc32c(0, in, AT_CRC) && *ret_format > WAL_FORMAT;
}

/* Small for times shortly before and after: 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4. */
static uint64_t zigzag(uint64_t v) {
    return (v << 1) ^ (0 - (v >> 63));
}

static uint64_t unzigzag(uint64_t v) {
    return (v >> 1) ^ (0 - (v & 1));
}

void wal_record_encode(struct buf *out, const struct wal_header *h, const struct wal_record *r, struct slice payload) {
    size_t begin = out->len;
    buf_put_zero(out, AT_HEAD);
    buf_put_varint(out, r->batch_index << KIND_TYPE_BITS | (uint64_t)r->type);
    buf_put_varint(out, payload.len);
    buf_put_varint(out, r->lsn - h->first_lsn);
    buf_put_varint(out, zigzag((uint64_t)r->time_us - (uint64_t)h->created_at));
    size_t head = out->len - begin;
    buf_put_slice(out, payload);
    if (!buf_ok(out)) {
        return;
    }
    uint8_t *record = out->data + begin;
    record[AT_CHECK] = (uint8_t)crc32c(h->seed, record + AT_HEAD, head - AT_HEAD);
    store_u32le(record, crc32c(h->seed, record + AT_CHECK, out->len - begin - AT_CHECK));
}

/* A varint that is most often one or two bytes; the checked reader of base is slower, and this runs once per byte of a segment.
 */
static const uint8_t *take_varint(const uint8_t *at, const uint8_t *end, uint64_t *ret) {
    uint64_t v = 0;
    for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1) {
            return NULL;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = v;
            return at;
        }
    }
    return NULL;
}

bool wal_record_head(const struct wal_header *h, const uint8_t *data, size_t have, uint64_t room, struct wal_record *ret) {
    if (have < WAL_RECORD_LEAST) {
        return false;
    }
    unsigned type = data[AT_HEAD] & KIND_TYPE_MASK;
    if (type == 0) {
        return false;
    }
    const uint8_t *end = data + have;
    uint64_t kind = 0;
    uint64_t length = 0;
    uint64_t lsn = 0;
    uint64_t time = 0;
    const uint8_t *at = take_varint(data + AT_HEAD, end, &kind);
    if (at == NULL || (at = take_varint(at, end, &length)) == NULL || (at = take_varint(at, end, &lsn)) == NULL ||
        (at = take_varint(at, end, &time)) == NULL) {
        return false;
    }
    size_t head = (size_t)(at - data);
    if (head > room || length > room - head || (uint8_t)crc32c(h->seed, data + AT_HEAD, head - AT_HEAD) != data[AT_CHECK]) {
        return false;
    }
    ret->type = (enum wal_record_type)type;
    ret->batch_index = kind >> KIND_TYPE_BITS;
    ret->lsn = h->first_lsn + lsn;
    ret->time_us = (int64_t)(unzigzag(time) + (uint64_t)h->created_at);
    ret->head = head;
    ret->length = (size_t)length;
    return ret->batch_index <= lsn;
}

bool wal_record_check(const struct wal_header *h, const uint8_t *data, const struct wal_record *r) {
    return load_u32le(data) == crc32c(h->seed, data + AT_CHECK, r->head + r->length - AT_CHECK);
}

void wal_name_format(int64_t created_at, uint64_t first_lsn, char out[WAL_NAME_MAX]) {
    char date[9];
    date_format(created_at, date);
    (void)snprintf(out, WAL_NAME_MAX, "wal_%s_%020" PRIu64 ".log", date, first_lsn);
}

static bool digits(const char *text, size_t count, uint64_t *ret) {
    uint64_t v = 0;
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(text[i] - '0');
        if (v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *ret = v;
    return true;
}

bool wal_name_parse(const char *name, uint64_t *ret_first_lsn) {
    static const char form[] = "wal_YYYYMMDD_NNNNNNNNNNNNNNNNNNNN.log";
    enum { AT_DATE = 4, DATE_DIGITS = 8, AT_LSN = 13 };
    uint64_t date = 0;
    uint64_t lsn = 0;
    if (strlen(name) != sizeof form - 1 || strncmp(name, form, AT_DATE) != 0 || !digits(name + AT_DATE, DATE_DIGITS, &date) ||
        name[AT_LSN - 1] != '_' || !digits(name + AT_LSN, WAL_LSN_DIGITS, &lsn) ||
        strcmp(name + AT_LSN + WAL_LSN_DIGITS, ".log") != 0 || lsn == 0) {
        return false;
    }
    *ret_first_lsn = lsn;
    return true;
}
