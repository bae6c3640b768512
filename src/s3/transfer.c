/*
 * transfer.c - see objects.h: a file goes up, and comes back.
 *
 * Up. The file is read twice: s3_measure makes its name, s3_put sends it and measures again, so that a file that changed between is not completed under a name
 * that lies. What fits into one part is one PUT. Else parts: each is in memory while it is sent, so an attempt that fails is made again with the same bytes.
 * A storage that lost the upload, or mixed an ETag up (InvalidPart, NoSuchUpload at the end), gets the whole file once more, a few times. An upload that is
 * given up is aborted; one that is killed is aborted by the next run. At the end the object is asked for its size: what counts is what the storage has.
 *
 * Down. What comes goes into the file as it comes, decrypted where it has to be, and a connection that breaks is made again from the byte where it broke. What
 * is there at the end is held against size and hash of the name; something else is fetched again from the beginning, a few times.
 */
#include "s3/transfer.h"

#include "base/hash.h"
#include "base/io.h"
#include "s3/frame.h"
#include "s3/xml.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum { PARTS_MOST = 9000, WHOLE_TRIES = 3, READ_BYTES = FRAME_CHUNK_BYTES };
#define PART_ROUND ((uint64_t)1 << 20)

/* --- reading the file ------------------------------------------------------------------------------------------------------- */

/* The file as it is stored, from the front, and its hash on the way. */
struct outgoing {
    int fd;
    uint64_t size;
    uint64_t at; /* read so far */
    struct frame *frame; /* NULL: as it is */
    EVP_MD_CTX *digest;
    bool ended; /* also the only chunk of an empty file was made */
    struct buf ready; /* made, and not yet given */
    uint8_t piece[READ_BYTES];
};

static void outgoing_free(struct outgoing *o) {
    if (o != NULL) {
        frame_free(o->frame);
        EVP_MD_CTX_free(o->digest);
        buf_fini(&o->ready);
        free(o);
    }
}

static bool outgoing_new(int fd, uint64_t size, const uint8_t *key, const char *name, struct outgoing **ret, struct status *st) {
    struct outgoing *o = (struct outgoing *)calloc(1, sizeof *o);
    if (o == NULL) {
        return status_no_memory(st);
    }
    o->fd = fd;
    o->size = size;
    o->digest = EVP_MD_CTX_new();
    bool ok = (o->digest != NULL && EVP_DigestInit_ex(o->digest, EVP_sha256(), NULL) == 1) || status_no_memory(st);
    ok = ok && (key == NULL || frame_new(key, name, size, &o->frame, st));
    if (!ok) {
        outgoing_free(o);
        return false;
    }
    *ret = o;
    return true;
}

/* Makes the next piece ready. */
static bool outgoing_step(struct outgoing *o, struct status *st) {
    size_t want = o->size - o->at < READ_BYTES ? (size_t)(o->size - o->at) : READ_BYTES;
    size_t have = 0;
    if (want > 0 && !io_pread(o->fd, o->piece, want, (off_t)o->at, &have, st)) {
        return false;
    }
    if (have < want) {
        return status_set(st, STATUS_CORRUPT, "the file became shorter while it was read");
    }
    struct slice piece = slice_of(o->piece, want);
    if (EVP_DigestUpdate(o->digest, piece.data, piece.len) != 1) {
        return status_no_memory(st);
    }
    o->at += want;
    o->ended = o->at == o->size;
    if (o->frame != NULL) {
        return frame_seal(o->frame, piece, &o->ready, st);
    }
    buf_put_slice(&o->ready, piece);
    return buf_check(&o->ready, st);
}

/* Up to `bytes` of what is stored, into *out (cleared first). */
static bool outgoing_take(struct outgoing *o, size_t bytes, struct buf *out, struct status *st) {
    buf_reset(out);
    while (o->ready.len < bytes && !o->ended) {
        if (!outgoing_step(o, st)) {
            return false;
        }
    }
    size_t take = o->ready.len < bytes ? o->ready.len : bytes;
    buf_put(out, o->ready.data, take);
    memmove(o->ready.data, o->ready.data + take, o->ready.len - take);
    o->ready.len -= take;
    return buf_check(out, st);
}

static bool digest_end(EVP_MD_CTX *digest, const uint8_t *key, uint8_t out[S3_HASH_BYTES], struct status *st) {
    uint8_t sum[S3_HASH_BYTES];
    unsigned len = sizeof sum;
    if (EVP_DigestFinal_ex(digest, sum, &len) != 1) {
        return status_set(st, STATUS_INTERNAL, "OpenSSL makes no SHA-256");
    }
    if (key == NULL) {
        memcpy(out, sum, sizeof sum);
        return true;
    }
    return frame_hash(key, sum, out, st);
}

