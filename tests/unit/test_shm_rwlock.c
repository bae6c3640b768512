/*
 * test_shm_rwlock.c - the reader-writer lock against readers that are killed, stopped, late, or hostile.
 *
 * Readers are real processes, as in the server. A child tells through a pipe, or through the shared page, how far it is; nothing
 * here waits for a time to pass where it could wait for a fact. alarm() ends a test program that hangs.
 */
#include "base/clock.h"
#include "shm/atomics.h"
#include "shm/rwlock.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { READERS = 4, KILLS = 200, HANG_S = 300 };
enum { PATIENCE_US = 20000, LONG_PATIENCE_US = 60 * 1000000 };

/* One page run that all processes of a test share. */
struct shared {
    struct rwlock lock;
    uint64_t first; /* under the lock: always equal to second */
    uint64_t second;
    uint64_t torn;   /* how often a reader saw them differ */
    uint64_t writes; /* publications done */
    uint64_t complaints;
    uint64_t stop;
    uint64_t reads[READERS];
};

static struct shared *shared;

static int set_up(void **state) {
    (void)state;
    struct status st;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !rwlock_init(&shared->lock, READERS, &st)) {
        return -1;
    }
    /* This process is a reader, too: what it learnt about itself must not be believed by its children. */
    rwlock_read_lock(&shared->lock, 0);
    rwlock_read_unlock(&shared->lock, 0);
    (void)alarm(HANG_S);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    (void)alarm(0);
    return munmap(shared, sizeof *shared);
}

/* fork, in which the child dies with us. */
static pid_t spawn(void) {
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) {
            _exit(1);
        }
    }
    assert_true(pid >= 0);
    return pid;
}

static void kill_and_reap(pid_t pid) {
    int how = 0;
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
}

static void reap_clean(pid_t pid) {
    int how = 0;
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
}

/* Until *word is at least `least`; the alarm ends what never comes. */
static void wait_until(const uint64_t *word, uint64_t least) {
    while (load_acquire_u64(word) < least) {
        (void)sched_yield();
    }
}

static void wait_until_waited_for(uint32_t index) {
    while ((load_acquire_u32(&shared->lock.reader[index].word) & FUTEX_WAITERS) == 0) {
        (void)sched_yield();
    }
}

/* A child that holds the lock of `index` for ever. Returns once it has said so. */
static pid_t spawn_holder(uint32_t index) {
    int pipe_fds[2];
    char byte = 0;
    assert_int_equal(pipe(pipe_fds), 0);
    pid_t pid = spawn();
    if (pid == 0) {
        rwlock_read_lock(&shared->lock, index);
        if (write(pipe_fds[1], &byte, 1) != 1) {
            _exit(1);
        }
        for (;;) {
            (void)pause();
        }
    }
    (void)close(pipe_fds[1]);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    (void)close(pipe_fds[0]);
    return pid;
}

static void complain(uint32_t index, int64_t waited_us, void *ctx) {
    (void)index;
    (void)waited_us;
    (void)ctx;
    (void)add_relaxed_u64(&shared->complaints, 1);
}

static void publish(void) {
    rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
    shared->first++;
    atomic_signal_fence(memory_order_seq_cst);
    shared->second++;
    rwlock_write_unlock(&shared->lock);
    (void)add_relaxed_u64(&shared->writes, 1);
}

static uint64_t recovered(uint32_t index) {
    return load_relaxed_u64(&shared->lock.reader[index].recovered);
}

/* Busy for about this many turns of a loop, so that a reader or writer is inside for a while. */
static void dawdle(unsigned turns) {
    for (unsigned i = 0; i < turns; i++) {
        atomic_signal_fence(memory_order_seq_cst);
    }
}

static void test_layout(void **state) {
    (void)state;
    struct status st;
    assert_int_equal(sizeof(struct rwlock_reader) % RWLOCK_CACHE_LINE, 0);
    assert_int_equal(sizeof(struct rwlock) % RWLOCK_CACHE_LINE, 0);
    for (uint32_t i = 0; i + 1 < RWLOCK_MAX_READERS; i++) {
        uintptr_t word = (uintptr_t)&shared->lock.reader[i].word;
        uintptr_t next = (uintptr_t)&shared->lock.reader[i + 1].word;
        assert_int_equal(word % RWLOCK_CACHE_LINE, 0);
        assert_true(next - word >= RWLOCK_CACHE_LINE);
    }
    assert_false(rwlock_init(&shared->lock, 0, &st));
    assert_int_equal(st.code, STATUS_INVALID);
    assert_false(rwlock_init(&shared->lock, RWLOCK_MAX_READERS + 1, &st));
    assert_true(rwlock_init(&shared->lock, RWLOCK_MAX_READERS, &st));
}

