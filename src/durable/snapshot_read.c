/*
 * snapshot_read.c - verifying and loading a snapshot.
 *
 * Two passes over one descriptor: the first (snapshot_archive.c) holds every entry against SHA256SUMS, the second parses entries
 * and hands them out as ops, each after it was summed once more. A library comes before its documents wherever they stand,
 * because the first pass has kept every library.json.
 */
#include "durable/snapshot_read.h"

#include "base/io.h"
#include "durable/snapshot_archive.h"
#include "durable/snapshot_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

static bool open_snapshot(int dir_fd, const char *name, int *ret_fd, struct status *st) {
    if (!snapshot_name_valid(name)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no such snapshot");
    }
    struct status failed = {0};
    if (io_open_at(dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, ret_fd, &failed)) {
        return true;
    }
    if (failed.sys_errno == ENOENT) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_SNAPSHOT, "there is no snapshot %s", name);
    }
    if (st != NULL) {
        *st = failed;
    }
    return false;
}

bool snapshot_verify(int snapshots_dir_fd, const char *name, struct snapshot_info *ret, struct status *st) {
    struct verified v = {0};
    int fd = -1;
    bool ok = open_snapshot(snapshots_dir_fd, name, &fd, st) && snapshot_verify_open(fd, name, NULL, &v, st);
    if (ok) {
        *ret = v.info;
    }
    verified_fini(&v);
    io_close(&fd);
    return ok;
}

/* --- loading --- */

struct loading {
    const struct verified *v;
    const struct limits *limits;
    snapshot_op_fn fn;
    void *ctx;
    struct snapshot_library *library; /* as v->library; created[i] says whether it was handed out */
    bool *created;
    struct document_parser parser;
    struct buf op;
};

static bool create_library(struct loading *l, size_t i, struct status *st) {
    char entry[SNAPSHOT_ENTRY_MAX];
    struct op op;
    if (l->created[i]) {
        return true;
    }
    struct slice json = slice_of(l->v->libraries.data + l->v->library[i].at, l->v->library[i].len);
    snapshot_library_entry(&l->v->library[i].id, entry);
    if (!snapshot_parse_library(json, &l->v->library[i].id, entry, &l->op, &l->library[i], st) ||
        !op_decode(buf_slice(&l->op), NULL, &op, st)) {
        return false;
    }
    struct snapshot_op item = {.op = &op};
    l->created[i] = true;
    return l->fn(&item, l->ctx, st);
}

static bool find_library(const struct loading *l, const struct uuid *id, size_t *ret) {
    for (size_t i = 0; i < l->v->library_count; i++) {
        if (uuid_equal(&l->v->library[i].id, id)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

static bool hand_out_document(struct loading *l, const struct snapshot_library *library, struct slice line, struct status *st) {
    struct op op;
    struct snapshot_op item = {.op = &op, .dimension = library->dimension, .model_fingerprint = library->model_fingerprint};
    return snapshot_parse_document(&l->parser, library, line, &op, &item.vectors, st) && l->fn(&item, l->ctx, st);
}

static bool load_documents(struct loading *l, const struct unpacked_entry *entry, struct slice content, struct status *st) {
    size_t library = 0;
    if (!find_library(l, &entry->what.library, &library)) {
        return status_set(st, STATUS_MALFORMED, "%s: its library.json is missing", entry->name);
    }
    if (!create_library(l, library, st)) {
        return false;
    }
    uint64_t number = 0;
    for (size_t at = 0; at < content.len;) {
        const uint8_t *line = content.data + at;
        const uint8_t *newline = (const uint8_t *)memchr(line, '\n', content.len - at);
        size_t len = newline != NULL ? (size_t)(newline - line) : content.len - at;
        at += len + 1;
        number++;
        struct status failed = {0};
        if (len > 0 && !hand_out_document(l, &l->library[library], slice_of(line, len), &failed)) {
            if (st != NULL) {
                *st = failed;
                (void)status_set(st, failed.code, "%s, line %llu: %.200s", entry->name, (unsigned long long)number,
                                 failed.detail);
                st->subject = failed.subject;
                st->sys_errno = failed.sys_errno;
            }
            return false;
        }
    }
    return true;
}

static bool load_entries(struct loading *l, int fd, const char *name, struct status *st) {
    struct unpacking u = {0};
    struct unpacked_entry entry;
    struct buf content = {0};
    bool end = false;
    bool ok = unpacking_begin(&u, fd, name, l->limits, st);
    while (ok && (ok = unpacking_next(&u, &entry, &end, st)) && !end) {
        if (entry.what.kind != ENTRY_DOCUMENTS) {
            continue;
        }
        ok = unpacking_read(&u, &entry, &content, st);
        if (ok && !verified_matches(l->v, entry.name, buf_slice(&content))) {
            ok = status_set(st, STATUS_CORRUPT, "snapshot %s: %s changed while it was read", name, entry.name);
        }
        ok = ok && load_documents(l, &entry, buf_slice(&content), st);
    }
    for (size_t i = 0; ok && i < l->v->library_count; i++) {
        ok = create_library(l, i, st);
    }
    unpacking_end(&u);
    buf_fini(&content);
    return ok;
}

bool snapshot_load_verified(int fd, const struct verified *v, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                            struct status *st) {
    struct loading l = {.v = v, .limits = limits, .fn = fn, .ctx = ctx};
    l.library = (struct snapshot_library *)calloc(v->library_count + 1, sizeof *l.library);
    l.created = (bool *)calloc(v->library_count + 1, sizeof *l.created);
    bool ok = l.library != NULL && l.created != NULL ? load_entries(&l, fd, v->info.name, st) : status_no_memory(st);
    free(l.library);
    free(l.created);
    document_parser_fini(&l.parser);
    buf_fini(&l.op);
    return ok;
}

bool snapshot_open_verified(int snapshots_dir_fd, const char *name, const struct limits *limits, int *ret_fd,
                            struct verified *ret, struct status *st) {
    int fd = -1;
    if (!open_snapshot(snapshots_dir_fd, name, &fd, st)) {
        return false;
    }
    if (!snapshot_verify_open(fd, name, limits, ret, st)) {
        io_close(&fd);
        return false;
    }
    *ret_fd = fd;
    return true;
}

bool snapshot_load(int snapshots_dir_fd, const char *name, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                   struct snapshot_info *ret, struct status *st) {
    struct verified v = {0};
    int fd = -1;
    bool ok = snapshot_open_verified(snapshots_dir_fd, name, limits, &fd, &v, st) &&
              snapshot_load_verified(fd, &v, limits, fn, ctx, st);
    if (ok) {
        *ret = v.info;
    }
    verified_fini(&v);
    io_close(&fd);
    return ok;
}
