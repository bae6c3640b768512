/*
 * children.c - the worker processes (children.h).
 *
 * Life of a worker: spawned (STARTING), ready once it has entered its accept loop (it says so in its slot), perhaps draining
 * (told by SIGTERM to finish and go), dead, reaped. One that dies after it had been ready is replaced at once; one that dies
 * before is replaced after a pause that doubles each time, so that a worker that cannot start does not eat the machine.
 *
 * Death: waitid with WNOWAIT first names the dead without reaping them. Until then its pid is taken and its slot is its own, so
 * what the slot says of the living worker (above all its pin, which holds reclaiming up) is cleared between the death and the
 * reaping: after it nobody of that pid writes there, before it nobody new has begun. Other threads kill under the mutex, which
 * the reaping takes, too: a kill can never meet a pid that was given to another process.
 *
 * Replacing on reload: workers carry the number of the configuration that they were started with (epoch). Workers of an older
 * epoch are drained one for each new one that is ready; the spare slots let the new ones start first. With no spare slot (128
 * workers) one old worker goes at a time, before its successor comes.
 */
#include "proc/children.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/background.h"
#include "proc/channels.h"
#include "proc/heritage.h"
#include "proc/lock.h"
#include "proc/spawn.h"
#include "shm/atomics.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKERS_PER_CORE = 16,
    WORKERS_PRESET_MOST = 64,
    READERS_PER_CORE = 4,
    READERS_PRESET_MOST = 16,
    SPARE_SHARE = 4, /* a spare slot for so many workers */
    AWAITING_PART = 2, /* one in so many of those may wait for a min_lsn */
    STREAMS_PART = 4,  /* one in so many of those that may have requests of the main socket may have a stream */
    WRITERS_SHARE = 3, /* three of four workers may have a write */
    WRITERS_OF = 4,
    FIRST_PAUSE_MS = 10,
    US_PER_MS = 1000,
    US_PER_SECOND = 1000000,
    NS_PER_US = 1000
};

struct child {
    /* under the mutex, written by main */
    pid_t pid; /* 0: no worker */
    uint64_t generation;
    bool killed; /* SIGKILL is on its way */
    /* main's own */
    uint64_t epoch;
    int64_t spawned_us;
    int64_t predecessor_died_us; /* 0: it replaces nobody that died */
    bool ready;
    bool draining;
};

struct children {
    struct supervisor *s;
    struct lock mutex;
    struct child child[CONTROL_MAX_WORKERS];
    uint32_t slots;
    uint32_t wanted;
    bool stopping;
    uint64_t last_generation;
    uint64_t epoch;
    int config_fd;    /* sealed memfd; -1 before children_configure */
    int64_t pause_us; /* after deaths before readiness; 0: none lately */
    int64_t not_before_us;
    int64_t died_us; /* when a ready worker died that is not replaced yet */
};

uint32_t children_wanted(const struct config *c) {
    uint64_t preset = (uint64_t)background_cores() * WORKERS_PER_CORE;
    if (c->workers > 0) {
        return (uint32_t)c->workers;
    }
    return preset < WORKERS_PRESET_MOST ? (uint32_t)preset : WORKERS_PRESET_MOST;
}

uint32_t children_writers(const struct config *c) {
    uint32_t workers = children_wanted(c);
    uint32_t writers = c->write_workers > 0 ? (uint32_t)c->write_workers : workers * WRITERS_SHARE / WRITERS_OF;
    writers = writers < workers ? writers : workers - 1;
    return writers > 0 ? writers : 1;
}

uint32_t children_desks(const struct config *c) {
    uint32_t writers = children_writers(c);
    unsigned cores = background_cores();
    return cores < writers ? (uint32_t)cores : writers;
}

uint32_t children_readers(const struct config *c) {
    uint32_t workers = children_wanted(c);
    uint64_t readers = (uint64_t)background_cores() * READERS_PER_CORE;
    readers = readers < READERS_PRESET_MOST ? readers : READERS_PRESET_MOST;
    readers = c->read_workers > 0 ? c->read_workers : readers;
    return readers < workers ? (uint32_t)readers : workers;
}

uint32_t children_awaiting(const struct config *c) {
    uint32_t readers = children_readers(c);
    uint32_t awaiting = c->max_min_lsn_waits > 0 ? (uint32_t)c->max_min_lsn_waits : readers / AWAITING_PART;
    awaiting = awaiting < readers ? awaiting : readers - 1;
    return awaiting > 0 ? awaiting : 1;
}

