/*
 * clock_shift.c - a wall clock that is wrong, for tests; see clock.h.
 *
 * The file stays mapped as long as the process lives, so that whoever writes to it sets the clocks of all processes that have it, at once.
 */
#include "base/clock.h"

#include "base/io.h"

#include <fcntl.h>
#include <stdlib.h>

#define ENVIRONMENT_NAME "QUIRE_CLOCK_SHIFT"

bool clock_shift_from_environment(bool *ret_armed, struct status *st) {
    const char *path = getenv(ENVIRONMENT_NAME);
    void *mapped = NULL;
    off_t size = 0;
    int fd = -1;
    bool ok = true;
    *ret_armed = path != NULL && path[0] != '\0';
    if (*ret_armed) {
        ok = io_open_at(AT_FDCWD, path, O_RDONLY, 0, &fd, st) && io_size(fd, &size, st) &&
             (size == (off_t)sizeof(int64_t) || status_set(st, STATUS_CONFIG, ENVIRONMENT_NAME ": %s does not hold 8 bytes", path)) &&
             io_map(fd, NULL, 0, sizeof(int64_t), false, ENVIRONMENT_NAME, &mapped, st);
        io_close(&fd);
    }
    clock_set_shift((const int64_t *)mapped);
    return ok;
}
