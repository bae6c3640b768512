/*
 * checkpoint.c - the arenas as an orderly stop left them, in a form that the next start can check and take as they are.
 *
 *   vectors/checkpoint, little-endian
 *     u64 magic "QUIRECKP", u32 format (4; 3 where there are no API keys, so that a program that knows of none may go on from it), u32 bytes of a library_view, u64 LSN, i64 time (us), u32 number of libraries
 *     per library:  its library_view as it stands in memory, u32 number of files, and
 *        per file:  varint length and name, u64 bytes in use, CRC-32C of each 16 MiB of them (u32, as many as it takes)
 *     what is remembered of requests with an Idempotency-Key (store/idempotency.h), varint length + bytes
 *     format 4: the API keys (store/key_table.h), varint length + bytes
 *     u32 CRC-32C of all before it
 *
 * It is valid only while nothing has changed since: a start that takes the arenas removes it, durably, before it lets anybody
 * write. So a crash leaves either no checkpoint or one that tells the truth, and a checkpoint whose LSN is not the log's last one
 * is of no use.
 *
 * Every byte in use is read again at start. At several GB/s a core that costs 100,000 chunks (200 MB) some 30 ms, and
 * it is what tells a disk that forgot from one that did not: the arenas are a cache, but a wrong vector would be searched without
 * anyone noticing. Blocks of 16 MiB give all cores something to do with a single library.
 */
#include "durable/checkpoint.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "base/io.h"
#include "durable/recovery.h"
#include "store/other_vectors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECKPOINT_BLOCK_BYTES ((uint64_t)16 << 20)

enum {
    READ_STEP = 256 * 1024, /* stays in the second level cache */
    THREADS_MAX = 16,
    FILE_MODE = 0600,
    PATH_BYTES = 128,
    LEAST_LIBRARY_BYTES = sizeof(struct library_view) + 4
};

static uint64_t blocks_of(uint64_t used) {
    return used / CHECKPOINT_BLOCK_BYTES + (used % CHECKPOINT_BLOCK_BYTES != 0 ? 1 : 0);
}

void checkpoint_fini(struct checkpoint *c) {
    for (size_t i = 0; i < c->library_count; i++) {
        for (size_t f = 0; f < c->libraries[i].file_count; f++) {
            free(c->libraries[i].files[f].block_crcs);
        }
    }
    free(c->libraries);
    buf_fini(&c->keys);
    buf_fini(&c->api_keys);
    *c = (struct checkpoint){0};
}

/* --- sums of all files, on all cores --- */

/* One block: its sum is computed into *crc, or compared with it. */
struct block {
    const struct checkpoint_library *library;
    const struct checkpoint_file *file;
    uint64_t at;
    uint64_t len;
    uint32_t *crc;
};

struct summing {
    int data_dir_fd;
    bool compare;
    struct block *blocks;
    size_t count;
    size_t next;   /* atomic: the next block to take */
    uint32_t stop; /* atomic */
    pthread_mutex_t mutex;
    /* under mutex */
    bool differs;
    bool failed;
    char why[CHECKPOINT_WHY_MAX];
    struct status st;
};

static void stop_summing(struct summing *s) {
    __atomic_store_n(&s->stop, 1, __ATOMIC_RELAXED); /* only to save time: what is said stands under the mutex */
}

/* A file that cannot be read when it is compared is not as it was; when it is summed, that is an error. */
static void note_trouble(struct summing *s, const struct block *b, const struct status *failed) {
    char directory[ARENA_DIRECTORY_MAX];
    arena_directory_name(&b->library->view.id, b->library->view.directory, directory);
    (void)pthread_mutex_lock(&s->mutex);
    if (failed != NULL && (!s->compare || failed->code == STATUS_NO_MEMORY)) {
        s->failed = true;
        s->st = *failed;
    } else if (!s->differs) {
        s->differs = true;
        (void)snprintf(s->why, sizeof s->why,
                       "vectors/%s/%s is not as it was saved, between byte %" PRIu64 " and %" PRIu64 "%s%.40s", directory,
                       b->file->name, b->at, b->at + b->len, failed != NULL ? ": " : "", failed != NULL ? failed->detail : "");
    }
    (void)pthread_mutex_unlock(&s->mutex);
    stop_summing(s);
}

