/*
 * snapshot_write.c - writing a snapshot: a plain archive that needs no tool of ours.
 *
 *   manifest.json                                 what this is, when, up to which LSN, what it rests on (null: it is whole), and each library's
 *                                                 id, name and counts
 *   libraries/<id>/library.json                   a library as defined
 *   libraries/<id>/documents-000001.jsonl ...     a document with its chunks a line, in the order of writing; closed at 8 MiB
 *   idempotency.jsonl                             what is remembered of requests with an Idempotency-Key, one a line; left out when
 *                                                 there is none (store/idempotency.h)
 *   api_keys.jsonl                                the API keys, without their secrets (snapshot_api_keys.h); left out when there is none
 *   SHA256SUMS                                    of all the others, in the form of `sha256sum -c`
 *
 * The archive is tar (pax), as it is or compressed by gzip, zstd or xz. So `tar --zstd -xf` unpacks it, `sha256sum -c SHA256SUMS` checks it,
 * and `jq` reads all of it. One who edits a document makes the sums anew and packs it again: the order of the entries does not
 * matter to the reader, nor do directories, nor by what it is compressed.
 *
 *   manifest.json  {"kind": "quire snapshot", "format": 1 (whole) or 2 (incremental), "written_by", "created_at", "lsn", "log" (16 hex digits: the stretch of
 *                  the log where it was cut), "base": null or {"archive", "sha256sums" (SHA-256 of the base's SHA256SUMS), "lsn"}, "depth"? (archives behind
 *                  it), "num_documents", "num_chunks", "libraries": [{"id", "name", "num_documents", "num_chunks", "vectors", "archive"?}]}
 *                  The libraries are all that exist at the LSN; "archive" is where one is that is not in this archive, because nothing of it changed since
 *                  the base. Counts are of the whole state. What is in an incremental archive is what changed at LSNs above base.lsn, up to lsn.
 *   library.json   {"id", "name", "description"?, "created_at", "language"?, "embedding_model", "model_fingerprint" (16 hex digits;
 *                  zeros: the caller brings the vectors), "model_pinned"? (true: a provider made the vectors, and they are here), "dimension", "index_type", "index_config": {"M", "ef_construction",
 *                  "ef_search"}, "quantization": {"strategy", "bits", "rerank_top_k"}, "on_embedding_failure",
 *                  "snapshot_vectors", "num_documents", "num_chunks", "custom"?: {}, "exchange"?: {"state": "building", "kept" or "returning",
 *                  "since", "task", and of the other model "embedding_model", "model_fingerprint", "dimension"}}
 *   a line         {"id", "metadata": {"title"?, "author"?, "created_at", "document_type"?, "source_url"?, "tags"?: [],
 *                  "custom"?: {}}, "chunks": [{"id", "text", "metadata"?: {"page_number"?, "custom"?: {}}, "embedding"?,
 *                  "embedding_of"?}]}
 *
 * That is the API's document, but for what it can compute (chunk_index, source_document_id) and for custom metadata, which stands
 * in an object of its own, so that no key of the caller's can be taken for one of ours. What is empty is left out. "embedding" is
 * the base64 of little-endian float32, as the API takes it, and so is "other_embedding", of the other model of an exchange where a provider made it: for vectors that callers brought always, for those of a model when
 * the library says snapshot_vectors or the configuration snapshot_include_embeddings; the latter with "embedding_of", 16 hex digits of the text's hash, so that a text that
 * somebody changed is embedded anew. (In the line and not in a file of its own, so that a document stays one thing when somebody
 * edits, moves or deletes it.) Values that JSON cannot carry: see snapshot_json.c.
 *
 * Dead documents and chunks are not in it; what follows a deleted chunk of a document moves up by one place.
 *
 * Publication: a temporary name, fsync, rename, fsync of the directory. A crash leaves a temporary file, which snapshot_prune
 * removes; the flock on it tells it from one that is being written.
 */
#include "durable/snapshot.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "durable/snapshot_format.h"
#include "durable/snapshot_json.h"
#include "durable/snapshot_plan.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

enum {
    BLOCK_BYTES = 256 * 1024,
    FILE_MODE = 0600,
    ENTRY_MODE = 0644,
    NAME_ATTEMPTS = 3600, /* seconds to go ahead of the clock where names are taken */
    SUM_TEXT = 65
};
#define US_PER_SECOND 1000000

/* --- the cut --- */