static bool outgoing_same(struct outgoing *o, const uint8_t *key, const struct s3_object *object, struct status *st) {
    uint8_t hash[S3_HASH_BYTES];
    return digest_end(o->digest, key, hash, st) &&
           (memcmp(hash, object->hash, sizeof hash) == 0 || status_set(st, STATUS_CORRUPT, "%s changed while it was read", object->file));
}

bool s3_measure(int fd, const struct s3_sealing *sealing, uint64_t max_bytes, struct s3_object *object, struct status *st) {
    struct outgoing *o = NULL;
    off_t size = 0;
    if (!io_size(fd, &size, st)) {
        return false;
    }
    if ((uint64_t)size > max_bytes) {
        return status_set(st, STATUS_TOO_LARGE, "%s has %lld bytes, more than max_file_bytes", object->file, (long long)size);
    }
    if (!outgoing_new(fd, (uint64_t)size, NULL, NULL, &o, st)) {
        return false;
    }
    bool ok = true;
    while (ok && !o->ended) {
        buf_reset(&o->ready);
        ok = outgoing_step(o, st);
    }
    ok = ok && digest_end(o->digest, sealing->key, object->hash, st);
    object->size = (uint64_t)size;
    object->encrypted = sealing->key != NULL;
    outgoing_free(o);
    return ok;
}

/* --- one upload ------------------------------------------------------------------------------------------------------------- */

struct upload {
    struct s3_client *client;
    const struct s3_object *object;
    const char *key;
    const uint8_t *secret; /* of the encryption, or NULL */
    struct outgoing *out;
    struct buf part;
    char id[XML_TEXT_MAX]; /* of the multipart upload; "": there is none */
    struct buf complete;   /* the body of the completion */
    bool lost;             /* the storage does not know the upload or a part any more: once more from the beginning */
};

static bool put_whole(struct upload *u, struct status *st) {
    struct s3_reply reply;
    if (!outgoing_take(u->out, SIZE_MAX, &u->part, st) || !outgoing_same(u->out, u->secret, u->object, st)) {
        return false;
    }
    struct s3_request request = {.method = "PUT", .key = u->key, .body = buf_slice(&u->part)};
    if (!s3_do(u->client, &request, &reply, NULL, st)) {
        return false;
    }
    s3_reply_fini(&reply);
    return true;
}

static bool take_upload_id(const struct xml_item *item, void *ctx, struct status *st) {
    struct upload *u = (struct upload *)ctx;
    (void)st;
    if (item->end && strcmp(item->path, "InitiateMultipartUploadResult/UploadId") == 0) {
        (void)snprintf(u->id, sizeof u->id, "%s", item->text);
    }
    return true;
}

static bool initiate(struct upload *u, struct status *st) {
    struct s3_reply reply;
    struct s3_param params[] = {{"uploads", ""}};
    struct s3_request request = {.method = "POST", .key = u->key, .params = params, .param_count = 1};
    if (!s3_do(u->client, &request, &reply, NULL, st)) {
        return false;
    }
    struct status ignored;
    bool ok = xml_read(buf_slice(&reply.body), take_upload_id, u, &ignored) && u->id[0] != '\0';
    s3_reply_fini(&reply);
    u->lost = !ok;
    return ok || status_set(st, STATUS_BUSY, "the storage began an upload and did not say which");
}

