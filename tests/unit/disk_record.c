/* disk_record.c - the recorder; see disk.h. */
#include "disk_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_CAP = 64 };

/* How many changes there were when this thread's present call began: a sync covers no more. */
static _Thread_local size_t call_began;

_Noreturn void disk_die(const char *what) {
    (void)fprintf(stderr, "the recorder: %s: %s\n", what, strerror(errno));
    abort();
}

void *disk_room(void *array, size_t count, size_t *cap, size_t bytes) {
    if (count < *cap) {
        return array;
    }
    *cap = *cap == 0 ? FIRST_CAP : *cap * 2;
    void *grown = realloc(array, *cap * bytes);
    if (grown == NULL) {
        disk_die("no memory");
    }
    return grown;
}

/* --- the trace --- */

static struct change *add_change(struct disk *d, enum change_kind kind, uint32_t object) {
    d->changes = (struct change *)disk_room(d->changes, d->change_count, &d->change_cap, sizeof *d->changes);
    struct change *c = &d->changes[d->change_count++];
    *c = (struct change){.kind = kind, .object = object};
    return c;
}

static void belongs_to(struct disk *d, uint32_t object, const struct change *c) {
    struct object *o = &d->objects[object];
    uint32_t number = (uint32_t)(c - d->changes);
    if (o->change_count > 0 && o->changes[o->change_count - 1] == number) {
        return; /* both names of a rename */
    }
    o->changes = (uint32_t *)disk_room(o->changes, o->change_count, &o->change_cap, sizeof *o->changes);
    o->changes[o->change_count++] = number;
}

static uint32_t add_object(struct disk *d, bool directory, const struct stat *info) {
    size_t cap = d->object_cap;
    d->objects = (struct object *)disk_room(d->objects, d->object_count, &cap, sizeof *d->objects);
    d->object_cap = (uint32_t)cap;
    d->objects[d->object_count] = (struct object){.directory = directory, .dev = info->st_dev, .ino = info->st_ino, .fd = -1};
    return d->object_count++;
}

static uint32_t name_number(struct disk *d, const char *name, size_t len) {
    for (uint32_t i = 0; i < d->name_count; i++) {
        if (strlen(d->names[i]) == len && memcmp(d->names[i], name, len) == 0) {
            return i;
        }
    }
    size_t cap = d->name_cap;
    d->names = (char **)disk_room(d->names, d->name_count, &cap, sizeof *d->names);
    d->name_cap = (uint32_t)cap;
    d->names[d->name_count] = strndup(name, len);
    if (d->names[d->name_count] == NULL) {
        disk_die("no memory");
    }
    return d->name_count++;
}

/* --- names --- */

static struct entry *find_entry(struct disk *d, uint32_t directory, uint32_t name) {
    for (size_t i = 0; i < d->entry_count; i++) {
        if (d->entries[i].directory == directory && d->entries[i].name == name) {
            return &d->entries[i];
        }
    }
    return NULL;
}

static void set_entry(struct disk *d, const struct entry *to) {
    struct entry *e = find_entry(d, to->directory, to->name);
    if (e == NULL) {
        d->entries = (struct entry *)disk_room(d->entries, d->entry_count, &d->entry_cap, sizeof *d->entries);
        e = &d->entries[d->entry_count++];
        *e = (struct entry){.directory = to->directory, .name = to->name};
    }
    if (e->object != 0) {
        d->objects[e->object].names--;
    }
    e->object = to->object;
    if (e->object != 0) {
        d->objects[e->object].names++;
    }
}

static bool same_name(const struct change *a, const struct change *b) {
    for (unsigned i = 0; i < a->entry_count; i++) {
        for (unsigned k = 0; k < b->entry_count; k++) {
            if (a->entries[i].directory == b->entries[k].directory && a->entries[i].name == b->entries[k].name) {
                return true;
            }
        }
    }
    return false;
}

static bool lies_in(const struct change *c, uint32_t directory) {
    for (unsigned i = 0; i < c->entry_count; i++) {
        if (c->entries[i].directory == directory) {
            return true;
        }
    }
    return false;
}

