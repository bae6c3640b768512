/* test_proc_sandbox.c - in the sandbox nothing can be changed, and what a worker needs goes on working. Each try in a child of
 * its own. */
#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/quire-test-sandbox.XXXXXX";
static char file[64];
static char other[64];
static pid_t parent;

enum { ENTERED = 0, WRONG = 1, NO_SANDBOX = 2 };

/* Runs `attempt` in a child inside the sandbox. It returns true when all went as it should. */
static void in_sandbox(bool (*attempt)(void)) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct status st;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !sandbox_enter(&st)) {
            _exit(NO_SANDBOX);
        }
        _exit(attempt() ? ENTERED : WRONG);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ENTERED);
}

static bool refused(long result) {
    return result == -1 && errno == EPERM;
}

static bool try_files(void) {
    return refused(open(file, O_WRONLY)) && refused(open(file, O_RDWR)) && refused(open(file, O_RDONLY | O_TRUNC)) &&
           refused(open(other, O_RDONLY | O_CREAT, 0600)) && refused(creat(other, 0600)) && refused(truncate(file, 0)) &&
           refused(unlink(file)) && refused(rename(file, other)) && refused(link(file, other)) && refused(symlink(file, other)) &&
           refused(mkdir(other, 0700)) && refused(rmdir(dir)) && refused(chmod(file, 0666)) && refused(chown(file, 0, 0)) &&
           refused(mkfifo(other, 0600));
}

/* valgrind ends a process whose execve fails when it should not. */
static bool under_valgrind(void) {
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

static bool try_processes(void) {
    char *argv[] = {(char[]){"true"}, NULL};
    return refused(fork()) && (under_valgrind() || refused(execv("/bin/true", argv))) && refused(kill(parent, SIGTERM)) &&
           refused(kill(-1, SIGTERM)) && refused(kill(0, SIGTERM)) && kill(getpid(), 0) == 0;
}

static void *write_seven(void *arg) {
    *(int *)arg = 7;
    return NULL;
}

static bool try_what_is_needed(void) {
    char text[8] = "";
    int got = 0;
    pthread_t thread;
    int fd = open(file, O_RDONLY);
    bool ok = fd >= 0 && read(fd, text, sizeof text) == 4 && memcmp(text, "text", 4) == 0;
    void *map = mmap(NULL, 4, PROT_READ, MAP_SHARED, fd, 0);
    ok = ok && map != MAP_FAILED && memcmp(map, "text", 4) == 0;
    /* A map of a file that was opened for reading cannot be made writable. */
    ok = ok && mprotect(map, 4, PROT_READ | PROT_WRITE) == -1 && errno == EACCES;
    ok = ok && pthread_create(&thread, NULL, write_seven, &got) == 0 && pthread_join(thread, NULL) == 0 && got == 7;
    void *memory = malloc((size_t)8 << 20);
    ok = ok && memory != NULL;
    free(memory);
    return ok && write(STDERR_FILENO, "", 0) == 0;
}

static void files_cannot_be_changed(void **state) {
    (void)state;
    in_sandbox(try_files);
    struct stat info;
    assert_int_equal(stat(file, &info), 0);
    assert_int_equal(info.st_size, 4);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(access(other, F_OK), -1);
}

static void processes_cannot_be_made_or_harmed(void **state) {
    (void)state;
    in_sandbox(try_processes);
}

static void reading_memory_and_threads_go_on(void **state) {
    (void)state;
    in_sandbox(try_what_is_needed);
}

static int make_files(void **state) {
    (void)state;
    parent = getpid();
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    (void)snprintf(file, sizeof file, "%s/file", dir);
    (void)snprintf(other, sizeof other, "%s/other", dir);
    int fd = open(file, O_WRONLY | O_CREAT | O_EXCL, 0640);
    bool ok = fd >= 0 && write(fd, "text", 4) == 4 && fchmod(fd, 0640) == 0;
    return close(fd) == 0 && ok ? 0 : -1;
}

static int remove_files(void **state) {
    (void)state;
    (void)unlink(other);
    return unlink(file) == 0 && rmdir(dir) == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_cannot_be_changed),
        cmocka_unit_test(processes_cannot_be_made_or_harmed),
        cmocka_unit_test(reading_memory_and_threads_go_on),
    };
    return cmocka_run_group_tests_name("proc_sandbox", tests, make_files, remove_files);
}