static void test_uncontended(void **state) {
    (void)state;
    for (uint32_t i = 0; i < READERS; i++) {
        rwlock_read_lock(&shared->lock, i);
        rwlock_read_unlock(&shared->lock, i);
        assert_int_equal(shared->lock.reader[i].word, 0);
    }
    for (int i = 0; i < 3; i++) {
        publish();
    }
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(shared->lock.reader[i].word, 0);
        assert_int_equal(recovered(i), 0);
    }
    assert_int_equal(shared->complaints, 0);
}

/* --- threads: what ThreadSanitizer can see ---------------------------------------------------------------------------- */

static void *read_in_thread(void *arg) {
    uint32_t index = *(const uint32_t *)arg;
    while (load_acquire_u64(&shared->stop) == 0) {
        rwlock_read_lock(&shared->lock, index);
        if (shared->first != shared->second) {
            (void)add_relaxed_u64(&shared->torn, 1);
        }
        rwlock_read_unlock(&shared->lock, index);
        (void)add_relaxed_u64(&shared->reads[index], 1);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    enum { PUBLICATIONS = 20000 };
    pthread_t threads[READERS];
    uint32_t indexes[READERS];
    for (uint32_t i = 0; i < READERS; i++) {
        indexes[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, read_in_thread, &indexes[i]), 0);
    }
    for (int i = 0; i < PUBLICATIONS; i++) {
        publish();
    }
    for (uint32_t i = 0; i < READERS; i++) {
        wait_until(&shared->reads[i], 1);
    }
    store_release_u64(&shared->stop, 1);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(shared->torn, 0);
    assert_int_equal(shared->first, PUBLICATIONS);
    assert_int_equal(shared->complaints, 0);
}

static void *lock_and_end(void *arg) {
    rwlock_read_lock(&shared->lock, *(const uint32_t *)arg);
    return NULL;
}

