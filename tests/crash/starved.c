/*
 * starved.c - makes a quired of which allocations fail, as a file says that is named by QUIRE_TEST_STARVE: a struct allocations
 * (tests/unit/allocations.h), which memory_server.py writes. Workers get no environment, so nothing of theirs fails.
 */
#include "allocations.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("QUIRE_TEST_STARVE");
    int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (path == NULL) {
        return;
    }
    void *map = fd >= 0 ? mmap(NULL, sizeof(struct allocations), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (map == MAP_FAILED) {
        perror(path);
        exit(1);
    }
    (void)close(fd);
    allocations = (struct allocations *)map;
}