/* Which earlier changes of names this one cannot overtake. */
static void note_order(struct disk *d, struct change *c, bool removes_directory) {
    size_t cap = 0;
    for (size_t i = 0; i + 1 < d->change_count; i++) {
        const struct change *before = &d->changes[i];
        if (before->kind == CHANGE_NAMES && (before->object == c->object || same_name(before, c) ||
                                             (removes_directory && lies_in(before, c->object)))) {
            c->behind = (uint32_t *)disk_room(c->behind, c->behind_count, &cap, sizeof *c->behind);
            c->behind[c->behind_count++] = (uint32_t)i;
        }
    }
}

static void change_names(struct disk *d, uint32_t object, const struct entry *entries, unsigned count, bool removes_directory) {
    struct change *c = add_change(d, CHANGE_NAMES, object);
    memcpy(c->entries, entries, count * sizeof *entries);
    c->entry_count = count;
    note_order(d, c, removes_directory);
    for (unsigned i = 0; i < count; i++) {
        belongs_to(d, entries[i].directory, c);
        set_entry(d, &entries[i]);
    }
}

/* --- contents --- */

static const uint8_t no_bytes[DISK_PAGE];

static const uint8_t *page_of(const struct object *o, uint64_t number) {
    return number < o->page_count ? o->pages[number] : NULL;
}

/* The page is from now on what stands there. */
static void set_page(struct disk *d, uint32_t object, uint64_t number, const uint8_t *bytes) {
    struct object *o = &d->objects[object];
    const uint8_t *old = page_of(o, number);
    if (memcmp(old != NULL ? old : no_bytes, bytes, DISK_PAGE) == 0) {
        return;
    }
    uint8_t *copy = NULL;
    if (memcmp(bytes, no_bytes, DISK_PAGE) != 0) {
        copy = (uint8_t *)malloc(DISK_PAGE);
        if (copy == NULL) {
            disk_die("no memory");
        }
        memcpy(copy, bytes, DISK_PAGE);
    }
    if (number >= o->page_count) {
        size_t count = (size_t)number + 1 + o->page_count / 2;
        const uint8_t **grown = (const uint8_t **)realloc(o->pages, count * sizeof *grown);
        if (grown == NULL) {
            disk_die("no memory");
        }
        memset(grown + o->page_count, 0, (count - o->page_count) * sizeof *grown);
        o->pages = grown;
        o->page_count = count;
    }
    o->pages[number] = copy;
    struct change *c = add_change(d, CHANGE_PAGE, object);
    c->number = number;
    c->bytes = copy;
    belongs_to(d, object, c);
}

static void set_size(struct disk *d, uint32_t object, uint64_t size) {
    struct object *o = &d->objects[object];
    if (size == o->size) {
        return;
    }
    o->size = size;
    struct change *c = add_change(d, CHANGE_SIZE, object);
    c->number = size;
    belongs_to(d, object, c);
}

static void write_bytes(struct disk *d, uint32_t object, uint64_t at, const uint8_t *data, uint64_t len) {
    for (uint64_t done = 0; done < len;) {
        uint64_t number = (at + done) / DISK_PAGE;
        size_t within = (size_t)((at + done) % DISK_PAGE);
        uint64_t left = len - done;
        size_t part = left < DISK_PAGE - within ? (size_t)left : DISK_PAGE - within;
        uint8_t page[DISK_PAGE];
        const uint8_t *old = page_of(&d->objects[object], number);
        memcpy(page, old != NULL ? old : no_bytes, DISK_PAGE);
        memcpy(page + within, data + done, part);
        set_page(d, object, number, page);
        done += part;
    }
    if (at + len > d->objects[object].size) {
        set_size(d, object, at + len);
    }
}

static void truncate_to(struct disk *d, uint32_t object, uint64_t size) {
    struct object *o = &d->objects[object];
    for (uint64_t number = size / DISK_PAGE; size < o->size && number < o->page_count; number++) {
        uint8_t page[DISK_PAGE] = {0};
        if (number == size / DISK_PAGE && page_of(o, number) != NULL) {
            memcpy(page, page_of(o, number), (size_t)(size % DISK_PAGE));
        }
        set_page(d, object, number, page);
    }
    set_size(d, object, size);
}

/* --- maps --- */

static void unmap(struct object *o) {
    if (o->map != NULL) {
        (void)munmap((void *)(uintptr_t)o->map, o->map_bytes);
    }
    o->map = NULL;
    o->map_bytes = 0;
}

