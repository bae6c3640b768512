/*
 * damaged_files.c - campaign "damaged-files": bytes that flip, logs that are cut, segments that are missing, doubled, swapped or strangers.
 *
 * Specimens are data directories of servers that were killed or stopped, kept in memory. One thing is damaged, then a server starts on it:
 *
 *   cut      the log's last segment is cut at any byte of the last batch, or only zeros or noise follow     what was complete before stays, nothing else
 *   log      any byte of any segment flips                                                   before the last batch: refused, with segment and byte;
 *                                                                                            in it: cut off there; behind: the state is the same
 *   quiet    the same where the log had a quiet moment at its end                            any record: refused, with segment and byte; behind: the state is
 *                                                                                            the same
 *   live     any byte below vectors/ flips, with a live checkpoint (both of them, page files, arenas)    the state is the same, and all files are sound
 *   closed   the same with a closing checkpoint                                              the same
 *   snapshot any byte of an archive, when there is no arena and the log begins behind it     refused, or the state is the same (another archive, or the
 *                                                                                            byte means nothing)
 *   segment  each one missing, doubled, exchanged for each other, or for another log's       refused, and named
 *
 * Vectors may be lost, and are made again. The long form flips every byte of the logs and archives, and samples arenas.
 */
#include "judge.h"
#include "specimen.h"

#include "base/clock.h"
#include "base/log.h"
#include "durable/wal_format.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { RECORDS_MAX = 512, SEGMENTS_MAX = 32, CLOSELY_EVERY = 4, LOOKS_FOR_CONTENT = 12, PATTERNS = 2, LOG_STEPS = 75 };

struct segment {
    int file; /* of the tree */
    uint64_t first_lsn;
    size_t begins[RECORDS_MAX + 1]; /* of records, the end marker included; [count]: the end */
    size_t count;
    bool ended;
    bool guarded; /* behind the last record; that guard is no record */
};

struct log_specimen {
    struct specimen s;
    struct segment segments[SEGMENTS_MAX];
    size_t segment_count;
    uint64_t last_batch; /* its first LSN */
};

struct collection {
    struct log_specimen log, quiet_log, other_log;
    struct specimen live, closed, archived;
};

enum how { FLIP_ONE, FLIP_ALL };
enum cut { CUT_SHORT, CUT_ZEROS, CUT_NOISE, CUTS };
enum segment_damage { SEGMENT_MISSING, SEGMENT_DOUBLED, SEGMENT_EXCHANGED, SEGMENT_FOREIGN, SEGMENT_DAMAGES };

/* --- specimens --- */

static void find_records(struct log_specimen *x, int file) {
    const struct tree_file *f = &x->s.tree.files[file];
    struct segment *g = &x->segments[x->segment_count++];
    struct wal_header h;
    struct wal_record r;
    struct status st = {0};
    specimen_must(wal_header_decode(f->bytes, &h, &st), f->path, &st);
    *g = (struct segment){.file = file, .first_lsn = h.first_lsn};
    size_t at = WAL_HEADER_BYTES;
    uint64_t next = h.first_lsn;
    while (!g->ended && at < f->len && wal_record_head(&h, f->bytes + at, f->len - at, f->len - at, &r) && r.lsn == next &&
           wal_record_check(&h, f->bytes + at, &r)) {
        if (r.type == WAL_RECORD_GUARD) {
            g->guarded = true;
            break;
        }
        g->begins[g->count++] = at;
        at += r.head + r.length;
        g->ended = r.type == WAL_RECORD_END;
        x->last_batch = g->ended ? x->last_batch : r.lsn - r.batch_index;
        next++;
    }
    g->begins[g->count] = at;
}

static void find_segments(struct log_specimen *x, void (*make)(struct specimen *x, uint32_t steps)) {
    make(&x->s, LOG_STEPS);
    for (size_t i = 0; i < x->s.tree.count; i++) {
        if (strncmp(x->s.tree.files[i].path, "wal/wal_", 8) == 0) {
            find_records(x, (int)i);
        }
    }
}