static bool send_part(struct upload *u, unsigned number, struct status *st) {
    enum { NUMBER_MAX = 12 };
    char text[NUMBER_MAX];
    char code[S3_CODE_MAX];
    struct s3_reply reply;
    (void)snprintf(text, sizeof text, "%u", number);
    struct s3_param params[] = {{"partNumber", text}, {"uploadId", u->id}};
    struct s3_request request = {.method = "PUT", .key = u->key, .params = params, .param_count = 2, .body = buf_slice(&u->part)};
    for (unsigned tries = 1;; tries++) {
        if (!s3_do(u->client, &request, &reply, code, st)) {
            u->lost = strcmp(code, "NoSuchUpload") == 0;
            return false;
        }
        s3_reply_fini(&reply);
        if (reply.etag[0] != '\0' && strpbrk(reply.etag, "<>&") == NULL) {
            buf_printf(&u->complete, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", number, reply.etag);
            return buf_check(&u->complete, st);
        }
        if (tries == WHOLE_TRIES) {
            return status_set(st, STATUS_BUSY, "the storage takes parts without an ETag");
        }
    }
}

static bool is_there(struct s3_client *c, const char *key, const struct s3_object *object, bool *ret, struct status *st) {
    struct s3_reply reply;
    struct s3_request request = {.method = "HEAD", .key = key, .may_be_missing = true};
    if (!s3_do(c, &request, &reply, NULL, st)) {
        return false;
    }
    *ret = reply.http_status < 300 && reply.has_length && reply.content_length == s3_object_bytes(object);
    s3_reply_fini(&reply);
    return true;
}

static bool complete(struct upload *u, struct status *st) {
    struct s3_reply reply;
    char code[S3_CODE_MAX] = "";
    struct s3_param params[] = {{"uploadId", u->id}};
    buf_put_str(&u->complete, "</CompleteMultipartUpload>");
    struct s3_request request = {.method = "POST", .key = u->key, .params = params, .param_count = 1, .body = buf_slice(&u->complete), .slow = true};
    if (!buf_check(&u->complete, st)) {
        return false;
    }
    if (!s3_do(u->client, &request, &reply, code, st)) {
        /* Its answer may have been lost, and the repetition finds no upload any more: the object says whether it was done. */
        struct status ignored;
        bool there = false;
        u->lost = strncmp(code, "InvalidPart", sizeof "InvalidPart" - 1) == 0 || strcmp(code, "NoSuchUpload") == 0;
        return strcmp(code, "NoSuchUpload") == 0 && is_there(u->client, u->key, u->object, &there, &ignored) && there;
    }
    s3_reply_fini(&reply);
    return true;
}

bool s3_abort_upload(struct s3_client *c, const char *key, const char *upload_id, struct status *st) {
    struct s3_reply reply;
    struct s3_param params[] = {{"uploadId", upload_id}};
    struct s3_request request = {.method = "DELETE", .key = key, .params = params, .param_count = 1, .may_be_missing = true};
    if (!s3_do(c, &request, &reply, NULL, st)) {
        return false;
    }
    s3_reply_fini(&reply);
    return true;
}

static size_t part_bytes(const struct upload *u) {
    uint64_t least = (s3_object_bytes(u->object) / PARTS_MOST / PART_ROUND + 1) * PART_ROUND;
    uint64_t wanted = s3_client_settings(u->client)->part_bytes;
    return (size_t)(least < wanted ? wanted : least);
}

static bool put_parts(struct upload *u, struct status *st) {
    size_t bytes = part_bytes(u);
    unsigned number = 0;
    buf_put_str(&u->complete, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    bool ok = initiate(u, st);
    while (ok && (!u->out->ended || u->out->ready.len > 0)) {
        ok = outgoing_take(u->out, bytes, &u->part, st) && send_part(u, ++number, st);
    }
    ok = ok && outgoing_same(u->out, u->secret, u->object, st) && complete(u, st);
    if (!ok && u->id[0] != '\0') {
        struct status ignored;
        (void)!s3_abort_upload(u->client, u->key, u->id, &ignored); /* else the next run does it */
    }
    return ok;
}

static bool put_once(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, const char *name, const char *key, int fd, bool *ret_lost,
                     struct status *st) {
    struct upload *u = (struct upload *)calloc(1, sizeof *u);
    if (u == NULL) {
        return status_no_memory(st);
    }
    *u = (struct upload){.client = c, .object = o, .key = key, .secret = o->encrypted ? sealing->key : NULL};
    bool ok = outgoing_new(fd, o->size, u->secret, name, &u->out, st);
    ok = ok && (s3_object_bytes(o) <= part_bytes(u) ? put_whole(u, st) : put_parts(u, st));
    *ret_lost = u->lost;
    outgoing_free(u->out);
    buf_fini(&u->part);
    buf_fini(&u->complete);
    free(u);
    return ok;
}

bool s3_put(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, int fd, struct status *st) {
    char name[S3_NAME_MAX];
    char key[S3_OBJECT_KEY_MAX];
    s3_object_name(o, name);
    if (!s3_object_key(c, name, key, st)) {
        return false;
    }
    for (unsigned tries = 1;; tries++) {
        bool lost = false;
        bool there = false;
        bool ok = put_once(c, sealing, o, name, key, fd, &lost, st);
        if (ok && !is_there(c, key, o, &there, st)) {
            return false;
        }
        if (ok && there) {
            return true;
        }
        if (ok) {
            (void)status_set(st, STATUS_CORRUPT, "the storage took %s and has it not, or in another size", o->file);
        }
        if ((!ok && !lost) || tries == WHOLE_TRIES) {
            return false;
        }
        s3_pause(c, tries);
    }
}

/* --- getting ---------------------------------------------------------------------------------------------------------------- */

struct incoming {
    const struct s3_object *object;
    int fd;
    struct frame *frame;
    EVP_MD_CTX *digest;
    uint64_t received; /* of the object */
    uint64_t written;  /* of the file */
    struct buf clear;
};

static bool write_clear(struct incoming *in, struct slice clear, struct status *st) {
    if (clear.len > in->object->size - in->written) {
        return status_set(st, STATUS_CORRUPT, "%s is longer than its name says", in->object->file);
    }
    if (EVP_DigestUpdate(in->digest, clear.data, clear.len) != 1) {
        return status_no_memory(st);
    }
    bool ok = io_pwrite_full(in->fd, clear.data, clear.len, (off_t)in->written, st);
    in->written += ok ? clear.len : 0;
    return ok;
}

static bool take_piece(struct slice piece, void *ctx, struct status *st) {
    struct incoming *in = (struct incoming *)ctx;
    if (piece.len > s3_object_bytes(in->object) - in->received) {
        return status_set(st, STATUS_CORRUPT, "%s is longer than its name says", in->object->file);
    }
    in->received += piece.len;
    if (in->frame == NULL) {
        return write_clear(in, piece, st);
    }
    struct status why = {0};
    buf_reset(&in->clear);
    if (!frame_open(in->frame, piece, &in->clear, &why)) {
        return status_set(st, why.code, "%s: %.200s", in->object->file, why.detail);
    }
    return write_clear(in, buf_slice(&in->clear), st);
}

static bool same_as_name(struct incoming *in, const uint8_t *key, struct status *st) {
    uint8_t hash[S3_HASH_BYTES];
    struct status why = {0};
    if (in->frame != NULL && !frame_opened(in->frame, &why)) {
        return status_set(st, STATUS_CORRUPT, "%s: %.200s", in->object->file, why.detail);
    }
    return digest_end(in->digest, in->frame != NULL ? key : NULL, hash, st) &&
           ((in->written == in->object->size && memcmp(hash, in->object->hash, sizeof hash) == 0) ||
            status_set(st, STATUS_CORRUPT, "%s is not what its name says: its hash differs", in->object->file));
}

/* All of it, over as many connections as it takes. Attempts that bring something do not count. */
static bool receive(struct s3_client *c, const char *key, struct incoming *in, struct status *st) {
    uint64_t bytes = s3_object_bytes(in->object);
    unsigned number = 0;
    while (in->received < bytes) {
        struct s3_reply reply;
        struct status why = {0};
        uint64_t before = in->received;
        struct s3_request request = {.method = "GET", .key = key, .from = before, .sink = take_piece, .ctx = in};
        bool ok = s3_do(c, &request, &reply, NULL, &why);
        if (ok) {
            bool whole = reply.http_status == 200 && before > 0;
            s3_reply_fini(&reply);
            if (whole) {
                return status_set(st, STATUS_CORRUPT, "%s: the storage sends all of it where the rest was asked for", in->object->file);
            }
        } else if (why.code != STATUS_BUSY) {
            *st = why;
            return false;
        }
        number = in->received > before ? 0 : number + 1;
        if (number > s3_client_settings(c)->retries) {
            return ok ? status_set(st, STATUS_CORRUPT, "%s is shorter than its name says", in->object->file)
                      : status_set(st, STATUS_BUSY, "%s", why.detail);
        }
        if (in->received < bytes) {
            s3_pause(c, number == 0 ? 1 : number);
        }
    }
    return true;
}

static bool get_once(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, const char *name, const char *key, int fd, struct status *st) {
    struct incoming in = {.object = o, .fd = fd, .digest = EVP_MD_CTX_new()};
    bool ok = (in.digest != NULL && EVP_DigestInit_ex(in.digest, EVP_sha256(), NULL) == 1) || status_no_memory(st);
    ok = ok && (!o->encrypted || frame_new(sealing->key, name, o->size, &in.frame, st)) && receive(c, key, &in, st) && same_as_name(&in, sealing->key, st);
    frame_free(in.frame);
    EVP_MD_CTX_free(in.digest);
    buf_fini(&in.clear);
    return ok;
}

bool s3_get(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, int fd, struct status *st) {
    char name[S3_NAME_MAX];
    char key[S3_OBJECT_KEY_MAX];
    s3_object_name(o, name);
    if (o->encrypted && sealing->key == NULL) {
        return status_set(st, STATUS_CONFIG, "%s is encrypted: set encryption_key", o->file);
    }
    if (!s3_object_key(c, name, key, st)) {
        return false;
    }
    for (unsigned tries = 1;; tries++) {
        struct status why = {0};
        if (get_once(c, sealing, o, name, key, fd, &why)) {
            return true;
        }
        if (why.code != STATUS_CORRUPT || tries == WHOLE_TRIES) {
            *st = why;
            return false;
        }
        if (!io_truncate(fd, 0, o->file, st)) {
            return false;
        }
        s3_pause(c, tries);
    }
}
