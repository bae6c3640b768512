/* tree.h - a directory with all that is in it, in memory, to be made again as often as wanted. */
#ifndef QUIRE_TESTS_TREE_H
#define QUIRE_TESTS_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TREE_FILES_MAX = 256, TREE_PATH_MAX = 160 };

struct tree_file {
    char path[TREE_PATH_MAX]; /* below the directory */
    bool directory;
    uint8_t *bytes;
    size_t len;
};
struct tree {
    struct tree_file files[TREE_FILES_MAX]; /* directories before what is in them; names ascending */
    size_t count;
};

/* Failures end the program. */
void tree_read(struct tree *t, int dir_fd);
void tree_write(const struct tree *t, int dir_fd); /* into an empty directory */
void tree_fini(struct tree *t);
/* The index of a file; -1: there is none. */
int tree_find(const struct tree *t, const char *path);

#endif
