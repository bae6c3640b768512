/* disk_state.c - from a trace and a seed to a directory as a disk could hold it; see disk.h for the model. */
#include "disk_internal.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HUNDRED = 100, DEPTH_MAX = 16, RUN_PAGES = 64 };

/* How often, in percent, what has no sync is there nevertheless. */
struct manner {
    const char *name;
    bool journal;          /* names keep their order */
    unsigned names;        /* percent of changes of names */
    unsigned pages;        /* percent of pages */
    unsigned sizes;        /* percent of sizes */
    bool by_file;          /* pages and sizes: each file draws a percentage of its own */
    unsigned torn;         /* percent of pages that are there which are torn */
};

static const struct manner manners[] = {
    {"nothing unsynced", false, 0, 0, 0, false, 0},
    {"everything", false, 100, 100, 100, false, 0},
    {"names only", false, 100, 0, 0, false, 0},
    {"names and sizes", false, 100, 0, 100, false, 0},
    {"contents only", false, 0, 100, 100, false, 0},
    {"half of all", false, 50, 50, 50, false, 10},
    {"torn", false, 80, 80, 80, false, 70},
    {"few lost", false, 95, 95, 95, false, 5},
    {"most lost", false, 10, 10, 10, false, 30},
    {"by file", false, 60, 0, 0, true, 20},
    {"by file, journal", true, 0, 0, 0, true, 20},
    {"journal", true, 0, 90, 90, false, 20},
};
enum { MANNERS = sizeof manners / sizeof manners[0] };

struct drawing {
    const struct disk *d;
    size_t moment;
    uint64_t random;
    const struct manner *manner;
    struct disk_state *state;
    bool *there;          /* per change of names: it is on the disk */
    struct entry *names;  /* as they are on the disk */
    size_t name_count;
    size_t name_cap;
};

static uint64_t draw(struct drawing *w) {
    w->random ^= w->random << 13;
    w->random ^= w->random >> 7;
    w->random ^= w->random << 17;
    return w->random * UINT64_C(0x2545f4914f6cdd1d) >> 20;
}

static bool chance(struct drawing *w, unsigned percent) {
    return draw(w) % HUNDRED < percent;
}

static void fold(struct drawing *w, const void *bytes, size_t len) {
    w->state->hash = hash64(w->state->hash, bytes, len);
}

/* --- names --- */

static void must_be_there(struct drawing *w, size_t number) {
    const struct change *c = &w->d->changes[number];
    if (w->there[number]) {
        return;
    }
    w->there[number] = true;
    for (size_t i = 0; i < c->behind_count; i++) {
        must_be_there(w, c->behind[i]);
    }
}

/* What the syncs before the moment cover. */
static void synced_names(struct drawing *w) {
    for (uint32_t i = DISK_ROOT; i < w->d->object_count; i++) {
        const struct object *o = &w->d->objects[i];
        size_t began = 0;
        for (size_t k = o->directory ? o->change_count : 0; k > 0 && began == 0; k--) {
            const struct change *c = &w->d->changes[o->changes[k - 1]];
            began = c->kind == CHANGE_SYNC && o->changes[k - 1] < w->moment ? c->began : 0;
        }
        for (size_t k = 0; k < (o->directory ? o->change_count : 0) && o->changes[k] < began; k++) {
            if (w->d->changes[o->changes[k]].kind == CHANGE_NAMES) {
                must_be_there(w, o->changes[k]);
            }
        }
    }
}

static bool all_behind_there(const struct drawing *w, const struct change *c) {
    for (size_t i = 0; i < c->behind_count; i++) {
        if (!w->there[c->behind[i]]) {
            return false;
        }
    }
    return true;
}

static void draw_names(struct drawing *w) {
    size_t open = 0;
    size_t seen = 0;
    for (size_t i = 0; i < w->moment; i++) {
        open += w->d->changes[i].kind == CHANGE_NAMES && !w->there[i] ? 1 : 0;
    }
    size_t last = open > 0 ? (size_t)(draw(w) % (open + 1)) : 0; /* of a journal */
    for (size_t i = 0; i < w->moment; i++) {
        const struct change *c = &w->d->changes[i];
        if (c->kind != CHANGE_NAMES || w->there[i]) {
            continue;
        }
        bool kept = w->manner->journal ? seen++ < last : chance(w, w->manner->names);
        w->there[i] = kept && all_behind_there(w, c);
        w->state->dropped_names += w->there[i] ? 0 : 1;
    }
}

