/*
 * rwlock.c - robust futex words, one per reader.
 *
 * What a word holds:
 *
 *     0                                   free
 *     thread id                           the reader holds it
 *     WORD_WRITER                         the writer holds it
 *     WORD_RESERVED                       free, but it is the turn of the reader that waited
 *     FUTEX_OWNER_DIED                    the reader died holding it
 *   | FUTEX_WAITERS on any of the last four: the other side sleeps on the word
 *
 *     reader locks        0, RESERVED, OWNER_DIED -> thread id (the flag stays)
 *     reader unlocks      thread id -> 0          thread id | WAITERS -> WRITER, wake     (the word is handed over)
 *     writer locks        0, OWNER_DIED -> WRITER
 *     writer unlocks      WRITER -> 0             WRITER | WAITERS -> RESERVED, wake      (the reader goes first)
 *     writer's patience   RESERVED -> WRITER, once RWLOCK_TURN_US are over
 *     kernel, at death    thread id -> OWNER_DIED, wakes one if WAITERS was set
 *
 * Fairness. A word has two users, its reader and the writer, and each lets the other go first when it sees it waiting. So a
 * reader that locks in a tight loop cannot pass by a writer that has not woken up yet, nor the other way round. The hand-over
 * to the writer is unconditional, because a dead writer ends the segment; the one to a reader is a reservation with an end.
 *
 * Death. The kernel walks a thread's robust list when the thread dies, however it dies. libc has registered such a list for each
 * thread; its head has one field, list_op_pending, for the lock that is being taken or released at this moment. We announce our
 * word there before we take it and withdraw it after we have released it, so the kernel finds the thread id in the word at every
 * instruction at which we can be killed. Nothing in that list lives in shared memory.
 *   - killed before the word is taken, or after it was released: the id is not in the word, the kernel leaves it alone;
 *   - killed between the hand-over and the wake: the writer already owns the word and sees so within RECHECK_US;
 *   - killed while waiting for the writer: the writer leaves the word reserved for nobody, and takes it when the turn is over.
 *
 * A child of fork has another thread id, so what is known of the thread is forgotten there.
 *
 * pairs with: RWLOCK_WORD. Every store that gives a word away is a release, every one that takes it an acquire; without them
 * a reader could see half of a publication, and the writer could store into what a reader still copies.
 */
#include "shm/rwlock.h"

#include "base/clock.h"
#include "shm/atomics.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Thread ids end at 2^22, so these are none. */
#define WORD_FREE 0U
#define WORD_WRITER 0x3fffffffU
#define WORD_RESERVED 0x3ffffffeU

/* The holder is usually gone within nanoseconds (a reader) or few microseconds (the writer): look that often before going to
 * sleep. */
enum { SPINS = 100 };
/* The longest sleep before the word is looked at again, whether or not somebody woke us. */
enum { RECHECK_US = 1000 };
enum { US_PER_S = 1000000, NS_PER_US = 1000 };

_Static_assert(sizeof(struct rwlock_reader) % RWLOCK_CACHE_LINE == 0, "a reader's word shares its line with no other reader");
_Static_assert(offsetof(struct rwlock, reader) % RWLOCK_CACHE_LINE == 0, "the first reader begins a line");

struct reader_thread {
    uint32_t id; /* 0: to be found out */
    struct robust_list_head *robust;
};

static _Thread_local struct reader_thread this_reader;
/* Stands in where the kernel offers no robust lists: then rwlock_reader_gone frees what a dead reader held. */
static _Thread_local struct robust_list_head unwatched;
static pthread_once_t fork_handler_once = PTHREAD_ONCE_INIT;

static void forget_thread_in_child(void) {
    if (this_reader.id != 0) {
        this_reader.robust->list_op_pending = NULL;
    }
    this_reader.id = 0;
}

static void install_fork_handler(void) {
    (void)pthread_atfork(NULL, NULL, forget_thread_in_child);
}

static void learn_thread(void) {
    struct robust_list_head *head = NULL;
    size_t head_size = 0;
    int saved_errno = errno;
    (void)pthread_once(&fork_handler_once, install_fork_handler);
    if (syscall(SYS_get_robust_list, 0, &head, &head_size) != 0 || head_size != sizeof *head) {
        head = NULL;
    }
    errno = saved_errno;
    this_reader.robust = head != NULL ? head : &unwatched;
    this_reader.id = (uint32_t)gettid();
}

static const struct reader_thread *reader_thread(void) {
    if (this_reader.id == 0) {
        learn_thread();
    }
    return &this_reader;
}

