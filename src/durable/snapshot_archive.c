/*
 * snapshot_archive.c - reading the entries of a snapshot and holding them against SHA256SUMS.
 *
 * An archive is trusted no more than a request. Only tar is understood, as it is or packed once by gzip, zstd or xz, which the content tells. Entries are regular files with names that we
 * generate, nothing else: no links, devices, sparse files, absolute or upward names; no name twice; each listed in SHA256SUMS
 * exactly once, and nothing listed that is not there. (People pack directories, too, and names with a leading "./": those are
 * passed over.) Content goes to memory, never to the disk, and memory grows with what was really read, not with what a header
 * claims. The bounds:
 *
 *   entries of one archive      1,000,000
 *   one entry                   8 MiB, and eight times the largest op that the configuration admits (JSON escapes may take six
 * bytes for one) all entries together        1 GiB, and 20,000 times the archive's own size (zstd packs a run of one byte 32,768
 * to 1)
 *
 * Nothing is handed out of an archive before the sums of all entries hold. The second pass, which hands out, sums each entry
 * again, so it does not matter whether the file changed in between.
 */
#include "durable/snapshot_archive.h"

#include "base/hash.h"
#include "base/io.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    BLOCK_BYTES = 256 * 1024,
    READ_STEP = 1024 * 1024,
    ENTRIES_MAX = 1000000,
    ENTRIES_FIRST_CAP = 64,
    OP_TIMES = 8,
    HEX_DIGITS = 2 * SHA256_BYTES
};
#define UNPACKED_FREE ((uint64_t)1 << 30)
#define UNPACKED_RATIO 20000
#define LIBRARIES_MAX ((size_t)1 << 30) /* bytes of all library.json */

/* --- one pass --- */

static la_ssize_t read_block(struct archive *a, void *ctx, const void **ret) {
    struct unpacking *u = (struct unpacking *)ctx;
    size_t have = 0;
    if (u->cancel != NULL && __atomic_load_n(u->cancel, __ATOMIC_RELAXED)) {
        (void)status_set(&u->st, STATUS_BUSY, "reading the snapshot was called off");
        archive_set_error(a, EINTR, "%s", u->st.detail);
        return -1;
    }
    if (!io_pread(u->fd, u->block, BLOCK_BYTES, (off_t)u->offset, &have, &u->st)) {
        archive_set_error(a, u->st.sys_errno, "%s", u->st.detail);
        return -1;
    }
    u->offset += have;
    *ret = u->block;
    return (la_ssize_t)have;
}

static bool malformed(const struct unpacking *u, const char *what, struct status *st) {
    return status_set(st, STATUS_MALFORMED, "snapshot %s: %s", u->name, what);
}

static bool unpack_failed(struct unpacking *u, struct status *st) {
    if (u->st.code != STATUS_OK) {
        if (st != NULL) {
            *st = u->st;
        }
        return false;
    }
    if (archive_errno(u->archive) == ENOMEM) {
        return status_no_memory(st);
    }
    const char *why = archive_error_string(u->archive);
    return malformed(u, why != NULL ? why : "it is no tar archive, plain or packed by gzip, zstd or xz", st);
}

bool unpacking_begin(struct unpacking *u, int fd, const char *name, const struct limits *limits, struct status *st) {
    struct limits usual;
    off_t size = 0;
    /* A limit that was lowered since must not make a snapshot unreadable, so the preset counts where it is larger. */
    if (limits != NULL) {
        limits_default(&usual);
    } else {
        limits_widest(&usual);
    }
    uint64_t op = limits != NULL && limits->max_op_bytes > usual.max_op_bytes ? limits->max_op_bytes : usual.max_op_bytes;
    *u = (struct unpacking){.fd = fd, .name = name, .entry_max = SNAPSHOT_DOCUMENTS_BYTES + OP_TIMES * op, .cancel = u->cancel};
    if (!io_size(fd, &size, st)) {
        return false;
    }
    u->size = (uint64_t)size;
    u->archive = archive_read_new();
    u->block = (uint8_t *)malloc(BLOCK_BYTES);
    if (u->archive == NULL || u->block == NULL) {
        return status_no_memory(st);
    }
    /* ARCHIVE_OK, not ARCHIVE_WARN: that would mean another program is started for it. */
    bool ok = archive_read_support_filter_zstd(u->archive) == ARCHIVE_OK &&
              archive_read_support_filter_gzip(u->archive) == ARCHIVE_OK &&
              archive_read_support_filter_xz(u->archive) == ARCHIVE_OK &&
              archive_read_support_format_tar(u->archive) == ARCHIVE_OK &&
              archive_read_open(u->archive, u, NULL, read_block, NULL) == ARCHIVE_OK;
    if (!ok) {
        return unpack_failed(u, st);
    }
    /* libarchive looks for one packing within another; a bomb would be made so. The last filter it counts is none. */
    return archive_filter_count(u->archive) <= 2 || malformed(u, "it is packed more than once", st);
}