bool snapshot_cut_take(struct catalog *c, struct snapshot_cut *ret, struct status *st) {
    struct snapshot_cut cut = {.lsn = catalog_published_lsn(c)};
    if (!catalog_acquire_all(c, &cut.libraries, &cut.count, st)) {
        return false;
    }
    cut.readings = (struct reading *)calloc(cut.count + 1, sizeof *cut.readings);
    cut.changed = (uint64_t *)calloc(cut.count + 1, sizeof *cut.changed);
    if (cut.readings == NULL || cut.changed == NULL) {
        snapshot_cut_release(c, &cut);
        return status_no_memory(st);
    }
    size_t kept = 0;
    for (size_t i = 0; i < cut.count; i++) {
        library_reading(cut.libraries[i], &cut.readings[kept]);
        if (cut.readings[kept].view.live == 0) { /* created, but not published yet */
            catalog_release(c, cut.libraries[i]);
            continue;
        }
        cut.changed[kept] = cut.readings[kept].view.lsn;
        cut.readings[kept].view.lsn = cut.lsn;
        cut.libraries[kept] = cut.libraries[i];
        kept++;
    }
    cut.count = kept;
    *ret = cut;
    return true;
}

void snapshot_cut_release(struct catalog *c, struct snapshot_cut *cut) {
    for (size_t i = 0; i < cut->count; i++) {
        catalog_release(c, cut->libraries[i]);
    }
    free(cut->libraries);
    free(cut->readings);
    free(cut->changed);
    buf_fini(&cut->api_keys);
    *cut = (struct snapshot_cut){0};
}

/* --- the archive --- */

struct packing {
    int dir_fd;
    const struct snapshot_options *options;
    const struct snapshot_plan *plan;
    int fd;
    char name[SNAPSHOT_NAME_MAX];
    char temporary[SNAPSHOT_NAME_MAX + sizeof SNAPSHOT_TEMPORARY_SUFFIX];
    struct archive *archive;
    uint64_t offset;
    int64_t created_at;
    struct buf manifest;
    struct buf sums;
    bool failed;      /* what libarchive still wants to write is let go */
    struct status st; /* of the call that failed inside libarchive */
};

/* libarchive 3.6 does not free the buffers of an archive that failed. So a failure is kept here, and libarchive is told that all
 * is well until it has closed. */
static la_ssize_t write_block(struct archive *a, void *ctx, const void *data, size_t len) {
    struct packing *p = (struct packing *)ctx;
    (void)a;
    if (!p->failed) {
        p->failed = !io_pwrite_full(p->fd, data, len, (off_t)p->offset, &p->st);
        p->offset += len;
    }
    return (la_ssize_t)len;
}

/* After a call of libarchive: it went well, or why it did not. */
static bool archive_went(struct packing *p, bool ok, struct status *st) {
    if (p->failed) {
        if (st != NULL) {
            *st = p->st;
        }
        return false;
    }
    if (ok) {
        return true;
    }
    int err = archive_errno(p->archive);
    if (err == ENOMEM) {
        return status_no_memory(st);
    }
    const char *why = archive_error_string(p->archive);
    return status_set(st, STATUS_INTERNAL, "cannot write the snapshot %s: %s", p->name,
                      why != NULL ? why : "libarchive does not say why");
}

static bool add_filter(struct archive *a, const struct snapshot_options *options) {
    static const struct {
        int filter;
        const char *name;
        unsigned preset;
    } filters[] = {[SNAPSHOT_PLAIN] = {ARCHIVE_FILTER_NONE, NULL, 0},
                   [SNAPSHOT_GZIP] = {ARCHIVE_FILTER_GZIP, "gzip", 6},
                   [SNAPSHOT_ZSTD] = {ARCHIVE_FILTER_ZSTD, "zstd", 3},
                   [SNAPSHOT_XZ] = {ARCHIVE_FILTER_XZ, "xz", 6}};
    char level[16];
    (void)snprintf(level, sizeof level, "%u", options->level != 0 ? options->level : filters[options->compression].preset);
    const char *name = filters[options->compression].name;
    return archive_write_add_filter(a, filters[options->compression].filter) == ARCHIVE_OK &&
           (name == NULL || archive_write_set_filter_option(a, name, "compression-level", level) == ARCHIVE_OK);
}

static bool open_archive(struct packing *p, struct status *st) {
    p->archive = archive_write_new();
    if (p->archive == NULL) {
        return status_no_memory(st);
    }
    struct archive *a = p->archive;
    bool ok = archive_write_set_format_pax_restricted(a) == ARCHIVE_OK && add_filter(a, p->options) &&
              archive_write_set_bytes_per_block(a, BLOCK_BYTES) == ARCHIVE_OK &&
              archive_write_set_bytes_in_last_block(a, 1) == ARCHIVE_OK &&
              archive_write_open(a, p, NULL, write_block, NULL) == ARCHIVE_OK;
    return archive_went(p, ok, st);
}