/* From here on the kernel looks at the word when this thread dies. The fences keep the compiler from moving the announcement to
 * the wrong side of the store that takes or frees the word; the kernel looks from this thread's own processor, so no more is
 * needed. */
static void announce(const struct reader_thread *me, const uint32_t *word) {
    uintptr_t entry = (uintptr_t)word - (uintptr_t)me->robust->futex_offset;
    me->robust->list_op_pending = (struct robust_list *)entry;
    atomic_signal_fence(memory_order_seq_cst);
}

static void withdraw(const struct reader_thread *me) {
    atomic_signal_fence(memory_order_seq_cst);
    me->robust->list_op_pending = NULL;
}

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wake(uint32_t *word) {
    int saved_errno = errno;
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    errno = saved_errno;
}

/* Marks the word, which holds `seen`, as waited for, and sleeps until it changes, somebody wakes us, or the time is over. */
static void sleep_on(uint32_t *word, uint32_t seen, int64_t us) {
    uint32_t marked = seen | FUTEX_WAITERS;
    struct timespec timeout = {.tv_sec = us / US_PER_S, .tv_nsec = us % US_PER_S * NS_PER_US};
    if (seen == marked || swap_acquire_u32(word, seen, marked)) {
        int saved_errno = errno;
        (void)syscall(SYS_futex, word, FUTEX_WAIT, marked, &timeout, NULL, 0);
        errno = saved_errno;
    }
}

static uint32_t holder_of(uint32_t value) {
    return value & ~FUTEX_WAITERS;
}

static bool is_abandoned(uint32_t value) {
    return holder_of(value) == WORD_FREE || (value & FUTEX_OWNER_DIED) != 0;
}

bool rwlock_init(struct rwlock *lock, uint32_t readers, struct status *st) {
    if (readers == 0 || readers > RWLOCK_MAX_READERS) {
        return status_set(st, STATUS_INVALID, "a lock has 1 to %d readers, not %u", RWLOCK_MAX_READERS, (unsigned)readers);
    }
    for (uint32_t i = 0; i < RWLOCK_MAX_READERS; i++) {
        lock->reader[i] = (struct rwlock_reader){.word = WORD_FREE};
    }
    lock->readers = readers;
    return true;
}

/* --- readers ---------------------------------------------------------------------------------------------------------- */

static void read_lock_contended(uint32_t *word, uint32_t thread) {
    int spins = 0;
    for (;;) {
        uint32_t seen = load_relaxed_u32(word);
        if (is_abandoned(seen) || holder_of(seen) == WORD_RESERVED) {
            /* pairs with: RWLOCK_WORD. The flag stays: a writer that waits for a dead or late reader now waits for us. */
            if (swap_acquire_u32(word, seen, thread | (seen & FUTEX_WAITERS))) {
                return;
            }
        } else if (spins < SPINS) {
            spins++;
            relax();
        } else {
            sleep_on(word, seen, RECHECK_US);
        }
    }
}

void rwlock_read_lock(struct rwlock *lock, uint32_t index) {
    assert(index < RWLOCK_MAX_READERS);
    uint32_t *word = &lock->reader[index].word;
    const struct reader_thread *me = reader_thread();
    assert(me->robust->list_op_pending == NULL);
    announce(me, word);
    if (!swap_acquire_u32(word, WORD_FREE, me->id)) { /* pairs with: RWLOCK_WORD */
        read_lock_contended(word, me->id);
    }
}

void rwlock_read_unlock(struct rwlock *lock, uint32_t index) {
    assert(index < RWLOCK_MAX_READERS);
    uint32_t *word = &lock->reader[index].word;
    const struct reader_thread *me = reader_thread();
    /* pairs with: RWLOCK_WORD. A word that does not name us was scribbled over or taken from us: then it is not ours to free. */
    if (!swap_release_u32(word, me->id, WORD_FREE) && swap_release_u32(word, me->id | FUTEX_WAITERS, WORD_WRITER)) {
        wake(word);
    }
    withdraw(me);
}

/* --- the writer ------------------------------------------------------------------------------------------------------- */

/* Who waits, for whom, and when it complains. */
struct waiting {
    uint32_t index;
    int64_t began_us;
    int64_t complain_us; /* at this time */
    int64_t patience_us;
    rwlock_stuck_fn stuck;
    void *ctx;
};

