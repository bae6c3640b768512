/*
 * snapshot_read.c - loading a snapshot.
 *
 * Two passes over each archive: the first (snapshot_archive.c, snapshot_chain.c) holds every entry against SHA256SUMS and finds which libraries count, the
 * second parses entries and hands them out as ops, each after it was summed once more. A library comes before its documents wherever they stand, because
 * the first pass has kept every library.json.
 */
#include "durable/snapshot_read.h"

#include "durable/snapshot_parse.h"

#include <math.h>
#include <stdlib.h>

enum { VECTORS_AT_ONCE = 256 /* 4 MiB of the widest */ };

bool snapshot_verify(int snapshots_dir_fd, const char *name, struct snapshot_info *ret, struct status *st) {
    struct snapshot_chain *chain = NULL;
    if (!snapshot_open_verified(snapshots_dir_fd, name, NULL, &chain, st)) {
        return false;
    }
    *ret = *snapshot_chain_info(chain);
    snapshot_chain_free(chain);
    return true;
}

/* --- loading --- */

struct loading {
    const struct snapshot_link *link;
    const struct verified *v; /* of that */
    const struct limits *limits;
    snapshot_op_fn fn;
    void *ctx;
    struct snapshot_library *library; /* as v->library; created[i] says whether it was handed out */
    bool *created;
    struct document_parser parser;
    struct buf op;
    struct buf vectors_op;
};

/* count 0: only what model the library's vectors are of. */
static bool hand_out_vectors(struct loading *l, const struct snapshot_library *library, bool other, const struct op_vector_of *of, uint32_t count,
                             struct status *st) {
    struct op op;
    struct snapshot_op item = {.op = &op};
    buf_reset(&l->vectors_op);
    const struct op_vectors head = {.other = other,
                                    .fingerprint = other ? library->other_fingerprint : library->model_fingerprint,
                                    .dimension = other ? library->other_dimension : library->dimension,
                                    .count = count};
    op_encode_vectors_of(&l->vectors_op, &library->id, &head, of);
    return buf_check(&l->vectors_op, st) && op_decode(buf_slice(&l->vectors_op), NULL, &op, st) && l->fn(&item, l->ctx, st);
}

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
    return l->fn(&item, l->ctx, st) && (!l->library[i].pinned || hand_out_vectors(l, &l->library[i], false, NULL, 0, st));
}

/* The vectors of a document that a provider has made, where they are not missing (NaN first), some MB at a time. */
static bool hand_out_document_vectors(struct loading *l, const struct snapshot_library *library, bool other, const struct op_document *d,
                                      const float *vectors, struct status *st) {
    uint32_t dimension = other ? library->other_dimension : library->dimension;
    struct op_vector_of of[VECTORS_AT_ONCE];
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    uint32_t count = 0;
    bool ok = true;
    for (uint32_t i = 0; ok && i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        const float *values = vectors + (size_t)i * dimension;
        if (isnan(values[0])) {
            continue;
        }
        of[count++] = (struct op_vector_of){.id = chunk.id, .text_hash = text_hash(chunk.text), .values = values};
        if (count == VECTORS_AT_ONCE) {
            ok = hand_out_vectors(l, library, other, of, count, st);
            count = 0;
        }
    }
    return ok && (count == 0 || hand_out_vectors(l, library, other, of, count, st));
}

static bool hand_out_document(struct loading *l, const struct snapshot_library *library, struct slice line, struct status *st) {
    struct op op;
    struct snapshot_op item = {.op = &op, .dimension = library->dimension, .model_fingerprint = library->model_fingerprint};
    const float *others = NULL;
    if (!snapshot_parse_document(&l->parser, library, line, &op, &item.vectors, &others, st)) {
        return false;
    }
    const float *vectors = item.vectors;
    item.vectors = library->pinned ? NULL : vectors;
    return l->fn(&item, l->ctx, st) &&
           (!library->pinned || vectors == NULL || hand_out_document_vectors(l, library, false, &op.as.document, vectors, st)) &&
           (others == NULL || hand_out_document_vectors(l, library, true, &op.as.document, others, st));
}

static bool load_documents(struct loading *l, const struct unpacked_entry *entry, struct slice content, struct status *st) {
    size_t library = 0;
    if (!verified_find_library(l->v, &entry->what.library, &library)) {
        return status_set(st, STATUS_MALFORMED, "%s: its library.json is missing", entry->name);
    }
    if (!l->link->taken[library]) {
        return true;
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

static bool load_entry(struct loading *l, struct unpacking *u, const struct unpacked_entry *entry, struct buf *content, struct status *st) {
    if (!unpacking_read(u, entry, content, st)) {
        return false;
    }
    if (!verified_matches(l->v, entry->name, buf_slice(content))) {
        return status_set(st, STATUS_CORRUPT, "snapshot %s: %s changed while it was read", u->name, entry->name);
    }
    return load_documents(l, entry, buf_slice(content), st);
}

static bool load_entries(struct loading *l, struct status *st) {
    struct unpacking u = {0};
    struct unpacked_entry entry;
    struct buf content = {0};
    bool end = false;
    bool ok = unpacking_begin(&u, l->link->fd, l->v->manifest.info.name, l->limits, st);
    while (ok && (ok = unpacking_next(&u, &entry, &end, st)) && !end) {
        ok = entry.what.kind != ENTRY_DOCUMENTS || load_entry(l, &u, &entry, &content, st);
    }
    for (size_t i = 0; ok && i < l->v->library_count; i++) {
        ok = !l->link->taken[i] || create_library(l, i, st);
    }
    unpacking_end(&u);
    buf_fini(&content);
    return ok;
}

static bool load_link(const struct snapshot_link *link, const struct limits *limits, snapshot_op_fn fn, void *ctx, struct status *st) {
    struct loading l = {.link = link, .v = &link->v, .limits = limits, .fn = fn, .ctx = ctx};
    l.library = (struct snapshot_library *)calloc(link->v.library_count + 1, sizeof *l.library);
    l.created = (bool *)calloc(link->v.library_count + 1, sizeof *l.created);
    bool ok = l.library != NULL && l.created != NULL ? load_entries(&l, st) : status_no_memory(st);
    free(l.library);
    free(l.created);
    document_parser_fini(&l.parser);
    buf_fini(&l.op);
    buf_fini(&l.vectors_op);
    return ok;
}

bool snapshot_load_verified(const struct snapshot_chain *c, const struct limits *limits, snapshot_op_fn fn, void *ctx, struct status *st) {
    bool ok = true;
    for (size_t i = c->count; ok && i > 0; i--) {
        ok = load_link(&c->links[i - 1], limits, fn, ctx, st);
    }
    return ok;
}

bool snapshot_load(int snapshots_dir_fd, const char *name, const struct limits *limits, snapshot_op_fn fn, void *ctx,
                   struct snapshot_info *ret, struct status *st) {
    struct snapshot_chain *chain = NULL;
    if (!snapshot_open_verified(snapshots_dir_fd, name, limits, &chain, st)) {
        return false;
    }
    bool ok = snapshot_load_verified(chain, limits, fn, ctx, st);
    if (ok) {
        *ret = *snapshot_chain_info(chain);
    }
    snapshot_chain_free(chain);
    return ok;
}