static bool sum_block(const struct summing *s, const struct block *b, uint8_t *step, uint32_t *ret, struct status *st) {
    char directory[ARENA_DIRECTORY_MAX];
    char path[PATH_BYTES];
    int fd = -1;
    uint32_t crc = 0;
    arena_directory_name(&b->library->view.id, b->library->view.directory, directory);
    (void)snprintf(path, sizeof path, "vectors/%s/%s", directory, b->file->name);
    bool ok = io_open_at(s->data_dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd, st);
    for (uint64_t done = 0; ok && done < b->len; done += READ_STEP) {
        uint64_t left = b->len - done;
        size_t len = left < READ_STEP ? (size_t)left : READ_STEP;
        ok = io_pread_full(fd, step, len, (off_t)(b->at + done), st);
        crc = ok ? crc32c(crc, step, len) : 0;
    }
    io_close(&fd);
    *ret = crc;
    return ok;
}

static void *sum_blocks(void *ctx) {
    struct summing *s = (struct summing *)ctx;
    uint8_t *step = (uint8_t *)malloc(READ_STEP);
    for (;;) {
        size_t i = __atomic_fetch_add(&s->next, 1, __ATOMIC_RELAXED);
        struct status failed = {0};
        uint32_t crc = 0;
        if (i >= s->count || __atomic_load_n(&s->stop, __ATOMIC_RELAXED) != 0) {
            break;
        }
        const struct block *b = &s->blocks[i];
        if (step == NULL) {
            (void)status_no_memory(&failed);
            note_trouble(s, b, &failed);
        } else if (!sum_block(s, b, step, &crc, &failed)) {
            note_trouble(s, b, &failed);
        } else if (s->compare && *b->crc != crc) {
            note_trouble(s, b, NULL);
        } else {
            *b->crc = crc;
        }
    }
    free(step);
    return NULL;
}