uint32_t children_streams(const struct config *c) {
    uint32_t writers = children_writers(c);
    uint32_t readers = children_readers(c);
    uint32_t fewer = writers < readers ? writers : readers;
    uint32_t streams = c->max_streams > 0 ? (uint32_t)c->max_streams : readers / STREAMS_PART;
    streams = streams < fewer ? streams : fewer - 1;
    return streams > 0 ? streams : 1;
}

uint32_t children_slots(uint64_t workers) {
    uint64_t spare = workers / SPARE_SHARE + 1;
    return workers + spare < CONTROL_MAX_WORKERS ? (uint32_t)(workers + spare) : CONTROL_MAX_WORKERS;
}

bool children_new(struct supervisor *s, struct children **ret, struct status *st) {
    struct children *ch = (struct children *)calloc(1, sizeof *ch);
    if (ch == NULL) {
        return status_no_memory(st);
    }
    lock_init(&ch->mutex, LOCK_CHILDREN);
    ch->s = s;
    ch->wanted = children_wanted(&s->config);
    ch->slots = children_slots(ch->wanted);
    ch->config_fd = -1;
    *ret = ch;
    return true;
}

void children_free(struct children *ch) {
    if (ch != NULL) {
        io_close(&ch->config_fd);
        lock_fini(&ch->mutex);
        free(ch);
    }
}

/* --- the configuration that workers inherit --------------------------------------------------------------------------- */

