/*
 * committer_internal.h - what committer.c, committer_batch.c and committer_keyed.c share; nobody else includes this. All of it is the committer's
 * own, whichever thread that is at the time, but what stands under the mutex.
 */
#ifndef QUIRE_PROC_COMMITTER_INTERNAL_H
#define QUIRE_PROC_COMMITTER_INTERNAL_H

#include "proc/committer.h"
#include "proc/lock.h"

#include <pthread.h>

struct call {
    struct call *next;
    committer_fn fn;
    void *ctx;
    struct status *st;
    bool ok;
    bool done; /* under the mutex */
};

/* An op of the batch. Those of a request with an Idempotency-Key share a record. */
struct batch_item {
    struct submission *sub;
    size_t index;
    size_t record;
};

/* The committer's own. items and records grow together, before anything is appended. */
struct batch {
    struct batch_item *items;
    struct oplog_record *records;
    size_t count; /* items */
    size_t record_count;
    size_t room;
    struct submission *keyed, **keyed_end;
    uint64_t bytes;
    uint64_t library_ops;
    uint64_t chunks; /* that applying it adds */
    bool to_embed;
    bool met_full_disk; /* an op of it was refused for want of space */
};

/* Answers that go to one worker. */
struct outbox {
    struct buf frames;
    uint64_t generation;
};

struct committer {
    struct supervisor *s;
    struct lock mutex;
    pthread_cond_t changed; /* a call is done, or nobody is at work any more */
    /* under the mutex */
    struct submission *waiting, **waiting_end;
    struct call *calls, **calls_end;
    uint64_t queue_ops, queue_bytes; /* not answered yet, those in the committer's hands included */
    bool busy;     /* somebody is the committer */
    bool served;   /* threads call committer_work */
    bool stopping; /* nothing more is taken */
    /* the committer's own */
    struct submission *taken, **taken_end;
    struct batch batch;
    struct op_set *touched;
    struct buf frame;
    struct outbox outbox[CONTROL_MAX_WORKERS];
    uint64_t last_lsn;
    int64_t logged_us; /* when the last batch was */
    bool unguarded; /* the last batch may have no guard behind it in the log */
    bool log_failed;
    bool disk_full;
    uint64_t busy_since_us; /* atomic; 0: waits */
    int64_t begun_us;       /* the batch under way */
    uint64_t syncs, sync_us; /* of the log, as they were after the last batch */
};

void committer_refuse_op(struct committer *c, struct submission *sub, size_t index, const struct status *st);
/* Said once, until a batch gets through again. */
void committer_note_full_disk(struct committer *c, const struct status *st);

/* committer_batch.c: of what was taken, as much as one batch may have; what is refused is decided. */
void committer_form_batch(struct committer *c);
/* committer_batch.c: room for so many more items and records. */
MUST_CHECK bool committer_room(struct batch *b, size_t more);
/* Puts a record into the batch, and an op that is in it. There is room. */
size_t committer_add_record(struct committer *c, struct slice bytes);
void committer_add_item(struct committer *c, struct submission *sub, size_t index, size_t record);

/* committer_keyed.c: takes all of a request with an Idempotency-Key into the batch, or decides it without. False: the batch ends
 * before it. */
MUST_CHECK bool committer_take_keyed(struct committer *c, struct submission *sub);

#endif