static void test_thread_ends_inside(void **state) {
    (void)state;
    pthread_t thread;
    uint32_t index = 1;
    assert_int_equal(pthread_create(&thread, NULL, lock_and_end, &index), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    publish();
    assert_int_equal(recovered(1), 1);
}

/* --- dead and stopped readers ----------------------------------------------------------------------------------------- */

static void test_killed_holder(void **state) {
    (void)state;
    for (uint64_t round = 1; round <= 3; round++) {
        kill_and_reap(spawn_holder(2));
        publish();
        assert_int_equal(recovered(2), round);
        publish();
        assert_int_equal(recovered(2), round);
    }
    assert_int_equal(recovered(1), 0);
    assert_int_equal(shared->complaints, 0);
}

static void test_killed_while_writer_sleeps(void **state) {
    (void)state;
    pid_t holder = spawn_holder(1);
    pid_t writer = spawn();
    if (writer == 0) {
        publish();
        _exit(0);
    }
    wait_until_waited_for(1);
    assert_int_equal(load_relaxed_u64(&shared->writes), 0);
    kill_and_reap(holder);
    reap_clean(writer);
    assert_int_equal(load_relaxed_u64(&shared->writes), 1);
    assert_int_equal(recovered(1), 1);
    assert_int_equal(load_relaxed_u64(&shared->complaints), 0);
}

static void test_successor_takes_over(void **state) {
    (void)state;
    kill_and_reap(spawn_holder(3));
    pid_t successor = spawn();
    if (successor == 0) {
        rwlock_read_lock(&shared->lock, 3);
        rwlock_read_unlock(&shared->lock, 3);
        _exit(0);
    }
    reap_clean(successor);
    assert_int_equal(shared->lock.reader[3].word, 0);
    publish();
    assert_int_equal(recovered(3), 0); /* nothing was left for the writer to find */

    /* And the successor dies in it, too. */
    kill_and_reap(spawn_holder(3));
    kill_and_reap(spawn_holder(3));
    publish();
    assert_int_equal(recovered(3), 1);
}

static pid_t spawn_waiting_reader(uint32_t index) {
    pid_t pid = spawn();
    if (pid == 0) {
        rwlock_read_lock(&shared->lock, index);
        bool torn = shared->first != shared->second;
        rwlock_read_unlock(&shared->lock, index);
        _exit(torn ? 1 : 0);
    }
    wait_until_waited_for(index);
    return pid;
}

static void test_killed_while_waiting(void **state) {
    (void)state;
    rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
    kill_and_reap(spawn_waiting_reader(0));
    rwlock_write_unlock(&shared->lock);
    /* The word is reserved for the dead one; neither the writer nor a successor may believe that for long. */
    assert_int_not_equal(shared->lock.reader[0].word, 0);
    publish();
    assert_int_equal(shared->lock.reader[0].word, 0);

    rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
    kill_and_reap(spawn_waiting_reader(0));
    rwlock_write_unlock(&shared->lock);
    rwlock_reader_gone(&shared->lock, 0);
    assert_int_equal(shared->lock.reader[0].word, 0);

    rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
    kill_and_reap(spawn_waiting_reader(0));
    rwlock_write_unlock(&shared->lock);
    rwlock_read_lock(&shared->lock, 0);
    rwlock_read_unlock(&shared->lock, 0);
    assert_int_equal(shared->lock.reader[0].word, 0);
    assert_int_equal(recovered(0), 0);
    assert_int_equal(shared->complaints, 0);
}

static void test_waiting_reader_is_served(void **state) {
    (void)state;
    rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
    shared->first = 7;
    pid_t reader = spawn_waiting_reader(2);
    shared->second = 7;
    rwlock_write_unlock(&shared->lock);
    reap_clean(reader);
}

/* What the watchdog does: kills, at its `kill_at`th call. */
struct watchdog {
    pid_t pid;
    uint32_t index;
    unsigned kill_at;
    unsigned calls;
    int64_t waited_us;
};

static void watch(uint32_t index, int64_t waited_us, void *ctx) {
    struct watchdog *dog = ctx;
    dog->calls++;
    assert_int_equal(index, dog->index);
    assert_true(waited_us >= dog->waited_us + PATIENCE_US);
    dog->waited_us = waited_us;
    if (dog->calls == dog->kill_at) {
        assert_int_equal(kill(dog->pid, SIGKILL), 0);
    }
}

static void check_stopped_holder(unsigned kill_at) {
    int how = 0;
    struct watchdog dog = {.pid = spawn_holder(1), .index = 1, .kill_at = kill_at};
    uint64_t before = recovered(1);
    assert_int_equal(kill(dog.pid, SIGSTOP), 0);
    assert_int_equal(waitpid(dog.pid, &how, WUNTRACED), dog.pid);
    assert_true(WIFSTOPPED(how));
    rwlock_write_lock(&shared->lock, PATIENCE_US, watch, &dog);
    rwlock_write_unlock(&shared->lock);
    assert_true(dog.calls >= kill_at);
    assert_int_equal(recovered(1), before + 1);
    assert_int_equal(waitpid(dog.pid, &how, 0), dog.pid);
    assert_true(WIFSIGNALED(how));
}

static void test_stopped_holder(void **state) {
    (void)state;
    check_stopped_holder(1);
    check_stopped_holder(3);
    publish();
}

static void test_stopped_holder_goes_on(void **state) {
    (void)state;
    /* Not killed but continued: a complaint is no verdict, the reader keeps its lock until it unlocks. */
    int how = 0;
    pid_t pid = spawn();
    if (pid == 0) {
        rwlock_read_lock(&shared->lock, 0);
        (void)raise(SIGSTOP);
        (void)add_relaxed_u64(&shared->torn, shared->first != shared->second);
        rwlock_read_unlock(&shared->lock, 0);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &how, WUNTRACED), pid);
    assert_true(WIFSTOPPED(how));
    pid_t writer = spawn();
    if (writer == 0) {
        rwlock_write_lock(&shared->lock, PATIENCE_US, complain, NULL);
        rwlock_write_unlock(&shared->lock);
        _exit(0);
    }
    wait_until(&shared->complaints, 2);
    assert_int_equal(kill(pid, SIGCONT), 0);
    reap_clean(pid);
    reap_clean(writer);
    assert_int_equal(recovered(0), 0);
    assert_int_equal(load_relaxed_u64(&shared->torn), 0);
}

