/* tree.c - see tree.h. Pages of zeros are not written, so large files that hold little stay cheap. */
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096 };

_Noreturn static void die(const char *what) {
    (void)fprintf(stderr, "tree: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct tree_file *)a)->path, ((const struct tree_file *)b)->path);
}

static void read_file(struct tree_file *f, int dir_fd) {
    struct stat info;
    int fd = openat(dir_fd, f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &info) != 0) {
        die(f->path);
    }
    f->len = (size_t)info.st_size;
    f->bytes = (uint8_t *)malloc(f->len + 1);
    if (f->bytes == NULL || pread(fd, f->bytes, f->len, 0) != (ssize_t)f->len) {
        die(f->path);
    }
    (void)close(fd);
}

static void read_below(struct tree *t, int top_fd, const char *path) {
    int fd = openat(top_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        die(path);
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        struct stat info;
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        if (t->count == TREE_FILES_MAX) {
            die("too many files");
        }
        struct tree_file *f = &t->files[t->count++];
        bool top = strcmp(path, ".") == 0;
        *f = (struct tree_file){.directory = false};
        (void)snprintf(f->path, sizeof f->path, "%.70s%s%.80s", top ? "" : path, top ? "" : "/", e->d_name);
        if (fstatat(top_fd, f->path, &info, AT_SYMLINK_NOFOLLOW) != 0) {
            die(f->path);
        }
        f->directory = S_ISDIR(info.st_mode);
        if (f->directory) {
            read_below(t, top_fd, f->path);
        } else {
            read_file(f, top_fd);
        }
    }
    (void)closedir(dir);
}

void tree_read(struct tree *t, int dir_fd) {
    t->count = 0;
    read_below(t, dir_fd, ".");
    qsort(t->files, t->count, sizeof t->files[0], by_path);
}

static void write_file(const struct tree_file *f, int dir_fd) {
    static const uint8_t zeros[PAGE];
    int fd = openat(dir_fd, f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)f->len) != 0) {
        die(f->path);
    }
    for (size_t at = 0; at < f->len; at += PAGE) {
        size_t len = f->len - at < PAGE ? f->len - at : PAGE;
        if (memcmp(f->bytes + at, zeros, len) != 0 && pwrite(fd, f->bytes + at, len, (off_t)at) != (ssize_t)len) {
            die(f->path);
        }
    }
    (void)close(fd);
}

void tree_write(const struct tree *t, int dir_fd) {
    for (size_t i = 0; i < t->count; i++) {
        if (!t->files[i].directory) {
            write_file(&t->files[i], dir_fd);
        } else if (mkdirat(dir_fd, t->files[i].path, 0700) != 0) {
            die(t->files[i].path);
        }
    }
}

void tree_fini(struct tree *t) {
    for (size_t i = 0; i < t->count; i++) {
        free(t->files[i].bytes);
    }
    t->count = 0;
}

int tree_find(const struct tree *t, const char *path) {
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->files[i].path, path) == 0) {
            return (int)i;
        }
    }
    return -1;
}