static void collect(struct collection *all) {
    find_segments(&all->log, specimen_log);
    find_segments(&all->quiet_log, specimen_quiet_log);
    find_segments(&all->other_log, specimen_log);
    specimen_live(&all->live);
    specimen_closed(&all->closed);
    specimen_archived(&all->archived);
}

/* --- judging --- */

static const struct tree_file *file_of(const struct log_specimen *x, size_t segment) {
    return &x->s.tree.files[x->segments[segment].file];
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static void must_refuse(struct campaign *c, struct server *s, const char *mentions) {
    struct status st = {0};
    campaign_injected(c, 1);
    if (server_start(s, &st)) {
        campaign_fault(c, CAMPAIGN_WRONG, "silently accepted");
        server_crash(s);
    } else if (st.code != STATUS_CORRUPT || strstr(st.detail, mentions) == NULL) {
        campaign_fault(c, CAMPAIGN_WRONG, "refused, but \"%s\" does not say \"%s\"", st.detail, mentions);
    } else {
        campaign_count(c, "refused, and named", 1);
    }
}

/* It starts, with the effect of just so many steps. */
static void must_hold(struct campaign *c, struct server *s, uint32_t steps, uint64_t lsn, bool closely) {
    const struct promise exactly = {steps, steps, lsn};
    int64_t begun = clock_monotonic_us();
    campaign_injected(c, 1);
    if (judge_starts(c, s, "the start")) {
        campaign_took(c, clock_monotonic_us() - begun);
        judge_count_start(c, s);
        if (judge_contents(c, s, &exactly) && closely) {
            (void)judge_closely(c, s);
        }
    }
    server_crash(s);
}

/* --- damage --- */

static void put_bytes(int dir_fd, const struct tree_file *f, size_t at, const uint8_t *bytes, size_t len) {
    struct status st = {0};
    int fd = -1;
    specimen_must(io_open_at(dir_fd, f->path, O_RDWR, 0, &fd, &st) && io_pwrite_full(fd, bytes, len, (off_t)at, &st), f->path, &st);
    io_close(&fd);
}

static void flip(struct campaign *c, const struct specimen *x, const struct tree_file *f, size_t at, enum how how, int dir_fd) {
    uint8_t bits = (uint8_t)(how == FLIP_ALL ? 0xffU : 1U << (at * 7 + 3) % 8);
    uint8_t byte = f->bytes[at] ^ bits;
    campaign_doing(c, "%s, %s, byte %zu of %zu, %02x made %02x", x->name, f->path, at, f->len, f->bytes[at], byte);
    put_bytes(dir_fd, f, at, &byte, 1);
}

/* The record that holds a byte; `count`: it is behind all. */
static size_t record_at(const struct segment *g, size_t at) {
    size_t i = 0;
    while (i < g->count && g->begins[i + 1] <= at) {
        i++;
    }
    return i;
}

static void flip_in_log(struct campaign *c, const struct log_specimen *x, size_t segment, size_t at, enum how how, struct server *s) {
    const struct segment *g = &x->segments[segment];
    size_t record = record_at(g, at);
    uint64_t lsn = g->first_lsn + record;
    char mentions[128];
    flip(c, &x->s, file_of(x, segment), at, how, s->data.fd);
    if (at >= WAL_HEADER_BYTES && record == g->count) {
        must_hold(c, s, x->s.steps, x->s.lsn, false);
    } else if (at >= WAL_HEADER_BYTES && segment + 1 == x->segment_count && lsn >= x->last_batch && !g->guarded) {
        must_hold(c, s, x->s.steps - (uint32_t)(x->s.lsn - lsn + 1), lsn - 1, false);
    } else {
        (void)snprintf(mentions, sizeof mentions, "%.60s is damaged at byte %zu", base_name(file_of(x, segment)->path),
                       at < WAL_HEADER_BYTES ? 0 : g->begins[record]);
        must_refuse(c, s, mentions);
    }
}

static void cut_log(struct campaign *c, const struct log_specimen *x, size_t at, enum cut how, uint64_t random, struct server *s) {
    static const char *const names[CUTS] = {"the file ends", "zeros follow", "noise follows"};
    const struct segment *g = &x->segments[x->segment_count - 1];
    const struct tree_file *f = file_of(x, x->segment_count - 1);
    size_t record = record_at(g, at);
    size_t len = g->begins[g->count] - at;
    uint8_t *rest = (uint8_t *)calloc(1, len + 1);
    struct status st = {0};
    int fd = -1;
    campaign_doing(c, "%s, %s: at byte %zu %s", x->s.name, f->path, at, names[how]);
    for (size_t i = 0; rest != NULL && how == CUT_NOISE && i < len; i++) {
        rest[i] = (uint8_t)(f->bytes[at + i] + 1 + campaign_random(&random) % 255); /* never what it was */
    }
    if (how == CUT_SHORT) {
        specimen_must(io_open_at(s->data.fd, f->path, O_RDWR, 0, &fd, &st) && io_truncate(fd, (off_t)at, f->path, &st), f->path, &st);
        io_close(&fd);
    } else if (rest != NULL) {
        put_bytes(s->data.fd, f, at, rest, len);
    }
    /* What ends in zeros is complete without them. */
    record += how == CUT_ZEROS && memcmp(rest, f->bytes + at, g->begins[record + 1] - at) == 0 ? 1 : 0;
    uint64_t lsn = g->first_lsn + record;
    must_hold(c, s, x->s.steps - (uint32_t)(x->s.lsn - lsn + 1), lsn - 1, true);
    free(rest);
}

static void replace(const struct log_specimen *from, size_t segment, const char *path, int dir_fd) {
    const struct tree_file *f = file_of(from, segment);
    file_write(dir_fd, path, slice_of(f->bytes, f->len));
}

static void damage_segments(struct campaign *c, const struct collection *all, enum segment_damage how, size_t segment, size_t other, struct server *s) {
    const struct log_specimen *x = &all->log;
    const char *path = file_of(x, segment)->path;
    char name[TREE_PATH_MAX];
    struct status st = {0};
    static const char *const names[SEGMENT_DAMAGES] = {"missing", "doubled", "exchanged", "of another log"};
    campaign_doing(c, "%s, %s: %s (%s)", x->s.name, path, names[how], file_of(x, other)->path);
    const char *mentions = base_name(path);
    if (how == SEGMENT_MISSING) {
        specimen_must(io_unlink_at(s->data.fd, path, &st), path, &st);
        mentions = base_name(file_of(x, segment + 1 < x->segment_count ? segment + 1 : segment - 1)->path);
    } else if (how == SEGMENT_DOUBLED) { /* under another date, so that its name is a good one */
        (void)snprintf(name, sizeof name, "wal/wal_29991231_%s", base_name(path) + strlen("wal_20001231_"));
        replace(x, segment, name, s->data.fd);
        mentions = base_name(name);
    } else if (how == SEGMENT_EXCHANGED) {
        replace(x, other, path, s->data.fd);
        replace(x, segment, file_of(x, other)->path, s->data.fd);
        mentions = base_name(file_of(x, segment < other ? segment : other)->path);
    } else {
        replace(&all->other_log, segment, path, s->data.fd);
    }
    must_refuse(c, s, mentions);
}

/* --- one injection --- */

/* A byte below a directory; mostly one that is not zero, since most of an arena is room. */
static const struct tree_file *draw_byte(const struct tree *t, const char *below, uint64_t *random, size_t *ret_at) {
    const struct tree_file *f = NULL;
    for (int tries = 0; tries < LOOKS_FOR_CONTENT || f == NULL;) {
        const struct tree_file *drawn = &t->files[campaign_random(random) % t->count];
        if (drawn->directory || drawn->len == 0 || strncmp(drawn->path, below, strlen(below)) != 0) {
            continue;
        }
        f = drawn;
        *ret_at = (size_t)(campaign_random(random) % f->len);
        tries = f->bytes[*ret_at] != 0 ? LOOKS_FOR_CONTENT : tries + 1;
    }
    return f;
}

static void flip_archive(struct campaign *c, const struct specimen *x, const struct tree_file *f, size_t at, enum how how, struct server *s) {
    struct status st = {0};
    struct snapshot_info info;
    int snapshots_fd = -1;
    flip(c, x, f, at, how, s->data.fd);
    specimen_must(io_open_at(s->data.fd, "snapshots", O_RDONLY | O_DIRECTORY, 0, &snapshots_fd, &st), "snapshots", &st);
    bool verifies = snapshot_verify(snapshots_fd, base_name(f->path), &info, &st);
    io_close(&snapshots_fd);
    campaign_count(c, verifies ? "archives in which the byte means nothing" : "archives that do not verify", 1);
    if (!verifies && server_start(s, &st)) { /* another one, or the log, has it all */
        server_crash(s);
        verifies = true;
    } else if (!verifies && (st.code != STATUS_CORRUPT || strstr(st.detail, "no good snapshot") == NULL)) {
        campaign_fault(c, CAMPAIGN_WRONG, "refused, but \"%s\" does not speak of a snapshot", st.detail);
    }
    if (verifies) {
        must_hold(c, s, x->steps, x->lsn, false);
    } else {
        campaign_injected(c, 1);
    }
}

enum kind { KIND_CUT, KIND_LOG, KIND_QUIET, KIND_LIVE, KIND_CLOSED, KIND_ARCHIVE, KIND_SEGMENT, KINDS };

static uint64_t bytes_of(const struct log_specimen *x) {
    uint64_t count = 0;
    for (size_t i = 0; i < x->segment_count; i++) {
        count += file_of(x, i)->len;
    }
    return count;
}

/* How many there are of a kind that can be counted; 0: it is sampled. */
static uint64_t all_of(const struct collection *all, enum kind kind) {
    const struct segment *last = &all->log.segments[all->log.segment_count - 1];
    uint64_t count = 0;
    switch (kind) {
    case KIND_CUT:
        return (last->begins[last->count] - last->begins[all->log.last_batch - last->first_lsn]) * CUTS;
    case KIND_LOG:
        return bytes_of(&all->log) * PATTERNS;
    case KIND_QUIET:
        return bytes_of(&all->quiet_log) * PATTERNS;
    case KIND_ARCHIVE:
        for (size_t i = 0; i < all->archived.tree.count; i++) {
            count += strncmp(all->archived.tree.files[i].path, "snapshots/", 10) == 0 ? all->archived.tree.files[i].len * PATTERNS : 0;
        }
        return count;
    case KIND_SEGMENT:
        return all->log.segment_count * all->log.segment_count * SEGMENT_DAMAGES;
    default:
        return 0;
    }
}

static void write_specimen(const struct specimen *x, const struct server *s) {
    tree_write(&x->tree, s->data.fd);
}

static void inject_cut(struct campaign *c, const struct collection *all, uint64_t which, struct server *s) {
    const struct segment *last = &all->log.segments[all->log.segment_count - 1];
    size_t first = last->begins[all->log.last_batch - last->first_lsn];
    write_specimen(&all->log.s, s);
    cut_log(c, &all->log, first + (size_t)(which / CUTS), (enum cut)(which % CUTS), which + c->seed, s);
}

static void inject_log(struct campaign *c, const struct log_specimen *x, uint64_t which, struct server *s) {
    uint64_t at = which / PATTERNS;
    size_t segment = 0;
    while (at >= file_of(x, segment)->len) {
        at -= file_of(x, segment++)->len;
    }
    write_specimen(&x->s, s);
    flip_in_log(c, x, segment, (size_t)at, (enum how)(which % PATTERNS), s);
}

static void inject_archive(struct campaign *c, const struct collection *all, uint64_t which, struct server *s) {
    const struct tree *t = &all->archived.tree;
    uint64_t at = which / PATTERNS;
    size_t i = 0;
    while (strncmp(t->files[i].path, "snapshots/", 10) != 0 || at >= t->files[i].len) {
        at -= strncmp(t->files[i].path, "snapshots/", 10) == 0 ? t->files[i].len : 0;
        i++;
    }
    write_specimen(&all->archived, s);
    flip_archive(c, &all->archived, &t->files[i], (size_t)at, (enum how)(which % PATTERNS), s);
}

static void inject_segment(struct campaign *c, const struct collection *all, uint64_t which, struct server *s) {
    size_t count = all->log.segment_count;
    enum segment_damage how = (enum segment_damage)(which % SEGMENT_DAMAGES);
    size_t segment = (size_t)(which / SEGMENT_DAMAGES % count);
    size_t other = (size_t)(which / SEGMENT_DAMAGES / count);
    if (how == SEGMENT_EXCHANGED ? segment == other : other != 0) {
        return; /* it is none, or one of several that are the same */
    }
    write_specimen(&all->log.s, s);
    damage_segments(c, all, how, segment, other, s);
}

static void inject_arena(struct campaign *c, const struct specimen *x, uint64_t which, struct server *s) {
    uint64_t random = c->seed * UINT64_C(31) + which;
    size_t at = 0;
    const struct tree_file *f = draw_byte(&x->tree, "vectors/", &random, &at);
    write_specimen(x, s);
    flip(c, x, f, at, (enum how)(campaign_random(&random) % PATTERNS), s->data.fd);
    must_hold(c, s, x->steps, x->lsn, c->is_long || which % CLOSELY_EVERY == 0);
}

static void inject(struct campaign *c, const struct collection *all, enum kind kind, uint64_t which, int dir_fd) {
    struct server s;
    server_make_in(&s, dir_fd);
    switch (kind) {
    case KIND_CUT:
        inject_cut(c, all, which, &s);
        break;
    case KIND_LOG:
        inject_log(c, &all->log, which, &s);
        break;
    case KIND_QUIET:
        inject_log(c, &all->quiet_log, which, &s);
        break;
    case KIND_ARCHIVE:
        inject_archive(c, all, which, &s);
        break;
    case KIND_SEGMENT:
        inject_segment(c, all, which, &s);
        break;
    default:
        inject_arena(c, kind == KIND_LIVE ? &all->live : &all->closed, which, &s);
        break;
    }
    server_remove(&s);
}

/* In the long form: all that can be counted, then samples. Else the kinds by turns, at places that are drawn. */
static void one(struct campaign *c, uint64_t item, int dir_fd, void *ctx) {
    const struct collection *all = (const struct collection *)ctx;
    uint64_t random = c->seed + item * UINT64_C(2654435761);
    if (!c->is_long) {
        enum kind kind = (enum kind)(item % KINDS);
        uint64_t count = all_of(all, kind);
        inject(c, all, kind, count > 0 ? campaign_random(&random) % count : item, dir_fd);
        return;
    }
    uint64_t which = item;
    for (int kind = 0; kind < KINDS; kind++) {
        uint64_t count = all_of(all, (enum kind)kind);
        if (which < count) {
            inject(c, all, (enum kind)kind, which, dir_fd);
            return;
        }
        which -= count;
    }
    inject(c, all, which % 2 == 0 ? KIND_LIVE : KIND_CLOSED, which, dir_fd);
}

int main(int argc, char **argv) {
    static const struct campaign_sizes sizes = {60, 600, 8000};
    static struct collection all;
    struct campaign c;
    uint64_t count = 0;
    campaign_begin(&c, argc, argv, "damaged-files", &sizes);
    log_set_level(LOG_LEVEL_ERROR);
    collect(&all);
    for (int kind = 0; kind < KINDS; kind++) {
        count += c.is_long ? all_of(&all, (enum kind)kind) : 0;
    }
    campaign_run(&c, count + c.count, one, &all);
    specimen_fini(&all.log.s);
    specimen_fini(&all.quiet_log.s);
    specimen_fini(&all.other_log.s);
    specimen_fini(&all.live);
    specimen_fini(&all.closed);
    specimen_fini(&all.archived);
    return campaign_end(&c);
}