static void apply_entry(struct drawing *w, const struct entry *to) {
    for (size_t i = 0; i < w->name_count; i++) {
        if (w->names[i].directory == to->directory && w->names[i].name == to->name) {
            w->names[i].object = to->object;
            return;
        }
    }
    w->names = (struct entry *)disk_room(w->names, w->name_count, &w->name_cap, sizeof *w->names);
    w->names[w->name_count++] = *to;
}

static void apply_names(struct drawing *w) {
    for (size_t i = 0; i < w->moment; i++) {
        const struct change *c = &w->d->changes[i];
        for (unsigned k = 0; c->kind == CHANGE_NAMES && w->there[i] && k < c->entry_count; k++) {
            apply_entry(w, &c->entries[k]);
        }
    }
}

/* --- one file --- */

struct file {
    uint64_t size;
    uint8_t **pages; /* NULL: zeros */
    size_t page_count;
};

static uint8_t *page_at(struct file *f, uint64_t number) {
    if (f->pages[number] == NULL) {
        f->pages[number] = (uint8_t *)calloc(1, DISK_PAGE);
        if (f->pages[number] == NULL) {
            disk_die("no memory");
        }
    }
    return f->pages[number];
}

static void put_page(struct drawing *w, struct file *f, const struct change *c, bool torn) {
    static const uint8_t zeros[DISK_PAGE];
    const uint8_t *from = c->bytes != NULL ? c->bytes : zeros;
    uint64_t sectors = torn ? draw(w) : UINT64_MAX;
    uint8_t *page = page_at(f, c->number);
    w->state->torn_pages += torn ? 1 : 0;
    for (unsigned s = 0; s < DISK_PAGE / DISK_SECTOR; s++) {
        if ((sectors >> s & 1) != 0) {
            memcpy(page + (size_t)s * DISK_SECTOR, from + (size_t)s * DISK_SECTOR, DISK_SECTOR);
        }
    }
}

/* Whether a sync before the moment covers this change. */
static bool is_synced(const struct drawing *w, const struct object *o, uint32_t number, size_t whole) {
    const struct change *c = &w->d->changes[number];
    if (number < whole) {
        return true;
    }
    for (size_t k = o->change_count; k > 0 && o->changes[k - 1] > number; k--) {
        const struct change *s = &w->d->changes[o->changes[k - 1]];
        if (s->kind == CHANGE_MSYNC && o->changes[k - 1] < w->moment && number < s->began &&
            (c->kind == CHANGE_SIZE || (c->number >= s->number && c->number < s->number_end))) {
            return true;
        }
    }
    return false;
}

/* Changes of the file before this one are synced. */
static size_t synced_before(const struct drawing *w, const struct object *o) {
    for (size_t k = o->change_count; k > 0; k--) {
        const struct change *c = &w->d->changes[o->changes[k - 1]];
        if (c->kind == CHANGE_SYNC && o->changes[k - 1] < w->moment) {
            return c->began;
        }
    }
    return 0;
}

static void draw_file(struct drawing *w, const struct object *o, struct file *f) {
    size_t whole = synced_before(w, o);
    unsigned percent = (unsigned)(draw(w) % 3 * 50); /* by_file: nothing, half, all */
    unsigned pages = w->manner->by_file ? percent : w->manner->pages;
    unsigned sizes = w->manner->by_file ? (unsigned)(draw(w) % 3 * 50) : w->manner->sizes;
    *f = (struct file){.page_count = o->page_count};
    f->pages = (uint8_t **)calloc(f->page_count + 1, sizeof *f->pages);
    if (f->pages == NULL) {
        disk_die("no memory");
    }
    for (size_t k = 0; k < o->change_count && o->changes[k] < w->moment; k++) {
        const struct change *c = &w->d->changes[o->changes[k]];
        if (c->kind != CHANGE_PAGE && c->kind != CHANGE_SIZE) {
            continue;
        }
        bool synced = is_synced(w, o, o->changes[k], whole);
        if (c->kind == CHANGE_SIZE && (synced || chance(w, sizes))) {
            f->size = c->number;
        } else if (c->kind == CHANGE_SIZE) {
            w->state->dropped_sizes++;
        } else if (synced || chance(w, pages)) {
            put_page(w, f, c, !synced && chance(w, w->manner->torn));
        } else {
            w->state->dropped_pages++;
        }
    }
}