static void forget_map(struct object *o) {
    unmap(o);
    io_close(&o->fd);
    o->mapped = false;
}

/* What was stored into maps since the last look. The size of a mapped file changes by calls alone. */
static void look_at_map(struct disk *d, uint32_t object) {
    struct object *o = &d->objects[object];
    if (o->names == 0) {
        forget_map(o); /* it will never be found again */
        return;
    }
    struct stat info;
    if (fstat(o->fd, &info) != 0) {
        disk_die("fstat");
    }
    size_t bytes = (size_t)info.st_size / DISK_PAGE * DISK_PAGE;
    if (bytes != o->map_bytes) {
        unmap(o);
        void *map = bytes > 0 ? mmap(NULL, bytes, PROT_READ, MAP_SHARED, o->fd, 0) : NULL;
        if (map == MAP_FAILED) {
            disk_die("mmap");
        }
        o->map = (const uint8_t *)map;
        o->map_bytes = bytes;
    }
    for (uint64_t number = 0; number < bytes / DISK_PAGE; number++) {
        set_page(d, object, number, d->objects[object].map + number * DISK_PAGE);
    }
}

static void look_at_maps(struct disk *d) {
    for (uint32_t i = DISK_ROOT; i < d->object_count; i++) {
        if (d->objects[i].mapped) {
            look_at_map(d, i);
        }
    }
}

static void note_map(struct disk *d, uint32_t object, const struct io_event *e) {
    struct object *o = &d->objects[object];
    char link[64];
    d->mappings = (struct mapping *)disk_room(d->mappings, d->mapping_count, &d->mapping_cap, sizeof *d->mappings);
    d->mappings[d->mapping_count++] = (struct mapping){
        .addr = (const uint8_t *)e->into, .len = e->len, .object = object, .at = (uint64_t)e->at};
    if (o->mapped) {
        return;
    }
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", e->fd);
    o->fd = open(link, O_RDONLY | O_CLOEXEC);
    if (o->fd < 0) {
        disk_die("a mapped file cannot be opened again");
    }
    o->mapped = true;
}

/* --- calls --- */

/* 0: it lies somewhere else. */
static uint32_t object_of_fd(const struct disk *d, int fd) {
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        return 0;
    }
    for (uint32_t i = d->object_count - 1; i >= DISK_ROOT; i--) { /* an inode's number may have been used before */
        if (d->objects[i].ino == info.st_ino && d->objects[i].dev == info.st_dev) {
            return i;
        }
    }
    return 0;
}

/* The directory and the name that a path means; false: it lies somewhere else. */
static bool resolve(struct disk *d, int fd, const char *path, struct entry *ret) {
    uint32_t directory = object_of_fd(d, fd);
    if (directory == 0 || path[0] == '/') {
        return false;
    }
    for (;;) {
        size_t len = strcspn(path, "/");
        if (path[len] == '\0') {
            *ret = (struct entry){.directory = directory, .name = name_number(d, path, len)};
            const struct entry *e = find_entry(d, directory, ret->name);
            ret->object = e != NULL ? e->object : 0;
            return strcmp(path, ".") != 0;
        }
        if (len > 0 && !(len == 1 && path[0] == '.')) {
            const struct entry *e = find_entry(d, directory, name_number(d, path, len));
            if (e == NULL || e->object == 0) {
                return false;
            }
            directory = e->object;
        }
        path += len + 1;
    }
}

static void after_open(struct disk *d, const struct io_event *e) {
    struct entry where;
    struct stat info;
    if ((e->flags & (O_CREAT | O_TRUNC)) == 0 || !resolve(d, e->fd, e->path, &where)) {
        return;
    }
    if (where.object == 0) {
        if (fstat(e->opened, &info) != 0) {
            disk_die("fstat");
        }
        where.object = add_object(d, false, &info);
        change_names(d, where.object, &where, 1, false);
    } else if ((e->flags & O_TRUNC) != 0) {
        truncate_to(d, where.object, 0);
    }
}