/* --- kill -9 at random moments ---------------------------------------------------------------------------------------- */

static void read_for_ever(uint32_t index) {
    enum { LOOKS = 20, PAUSE_TURNS = 50 };
    for (;;) {
        rwlock_read_lock(&shared->lock, index);
        for (int i = 0; i < LOOKS; i++) {
            if (load_relaxed_u64(&shared->first) != load_relaxed_u64(&shared->second)) {
                (void)add_relaxed_u64(&shared->torn, 1);
            }
        }
        rwlock_read_unlock(&shared->lock, index);
        (void)add_relaxed_u64(&shared->reads[index], 1);
        dawdle(PAUSE_TURNS);
    }
}

static pid_t spawn_reader(uint32_t index) {
    pid_t pid = spawn();
    if (pid == 0) {
        read_for_ever(index);
    }
    return pid;
}

static void test_random_kills(void **state) {
    (void)state;
    enum { MAX_DELAY_TURNS = 200000 };
    unsigned short seed[3] = {1, 2, (unsigned short)getpid()};
    pid_t readers[READERS];
    uint64_t found_dead = 0;
    pid_t writer = spawn();
    if (writer == 0) {
        while (load_acquire_u64(&shared->stop) == 0) {
            publish();
        }
        _exit(0);
    }
    for (uint32_t i = 0; i < READERS; i++) {
        readers[i] = spawn_reader(i);
    }
    for (int kills = 0; kills < KILLS; kills++) {
        uint32_t victim = (uint32_t)(nrand48(seed) % READERS);
        dawdle((unsigned)(nrand48(seed) % MAX_DELAY_TURNS));
        kill_and_reap(readers[victim]);
        rwlock_reader_gone(&shared->lock, victim);
        wait_until(&shared->writes, load_acquire_u64(&shared->writes) + 2);
        readers[victim] = spawn_reader(victim);
        wait_until(&shared->reads[victim], load_acquire_u64(&shared->reads[victim]) + 1);
    }
    store_release_u64(&shared->stop, 1);
    reap_clean(writer);
    for (uint32_t i = 0; i < READERS; i++) {
        kill_and_reap(readers[i]);
        found_dead += recovered(i);
    }
    publish();
    assert_int_equal(load_relaxed_u64(&shared->torn), 0);
    assert_int_equal(load_relaxed_u64(&shared->complaints), 0);
    assert_int_equal(shared->first, shared->second);
    print_message("%d kills, seed %u: %llu left the lock held; %llu publications meanwhile\n", KILLS, (unsigned)seed[2],
                  (unsigned long long)found_dead, (unsigned long long)load_relaxed_u64(&shared->writes));
}

/* --- neither side starves the other ----------------------------------------------------------------------------------- */

enum { TURNS = 300, TURN_READER = 1 };

/* A reader that unlocks while the writer waits, and locks again at once, finds that the writer has been there. */
static void test_reader_lets_the_writer_go_first(void **state) {
    (void)state;
    pid_t reader = spawn();
    if (reader == 0) {
        for (uint64_t turn = 1; turn <= TURNS; turn++) {
            rwlock_read_lock(&shared->lock, TURN_READER);
            store_release_u64(&shared->reads[TURN_READER], turn);
            wait_until_waited_for(TURN_READER);
            rwlock_read_unlock(&shared->lock, TURN_READER);
            rwlock_read_lock(&shared->lock, TURN_READER);
            (void)add_relaxed_u64(&shared->torn, shared->first == turn ? 0 : 1);
            rwlock_read_unlock(&shared->lock, TURN_READER);
        }
        _exit(0);
    }
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        wait_until(&shared->reads[TURN_READER], turn);
        publish();
    }
    reap_clean(reader);
    assert_int_equal(load_relaxed_u64(&shared->torn), 0);
    assert_int_equal(shared->complaints, 0);
}

/* A writer that unlocks while a reader waits, and locks again at once, finds that the reader has been there, or has given it the
 * time that is its due. */