static bool write_all(int fd, struct slice bytes, struct status *st) {
    while (bytes.len > 0) {
        ssize_t n = write(fd, bytes.data, bytes.len);
        if (n < 0 && errno != EINTR) {
            return status_set_errno(st, errno, "cannot write the workers' configuration");
        }
        bytes.data += n > 0 ? n : 0;
        bytes.len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

/* Sealed: what the first worker reads is what the last one will read. */
static bool make_config_fd(const struct config *c, int *ret, struct status *st) {
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
    struct buf text = {0};
    bool ok = false;
    int fd = memfd_create("quire.conf", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return status_set_errno(st, errno, "cannot make a memory file");
    }
    config_dump(c, &text);
    if (!buf_check(&text, st) || !write_all(fd, buf_slice(&text), st)) {
        goto out;
    }
    if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
        (void)status_set_errno(st, errno, "cannot seal the workers' configuration");
        goto out;
    }
    *ret = fd;
    fd = -1;
    ok = true;
out:
    io_close(&fd);
    buf_fini(&text);
    return ok;
}

int children_config_fd(const struct children *ch) {
    return ch->config_fd;
}

bool children_configure(struct children *ch, const struct config *c, struct status *st) {
    int fd = -1;
    if (!make_config_fd(c, &fd, st)) {
        return false;
    }
    io_close(&ch->config_fd);
    ch->config_fd = fd;
    ch->epoch++;
    return true;
}

/* --- spawning --------------------------------------------------------------------------------------------------------- */

static char role_name[] = "quired: worker";
static char role_option[] = "--worker";

static void plan(struct spawn_plan *p, const struct children *ch, uint32_t slot, int channel_fd) {
    static const char *const kept[] = {"QUIRE_IO_FAULT", "QUIRE_CLOCK_SHIFT", NULL}; /* what tests have set holds for workers, too */
    static char slot_text[16];
    static char parent_text[16];
    *p = (struct spawn_plan){.what = "a worker", .fds = HERITAGE_END - HERITAGE_LISTEN, .argv = {role_name, role_option, slot_text, parent_text}};
    p->fd[HERITAGE_LISTEN - HERITAGE_LISTEN] = ch->s->listener[LISTENER_MAIN].fd;
    p->fd[HERITAGE_LISTEN_WRITES - HERITAGE_LISTEN] = ch->s->listener[LISTENER_WRITES].fd;
    p->fd[HERITAGE_CONTROL - HERITAGE_LISTEN] = ch->s->control_fd;
    p->fd[HERITAGE_CHANNEL - HERITAGE_LISTEN] = channel_fd;
    p->fd[HERITAGE_DATA - HERITAGE_LISTEN] = ch->s->data_dir_fd;
    p->fd[HERITAGE_CONFIG - HERITAGE_LISTEN] = ch->config_fd;
    p->fd[HERITAGE_MODEL - HERITAGE_LISTEN] = ch->s->model_fd;
    p->fd[HERITAGE_KEYS - HERITAGE_LISTEN] = ch->s->key_page_fd;
    p->fd[HERITAGE_AUDIT - HERITAGE_LISTEN] = ch->s->audit_fd;
    (void)snprintf(slot_text, sizeof slot_text, "%u", slot);
    (void)snprintf(parent_text, sizeof parent_text, "%ld", (long)getpid());
    spawn_keep_environment(p, kept);
}

static void clear_slot(struct control_worker *slot, pid_t pid, enum control_worker_state state) {
    store_relaxed_u64(&slot->busy_since_us, 0);
    store_relaxed_u64(&slot->pin_since_us, 0);
    store_release_u64(&slot->pin_lsn, 0);
    store_relaxed_u64(&slot->sending, 0);
    store_relaxed_u64(&slot->ready, 0);
    store_relaxed_u32(&slot->pid, (uint32_t)pid);
    store_release_u32(&slot->state, (uint32_t)state);
}

static bool spawn_worker(struct children *ch, uint32_t slot, int64_t now_us, struct status *st) {
    struct child *child = &ch->child[slot];
    struct spawn_plan p;
    int pair[2] = {-1, -1};
    pid_t pid = 0;
    if (!spawn_channel(pair, st)) {
        return false;
    }
    plan(&p, ch, slot, pair[1]);
    clear_slot(&ch->s->control->worker[slot], 0, WORKER_STARTING);
    bool spawned = spawn(&p, &pid, st);
    io_close(&pair[1]);
    if (!spawned) {
        clear_slot(&ch->s->control->worker[slot], 0, WORKER_ABSENT);
        io_close(&pair[0]);
        return false;
    }
    lock_take(&ch->mutex);
    *child = (struct child){.pid = pid,
                            .generation = ++ch->last_generation,
                            .epoch = ch->epoch,
                            .spawned_us = now_us,
                            .predecessor_died_us = ch->died_us};
    lock_release(&ch->mutex);
    store_relaxed_u32(&ch->s->control->worker[slot].pid, (uint32_t)pid);
    ch->died_us = 0;
    channels_adopt(ch->s->channels, slot, child->generation, pair[0]);
    return true;
}

/* --- counting --------------------------------------------------------------------------------------------------------- */

struct census {
    uint32_t alive, serving /* not draining */, ready, starting, outdated, draining, free_slots;
};

static struct census count_children(const struct children *ch) {
    struct census n = {0};
    for (uint32_t i = 0; i < ch->slots; i++) {
        const struct child *c = &ch->child[i];
        if (c->pid == 0) {
            n.free_slots++;
            continue;
        }
        n.alive++;
        n.draining += c->draining ? 1 : 0;
        n.serving += c->draining ? 0 : 1;
        n.ready += c->ready && !c->draining ? 1 : 0;
        n.starting += c->ready ? 0 : 1;
        n.outdated += c->epoch != ch->epoch && !c->draining ? 1 : 0;
    }
    return n;
}

uint32_t children_alive(const struct children *ch) {
    return count_children(ch).alive;
}
uint32_t children_ready(const struct children *ch) {
    return count_children(ch).ready;
}
bool children_starting(const struct children *ch) {
    return count_children(ch).starting > 0;
}
bool children_replacing(const struct children *ch) {
    return count_children(ch).outdated > 0;
}

/* --- tending ---------------------------------------------------------------------------------------------------------- */

static void note_ready(struct children *ch, int64_t now_us) {
    for (uint32_t i = 0; i < ch->slots; i++) {
        struct child *c = &ch->child[i];
        if (c->pid == 0 || c->ready || load_relaxed_u64(&ch->s->control->worker[i].ready) == 0) {
            continue;
        }
        c->ready = true;
        ch->pause_us = 0;
        if (c->predecessor_died_us != 0) {
            log_info("worker %u [%ld] serves, %lld ms after the death of the one that it replaces", i, (long)c->pid,
                     (long long)((now_us - c->predecessor_died_us) / US_PER_MS));
        } else {
            log_debug("worker %u [%ld] serves, %lld ms after its start", i, (long)c->pid,
                      (long long)((now_us - c->spawned_us) / US_PER_MS));
        }
    }
}

/* No worker is started for a while, twice as long as the last time. */
static void pause_longer(struct children *ch, int64_t now_us) {
    int64_t longest = (int64_t)ch->s->config.respawn_backoff_max_ms * US_PER_MS;
    ch->pause_us = ch->pause_us == 0 ? FIRST_PAUSE_MS * US_PER_MS : ch->pause_us * 2;
    ch->pause_us = ch->pause_us > longest ? longest : ch->pause_us;
    ch->not_before_us = now_us + ch->pause_us;
}

static bool spawn_one(struct children *ch, int64_t now_us) {
    struct status st;
    for (uint32_t i = 0; i < ch->slots; i++) {
        if (ch->child[i].pid == 0) {
            if (spawn_worker(ch, i, now_us, &st)) {
                return true;
            }
            log_status(LOG_LEVEL_ERROR, "no worker", &st);
            pause_longer(ch, now_us);
            return false;
        }
    }
    return false;
}

static void drain_one(struct children *ch, uint32_t slot) {
    ch->child[slot].draining = true;
    (void)kill(ch->child[slot].pid, SIGTERM); /* main reaps, so the pid is still its own */
}

/* One outdated worker goes for each new one that is ready beyond those wanted. */
static void drain_outdated(struct children *ch) {
    struct census n = count_children(ch);
    bool without_spare = ch->slots <= ch->wanted && n.draining == 0 && n.starting == 0;
    uint32_t surplus = n.ready > ch->wanted ? n.ready - ch->wanted : 0;
    if (n.outdated > 0 && surplus == 0 && without_spare) {
        surplus = 1;
    }
    for (uint32_t i = 0; i < ch->slots && surplus > 0; i++) {
        const struct child *c = &ch->child[i];
        if (c->pid != 0 && !c->draining && c->epoch != ch->epoch) {
            drain_one(ch, i);
            surplus--;
        }
    }
}

void children_tend(struct children *ch, int64_t now_us) {
    note_ready(ch, now_us);
    if (ch->stopping) {
        return;
    }
    struct census n = count_children(ch);
    uint32_t target = ch->wanted + (n.outdated > 0 ? ch->slots - ch->wanted : 0);
    /* Of the new ones no more than there are old ones to replace. */
    uint32_t missing = n.serving - n.outdated < ch->wanted ? ch->wanted - (n.serving - n.outdated) : 0;
    while (n.serving < target && missing > 0 && now_us >= ch->not_before_us && spawn_one(ch, now_us)) {
        n.serving++;
        missing--;
    }
    if (n.outdated > 0) {
        drain_outdated(ch);
    }
}

int64_t children_cpu_us(const struct children *ch) {
    int64_t sum = 0;
    for (uint32_t i = 0; i < ch->slots; i++) {
        clockid_t clock;
        struct timespec t;
        if (ch->child[i].pid != 0 && clock_getcpuclockid(ch->child[i].pid, &clock) == 0 && clock_gettime(clock, &t) == 0) {
            sum += (int64_t)t.tv_sec * US_PER_SECOND + t.tv_nsec / NS_PER_US;
        }
    }
    return sum;
}

/* --- death ------------------------------------------------------------------------------------------------------------ */

static void log_death(const struct child *c, uint32_t slot, const siginfo_t *info) {
    if (info->si_code != CLD_EXITED && !c->draining) {
        log_warn("worker %u [%ld] was killed by signal %d (%s)", slot, (long)c->pid, info->si_status, strsignal(info->si_status));
    } else if (info->si_code == CLD_EXITED && info->si_status != 0) {
        log_error("worker %u [%ld] exited with %d%s", slot, (long)c->pid, info->si_status,
                  c->ready ? "" : " before it was ready");
    } else {
        log_debug("worker %u [%ld] has finished", slot, (long)c->pid);
    }
}

/* When may the next one be started? */
static void plan_successor(struct children *ch, const struct child *c, int64_t now_us) {
    if (c->draining || ch->stopping) {
        return;
    }
    (void)add_relaxed_u64(&ch->s->figures->worker_restarts, 1);
    if (c->ready) {
        ch->died_us = now_us;
        return;
    }
    pause_longer(ch, now_us);
}

/* One that has died, known by WNOWAIT and not reaped yet. */
static void bury(struct children *ch, uint32_t slot, siginfo_t *info) {
    struct child *c = &ch->child[slot];
    /* It may have become ready since we last looked. */
    c->ready |= load_relaxed_u64(&ch->s->control->worker[slot].ready) != 0;
    struct child dead = *c;
    clear_slot(&ch->s->control->worker[slot], 0, WORKER_ABSENT);
    lock_take(&ch->mutex);
    (void)waitid(P_PID, (id_t)dead.pid, info, WEXITED | WNOHANG);
    *c = (struct child){0};
    lock_release(&ch->mutex);
    rwlock_reader_gone(&ch->s->control->lock, slot);
    places_leave(&ch->s->control->writers, slot);
    places_leave(&ch->s->control->desks, slot);
    places_leave(&ch->s->control->readers, slot);
    places_leave(&ch->s->control->streams, slot);
    places_leave(&ch->s->control->awaiting, slot);
    log_death(&dead, slot, info);
    plan_successor(ch, &dead, clock_monotonic_us());
}

/* Each is asked for by its pid: the process has other children, which others wait for. */
void children_reap(struct children *ch) {
    for (uint32_t i = 0; i < ch->slots; i++) {
        siginfo_t info = {0};
        pid_t pid = ch->child[i].pid;
        if (pid != 0 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid) {
            bury(ch, i, &info);
        }
    }
}

/* --- killing ---------------------------------------------------------------------------------------------------------- */

void children_kill(struct children *ch, uint32_t slot, uint64_t generation, const char *why) {
    pid_t pid = 0;
    if (slot >= ch->slots) {
        return;
    }
    lock_take(&ch->mutex);
    struct child *c = &ch->child[slot];
    if (c->pid != 0 && !c->killed && (generation == 0 || generation == c->generation)) {
        pid = c->pid;
        c->killed = true;
        (void)kill(pid, SIGKILL);
    }
    lock_release(&ch->mutex);
    if (pid != 0) {
        (void)add_relaxed_u64(&ch->s->figures->watchdog_kills, 1);
        log_warn("worker %u [%ld] is killed: %s", slot, (long)pid, why);
    }
}

/* `since` comes from the worker and is believed only as far as to kill that worker itself. */
static bool too_long(const uint64_t *since, int64_t now_us, uint64_t limit_us) {
    uint64_t at = load_relaxed_u64(since);
    return at != 0 && now_us > 0 && at < (uint64_t)now_us && (uint64_t)now_us - at > limit_us;
}

void children_watch(struct children *ch, const struct config *c, int64_t now_us) {
    char why[96];
    for (uint32_t i = 0; i < ch->slots; i++) {
        const struct control_worker *slot = &ch->s->control->worker[i];
        if (ch->child[i].pid == 0) {
            continue;
        }
        if (too_long(&slot->pin_since_us, now_us, c->watchdog_pin_ms * US_PER_MS)) {
            (void)snprintf(why, sizeof why, "it kept a view for more than %llu ms", (unsigned long long)c->watchdog_pin_ms);
            children_kill(ch, i, 0, why);
        } else if (too_long(&slot->busy_since_us, now_us, c->watchdog_request_ms * US_PER_MS)) {
            (void)snprintf(why, sizeof why, "it worked on one request for more than %llu ms",
                           (unsigned long long)c->watchdog_request_ms);
            children_kill(ch, i, 0, why);
        }
    }
}

void children_drain(struct children *ch) {
    ch->stopping = true;
    for (uint32_t i = 0; i < ch->slots; i++) {
        if (ch->child[i].pid != 0) {
            drain_one(ch, i);
        }
    }
}

void children_kill_all(struct children *ch) {
    ch->stopping = true;
    for (uint32_t i = 0; i < ch->slots; i++) {
        if (ch->child[i].pid != 0) {
            (void)kill(ch->child[i].pid, SIGKILL);
        }
    }
}

void children_kill_headless(struct children *ch, int64_t now_us, int64_t patience_us) {
    for (uint32_t i = 0; i < ch->slots; i++) {
        const struct control_worker *slot = &ch->s->control->worker[i];
        bool headless = load_relaxed_u32(&slot->state) != WORKER_BUSY;
        if (ch->child[i].pid != 0 && headless && too_long(&slot->busy_since_us, now_us, (uint64_t)patience_us)) {
            (void)kill(ch->child[i].pid, SIGKILL);
        }
    }
}
