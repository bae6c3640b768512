/*
 * doctor_processes.c - who runs: the supervisor, by the LOCK of the data directory, the pid file and systemd.
 *
 * The holder of the LOCK is seen in /proc/locks, without trying to take it: a server that starts at that moment must not find it held. Some file systems (overlayfs, btrfs)
 * have other devices there than stat tells, and other inodes perhaps; then it is tried.
 */
#include "cli/doctor.h"

#include "base/io.h"
#include "durable/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { PROC_FILE_MAX = 1 << 22, PROGRAM_NAME_MAX = 64, SHOWN_UNIT_MAX = 64 * 1024 };

/* "3: FLOCK  ADVISORY  WRITE 711 08:01:131090 0 EOF"; a line of somebody who waits has "->" in it. */
long doctor_lock_holder(const char *locks, unsigned device_major, unsigned device_minor, uint64_t inode, long written) {
    for (const char *line = locks; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
        long pid;
        unsigned at_major, at_minor;
        uint64_t at_inode;
        line += *line == '\n' ? 1 : 0;
        if (sscanf(line, "%*d: FLOCK %*s WRITE %ld %x:%x:%" SCNu64, &pid, &at_major, &at_minor, &at_inode) == 4 && at_inode == inode &&
            ((at_major == device_major && at_minor == device_minor) || (pid > 0 && pid == written)))
            return pid > 0 ? pid : -1;
    }
    return 0;
}

static bool read_text(const char *path, struct buf *out) {
    struct status st;
    if (!io_read_file(AT_FDCWD, path, PROC_FILE_MAX, out, &st))
        return false;
    buf_put_u8(out, 0);
    return buf_ok(out);
}

pid_t doctor_read_pid(const char *path) {
    struct buf text = {0};
    long pid = read_text(path, &text) ? strtol((const char *)text.data, NULL, 10) : 0;
    buf_fini(&text);
    return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

bool doctor_is_alive(pid_t pid, const char *name) {
    char path[64], have[PROGRAM_NAME_MAX] = "";
    struct buf text = {0};
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)pid);
    if (pid > 0 && read_text(path, &text))
        snprintf(have, sizeof have, "%.*s", (int)strcspn((const char *)text.data, "\n"), (const char *)text.data);
    buf_fini(&text);
    return strcmp(have, name) == 0;
}

/* The last word, where /proc/locks has none: whether the LOCK can be had. Held for no longer than that. */
static long try_lock(const struct doctor *d, long written) {
    struct status st = {0};
    int dir = -1, lock = -1;
    bool held = io_open_at(AT_FDCWD, d->data_dir, O_RDONLY | O_DIRECTORY, 0, &dir, &st) && !data_lock_shared(dir, &lock, &st) && st.code == STATUS_CONFLICT;
    io_close(&lock);
    io_close(&dir);
    return held ? written : 0;
}

static pid_t lock_holder(const struct doctor *d) {
    char path[CONFIG_PATH_MAX + 8];
    struct buf locks = {0};
    struct stat s;
    long holder = 0;
    snprintf(path, sizeof path, "%s/LOCK", d->data_dir);
    if (stat(path, &s) != 0)
        return 0;
    long written = doctor_read_pid(path);
    if (read_text("/proc/locks", &locks))
        holder = doctor_lock_holder((const char *)locks.data, major(s.st_dev), minor(s.st_dev), s.st_ino, written);
    buf_fini(&locks);
    if (holder < 0)
        holder = written; /* of another name space: what it wrote itself is as good as we have */
    return (pid_t)(holder != 0 ? holder : try_lock(d, written));
}

static void know_user(struct doctor *d, uid_t uid) {
    const struct passwd *entry = getpwuid(uid);
    d->uid = uid;
    d->knows_uid = true;
    if (entry != NULL)
        snprintf(d->user, sizeof d->user, "%s", entry->pw_name);
    else
        snprintf(d->user, sizeof d->user, "%u", (unsigned)uid);
}

/* --- systemd --- */

