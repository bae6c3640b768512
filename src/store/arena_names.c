/*
 * arena_names.c - the names of directories under vectors/.
 *
 * A library has one arena that serves, and may have others beside it: one that is being made, one that was replaced and is kept or not removed yet. Each has
 * the library's id and a number; a new one has a number that none has, so no two are ever taken for one another.
 */
#include "store/arena.h"

#include "base/io.h"

#include <stdio.h>
#include <string.h>

void arena_directory_name(const struct uuid *id, uint32_t directory, char out[ARENA_DIRECTORY_MAX]) {
    char text[UUID_TEXT + 1];
    uuid_format(id, text);
    if (directory == 0) {
        (void)snprintf(out, ARENA_DIRECTORY_MAX, "%s", text);
    } else {
        (void)snprintf(out, ARENA_DIRECTORY_MAX, "%s.%u", text, directory);
    }
}

/* The number behind the id, when there is one; moves *at behind it. False: it is none that arena_directory_name writes. */
static bool parse_number(const char **at, uint32_t *ret) {
    const char *digit = *at + 1;
    uint64_t number = 0;
    *ret = 0;
    if (**at != '.' || *digit < '0' || *digit > '9') {
        return true; /* a suffix, or the end */
    }
    if (*digit == '0') {
        return false;
    }
    for (; *digit >= '0' && *digit <= '9'; digit++) {
        number = number * 10 + (uint64_t)(*digit - '0');
        if (number > UINT32_MAX) {
            return false;
        }
    }
    *ret = (uint32_t)number;
    *at = digit;
    return true;
}

bool arena_directory_parse(const char *name, struct uuid *ret_id, uint32_t *ret_directory, const char **ret_suffix) {
    if (strlen(name) < UUID_TEXT || !uuid_parse(slice_of(name, UUID_TEXT), ret_id)) {
        return false;
    }
    *ret_suffix = name + UUID_TEXT;
    return parse_number(ret_suffix, ret_directory);
}

struct numbering {
    const struct uuid *id;
    uint32_t highest;
};

static bool take_number(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct numbering *n = (struct numbering *)ctx;
    const char *suffix = NULL;
    struct uuid id;
    uint32_t number = 0;
    (void)dir_fd;
    (void)st;
    if (arena_directory_parse(name, &id, &number, &suffix) && uuid_equal(&id, n->id) && number > n->highest) {
        n->highest = number;
    }
    return true;
}

bool arena_free_directory(int vectors_dir_fd, const struct uuid *id, uint32_t *ret, struct status *st) {
    struct numbering n = {.id = id};
    if (!io_each_entry(vectors_dir_fd, "the directory vectors/", take_number, &n, st)) {
        return false;
    }
    *ret = n.highest + 1;
    return true;
}