static void sum_on_all_cores(struct summing *s) {
    pthread_t threads[THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    size_t wanted = cores > 1 ? (size_t)cores : 1;
    wanted = wanted > THREADS_MAX ? THREADS_MAX : wanted;
    wanted = wanted > s->count ? s->count : wanted;
    size_t started = 0;
    /* This thread is one of them; a thread that cannot be had leaves more to the others. */
    while (started + 1 < wanted && pthread_create(&threads[started], NULL, sum_blocks, s) == 0) {
        started++;
    }
    (void)sum_blocks(s);
    for (size_t i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
    }
}

static bool list_blocks(const struct checkpoint *c, struct summing *s, struct status *st) {
    size_t count = 0;
    for (size_t i = 0; i < c->library_count; i++) {
        for (size_t f = 0; f < c->libraries[i].file_count; f++) {
            count += (size_t)blocks_of(c->libraries[i].files[f].used);
        }
    }
    s->blocks = (struct block *)calloc(count + 1, sizeof *s->blocks);
    if (s->blocks == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < c->library_count; i++) {
        for (size_t f = 0; f < c->libraries[i].file_count; f++) {
            const struct checkpoint_file *file = &c->libraries[i].files[f];
            for (uint64_t b = 0; b < blocks_of(file->used); b++) {
                uint64_t at = b * CHECKPOINT_BLOCK_BYTES;
                uint64_t left = file->used - at;
                s->blocks[s->count++] = (struct block){.library = &c->libraries[i],
                                                       .file = file,
                                                       .at = at,
                                                       .len = left < CHECKPOINT_BLOCK_BYTES ? left : CHECKPOINT_BLOCK_BYTES,
                                                       .crc = &file->block_crcs[b]};
            }
        }
    }
    return true;
}

/* Computes or compares all sums. *ret_why is "" when they hold. */
static bool sum_all(int data_dir_fd, const struct checkpoint *c, bool compare, char ret_why[CHECKPOINT_WHY_MAX],
                    struct status *st) {
    struct summing s = {.data_dir_fd = data_dir_fd, .compare = compare};
    if (!list_blocks(c, &s, st)) {
        return false;
    }
    (void)pthread_mutex_init(&s.mutex, NULL);
    sum_on_all_cores(&s);
    (void)pthread_mutex_destroy(&s.mutex);
    free(s.blocks);
    if (s.failed) {
        if (st != NULL) {
            *st = s.st;
        }
        return false;
    }
    memcpy(ret_why, s.why, sizeof s.why);
    return true;
}

/* A file of which nothing is in use has no block that could differ, but must be there to be mapped. It may be empty. */
static bool unused_is_there(int data_dir_fd, const struct checkpoint_library *l, const struct checkpoint_file *file, bool *ret_there,
                            char why[CHECKPOINT_WHY_MAX], struct status *st) {
    char directory[ARENA_DIRECTORY_MAX];
    char path[PATH_BYTES];
    struct status failed = {0};
    int fd = -1;
    arena_directory_name(&l->view.id, l->view.directory, directory);
    (void)snprintf(path, sizeof path, "vectors/%s/%s", directory, file->name);
    *ret_there = io_open_at(data_dir_fd, path, O_RDONLY | O_NOFOLLOW, 0, &fd, &failed);
    io_close(&fd);
    if (failed.code == STATUS_NO_MEMORY) {
        *st = failed;
        return false;
    }
    if (!*ret_there) {
        (void)snprintf(why, CHECKPOINT_WHY_MAX, "%s is not as it was saved: it is missing", path);
    }
    return true;
}

static bool unused_are_there(int data_dir_fd, const struct checkpoint *c, bool *ret_there, char why[CHECKPOINT_WHY_MAX],
                             struct status *st) {
    *ret_there = true;
    for (size_t i = 0; i < c->library_count; i++) {
        const struct checkpoint_library *l = &c->libraries[i];
        for (size_t f = 0; *ret_there && f < l->file_count; f++) {
            if (l->files[f].used == 0 && !unused_is_there(data_dir_fd, l, &l->files[f], ret_there, why, st)) {
                return false;
            }
        }
    }
    return true;
}

bool checkpoint_verify(int data_dir_fd, const struct checkpoint *c, bool *ret_sound, char why[CHECKPOINT_WHY_MAX],
                       struct status *st) {
    char found[CHECKPOINT_WHY_MAX];
    if (!sum_all(data_dir_fd, c, true, found, st)) {
        return false;
    }
    *ret_sound = found[0] == '\0';
    if (!*ret_sound) {
        memcpy(why, found, sizeof found);
        return true;
    }
    struct status local;
    return unused_are_there(data_dir_fd, c, ret_sound, why, st != NULL ? st : &local);
}

/* --- writing --- */

static bool take_library(struct library *lib, struct checkpoint_library *ret, struct status *st) {
    struct library_file files[LIBRARY_FILES_MAX];
    struct reading rd;
    library_reading(lib, &rd);
    ret->view = rd.view;
    size_t count = library_files(lib, files);
    for (size_t i = 0; i < count; i++) {
        struct checkpoint_file *f = &ret->files[i];
        memcpy(f->name, files[i].name, sizeof f->name);
        f->used = files[i].used;
        f->block_crcs = (uint32_t *)calloc((size_t)blocks_of(f->used) + 1, sizeof *f->block_crcs);
        if (f->block_crcs == NULL) {
            return status_no_memory(st);
        }
        ret->file_count = i + 1;
    }
    return true;
}

static void encode(const struct checkpoint *c, struct buf *out) {
    buf_put_u64le(out, CHECKPOINT_MAGIC);
    buf_put_u32le(out, c->api_keys.len > 0 ? CHECKPOINT_FORMAT : CHECKPOINT_FORMAT_WITHOUT_KEYS);
    buf_put_u32le(out, sizeof(struct library_view));
    buf_put_u64le(out, c->lsn);
    buf_put_u64le(out, (uint64_t)clock_wall_us());
    buf_put_u32le(out, (uint32_t)c->library_count);
    for (size_t i = 0; i < c->library_count; i++) {
        const struct checkpoint_library *l = &c->libraries[i];
        buf_put(out, &l->view, sizeof l->view);
        buf_put_u32le(out, (uint32_t)l->file_count);
        for (size_t f = 0; f < l->file_count; f++) {
            buf_put_bytes(out, slice_str(l->files[f].name));
            buf_put_u64le(out, l->files[f].used);
            for (uint64_t b = 0; b < blocks_of(l->files[f].used); b++) {
                buf_put_u32le(out, l->files[f].block_crcs[b]);
            }
        }
    }
    buf_put_bytes(out, buf_slice(&c->keys));
    if (c->api_keys.len > 0) {
        buf_put_bytes(out, buf_slice(&c->api_keys));
    }
    if (buf_ok(out)) {
        buf_put_u32le(out, crc32c(0, out->data, out->len));
    }
}

static bool write_checkpoint(int data_dir_fd, struct checkpoint *c, struct library **libraries, struct status *st) {
    char nothing[CHECKPOINT_WHY_MAX];
    struct buf content = {0};
    for (size_t i = 0; i < c->library_count; i++) {
        if (!take_library(libraries[i], &c->libraries[i], st)) {
            return false;
        }
    }
    if (!sum_all(data_dir_fd, c, false, nothing, st)) {
        return false;
    }
    encode(c, &content);
    bool ok = buf_check(&content, st) && io_replace_file(data_dir_fd, CHECKPOINT_PATH, buf_slice(&content), FILE_MODE, st);
    buf_fini(&content);
    return ok;
}

bool checkpoint_write(int data_dir_fd, struct catalog *c, struct idempotency *keys, struct key_table *api_keys, uint64_t lsn, struct status *st) {
    struct library **libraries = NULL;
    struct checkpoint checkpoint = {.lsn = lsn};
    size_t count = 0;
    if (!catalog_acquire_all(c, &libraries, &count, st)) {
        return false;
    }
    checkpoint.libraries = (struct checkpoint_library *)calloc(count + 1, sizeof *checkpoint.libraries);
    checkpoint.library_count = checkpoint.libraries != NULL ? count : 0;
    if (keys != NULL) {
        idempotency_encode(keys, lsn, &checkpoint.keys);
    }
    if (api_keys != NULL) {
        key_table_encode(api_keys, &checkpoint.api_keys);
    }
    bool synced = true;
    for (size_t i = 0; synced && i < count; i++) {
        synced = library_sync_other(libraries[i], st);
    }
    bool ok = synced && checkpoint.libraries != NULL && buf_ok(&checkpoint.keys) && buf_ok(&checkpoint.api_keys)
                  ? write_checkpoint(data_dir_fd, &checkpoint, libraries, st)
                  : synced && status_no_memory(st);
    checkpoint_fini(&checkpoint);
    for (size_t i = 0; i < count; i++) {
        catalog_release(c, libraries[i]);
    }
    free(libraries);
    return ok;
}

/* With what a stop that was killed may have left of io_replace_file. */
bool checkpoint_remove(int data_dir_fd, struct status *st) {
    return io_unlink_at(data_dir_fd, CHECKPOINT_PATH, st) && io_unlink_at(data_dir_fd, CHECKPOINT_PATH ".tmp", st) &&
           io_fsync_dir(data_dir_fd, "vectors", st);
}

/* --- reading --- */

static bool name_is_plain(struct slice name) {
    return name.len > 0 && name.len < ARENA_FILE_NAME_MAX && memchr(name.data, '/', name.len) == NULL &&
           memchr(name.data, '\0', name.len) == NULL && name.data[0] != '.';
}

static bool decode_file(struct reader *r, struct checkpoint_file *f, struct status *st) {
    struct slice name = read_bytes(r);
    f->used = read_u64le(r);
    uint64_t blocks = blocks_of(f->used);
    if (r->failed || !name_is_plain(name) || blocks > reader_left(r) / sizeof(uint32_t)) {
        r->failed = true;
        return true;
    }
    memcpy(f->name, name.data, name.len);
    f->name[name.len] = '\0';
    f->block_crcs = (uint32_t *)calloc((size_t)blocks + 1, sizeof *f->block_crcs);
    if (f->block_crcs == NULL) {
        return status_no_memory(st);
    }
    for (uint64_t b = 0; b < blocks; b++) {
        f->block_crcs[b] = read_u32le(r);
    }
    return true;
}

static bool decode_library(struct reader *r, struct checkpoint_library *l, struct status *st) {
    struct slice view = read_slice(r, sizeof l->view);
    uint32_t files = read_u32le(r);
    if (r->failed || files > LIBRARY_FILES_MAX) {
        r->failed = true;
        return true;
    }
    memcpy(&l->view, view.data, sizeof l->view);
    for (uint32_t i = 0; i < files && !r->failed; i++) {
        if (!decode_file(r, &l->files[i], st)) {
            return false;
        }
        l->file_count = r->failed ? i : i + 1;
    }
    return true;
}

static bool decode_libraries(struct reader *r, struct checkpoint *c, struct status *st) {
    uint32_t count = read_u32le(r);
    if (r->failed || count > reader_left(r) / LEAST_LIBRARY_BYTES) {
        r->failed = true;
        return true;
    }
    c->libraries = (struct checkpoint_library *)calloc((size_t)count + 1, sizeof *c->libraries);
    if (c->libraries == NULL) {
        return status_no_memory(st);
    }
    c->library_count = count;
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        if (!decode_library(r, &c->libraries[i], st)) {
            return false;
        }
    }
    return true;
}

