/*
 * write_back.c - see write_back.h.
 *
 * Each file is gone through in steps, and synced behind them: that leaves the kernel a clean file, and its half minute begins anew with the next change. Between the
 * steps and the sync a graph that is linked would be changed all over again, so linkers wait meanwhile. Graphs come last, so that they wait for nothing else.
 *
 * A descriptor of its own for each file: the kernel reports that a page could not be written once to each that was open, and the checkpoint's must hear of it.
 */
#include "store/write_back.h"

#include "base/io.h"
#include "store/backlog.h"
#include "store/library_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { STEP = 2 * 1024 * 1024 }; /* a huge page, which goes as one whatever the step; a commit waits for one at most */

/* Whether linkers store in it. */
static bool is_linked_in(const char *name) {
    return strncmp(name, "graph.", strlen("graph.")) == 0 || strncmp(name, "upper.", strlen("upper.")) == 0;
}

static bool stopped(const uint32_t *stop) {
    return load_relaxed_u32(stop) != 0;
}

static bool write_file(int fd, const struct library_file *f, const uint32_t *stop, struct status *st) {
    for (uint64_t at = 0; at < f->used && !stopped(stop); at += STEP) {
        if (!io_write_back(fd, (off_t)at, STEP, f->name, st)) {
            return false;
        }
    }
    return stopped(stop) || io_fsync(fd, f->name, st);
}

static bool open_and_write(struct library *lib, const struct library_file *f, const uint32_t *stop, struct status *st) {
    int fd = -1;
    if (!io_open_at(lib->arena.dir_fd, f->name, O_RDONLY | O_NOFOLLOW, 0, &fd, st)) {
        return st->sys_errno == ENOENT; /* a graph that was replaced meanwhile */
    }
    bool ok = write_file(fd, f, stop, st);
    io_close(&fd);
    return ok;
}

static bool write_back(struct library *lib, const struct library_file *f, const uint32_t *stop, struct status *st) {
    if (!is_linked_in(f->name)) {
        return open_and_write(lib, f, stop, st);
    }
    backlog_hold(lib);
    bool ok = open_and_write(lib, f, stop, st);
    backlog_go_on(lib);
    return ok;
}

static struct arena_progress progress_of(struct library *lib) {
    struct reading rd;
    library_reading(lib, &rd);
    struct arena_progress p = {.lsn = rd.view.lsn, .records_used = rd.view.records_used, .chunk_slots = rd.view.chunk_slots};
    if (rd.view.dimension != 0) {
        p.vectors = load_relaxed_u64(&((const struct vectors_head *)(const void *)mapfile_base(&lib->arena.vectors))->present);
    }
    for (int building = 0; building <= 1; building++) {
        struct graph_work *g = library_graph(lib, building != 0);
        if (g != NULL) {
            p.generation[building] = g->generation;
            p.linked[building] = link_queue_settled(g, rd.view.chunk_slots);
        }
        library_graph_release(lib, g);
    }
    return p;
}

static bool same_progress(const struct arena_progress *a, const struct arena_progress *b) {
    return a->lsn == b->lsn && a->records_used == b->records_used && a->vectors == b->vectors && a->chunk_slots == b->chunk_slots &&
           a->generation[0] == b->generation[0] && a->generation[1] == b->generation[1] && a->linked[0] == b->linked[0] && a->linked[1] == b->linked[1];
}

/* The graph that is being built has no place among the library's files yet. */
static size_t add_building(struct library *lib, struct library_file *files, size_t count) {
    struct graph_work *g = library_graph(lib, true);
    if (g != NULL) {
        arena_graph_names(g->generation, files[count].name, files[count + 1].name);
        files[count++].used = load_acquire_u64(&g->graph.size);
        files[count++].used = load_acquire_u64(&g->upper.size);
    }
    library_graph_release(lib, g);
    return count;
}

bool library_write_back(struct library *lib, uint64_t least, const uint32_t *stop, uint64_t *ret_bytes, struct status *st) {
    struct library_file files[LIBRARY_FILES_MAX + 2];
    const struct arena_progress progress = progress_of(lib);
    bool ok = true;
    *ret_bytes = 0;
    if (same_progress(&progress, &lib->written_back)) {
        return true;
    }
    size_t count = add_building(lib, files, library_files(lib, files));
    for (size_t i = 0; i < count && !stopped(stop) && !library_is_deleted(lib); i++) {
        struct status why;
        if (files[i].used < least) {
            continue;
        }
        if (!write_back(lib, &files[i], stop, &why) && ok) {
            ok = false;
            *st = why;
        }
        *ret_bytes += files[i].used;
    }
    if (ok && !stopped(stop)) {
        lib->written_back = progress;
    }
    return ok;
}
