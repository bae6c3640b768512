/*
 * idempotency.h - what the server remembers of requests that came with an Idempotency-Key.
 *
 * An entry says what a request was (a hash of its key and route, a hash of its body), what ids and times it was given (a seed, a
 * time) and what became of each of its ops. From the request and its entry the first reply can be given again. An entry stands in
 * the log record of its request's ops (op_group.h), so both are durable together; the table is what memory holds of them.
 *
 *   entry    = version u8 (1), scope 16 bytes, body 16 bytes, seed 16 bytes, created_at u64 (us), clock u64 (us), results
 *   results  = number of ops varint, then runs of ops with the same result until all are told:
 *              length of the run varint, status code u8, then where that is 0: flags u8 (1: replaced), chunks added varint,
 *              chunks deleted varint; else: subject varint, detail (varint length + UTF-8)
 *   table    = version u8 (1), number of entries varint, then, the oldest first:
 *              lsn varint, time u64 (us, of the record), entry (varint length + bytes)
 *
 * How long a key is kept: `clock` is time as the table counts it, which goes on only while the server runs (and at a restart by
 * the wall clock's difference, at most half the time that keys are kept). So a wall clock that jumps a day makes nobody's key
 * forgotten, and replay, which looks at no clock, makes the same table. Beyond max_keys or max_bytes the oldest go.
 *
 * Any thread may use a table: it has a mutex, held for a few hundred entries at most, so that the committer never waits for
 * somebody who writes the whole of it out.
 */
#ifndef QUIRE_STORE_IDEMPOTENCY_H
#define QUIRE_STORE_IDEMPOTENCY_H

#include "base/bytes.h"
#include "base/uuid.h"

#define IDEMPOTENCY_HASH_BYTES 16

/* What a request is known by. */
struct idempotency_id {
    uint8_t scope[IDEMPOTENCY_HASH_BYTES]; /* of key, method and path, and who asks */
    uint8_t body[IDEMPOTENCY_HASH_BYTES];
};
/* What ids and times of what it makes are drawn from. */
struct idempotency_origin {
    struct uuid seed;
    int64_t created_at;
};
/* The first 16 bytes of a SHA-256 over the parts, each led by its length. */
void idempotency_hash(const struct slice *parts, size_t count, uint8_t ret[IDEMPOTENCY_HASH_BYTES]);
/* The index-th id of a request: a UUIDv7 of the seed's time, ascending with index. */
void idempotency_uuid(const struct uuid *seed, uint64_t index, struct uuid *ret);

/* What became of one op. */
struct idempotency_result {
    uint8_t code; /* enum status_code */
    uint16_t subject;
    bool replaced;
    uint32_t chunks_added, chunks_deleted;
    struct slice detail; /* of a failure */
};
/* Writes results: begin, then one after the other, then end. */
struct idempotency_results_writer {
    struct buf *out;
    struct idempotency_result last;
    uint64_t run;
};
void idempotency_results_begin(struct idempotency_results_writer *w, struct buf *out, size_t count);
void idempotency_results_add(struct idempotency_results_writer *w, const struct idempotency_result *r);
void idempotency_results_end(struct idempotency_results_writer *w);
/* Reads them. */
struct idempotency_results_reader {
    struct reader in;
    uint64_t count, left;
    uint64_t run;
    struct idempotency_result now;
};
/* Checks all of it. */
MUST_CHECK bool idempotency_results_open(struct slice results, struct idempotency_results_reader *ret);
bool idempotency_results_next(struct idempotency_results_reader *r, struct idempotency_result *ret);

/* Whether a time can stand in an entry: between the years 1 and 9999. */
bool idempotency_time_good(int64_t time_us);

/* An entry in bytes. Slices of *ret point into them. */
struct idempotency_entry {
    struct idempotency_id id;
    struct idempotency_origin origin;
    int64_t clock;
    struct slice results;
    uint64_t lsn;    /* of the record that it stands in */
    int64_t time_us; /* the same */
};
/* Everything of the entry up to the results, which follow. */
void idempotency_entry_begin(struct buf *out, const struct idempotency_id *id, const struct idempotency_origin *origin,
                             int64_t clock);
MUST_CHECK bool idempotency_entry_decode(struct slice bytes, struct idempotency_entry *ret, struct status *st);

struct idempotency_limits {
    uint64_t max_keys;  /* 0: nothing is remembered */
    uint64_t max_bytes; /* of all entries in memory */
    int64_t ttl_us;
};
struct idempotency;
MUST_CHECK bool idempotency_new(const struct idempotency_limits *limits, struct idempotency **ret, struct status *st);
void idempotency_free(struct idempotency *t); /* takes NULL */

/* Puts the entry of a record in. Records come in the order of their LSNs; one at or below the last is known already, and nothing
 * is done. An entry of the same scope is replaced. STATUS_MALFORMED, STATUS_NO_MEMORY. */
MUST_CHECK bool idempotency_note(struct idempotency *t, struct slice entry, uint64_t lsn, int64_t time_us, struct status *st);
/* The same in two steps, so that nothing can fail once the record is durable. */
struct idempotency_held;
MUST_CHECK bool idempotency_prepare(struct slice entry, struct idempotency_held **ret, struct status *st);
/* Takes the entry over. */
void idempotency_insert(struct idempotency *t, struct idempotency_held *e, uint64_t lsn, int64_t time_us);
void idempotency_drop(struct idempotency_held *e); /* takes NULL */

/* Sets the table's clock going, once, when all that was logged has been noted. */
void idempotency_start(struct idempotency *t, int64_t wall_us, int64_t monotonic_us);
int64_t idempotency_clock(struct idempotency *t, int64_t monotonic_us);
/* Forgets what is older than it need be. */
void idempotency_expire(struct idempotency *t, int64_t clock);
/* False: no such key is known at that time. `copy` (cleared) takes the entry's bytes, into which *ret's slices point; a failed
 * allocation shows in it, and *ret is untouched then. */
bool idempotency_find(struct idempotency *t, const uint8_t scope[IDEMPOTENCY_HASH_BYTES], int64_t clock, struct buf *copy,
                      struct idempotency_entry *ret);
uint64_t idempotency_count(struct idempotency *t);
uint64_t idempotency_bytes(struct idempotency *t);

/* The entries of records up to that LSN in bytes, for a checkpoint, which brings its own checksum. A failed allocation shows in
 * `out`. */
void idempotency_encode(struct idempotency *t, uint64_t up_to_lsn, struct buf *out);
/* Puts in what was encoded; entries of records that the table knows already, or has dropped, are left out. Nothing is put in where
 * it does not decode. */
MUST_CHECK bool idempotency_decode(struct idempotency *t, struct slice bytes, struct status *st);
/* The same as JSON lines, for a snapshot, one an entry, the oldest first: {"lsn","time","entry" (base64)}. */
void idempotency_write_jsonl(struct idempotency *t, uint64_t up_to_lsn, struct buf *out);
MUST_CHECK bool idempotency_read_jsonl(struct idempotency *t, struct slice text, struct status *st);
/* Calls fn with each entry of such lines, until it returns false. What was handed out before a line that is no good stays so. */
typedef bool (*idempotency_line_fn)(struct slice entry, uint64_t lsn, int64_t time_us, void *ctx, struct status *st);
MUST_CHECK bool idempotency_each_line(struct slice text, idempotency_line_fn fn, void *ctx, struct status *st);

#endif