void unpacking_end(struct unpacking *u) {
    if (u->archive != NULL) {
        (void)archive_read_free(u->archive);
    }
    free(u->block);
    *u = (struct unpacking){0};
}

static bool plain_file(struct archive_entry *entry) {
    return archive_entry_filetype(entry) == AE_IFREG && archive_entry_hardlink(entry) == NULL &&
           archive_entry_symlink(entry) == NULL && archive_entry_sparse_count(entry) == 0 &&
           archive_entry_size_is_set(entry) != 0 && archive_entry_size(entry) >= 0;
}

/* The name, when it is one that can be ours; the kind decides later. */
static bool entry_name(struct archive_entry *entry, char out[SNAPSHOT_ENTRY_MAX]) {
    const char *name = archive_entry_pathname(entry);
    if (name == NULL) {
        return false;
    }
    if (strncmp(name, "./", 2) == 0) {
        name += 2;
    }
    size_t len = strlen(name);
    if (len >= SNAPSHOT_ENTRY_MAX) {
        return false;
    }
    memcpy(out, name, len + 1);
    return true;
}

bool unpacking_next(struct unpacking *u, struct unpacked_entry *ret, bool *ret_end, struct status *st) {
    for (;;) {
        struct archive_entry *entry = NULL;
        int result = archive_read_next_header(u->archive, &entry);
        *ret_end = result == ARCHIVE_EOF;
        if (result == ARCHIVE_EOF) {
            return true;
        }
        if (result != ARCHIVE_OK) {
            return unpack_failed(u, st);
        }
        if (++u->entries > ENTRIES_MAX) {
            return malformed(u, "it has too many entries", st);
        }
        if (!entry_name(entry, ret->name)) {
            return malformed(u, "an entry has a name that no snapshot has", st);
        }
        snapshot_entry_parse(ret->name, &ret->what);
        if (ret->what.kind == ENTRY_DIRECTORY && archive_entry_filetype(entry) == AE_IFDIR) {
            continue;
        }
        if (ret->what.kind == ENTRY_UNKNOWN || ret->what.kind == ENTRY_DIRECTORY || !plain_file(entry)) {
            return malformed(u, "an entry is none that a snapshot has: only regular files under the names that quire gives", st);
        }
        ret->size = (uint64_t)archive_entry_size(entry);
        if (ret->size > u->entry_max) {
            return status_set(st, STATUS_TOO_LARGE,
                              "snapshot %s: %s has %" PRIu64 " bytes, at most %" PRIu64 " are taken (see max_op_bytes)", u->name,
                              ret->name, ret->size, u->entry_max);
        }
        return true;
    }
}

bool unpacking_read(struct unpacking *u, const struct unpacked_entry *entry, struct buf *content, struct status *st) {
    buf_reset(content);
    while (content->len < entry->size) {
        uint64_t left = entry->size - content->len;
        size_t step = left < READ_STEP ? (size_t)left : READ_STEP;
        if (!buf_reserve(content, step)) {
            return status_no_memory(st);
        }
        la_ssize_t got = archive_read_data(u->archive, content->data + content->len, step);
        if (got < 0) {
            return unpack_failed(u, st);
        }
        if (got == 0) {
            return malformed(u, "an entry is shorter than its header says", st);
        }
        content->len += (size_t)got;
        u->unpacked += (uint64_t)got;
        if (u->unpacked > UNPACKED_FREE && (u->unpacked - UNPACKED_FREE) / UNPACKED_RATIO > u->size) {
            return malformed(u, "it unpacks to more than any text does", st);
        }
    }
    return true;
}

/* --- the sums --- */

struct verifying {
    struct unpacking u;
    struct verified found;
    size_t entry_cap;
    size_t library_cap;
    struct buf sums; /* SHA256SUMS */
    bool has_sums;
    bool has_manifest;
};