/* false: no memory. *ret_why: NULL when it is good. */
static bool decode(struct slice content, struct checkpoint *c, const char **ret_why, struct status *st) {
    enum { SUM_BYTES = 4 };
    *ret_why = "the checkpoint is damaged";
    if (content.len < SUM_BYTES ||
        load_u32le(content.data + content.len - SUM_BYTES) != crc32c(0, content.data, content.len - SUM_BYTES)) {
        return true;
    }
    struct reader r = reader_of(slice_of(content.data, content.len - SUM_BYTES));
    uint64_t magic = read_u64le(&r);
    uint32_t format = read_u32le(&r);
    uint32_t view_bytes = read_u32le(&r);
    c->lsn = read_u64le(&r);
    (void)read_u64le(&r);
    if (magic != CHECKPOINT_MAGIC || format < CHECKPOINT_FORMAT_WITHOUT_KEYS || format > CHECKPOINT_FORMAT || view_bytes != sizeof(struct library_view)) {
        *ret_why = "the checkpoint was written by another version";
        return true;
    }
    if (!decode_libraries(&r, c, st)) {
        return false;
    }
    buf_put_slice(&c->keys, read_bytes(&r));
    if (format != CHECKPOINT_FORMAT_WITHOUT_KEYS) {
        buf_put_slice(&c->api_keys, read_bytes(&r));
    }
    if (!buf_check(&c->keys, st) || !buf_check(&c->api_keys, st)) {
        return false;
    }
    if (reader_done(&r)) {
        *ret_why = NULL;
    }
    return true;
}

bool checkpoint_read(int data_dir_fd, struct checkpoint *ret, bool *ret_there, char why[CHECKPOINT_WHY_MAX], struct status *st) {
    struct buf content = {0};
    struct checkpoint c = {0};
    struct status failed = {0};
    const char *bad = NULL;
    bool ok = true;
    *ret_there = false;
    why[0] = '\0';
    if (!io_read_file(data_dir_fd, CHECKPOINT_PATH, CHECKPOINT_BYTES_MAX, &content, &failed)) {
        if (failed.sys_errno != ENOENT) {
            (void)snprintf(why, CHECKPOINT_WHY_MAX, "the checkpoint cannot be read: %.150s", failed.detail);
        }
    } else {
        ok = decode(buf_slice(&content), &c, &bad, st);
        if (ok && bad != NULL) {
            (void)snprintf(why, CHECKPOINT_WHY_MAX, "%s", bad);
        } else if (ok) {
            *ret = c;
            *ret_there = true;
            c = (struct checkpoint){0};
        }
    }
    checkpoint_fini(&c);
    buf_fini(&content);
    return ok;
}
