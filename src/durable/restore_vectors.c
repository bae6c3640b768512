/*
 * restore_vectors.c - the arenas of the state that is replaced, for the new one: linked, not copied.
 *
 * A new state is a log. The start that replays it looks in vectors/ for arenas of the same libraries (salvage.c), and takes vectors whose chunk, text, model
 * and checksum are the same; so going back in time costs no embedding of what was there at both times. A start only reads those arenas and then
 * removes them, which leaves the files of the old state as they are: links to the same bytes do.
 *
 * It is a cache. Where links cannot be made, vectors are made again.
 */
#include "durable/restore_internal.h"

#include "base/io.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PATH_BYTES = 320 };

/* "<library>", "<library>.<n>", "<library>.old": whatever salvage may find vectors in. */
static bool is_arena(const char *name) {
    struct uuid id;
    size_t len = strlen(name);
    const char *last = strrchr(name, '.');
    return len >= UUID_TEXT && len < PATH_BYTES / 2 && uuid_parse(slice_of(name, UUID_TEXT), &id) &&
           (last == NULL || (strcmp(last, ".trash") != 0 && strcmp(last, ".new") != 0));
}

static bool is_file(int dir_fd, const char *name) {
    struct stat about;
    return fstatat(dir_fd, name, &about, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(about.st_mode);
}

/* vectors/<name> of both states. */
static bool link_arena(int old_fd, int new_fd, const char *name, struct status *st) {
    char path[PATH_BYTES];
    DIR *dir = NULL;
    bool ok = io_open_dir(old_fd, name, O_NOFOLLOW, name, &dir, st) && io_mkdir_at(new_fd, name, RESTORE_DIRECTORY_MODE, st);
    for (const struct dirent *e = ok ? readdir(dir) : NULL; ok && e != NULL; e = readdir(dir)) {
        if (is_file(dirfd(dir), e->d_name)) {
            int len = snprintf(path, sizeof path, "%s/%s", name, e->d_name);
            ok = len < (int)sizeof path && io_link_at(dirfd(dir), e->d_name, new_fd, path, st);
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return ok;
}

static void link_all(int old_fd, int new_fd) {
    struct status ignored;
    DIR *dir = NULL;
    if (!io_open_dir(old_fd, ".", O_NOFOLLOW, "the directory vectors/", &dir, &ignored)) {
        return;
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (is_arena(e->d_name) && !link_arena(old_fd, new_fd, e->d_name, &ignored)) {
            (void)!io_remove_tree(new_fd, e->d_name, &ignored); /* a half of one has no vectors */
        }
    }
    (void)closedir(dir);
}

void restore_link_vectors(int data_dir_fd, int new_state_fd) {
    struct status ignored;
    int old_fd = -1;
    int new_fd = -1;
    if (io_open_at(data_dir_fd, "vectors", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &old_fd, &ignored) &&
        io_open_at(new_state_fd, "vectors", O_RDONLY | O_DIRECTORY, 0, &new_fd, &ignored)) {
        link_all(old_fd, new_fd);
    }
    io_close(&old_fd);
    io_close(&new_fd);
}