static bool note_entry(struct verifying *v, const char *name, struct slice content, struct status *st) {
    if (v->found.entry_count == v->entry_cap) {
        size_t cap = v->entry_cap == 0 ? ENTRIES_FIRST_CAP : v->entry_cap * 2;
        struct summed_entry *grown = (struct summed_entry *)realloc(v->found.entries, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        v->found.entries = grown;
        v->entry_cap = cap;
    }
    struct summed_entry *e = &v->found.entries[v->found.entry_count++];
    memcpy(e->name, name, strlen(name) + 1);
    sha256(content.data, content.len, e->sum);
    return true;
}

static bool note_library(struct verifying *v, const struct uuid *id, struct slice content, struct status *st) {
    if (v->found.library_count == v->library_cap) {
        size_t cap = v->library_cap == 0 ? ENTRIES_FIRST_CAP : v->library_cap * 2;
        struct verified_library *grown = (struct verified_library *)realloc(v->found.library, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        v->found.library = grown;
        v->library_cap = cap;
    }
    if (content.len > LIBRARIES_MAX - v->found.libraries.len) {
        return malformed(&v->u, "its libraries are too large", st);
    }
    v->found.library[v->found.library_count++] =
        (struct verified_library){.id = *id, .at = v->found.libraries.len, .len = content.len};
    buf_put_slice(&v->found.libraries, content);
    return buf_check(&v->found.libraries, st);
}

static bool keep(struct buf *to, struct slice content, struct status *st) {
    buf_reset(to);
    buf_put_slice(to, content);
    return buf_check(to, st);
}

static bool note(struct verifying *v, const struct unpacked_entry *entry, struct slice content, struct status *st) {
    switch (entry->what.kind) {
    case ENTRY_SUMS:
        if (v->has_sums) {
            return malformed(&v->u, SNAPSHOT_SUMS " is in it twice", st);
        }
        v->has_sums = true;
        buf_put_slice(&v->sums, content);
        return buf_check(&v->sums, st);
    case ENTRY_MANIFEST:
        if (v->has_manifest) {
            return malformed(&v->u, SNAPSHOT_MANIFEST " is in it twice", st);
        }
        v->has_manifest = true;
        if (!snapshot_parse_manifest(content, &v->found.manifest, st)) {
            return false;
        }
        break;
    case ENTRY_KEYS:
        if (!keep(&v->found.keys, content, st)) {
            return false;
        }
        break;
    case ENTRY_API_KEYS:
        if (!keep(&v->found.api_keys, content, st)) {
            return false;
        }
        break;
    case ENTRY_LIBRARY:
        if (!note_library(v, &entry->what.library, content, st)) {
            return false;
        }
        break;
    default:
        break;
    }
    return note_entry(v, entry->name, content, st);
}

static int by_id(const void *a, const void *b) {
    return memcmp(((const struct verified_library *)a)->id.b, ((const struct verified_library *)b)->id.b, UUID_BYTES);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct summed_entry *)a)->name, ((const struct summed_entry *)b)->name);
}

static bool hex_digit(uint8_t c, uint8_t *ret) {
    if (c >= '0' && c <= '9') {
        *ret = (uint8_t)(c - '0');
    } else if (c >= 'a' && c <= 'f') {
        *ret = (uint8_t)(c - 'a' + 10);
    } else {
        return false;
    }
    return true;
}

/* "<64 hex digits>  <name>", or " *" before the name as sha256sum -b writes it. */
static bool parse_sum_line(struct slice line, struct summed_entry *ret) {
    if (line.len < HEX_DIGITS + 3 || line.data[HEX_DIGITS] != ' ' ||
        (line.data[HEX_DIGITS + 1] != ' ' && line.data[HEX_DIGITS + 1] != '*')) {
        return false;
    }
    for (size_t i = 0; i < SHA256_BYTES; i++) {
        uint8_t high = 0;
        uint8_t low = 0;
        if (!hex_digit(line.data[2 * i], &high) || !hex_digit(line.data[2 * i + 1], &low)) {
            return false;
        }
        ret->sum[i] = (uint8_t)(high << 4 | low);
    }
    struct slice name = slice_of(line.data + HEX_DIGITS + 2, line.len - HEX_DIGITS - 2);
    if (name.len > 2 && name.data[0] == '.' && name.data[1] == '/') {
        name = slice_of(name.data + 2, name.len - 2);
    }
    if (name.len >= SNAPSHOT_ENTRY_MAX || memchr(name.data, '\0', name.len) != NULL) {
        return false;
    }
    memcpy(ret->name, name.data, name.len);
    ret->name[name.len] = '\0';
    return true;
}