static void after_mkdir(struct disk *d, const struct io_event *e) {
    struct entry where;
    struct stat info;
    if (!resolve(d, e->fd, e->path, &where)) {
        return;
    }
    if (fstatat(e->fd, e->path, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        disk_die("fstatat");
    }
    where.object = add_object(d, true, &info);
    change_names(d, where.object, &where, 1, false);
}

static void after_rename(struct disk *d, const struct io_event *e) {
    struct entry entries[DISK_ENTRIES_MAX];
    bool from = resolve(d, e->from_fd, e->from, &entries[0]);
    bool to = resolve(d, e->fd, e->path, &entries[1]);
    if (!from || !to || entries[0].object == 0) {
        if (from || to) {
            disk_die("a rename into or out of what is recorded");
        }
        return;
    }
    entries[1].object = entries[0].object;
    entries[0].object = 0;
    change_names(d, entries[1].object, entries, 2, false);
}

static void after_unlink(struct disk *d, const struct io_event *e) {
    struct entry where;
    if (resolve(d, e->fd, e->path, &where) && where.object != 0) {
        uint32_t object = where.object;
        where.object = 0;
        change_names(d, object, &where, 1, (e->flags & AT_REMOVEDIR) != 0);
    }
}

static void after_sync(struct disk *d, uint32_t object) {
    struct change *c = add_change(d, CHANGE_SYNC, object);
    c->began = call_began;
    belongs_to(d, object, c);
}

static void after_msync(struct disk *d, const struct io_event *e) {
    const uint8_t *addr = (const uint8_t *)e->into;
    for (size_t i = d->mapping_count; i > 0; i--) {
        const struct mapping *m = &d->mappings[i - 1];
        if (addr >= m->addr && addr < m->addr + m->len) {
            struct change *c = add_change(d, CHANGE_MSYNC, m->object);
            c->number = (m->at + (uint64_t)(addr - m->addr)) / DISK_PAGE;
            c->number_end = (m->at + (uint64_t)(addr - m->addr) + e->len + DISK_PAGE - 1) / DISK_PAGE;
            c->began = call_began;
            belongs_to(d, m->object, c);
            return;
        }
    }
}

static void after_call(struct disk *d, const struct io_event *e) {
    uint32_t object = 0;
    switch (e->call) {
    case IO_OPEN:
        after_open(d, e);
        return;
    case IO_MKDIR:
        after_mkdir(d, e);
        return;
    case IO_RENAME:
        after_rename(d, e);
        return;
    case IO_UNLINK:
        after_unlink(d, e);
        return;
    case IO_MSYNC:
        after_msync(d, e);
        return;
    default:
        object = object_of_fd(d, e->fd);
        break;
    }
    if (object == 0) {
        return;
    }
    if (e->call == IO_WRITE) {
        write_bytes(d, object, (uint64_t)e->at, (const uint8_t *)e->data, e->len);
    } else if (e->call == IO_TRUNCATE) {
        truncate_to(d, object, (uint64_t)e->at);
    } else if (e->call == IO_FALLOCATE) {
        uint64_t end = (uint64_t)e->at + e->len;
        set_size(d, object, end > d->objects[object].size ? end : d->objects[object].size);
    } else if (e->call == IO_FSYNC || e->call == IO_FDATASYNC) {
        after_sync(d, object);
    } else if (e->call == IO_MMAP && (e->flags & O_ACCMODE) == O_RDWR) {
        note_map(d, object, e);
    }
}

static void watch(const struct io_event *e, enum io_moment moment, int error, void *ctx) {
    struct disk *d = (struct disk *)ctx;
    int saved = errno;
    (void)pthread_mutex_lock(&d->mutex);
    if (moment == IO_BEFORE) {
        if (e->call != IO_READ && (e->call != IO_OPEN || (e->flags & (O_CREAT | O_TRUNC)) != 0)) {
            look_at_maps(d);
        }
        call_began = d->change_count;
    } else if (error == 0) {
        after_call(d, e);
    }
    (void)pthread_mutex_unlock(&d->mutex);
    errno = saved;
}

/* --- the whole --- */

static void read_directory(struct disk *d, uint32_t object, int fd);

static void read_content(struct disk *d, uint32_t object, int fd) {
    uint8_t page[DISK_PAGE];
    ssize_t have = 0;
    for (uint64_t at = 0; (have = pread(fd, page, sizeof page, (off_t)at)) > 0; at += (uint64_t)have) {
        write_bytes(d, object, at, page, (uint64_t)have);
    }
}

static void read_entry(struct disk *d, uint32_t directory, int dir_fd, const char *name) {
    struct stat info;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &info) != 0) {
        disk_die(name);
    }
    struct entry e = {.directory = directory, .name = name_number(d, name, strlen(name))};
    e.object = add_object(d, S_ISDIR(info.st_mode), &info);
    change_names(d, e.object, &e, 1, false);
    if (S_ISDIR(info.st_mode)) {
        read_directory(d, e.object, fd);
    } else {
        read_content(d, e.object, fd);
    }
    call_began = d->change_count;
    after_sync(d, e.object);
    (void)close(fd);
}