/* True when the writer has the word now. `seen` is what it held a moment ago, loaded with acquire. */
static bool write_take(struct rwlock_reader *reader, uint32_t seen) {
    if (holder_of(seen) == WORD_WRITER) {
        return true; /* handed over by the reader */
    }
    if (!is_abandoned(seen) || !swap_acquire_u32(&reader->word, seen, WORD_WRITER)) { /* pairs with: RWLOCK_WORD */
        return false;
    }
    if ((seen & FUTEX_OWNER_DIED) != 0) {
        (void)add_relaxed_u64(&reader->recovered, 1);
    }
    return true;
}

/* The reader that waited for the last publication has its turn, unless it takes too long. True when the writer has the word. */
static bool wait_for_turn(struct rwlock_reader *reader, uint32_t seen, int64_t waited_us) {
    if (waited_us >= RWLOCK_TURN_US) {
        return swap_acquire_u32(&reader->word, seen, WORD_WRITER); /* pairs with: RWLOCK_WORD */
    }
    sleep_on(&reader->word, seen, RWLOCK_TURN_US - waited_us);
    return false;
}

static void wait_for_holder(struct rwlock_reader *reader, uint32_t seen, struct waiting *w, int64_t now) {
    int64_t sleep_us = RECHECK_US;
    if (w->stuck != NULL) {
        if (now >= w->complain_us) {
            w->complain_us = now + w->patience_us;
            w->stuck(w->index, now - w->began_us, w->ctx);
            return; /* look again first: the callback takes time, and may have ended the wait */
        }
        sleep_us = w->complain_us - now < sleep_us ? w->complain_us - now : sleep_us;
    }
    sleep_on(&reader->word, seen, sleep_us);
}

static void write_lock_contended(struct rwlock_reader *reader, struct waiting *w) {
    w->began_us = clock_monotonic_us();
    w->complain_us = w->began_us + w->patience_us;
    for (;;) {
        uint32_t seen = load_acquire_u32(&reader->word); /* pairs with: RWLOCK_WORD, for a word that is handed over */
        if (write_take(reader, seen)) {
            return;
        }
        int64_t now = clock_monotonic_us();
        if (holder_of(seen) == WORD_RESERVED) {
            if (wait_for_turn(reader, seen, now - w->began_us)) {
                return;
            }
        } else if (!is_abandoned(seen)) {
            wait_for_holder(reader, seen, w, now);
        }
    }
}

static bool write_lock_spinning(struct rwlock_reader *reader) {
    for (int spins = 0; spins < SPINS; spins++) {
        if (write_take(reader, load_acquire_u32(&reader->word))) { /* pairs with: RWLOCK_WORD */
            return true;
        }
        relax();
    }
    return false;
}

/* The number stands in memory that a broken worker can change: it is bounded, so that it cannot lead out of the array. */
static uint32_t reader_count(const struct rwlock *lock) {
    uint32_t readers = load_relaxed_u32(&lock->readers);
    return readers < RWLOCK_MAX_READERS ? readers : RWLOCK_MAX_READERS;
}

void rwlock_write_lock(struct rwlock *lock, int64_t patience_us, rwlock_stuck_fn stuck, void *ctx) {
    assert(stuck == NULL || patience_us > 0);
    uint32_t readers = reader_count(lock);
    for (uint32_t i = 0; i < readers; i++) {
        if (!write_lock_spinning(&lock->reader[i])) {
            struct waiting w = {.index = i, .patience_us = patience_us, .stuck = stuck, .ctx = ctx};
            write_lock_contended(&lock->reader[i], &w);
        }
    }
}

void rwlock_write_unlock(struct rwlock *lock) {
    uint32_t readers = reader_count(lock);
    for (uint32_t i = 0; i < readers; i++) {
        uint32_t *word = &lock->reader[i].word;
        if (!swap_release_u32(word, WORD_WRITER, WORD_FREE)) { /* pairs with: RWLOCK_WORD */
            store_release_u32(word, WORD_RESERVED);            /* pairs with: RWLOCK_WORD */
            wake(word);
        }
    }
}

void rwlock_reader_gone(struct rwlock *lock, uint32_t index) {
    assert(index < RWLOCK_MAX_READERS);
    uint32_t *word = &lock->reader[index].word;
    for (;;) {
        uint32_t seen = load_relaxed_u32(word);
        if (is_abandoned(seen) || holder_of(seen) == WORD_WRITER) {
            return;
        }
        uint32_t left = holder_of(seen) == WORD_RESERVED ? WORD_FREE : FUTEX_OWNER_DIED;
        if (swap_release_u32(word, seen, left)) { /* pairs with: RWLOCK_WORD */
            wake(word);
            return;
        }
    }
}
