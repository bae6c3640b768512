/*
 * wal_format.h - the bytes of a log segment: its header, its records, its name. The essay stands in wal.c.
 *
 * Everything here is pure: bytes in, fields out. Nothing is believed before a check covers it.
 */
#ifndef QUIRE_DURABLE_WAL_FORMAT_H
#define QUIRE_DURABLE_WAL_FORMAT_H

#include "base/uuid.h"
#include "durable/wal.h"

#define WAL_MAGIC 0x4c41574552495551ULL /* "QUIREWAL" */
/* The header has a page of its own, so that no append writes the page that the header is in. */
#define WAL_HEADER_BYTES 4096
#define WAL_NAME_MAX 48
#define WAL_LSN_DIGITS 20

enum wal_record_type {
    WAL_RECORD_OP = 1,
    WAL_RECORD_END = 2, /* the segment ends here, its successor exists; carries the LSN that the successor begins with */
    WAL_RECORD_GUARD = 3 /* all before it is durable; carries the LSN that follows. The next record is written over it */
};

/* crc 4, check 1, kind at least 1, length 1, lsn 1, time 1 */
#define WAL_RECORD_LEAST 9
/* crc 4, check 1, four varints of at most 10 bytes */
#define WAL_RECORD_HEAD_MAX 45

struct wal_header {
    uint64_t segment_id;  /* random; seeds the CRC of every record */
    uint64_t previous_id; /* of the segment before it; 0: none */
    struct uuid instance; /* of the log: the same in all its segments */
    uint64_t first_lsn;
    int64_t created_at;
    uint64_t bytes;     /* of the segment */
    uint64_t needs_lsn; /* as the oldest segment of a log it needs a snapshot that covers up to here: first_lsn - 1, or less when
                           a repair gave records up */
    bool zeroed;        /* what is behind the header was zeros when the segment began; else bytes of an earlier life */
    uint32_t seed;      /* derived from segment_id */
};

struct wal_record {
    enum wal_record_type type;
    uint64_t batch_index; /* 0 for the first record of a batch: lsn - batch_index - 1 was durable when it was written */
    uint64_t lsn;
    int64_t time_us;
    size_t head;   /* bytes before the payload */
    size_t length; /* bytes of the payload */
};

/* Fills segment_id and seed with new random ones. */
void wal_header_renew(struct wal_header *h);
void wal_header_encode(const struct wal_header *h, uint8_t out[WAL_HEADER_BYTES]);
/* STATUS_CORRUPT says what is wrong, without the file's name. */
MUST_CHECK bool wal_header_decode(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *ret, struct status *st);

/* Whether it is sound, and of a later format than ours. */
bool wal_header_is_newer(const uint8_t in[WAL_HEADER_BYTES], uint32_t *ret_format);

void wal_record_encode(struct buf *out, const struct wal_header *h, const struct wal_record *r, struct slice payload);
/* Reads the head of a record at `data` (`have` bytes, of `room` bytes up to the end of the segment). False: there is no head, or
 * its length does not fit into room. One of 256 random bytes passes, so it only spares most of the CRCs; the record is valid when
 * wal_record_check says so. */
bool wal_record_head(const struct wal_header *h, const uint8_t *data, size_t have, uint64_t room, struct wal_record *ret);
/* `data` holds r->head + r->length bytes. */
bool wal_record_check(const struct wal_header *h, const uint8_t *data, const struct wal_record *r);

void wal_name_format(int64_t created_at, uint64_t first_lsn, char out[WAL_NAME_MAX]);
bool wal_name_parse(const char *name, uint64_t *ret_first_lsn);

#endif