static bool write_entry(struct packing *p, const char *name, struct slice content, struct status *st) {
    struct archive_entry *entry = archive_entry_new();
    if (entry == NULL) {
        return status_no_memory(st);
    }
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, ENTRY_MODE);
    archive_entry_set_size(entry, (la_int64_t)content.len);
    archive_entry_set_mtime(entry, (time_t)(p->created_at / US_PER_SECOND), 0);
    bool ok = archive_write_header(p->archive, entry) == ARCHIVE_OK &&
              (content.len == 0 || archive_write_data(p->archive, content.data, content.len) == (la_ssize_t)content.len);
    archive_entry_free(entry);
    return archive_went(p, ok, st);
}

/* An entry, and its line in SHA256SUMS. */
static bool add_entry(struct packing *p, const char *name, struct slice content, struct status *st) {
    char sum[SUM_TEXT];
    sha256_hex(content.data, content.len, sum);
    buf_printf(&p->sums, "%s  %s\n", sum, name);
    return buf_check(&p->sums, st) && write_entry(p, name, content, st);
}

/* --- names --- */

/* Whether no archive of that second is there, however it is compressed. */
static bool is_free(int dir_fd, const char *when) {
    for (int i = SNAPSHOT_PLAIN; i <= SNAPSHOT_XZ; i++) {
        char name[SNAPSHOT_NAME_MAX];
        (void)snprintf(name, sizeof name, "snapshot_%s%s", when, snapshot_suffix((enum snapshot_compression)i));
        if (faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            return false;
        }
    }
    return true;
}

/* A temporary file of our own whose final name is free: two snapshots within one second take neighbouring ones. */
static bool open_temporary(struct packing *p, struct status *st) {
    for (int64_t ahead = 0; ahead < NAME_ATTEMPTS; ahead++) {
        char when[16];
        struct status failed = {0};
        date_time_format(p->created_at + ahead * US_PER_SECOND, when);
        (void)snprintf(p->name, sizeof p->name, "snapshot_%s%s", when, snapshot_suffix(p->options->compression));
        (void)snprintf(p->temporary, sizeof p->temporary, ".%s" SNAPSHOT_TEMPORARY_SUFFIX, p->name);
        if (!is_free(p->dir_fd, when)) {
            continue;
        }
        if (io_open_at(p->dir_fd, p->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, FILE_MODE, &p->fd, &failed)) {
            if (flock(p->fd, LOCK_EX | LOCK_NB) != 0) {
                return status_set_errno(st, errno, "cannot lock %s", p->temporary);
            }
            return true;
        }
        if (failed.sys_errno != EEXIST) {
            *st = failed;
            return false;
        }
    }
    return status_set(st, STATUS_CONFLICT, "no name is free for a snapshot near %s", p->name);
}

/* --- content --- */

static bool cancelled(const bool *cancel) {
    return cancel != NULL && __atomic_load_n(cancel, __ATOMIC_RELAXED);
}

struct documents_file {
    struct buf content;
    uint32_t number;
};

static bool close_documents_file(struct packing *p, const struct uuid *library, struct documents_file *f, struct status *st) {
    char name[SNAPSHOT_ENTRY_MAX];
    if (f->content.len == 0) {
        return true;
    }
    if (f->number == SNAPSHOT_DOCUMENTS_FILES_MAX) {
        return status_set(st, STATUS_TOO_LARGE, "a library has more documents than a snapshot can hold");
    }
    snapshot_documents_entry(library, ++f->number, name);
    bool ok = add_entry(p, name, buf_slice(&f->content), st);
    buf_reset(&f->content);
    return ok;
}

static bool write_documents(struct packing *p, const struct reading *rd, bool vectors, const struct other_vectors *other, const bool *cancel,
                            struct buf *content, struct status *st) {
    struct documents_file f = {.content = *content};
    buf_reset(&f.content);
    bool ok = true;
    for (uint32_t row = reading_next_document(rd, 0); ok && row != ROW_NONE; row = reading_next_document(rd, row + 1)) {
        if (cancelled(cancel)) {
            ok = status_set(st, STATUS_BUSY, "the snapshot was called off");
        } else {
            ok = snapshot_put_document(&f.content, rd, row, vectors, other, st) &&
                 (f.content.len < SNAPSHOT_DOCUMENTS_BYTES || close_documents_file(p, &rd->view.id, &f, st));
        }
    }
    ok = ok && close_documents_file(p, &rd->view.id, &f, st);
    *content = f.content; /* its memory serves the next library */
    return ok;
}

static bool write_library(struct packing *p, struct library *lib, const struct reading *rd, bool vectors, const bool *cancel, struct buf *content,
                          struct status *st) {
    struct library_definition d;
    char name[SNAPSHOT_ENTRY_MAX];
    if (!reading_definition(rd, &d, st)) {
        return false;
    }
    buf_reset(content);
    snapshot_put_library(content, &rd->view, &d);
    snapshot_library_entry(&rd->view.id, name);
    struct other_vectors *other = NULL;
    bool ok = buf_check(content, st) && add_entry(p, name, buf_slice(content), st) && library_open_other(lib, rd, &other, st) &&
              write_documents(p, rd, vectors, other, cancel, content, st);
    other_vectors_close(other);
    return ok;
}