static void write_run(int fd, const struct file *f, uint64_t first, uint64_t count) {
    uint8_t run[RUN_PAGES * DISK_PAGE];
    for (uint64_t i = 0; i < count; i++) {
        memcpy(run + i * DISK_PAGE, f->pages[first + i], DISK_PAGE);
    }
    uint64_t at = first * DISK_PAGE;
    uint64_t len = count * DISK_PAGE;
    len = at + len > f->size ? f->size - at : len;
    if (pwrite(fd, run, (size_t)len, (off_t)at) != (ssize_t)len) {
        disk_die("a state cannot be written");
    }
}

static void write_file(const struct file *f, int dir_fd, const char *name) {
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)f->size) != 0) {
        disk_die(name);
    }
    uint64_t pages = (f->size + DISK_PAGE - 1) / DISK_PAGE;
    for (uint64_t i = 0; i < f->page_count && i < pages;) {
        uint64_t count = 0;
        while (count < RUN_PAGES && i + count < f->page_count && i + count < pages && f->pages[i + count] != NULL) {
            count++;
        }
        if (count > 0) {
            write_run(fd, f, i, count);
        }
        i += count > 0 ? count : 1;
    }
    (void)close(fd);
}

static void fold_file(struct drawing *w, const struct file *f) {
    static const uint8_t zeros[DISK_PAGE];
    fold(w, &f->size, sizeof f->size);
    for (uint64_t i = 0; i < f->page_count && i * DISK_PAGE < f->size; i++) {
        if (f->pages[i] != NULL && memcmp(f->pages[i], zeros, DISK_PAGE) != 0) {
            uint64_t left = f->size - i * DISK_PAGE;
            fold(w, &i, sizeof i);
            fold(w, f->pages[i], left < DISK_PAGE ? (size_t)left : DISK_PAGE);
        }
    }
}

static void make_file(struct drawing *w, const struct object *o, int dir_fd, const char *name) {
    struct file f;
    draw_file(w, o, &f);
    fold_file(w, &f);
    if (dir_fd >= 0) {
        write_file(&f, dir_fd, name);
    }
    for (size_t i = 0; i < f.page_count; i++) {
        free(f.pages[i]);
    }
    free(f.pages);
}

/* --- the whole --- */

static void make_directory(struct drawing *w, uint32_t directory, int dir_fd, unsigned depth) {
    if (depth == DEPTH_MAX) {
        disk_die("directories too deep");
    }
    for (size_t i = 0; i < w->name_count; i++) {
        const struct entry *e = &w->names[i];
        if (e->directory != directory || e->object == 0) {
            continue;
        }
        const struct object *o = &w->d->objects[e->object];
        const char *name = w->d->names[e->name];
        fold(w, name, strlen(name) + 1);
        if (!o->directory) {
            make_file(w, o, dir_fd, name);
            continue;
        }
        int fd = -1;
        if (dir_fd >= 0 && (mkdirat(dir_fd, name, 0700) != 0 ||
                            (fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)) {
            disk_die(name);
        }
        make_directory(w, e->object, fd, depth + 1);
        fold(w, "/", 1);
        io_close(&fd);
    }
}

void disk_make(const struct disk *d, size_t moment, uint64_t seed, int dir_fd, struct disk_state *ret) {
    struct drawing w = {.d = d, .moment = moment, .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1, .state = ret};
    *ret = (struct disk_state){.hash = 1};
    for (int i = 0; i < 4; i++) {
        (void)draw(&w);
    }
    w.manner = &manners[draw(&w) % MANNERS];
    (void)snprintf(ret->how, sizeof ret->how, "%s", w.manner->name);
    w.there = (bool *)calloc(moment + 1, sizeof *w.there);
    if (w.there == NULL) {
        disk_die("no memory");
    }
    synced_names(&w);
    draw_names(&w);
    apply_names(&w);
    make_directory(&w, DISK_ROOT, dir_fd, 0);
    free(w.there);
    free(w.names);
}