static void test_writer_lets_the_reader_go_first(void **state) {
    (void)state;
    unsigned late = 0;
    pid_t reader = spawn();
    if (reader == 0) {
        for (uint64_t turn = 1; turn <= TURNS; turn++) {
            wait_until(&shared->writes, turn);
            rwlock_read_lock(&shared->lock, TURN_READER);
            store_release_u64(&shared->reads[TURN_READER], turn);
            rwlock_read_unlock(&shared->lock, TURN_READER);
        }
        _exit(0);
    }
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
        store_release_u64(&shared->writes, turn);
        wait_until_waited_for(TURN_READER);
        int64_t began = clock_monotonic_us();
        rwlock_write_unlock(&shared->lock);
        rwlock_write_lock(&shared->lock, LONG_PATIENCE_US, complain, NULL);
        bool served = load_acquire_u64(&shared->reads[TURN_READER]) == turn;
        assert_true(served || clock_monotonic_us() - began >= RWLOCK_TURN_US);
        late += served ? 0 : 1;
        rwlock_write_unlock(&shared->lock);
        wait_until(&shared->reads[TURN_READER], turn);
    }
    reap_clean(reader);
    print_message("%u of %d readers came too late for their turn\n", late, TURNS);
    assert_int_equal(shared->complaints, 0);
}

/* --- a reader that scribbles ------------------------------------------------------------------------------------------ */

static void free_scribbled(uint32_t index, int64_t waited_us, void *ctx) {
    (void)waited_us;
    (void)ctx;
    assert_true(index < RWLOCK_MAX_READERS);
    rwlock_reader_gone(&shared->lock, index); /* the watchdog has killed its process, the main thread has reaped it */
}

static void test_scribbler(void **state) {
    (void)state;
    enum { PUBLICATIONS = 10, SCRIBBLED_PATIENCE_US = 100 };
    pid_t scribbler = spawn();
    if (scribbler == 0) {
        unsigned short seed[3] = {3, 2, 1};
        for (;;) {
            for (size_t i = 0; i < sizeof(struct rwlock) / sizeof(uint32_t); i++) {
                store_relaxed_u32((uint32_t *)(void *)&shared->lock + i, (uint32_t)jrand48(seed));
            }
            (void)add_relaxed_u64(&shared->stop, 1);
        }
    }
    wait_until(&shared->stop, 1);
    for (int i = 0; i < PUBLICATIONS; i++) {
        rwlock_write_lock(&shared->lock, SCRIBBLED_PATIENCE_US, free_scribbled, NULL);
        rwlock_write_unlock(&shared->lock);
    }
    kill_and_reap(scribbler);
    rwlock_write_lock(&shared->lock, SCRIBBLED_PATIENCE_US, free_scribbled, NULL);
    rwlock_write_unlock(&shared->lock);
    for (uint32_t i = 0; i < RWLOCK_MAX_READERS; i++) {
        rwlock_reader_gone(&shared->lock, i);
        rwlock_write_lock(&shared->lock, SCRIBBLED_PATIENCE_US, free_scribbled, NULL);
        rwlock_write_unlock(&shared->lock);
        rwlock_read_lock(&shared->lock, i);
        rwlock_read_unlock(&shared->lock, i);
    }
}

static void test_forged_holder(void **state) {
    (void)state;
    /* A word that names a living process which never held it, and one that names none: no death will ever free them. */
    uint32_t forged[] = {1, (uint32_t)getppid(), 0x3ffffff0U, 0x00abcdefU};
    for (size_t i = 0; i < sizeof forged / sizeof forged[0]; i++) {
        store_release_u32(&shared->lock.reader[1].word, forged[i]);
        rwlock_write_lock(&shared->lock, PATIENCE_US, free_scribbled, NULL);
        rwlock_write_unlock(&shared->lock);
        assert_int_equal(shared->lock.reader[1].word, 0);
        assert_int_equal(recovered(1), i + 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_layout, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_uncontended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_while_writer_sleeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_successor_takes_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_while_waiting, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_waiting_reader_is_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stopped_holder_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_random_kills, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reader_lets_the_writer_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writer_lets_the_reader_go_first, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_scribbler, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forged_holder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_thread_ends_inside, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("shm_rwlock", tests, NULL, NULL);
}
