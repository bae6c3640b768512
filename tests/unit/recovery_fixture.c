/* recovery_fixture.c - see recovery_fixture.h. */
#include "recovery_fixture.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int recovery_set_up(void **state) {
    struct server *s = (struct server *)malloc(sizeof *s);
    server_make(s);
    *state = s;
    return 0;
}

int recovery_tear_down(void **state) {
    struct server *s = (struct server *)*state;
    server_crash(s);
    server_remove(s);
    free(s);
    return 0;
}

void recovery_snapshot_ok(struct server *s) {
    struct status st = {0};
    if (!server_snapshot(s, NULL, &st)) {
        fail_msg("snapshot: %s", st.detail);
    }
}

void recovery_stop_ok(struct server *s) {
    struct status st = {0};
    if (!server_stop(s, &st)) {
        fail_msg("stop: %s", st.detail);
    }
}

void recovery_live_a_little(struct server *s) {
    server_start_ok(s);
    server_steps_ok(s, 60);
    recovery_snapshot_ok(s);
    server_steps_ok(s, 100);
    recovery_snapshot_ok(s);
    server_steps_ok(s, 140);
}

size_t recovery_names_in(struct server *s, const char *directory, const char *prefix, char (*names)[64]) {
    int fd = openat(s->data.fd, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t count = names_with(fd, prefix, names, RECOVERY_NAMES_MAX);
    assert_int_equal(close(fd), 0);
    return count;
}

void recovery_no_leftovers(struct server *s) {
    char names[RECOVERY_NAMES_MAX][64];
    size_t count = recovery_names_in(s, "vectors", "", names);
    for (size_t i = 0; i < count; i++) {
        assert_null(strstr(names[i], ".old"));
        assert_null(strstr(names[i], ".trash"));
        assert_null(strstr(names[i], "checkpoint"));
    }
}