/* The output of a program that is found on the PATH; false: it is not there, or failed. */
static bool run_program(const char *const *arguments, struct buf *out) {
    posix_spawn_file_actions_t actions;
    int ends[2], state = 0;
    pid_t pid;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    bool ok = posix_spawnp(&pid, arguments[0], &actions, NULL, (char *const *)(uintptr_t)arguments, environ) == 0;
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    while (ok && out->len < SHOWN_UNIT_MAX) {
        char bytes[4096];
        ssize_t got = read(ends[0], bytes, sizeof bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        buf_put(out, bytes, (size_t)got);
    }
    (void)close(ends[0]);
    while (ok && waitpid(pid, &state, 0) < 0 && errno == EINTR) {
    }
    buf_put_u8(out, 0);
    return ok && WIFEXITED(state) && WEXITSTATUS(state) == 0 && buf_ok(out);
}

/* The value of "KEY=value" among lines; "" where it is not there. */
static void property(const char *properties, const char *key, char *out, size_t room) {
    size_t length = strlen(key);
    out[0] = '\0';
    for (const char *line = properties; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        if (strncmp(line, key, length) == 0 && line[length] == '=') {
            snprintf(out, room, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
            return;
        }
    }
}

void doctor_judge_unit(struct doctor *d, const char *properties) {
    enum { RESTARTS_MANY = 3 };
    char state[32], sub[32], result[32], restarts[32];
    property(properties, "ActiveState", state, sizeof state);
    property(properties, "SubState", sub, sizeof sub);
    property(properties, "Result", result, sizeof result);
    property(properties, "NRestarts", restarts, sizeof restarts);
    if (strcmp(state, "failed") == 0)
        doctor_find(d, TROUBLE_UNIT_FAILED, "quired.service", "result: %s", result);
    else if (strcmp(sub, "auto-restart") == 0 || strtol(restarts, NULL, 10) >= RESTARTS_MANY)
        doctor_find(d, TROUBLE_UNIT_RESTARTING, "quired.service", "%s restarts; it is %s (%s)", restarts, state, sub);
}

static void look_at_unit(struct doctor *d) {
    static const char *const ask[] = {"systemctl", "show", "quired.service", "--property=ActiveState,SubState,Result,NRestarts,ExecStart,User", NULL};
    struct buf shown = {0};
    char start[2048], user[DOCTOR_USER_MAX];
    if (d->config_path != NULL && run_program(ask, &shown)) {
        property((const char *)shown.data, "ExecStart", start, sizeof start);
        property((const char *)shown.data, "User", user, sizeof user);
        d->has_unit = strstr(start, d->config_path) != NULL;
        const struct passwd *entry = d->has_unit && user[0] != '\0' ? getpwnam(user) : NULL;
        if (d->has_unit)
            doctor_judge_unit(d, (const char *)shown.data);
        if (entry != NULL && !d->knows_uid)
            know_user(d, entry->pw_uid);
    }
    buf_fini(&shown);
}

/* --- the supervisor --- */

static void look_at_program(struct doctor *d) {
    static const char gone[] = " (deleted)";
    char path[64], program[PATH_MAX];
    struct buf text = {0};
    snprintf(path, sizeof path, "/proc/%ld/exe", (long)d->pid);
    ssize_t length = readlink(path, program, sizeof program - 1);
    if (length > (ssize_t)sizeof gone && memcmp(program + length - (sizeof gone - 1), gone, sizeof gone - 1) == 0) {
        program[length - (ssize_t)(sizeof gone - 1)] = '\0';
        doctor_find(d, TROUBLE_PROGRAM_REPLACED, program, "process %ld", (long)d->pid);
    }
    snprintf(path, sizeof path, "/proc/%ld/environ", (long)d->pid);
    if (read_text(path, &text) && memmem(text.data, text.len, "libeatmydata", 12) != NULL)
        doctor_find(d, TROUBLE_SYNC_DISABLED, "LD_PRELOAD", "process %ld has libeatmydata", (long)d->pid);
    buf_fini(&text);
    snprintf(path, sizeof path, "/proc/%ld/limits", (long)d->pid);
    if (read_text(path, &text))
        doctor_judge_limits(d, (const char *)text.data);
    buf_fini(&text);
}

/* The LOCK decides who runs; the pid file says whether it is this configuration's server. */
static void look_at_supervisor(struct doctor *d) {
    char pid_path[CONFIG_PATH_MAX];
    struct stat s;
    pid_t holder = d->data_dir[0] != '\0' ? lock_holder(d) : 0;
    d->in_use = holder != 0;
    if (!d->has_config)
        return;
    config_pid_path(&d->config, pid_path);
    pid_t noted = doctor_read_pid(pid_path);
    if (holder != 0 && noted != holder) {
        doctor_find(d, TROUBLE_DATA_IN_USE, d->data_dir, "process %ld holds it; %s %s", (long)holder, pid_path, noted == 0 ? "is not there" : "names another");
    } else if (holder == 0 && noted != 0) {
        doctor_find(d, TROUBLE_PID_STALE, pid_path, "process %ld %s", (long)noted,
                    doctor_is_alive(noted, "quired") ? "is a server of another data directory" : (kill(noted, 0) == 0 || errno == EPERM) ? "is another program" : "has ended");
    }
    if (holder == 0)
        doctor_find(d, TROUBLE_NOT_RUNNING, d->data_dir, "nobody holds its LOCK");
    if (holder == 0 || noted != holder)
        return;
    d->pid = holder;
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld", (long)holder);
    if (stat(path, &s) == 0)
        know_user(d, s.st_uid);
}

void doctor_look_at_processes(struct doctor *d) {
    struct stat s;
    look_at_supervisor(d);
    look_at_unit(d);
    if (!d->knows_uid && d->data_dir[0] != '\0' && stat(d->data_dir, &s) == 0)
        know_user(d, s.st_uid);
    if (d->pid != 0)
        look_at_program(d);
}