static void read_directory(struct disk *d, uint32_t object, int dir_fd) {
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (dir == NULL) {
        disk_die("a directory cannot be read");
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            read_entry(d, object, dir_fd, e->d_name);
        }
    }
    (void)closedir(dir);
}

struct disk *disk_new(int dir_fd) {
    struct disk *d = (struct disk *)calloc(1, sizeof *d);
    struct stat info;
    if (d == NULL || fstat(dir_fd, &info) != 0) {
        disk_die("it cannot begin");
    }
    (void)pthread_mutex_init(&d->mutex, NULL);
    (void)add_object(d, false, &(struct stat){0});
    (void)add_object(d, true, &info);
    d->objects[DISK_ROOT].names = 1;
    read_directory(d, DISK_ROOT, dir_fd);
    call_began = d->change_count;
    after_sync(d, DISK_ROOT);
    d->first = d->change_count;
    return d;
}

void disk_free(struct disk *d) {
    if (d == NULL) {
        return;
    }
    for (size_t i = 0; i < d->change_count; i++) {
        free(d->changes[i].behind);
        free((void *)(uintptr_t)d->changes[i].bytes);
    }
    for (uint32_t i = DISK_ROOT; i < d->object_count; i++) {
        forget_map(&d->objects[i]);
        free(d->objects[i].pages);
        free(d->objects[i].changes);
    }
    for (uint32_t i = 0; i < d->name_count; i++) {
        free(d->names[i]);
    }
    free(d->changes);
    free(d->objects);
    free(d->names);
    free(d->entries);
    free(d->mappings);
    (void)pthread_mutex_destroy(&d->mutex);
    free(d);
}

void disk_start(struct disk *d) {
    io_set_watch(watch, d);
}

void disk_stop(struct disk *d) {
    io_set_watch(NULL, NULL);
    (void)pthread_mutex_lock(&d->mutex);
    look_at_maps(d);
    (void)pthread_mutex_unlock(&d->mutex);
}

void disk_note(struct disk *d, struct disk_mark mark) {
    (void)pthread_mutex_lock(&d->mutex);
    look_at_maps(d);
    bool beginning = d->change_count == d->first;
    add_change(d, CHANGE_NOTE, 0)->mark = mark;
    d->first += beginning ? 1 : 0;
    (void)pthread_mutex_unlock(&d->mutex);
}

size_t disk_first(const struct disk *d) {
    return d->first;
}

size_t disk_changes(const struct disk *d) {
    return d->change_count;
}

static bool settles(const struct change *c) {
    return c->kind == CHANGE_SYNC || c->kind == CHANGE_MSYNC || c->kind == CHANGE_NAMES;
}

size_t disk_moment(const struct disk *d, uint64_t random) {
    size_t moment = d->first + (size_t)((random >> 1) % (d->change_count - d->first + 1));
    size_t count = 0;
    for (size_t i = d->first; i < d->change_count; i++) {
        count += settles(&d->changes[i]) ? 1 : 0;
    }
    if (random % 2 == 0 || count == 0) {
        return moment;
    }
    size_t wanted = (size_t)((random >> 1) % count);
    for (moment = d->first; wanted > 0 || !settles(&d->changes[moment]); moment++) {
        wanted -= settles(&d->changes[moment]) ? 1 : 0;
    }
    return moment;
}

struct disk_mark disk_mark_at(const struct disk *d, size_t moment) {
    for (size_t i = moment; i > 0; i--) {
        if (d->changes[i - 1].kind == CHANGE_NOTE) {
            return d->changes[i - 1].mark;
        }
    }
    return (struct disk_mark){0};
}