/* Each line names an entry whose sum it has, no entry twice, and none is left over. */
static bool hold_against_sums(struct verifying *v, struct status *st) {
    struct verified *f = &v->found;
    size_t lines = 0;
    bool ok = true;
    bool *listed = (bool *)calloc(f->entry_count + 1, sizeof *listed);
    if (listed == NULL) {
        return status_no_memory(st);
    }
    for (size_t at = 0; ok && at < v->sums.len; lines++) {
        const uint8_t *line = v->sums.data + at;
        const uint8_t *newline = (const uint8_t *)memchr(line, '\n', v->sums.len - at);
        size_t len = newline != NULL ? (size_t)(newline - line) : v->sums.len - at;
        struct summed_entry wanted;
        at += len + 1;
        const struct summed_entry *e = NULL;
        if (parse_sum_line(slice_of(line, len), &wanted)) {
            e = (const struct summed_entry *)bsearch(&wanted, f->entries, f->entry_count, sizeof *e, by_name);
        }
        if (e == NULL || listed[e - f->entries]) {
            ok = malformed(&v->u, SNAPSHOT_SUMS " lists what is not there, or something twice", st);
        } else if (memcmp(e->sum, wanted.sum, SHA256_BYTES) != 0) {
            ok = status_set(st, STATUS_CORRUPT, "snapshot %s: %s fails its checksum", v->u.name, e->name);
        } else {
            listed[e - f->entries] = true;
        }
    }
    free(listed);
    if (ok && lines != f->entry_count) {
        return malformed(&v->u, SNAPSHOT_SUMS " does not list every entry", st);
    }
    return ok;
}

static bool check_whole(struct verifying *v, struct status *st) {
    struct verified *f = &v->found;
    if (!v->has_manifest || !v->has_sums) {
        return malformed(&v->u, v->has_manifest ? SNAPSHOT_SUMS " is missing" : SNAPSHOT_MANIFEST " is missing", st);
    }
    qsort(f->entries, f->entry_count, sizeof *f->entries, by_name);
    for (size_t i = 1; i < f->entry_count; i++) {
        if (strcmp(f->entries[i - 1].name, f->entries[i].name) == 0) {
            return malformed(&v->u, "an entry is in it twice", st);
        }
    }
    if (f->library_count > 1) {
        qsort(f->library, f->library_count, sizeof *f->library, by_id);
    }
    sha256(v->sums.data, v->sums.len, f->sum);
    return hold_against_sums(v, st);
}

static bool verify_entries(struct verifying *v, const struct limits *limits, int fd, const char *name, struct status *st) {
    struct buf content = {0};
    struct unpacked_entry entry;
    bool end = false;
    bool ok = unpacking_begin(&v->u, fd, name, limits, st);
    while (ok && (ok = unpacking_next(&v->u, &entry, &end, st)) && !end) {
        ok = unpacking_read(&v->u, &entry, &content, st) && note(v, &entry, buf_slice(&content), st);
    }
    buf_fini(&content);
    return ok && check_whole(v, st);
}

bool snapshot_verify_open(int fd, const char *name, const struct limits *limits, const bool *cancel, struct verified *ret, struct status *st) {
    struct verifying v = {.u = {.cancel = cancel}};
    bool ok = verify_entries(&v, limits, fd, name, st);
    if (ok) {
        v.found.manifest.info.bytes = v.u.size;
        memcpy(v.found.manifest.info.name, name, strlen(name) + 1);
        *ret = v.found;
        v.found = (struct verified){0};
    }
    unpacking_end(&v.u);
    buf_fini(&v.sums);
    verified_fini(&v.found);
    return ok;
}

void verified_fini(struct verified *v) {
    snapshot_manifest_fini(&v->manifest);
    free(v->entries);
    free(v->library);
    buf_fini(&v->libraries);
    buf_fini(&v->keys);
    buf_fini(&v->api_keys);
    *v = (struct verified){0};
}

bool verified_find_library(const struct verified *v, const struct uuid *id, size_t *ret) {
    struct verified_library wanted = {.id = *id};
    const struct verified_library *found = NULL;
    if (v->library_count > 0) {
        found = (const struct verified_library *)bsearch(&wanted, v->library, v->library_count, sizeof *found, by_id);
    }
    if (found != NULL) {
        *ret = (size_t)(found - v->library);
    }
    return found != NULL;
}

bool verified_matches(const struct verified *v, const char *entry, struct slice content) {
    struct summed_entry wanted;
    memcpy(wanted.name, entry, strlen(entry) + 1);
    const struct summed_entry *e = (const struct summed_entry *)bsearch(&wanted, v->entries, v->entry_count, sizeof *e, by_name);
    uint8_t sum[SHA256_BYTES];
    sha256(content.data, content.len, sum);
    return e != NULL && memcmp(e->sum, sum, sizeof sum) == 0;
}