static bool write_keys(struct packing *p, const struct snapshot_cut *cut, struct buf *content, struct status *st) {
    buf_reset(content);
    if (cut->keys != NULL) {
        idempotency_write_jsonl(cut->keys, cut->lsn, content);
    }
    return buf_check(content, st) && (content->len == 0 || add_entry(p, SNAPSHOT_KEYS, buf_slice(content), st));
}

static bool write_api_keys(struct packing *p, const struct snapshot_cut *cut, struct status *st) {
    return buf_check(&cut->api_keys, st) && (cut->api_keys.len == 0 || add_entry(p, SNAPSHOT_API_KEYS, buf_slice(&cut->api_keys), st));
}

static bool write_content(struct packing *p, const struct snapshot_cut *cut, const bool *cancel, struct status *st) {
    struct buf content = {0};
    bool ok = add_entry(p, SNAPSHOT_MANIFEST, buf_slice(&p->manifest), st);
    for (size_t i = 0; ok && i < cut->count; i++) {
        ok = p->plan->where[i] != NULL || write_library(p, cut->libraries[i], &cut->readings[i], p->plan->vectors[i], cancel, &content, st);
    }
    ok = ok && write_keys(p, cut, &content, st) && write_api_keys(p, cut, st);
    buf_fini(&content);
    return ok && write_entry(p, SNAPSHOT_SUMS, buf_slice(&p->sums), st) &&
           archive_went(p, archive_write_close(p->archive) == ARCHIVE_OK, st);
}

static struct snapshot_info info_of(const struct snapshot_cut *cut) {
    struct snapshot_info info = {
        .created_at = clock_wall_us(), .lsn = cut->lsn, .log_place = cut->log_place, .libraries = (uint32_t)cut->count};
    for (size_t i = 0; i < cut->count; i++) {
        info.documents += cut->readings[i].view.live_documents;
        info.chunks += cut->readings[i].view.live_chunks;
    }
    return info;
}

/* Once it is renamed, the temporary name is none of ours any more. */
static bool publish(struct packing *p, struct status *st) {
    if (!io_fsync(p->fd, p->temporary, st) || !io_rename_at(p->dir_fd, p->temporary, p->dir_fd, p->name, st)) {
        return false;
    }
    p->temporary[0] = '\0';
    return io_fsync(p->dir_fd, "snapshots/", st);
}

static bool pack(struct packing *p, const struct snapshot_cut *cut, const bool *cancel, struct snapshot_info *info, struct status *st) {
    bool ok = false;
    if (!open_temporary(p, st)) {
        io_close(&p->fd);
        return false;
    }
    if (open_archive(p, st) && snapshot_put_manifest(&p->manifest, cut, p->plan, info, st) && write_content(p, cut, cancel, st) && publish(p, st)) {
        memcpy(info->name, p->name, sizeof info->name);
        info->bytes = p->offset;
        ok = true;
    }
    if (p->archive != NULL) {
        p->failed = p->failed || !ok; /* freeing it writes the rest of what was begun */
        (void)archive_write_free(p->archive);
    }
    if (!ok && p->temporary[0] != '\0') {
        struct status ignored;
        (void)!io_unlink_at(p->dir_fd, p->temporary, &ignored); /* what stays is removed by snapshot_prune */
    }
    io_close(&p->fd);
    return ok;
}

bool snapshot_write(int snapshots_dir_fd, const struct snapshot_cut *cut, const struct snapshot_options *options, const bool *cancel,
                    struct snapshot_info *ret, struct snapshot_base **ret_base, struct status *st) {
    struct snapshot_info info = info_of(cut);
    struct snapshot_plan plan = {0};
    struct packing p = {.dir_fd = snapshots_dir_fd, .options = options, .plan = &plan, .fd = -1, .created_at = info.created_at};
    bool ok = snapshot_plan_make(snapshots_dir_fd, cut, options, &plan, st) && pack(&p, cut, cancel, &info, st);
    if (ok && plan.base != NULL) {
        const struct snapshot_info *base = snapshot_base_info(plan.base);
        memcpy(info.base, base->name, sizeof info.base);
        info.base_lsn = base->lsn;
        info.depth = base->depth + 1;
    }
    if (ok && ret_base != NULL) {
        struct status ignored;
        /* Without it the next one is whole, no more. */
        *ret_base = snapshot_base_made(plan.base, &info, buf_slice(&p.manifest), buf_slice(&p.sums), &ignored);
    }
    if (ok) {
        *ret = info;
    }
    snapshot_plan_fini(&plan);
    buf_fini(&p.manifest);
    buf_fini(&p.sums);
    return ok;
}
