/* disk_internal.h - the trace that disk_record.c writes and disk_state.c reads. */
#ifndef QUIRE_TESTS_DISK_INTERNAL_H
#define QUIRE_TESTS_DISK_INTERNAL_H

#include "disk.h"

#include <pthread.h>
#include <sys/types.h>

enum { DISK_PAGE = 4096, DISK_SECTOR = 512, DISK_ENTRIES_MAX = 2, DISK_ROOT = 1 };

enum change_kind {
    CHANGE_PAGE,  /* number, bytes */
    CHANGE_SIZE,  /* number */
    CHANGE_NAMES, /* entries */
    CHANGE_SYNC,  /* of object: everything; of a directory: its names */
    CHANGE_MSYNC, /* of object: pages [number, number_end) */
    CHANGE_NOTE
};

/* directory/name is from now on this object; 0: nothing. */
struct entry {
    uint32_t directory;
    uint32_t name;
    uint32_t object;
};

struct change {
    enum change_kind kind;
    uint32_t object; /* whose page, size, sync; of names: the file or directory that is named, moved or removed */
    uint64_t number;
    uint64_t number_end;
    const uint8_t *bytes; /* of a page; NULL: zeros */
    struct entry entries[DISK_ENTRIES_MAX];
    unsigned entry_count;
    uint32_t *behind; /* changes of names that must have happened before this one */
    size_t behind_count;
    size_t began; /* a sync: it covers changes before this one */
    struct disk_mark mark;
};

/* A file or directory, as it is at the end of the trace. */
struct object {
    bool directory;
    dev_t dev;
    ino_t ino;
    unsigned names;
    uint64_t size;
    const uint8_t **pages; /* NULL: zeros */
    size_t page_count;
    uint32_t *changes; /* of its pages, size and syncs; of a directory: of names in it, and syncs */
    size_t change_count;
    size_t change_cap;
    bool mapped; /* may change without a call */
    const uint8_t *map;
    size_t map_bytes;
    int fd;
};

/* A writable map of a file. */
struct mapping {
    const uint8_t *addr;
    size_t len;
    uint32_t object;
    uint64_t at;
};

struct disk {
    pthread_mutex_t mutex;
    struct change *changes;
    size_t change_count;
    size_t change_cap;
    size_t first; /* changes that are the beginning */
    struct object *objects; /* [0] is not used */
    uint32_t object_count;
    uint32_t object_cap;
    char **names;
    uint32_t name_count;
    uint32_t name_cap;
    struct entry *entries; /* as they are now */
    size_t entry_count;
    size_t entry_cap;
    struct mapping *mappings;
    size_t mapping_count;
    size_t mapping_cap;
};

/* Returns array, moved to where there is room for one more than count. */
void *disk_room(void *array, size_t count, size_t *cap, size_t bytes);
_Noreturn void disk_die(const char *what);

#endif
