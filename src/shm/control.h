/*
 * control.h - the control segment: what supervisor and workers share read-write.
 *
 * A memfd of fixed size, made anew at each start of the supervisor and inherited by the workers; never reused across generations. It
 * holds the lock, one slot per worker, a directory (opaque entries; their meaning belongs to store), and a page of figures that the
 * supervisor publishes (opaque here, too). A worker is not trusted: the supervisor never follows an offset or a length that
 * stands in here, and a worker that scribbles over it can harm searches of others but no stored data. The layout that
 * control_directory_entry and control_figures go by is therefore a private copy, kept in front of the map: a `struct control` is had
 * from control_create or control_map, and from nowhere else. The memfd is sealed against shrinking, so no worker can take pages
 * away under the supervisor.
 */
#ifndef QUIRE_SHM_CONTROL_H
#define QUIRE_SHM_CONTROL_H

#include "shm/places.h"
#include "shm/rwlock.h"

#define CONTROL_MAGIC 0x4c525443455249ULL
#define CONTROL_FORMAT 2
#define CONTROL_MAX_WORKERS RWLOCK_MAX_READERS
_Static_assert(CONTROL_MAX_WORKERS <= PLACES_MAX, "each worker can have a place");

/* Histograms of two fixed scales. Bucket i counts what is at most bound i, the last takes all above; how many there were is the sum of
 * the buckets. `sum`: of nanoseconds, or of things counted. */
#define CONTROL_HISTOGRAM_BUCKETS 17
struct control_histogram {
    uint64_t sum;
    uint64_t bucket[CONTROL_HISTOGRAM_BUCKETS];
};
extern const uint64_t control_duration_bounds[CONTROL_HISTOGRAM_BUCKETS - 1]; /* ns: 100 us to 10 s by 1, 2, 5 */
extern const uint64_t control_size_bounds[CONTROL_HISTOGRAM_BUCKETS - 1];     /* 1 to 32768 by powers of two */

enum control_worker_state { WORKER_ABSENT, WORKER_STARTING, WORKER_IDLE, WORKER_BUSY };

#define CONTROL_KEYS 1024 /* words for the last use of keys; what they mean is store's */
/* counters by numbers; what they mean is api's */
#define CONTROL_ROUTES 64
#define CONTROL_STATUSES 24
#define CONTROL_ROUTE_CLASSES 4
#define CONTROL_SEARCH_MODES 3

/* written by: the worker of this slot (relaxed, but where said; counters without a locked instruction, as nobody else writes them); read by: the supervisor (watchdog) and any worker (metrics). After a
 * worker's death the supervisor clears what is under "of the living worker". Counters survive it: the slot goes on counting. */
struct control_worker {
    /* of the living worker */
    uint32_t state;         /* enum control_worker_state */
    uint32_t pid;           /* written by the supervisor */
    uint64_t busy_since_us; /* monotonic; 0 when idle */
    uint64_t pin_lsn;       /* the LSN of the view it searches; 0: none. Set under its read lock, cleared with release */
    uint64_t pin_since_us;
    uint64_t sending;       /* 1 while it sends a file: api lets only so many do so at once */
    uint64_t ready;         /* 1 once it has entered its accept loop */
    /* counters, for the life of the segment */
    uint64_t requests[CONTROL_ROUTES][CONTROL_STATUSES];
    uint64_t searches[CONTROL_SEARCH_MODES];
    uint64_t candidates[CONTROL_SEARCH_MODES]; /* that they visited */
    uint64_t embedded;   /* texts */
    uint64_t streamed_in;  /* documents taken from streams */
    uint64_t streamed_out; /* documents sent by exports */
    uint64_t auth_failures, auth_denials; /* answered with 401, and 403 */
    uint64_t audit_lost; /* lines of the audit log that could not be handed over */
    uint64_t overdue;    /* writes refused because they had waited for a place up to their deadline */
    struct control_histogram request_time[CONTROL_ROUTE_CLASSES];
    struct control_histogram embedding_time; /* of a request's texts */
} __attribute__((aligned(64)));

struct control {
    uint64_t magic;
    uint32_t format;
    uint32_t workers;             /* number of slots in use */
    uint64_t segment_bytes;
    uint32_t directory_entry_size;
    uint32_t directory_capacity;
    uint64_t directory_offset;    /* from the segment's begin */
    uint64_t figures_offset;
    uint64_t figures_size;
    /* written by: the committer, under the write lock; read by: workers under their read lock */
    uint64_t published_lsn;
    uint32_t directory_count;     /* entries in use are [0, count); each says itself whether it is live */
    uint32_t reserved;
    /* written by: the supervisor's main thread (release); read by: workers (acquire). pairs with: CONTROL_STATE */
    uint32_t accepting;           /* 0: stopping, writes are refused with NOT_READY */
    uint32_t ready;               /* text is back: workers may answer */
    /* workers that have a connection of the socket for writes, and of the main one; what a dead one had, main gives back */
    struct places writers, readers;
    /* those of the writers that take more writes while they have some in hand */
    struct places desks;
    uint64_t desks_took;          /* how many those have taken; written by: workers, relaxed */
    /* those of them whose request is a stream or an export */
    struct places streams;
    /* those whose search waits for its min_lsn */
    struct places awaiting;
    /* written by: workers, relaxed; read by: all, for display only */
    uint64_t key_use[CONTROL_KEYS];
    struct rwlock lock;
    struct control_worker worker[CONTROL_MAX_WORKERS];
};

/* Creates the memfd, sizes it and initialises it. *ret_fd is O_CLOEXEC; the spawner clears that in the child. entry_size is a
 * multiple of 8; the directory and the figures begin on cache lines and hold zeros. */
MUST_CHECK bool control_create(uint32_t workers, uint32_t entry_size, uint32_t capacity, uint64_t figures_size, int *ret_fd,
                               struct control **ret, struct status *st);
/* Maps an inherited one and checks magic, format, size and seals: STATUS_CORRUPT when it is none of ours. The descriptor stays the
 * caller's and may be closed. */
MUST_CHECK bool control_map(int fd, struct control **ret, struct status *st);
void control_unmap(struct control *c); /* takes NULL */
/* Waits until `lsn` is published, asleep; the wall clock's jumps do not matter. False: the deadline (monotonic, us) has passed. A
 * waiter leaves no trace in the segment, so it may die at any moment. Nothing is ordered by it: whoever goes on takes the lock. */
bool control_await_lsn(const struct control *c, uint64_t lsn, int64_t deadline_us);
/* After each publication: wakes those who wait. */
void control_wake_waiters(struct control *c);
/* entry < capacity */
void *control_directory_entry(struct control *c, uint32_t entry);
void *control_figures(struct control *c);
/* Only one thread at a time adds; anybody reads with relaxed loads. A negative time counts as none. */
void control_histogram_time(struct control_histogram *h, int64_t ns);
void control_histogram_size(struct control_histogram *h, uint64_t size);

#endif
