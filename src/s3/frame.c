/* frame.c - see frame.h. */
#include "s3/frame.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>

#define FRAME_MAGIC 0x434e454552495551ULL /* "QUIREENC" */
#define SIZE_MOST ((uint64_t)1 << 48)
enum { FORMAT = 1, NONCE_BYTES = 12, COUNTER_AT = 7, LAST_AT = 11, ID_BYTES = 8, KEY_BYTES = 32 };

struct frame {
    EVP_CIPHER_CTX *cipher;
    uint8_t key[KEY_BYTES];
    uint8_t header[FRAME_HEADER_BYTES];
    uint64_t size;
    uint64_t chunks; /* in all */
    uint64_t next;   /* the chunk that comes */
    bool headed;     /* the header was written, or has come */
    uint8_t held[FRAME_CHUNK_BYTES + FRAME_TAG_BYTES]; /* of the chunk that comes, or of the header */
    size_t held_len;
};

static uint64_t chunks_of(uint64_t size) {
    return size == 0 ? 1 : (size + FRAME_CHUNK_BYTES - 1) / FRAME_CHUNK_BYTES;
}

uint64_t frame_stored_bytes(uint64_t size) {
    return FRAME_HEADER_BYTES + size + chunks_of(size) * FRAME_TAG_BYTES;
}

static bool hmac(const uint8_t key[KEY_BYTES], struct slice data, uint8_t out[KEY_BYTES], struct status *st) {
    unsigned len = KEY_BYTES;
    return (HMAC(EVP_sha256(), key, KEY_BYTES, data.data, data.len, out, &len) != NULL && len == KEY_BYTES) ||
           status_set(st, STATUS_INTERNAL, "OpenSSL makes no HMAC");
}

/* HMAC(HMAC(key, purpose), data) */
static bool derive(const uint8_t key[KEY_BYTES], const char *purpose, struct slice data, uint8_t out[KEY_BYTES], struct status *st) {
    uint8_t inner[KEY_BYTES];
    bool ok = hmac(key, slice_str(purpose), inner, st) && hmac(inner, data, out, st);
    OPENSSL_cleanse(inner, sizeof inner);
    return ok;
}

bool frame_hash(const uint8_t key[S3_KEY_BYTES], const uint8_t sha256[FRAME_HASH_BYTES], uint8_t ret[FRAME_HASH_BYTES], struct status *st) {
    return derive(key, "quire backup 1 name", slice_of(sha256, FRAME_HASH_BYTES), ret, st);
}

static bool make_header(struct frame *f, const uint8_t key[S3_KEY_BYTES], struct status *st) {
    uint8_t id[KEY_BYTES];
    if (!hmac(key, slice_str("quire backup 1 id"), id, st)) {
        return false;
    }
    store_u64le(f->header, FRAME_MAGIC);
    store_u32le(f->header + 8, FORMAT);
    store_u32le(f->header + 12, FRAME_CHUNK_BYTES);
    memcpy(f->header + 16, id, ID_BYTES);
    store_u64le(f->header + 24, f->size);
    return true;
}

static bool make_key(struct frame *f, const uint8_t key[S3_KEY_BYTES], const char *name, struct status *st) {
    struct buf info = {0};
    buf_put(&info, f->header, sizeof f->header);
    buf_put_str(&info, name);
    bool ok = buf_check(&info, st) && derive(key, "quire backup 1 encrypt", buf_slice(&info), f->key, st);
    buf_fini(&info);
    return ok;
}

bool frame_new(const uint8_t key[S3_KEY_BYTES], const char *name, uint64_t size, struct frame **ret, struct status *st) {
    if (size > SIZE_MOST) {
        return status_set(st, STATUS_TOO_LARGE, "a file of %llu bytes is not encrypted", (unsigned long long)size);
    }
    struct frame *f = (struct frame *)calloc(1, sizeof *f);
    if (f == NULL) {
        return status_no_memory(st);
    }
    f->size = size;
    f->chunks = chunks_of(size);
    f->cipher = EVP_CIPHER_CTX_new();
    bool ok = (f->cipher != NULL || status_no_memory(st)) && make_header(f, key, st) && make_key(f, key, name, st);
    if (!ok) {
        frame_free(f);
        return false;
    }
    *ret = f;
    return true;
}

void frame_free(struct frame *f) {
    if (f != NULL) {
        EVP_CIPHER_CTX_free(f->cipher);
        OPENSSL_cleanse(f, sizeof *f);
        free(f);
    }
}

static void make_nonce(const struct frame *f, uint8_t out[NONCE_BYTES]) {
    memset(out, 0, NONCE_BYTES);
    for (size_t i = 0; i < 4; i++) {
        out[COUNTER_AT + i] = (uint8_t)(f->next >> (8 * (3 - i)));
    }
    out[LAST_AT] = f->next + 1 == f->chunks ? 1 : 0;
}

/* Bytes of the file in the chunk that comes. */
static size_t chunk_bytes(const struct frame *f) {
    return f->next + 1 < f->chunks ? FRAME_CHUNK_BYTES : (size_t)(f->size - (f->chunks - 1) * FRAME_CHUNK_BYTES);
}

static bool begin(struct frame *f, bool seal, struct status *st) {
    uint8_t nonce[NONCE_BYTES];
    int len = 0;
    make_nonce(f, nonce);
    return (EVP_CipherInit_ex(f->cipher, EVP_aes_256_gcm(), NULL, f->key, nonce, seal ? 1 : 0) == 1 &&
            EVP_CipherUpdate(f->cipher, NULL, &len, f->header, sizeof f->header) == 1) ||
           status_set(st, STATUS_INTERNAL, "OpenSSL does not encrypt");
}

bool frame_seal(struct frame *f, struct slice chunk, struct buf *out, struct status *st) {
    uint8_t tag[FRAME_TAG_BYTES];
    int len = 0;
    if (f->next == f->chunks || chunk.len != chunk_bytes(f)) {
        return status_set(st, STATUS_CORRUPT, "the file changed while it was read");
    }
    if (!f->headed) {
        buf_put(out, f->header, sizeof f->header);
        f->headed = true;
    }
    if (!buf_reserve(out, chunk.len + FRAME_TAG_BYTES)) {
        return status_no_memory(st);
    }
    bool ok = begin(f, true, st);
    ok = ok && ((chunk.len == 0 || EVP_CipherUpdate(f->cipher, out->data + out->len, &len, chunk.data, (int)chunk.len) == 1) &&
                EVP_CipherFinal_ex(f->cipher, tag, &len) == 1 && EVP_CIPHER_CTX_ctrl(f->cipher, EVP_CTRL_GCM_GET_TAG, sizeof tag, tag) == 1 ? true
                : status_set(st, STATUS_INTERNAL, "OpenSSL does not encrypt"));
    if (ok) {
        out->len += chunk.len;
        buf_put(out, tag, sizeof tag);
        f->next++;
    }
    return ok && buf_check(out, st);
}

/* --- the other way -------------------------------------------------------------------------------------------------------- */

static bool take_header(struct frame *f, struct status *st) {
    static const size_t id_at = 16;
    if (load_u64le(f->held) != FRAME_MAGIC) {
        return status_set(st, STATUS_CORRUPT, "it is not an encrypted file of a backup");
    }
    if (load_u32le(f->held + 8) != FORMAT) {
        return status_set(st, STATUS_CORRUPT, "it has format %u, this program reads %d", (unsigned)load_u32le(f->held + 8), FORMAT);
    }
    if (memcmp(f->held + id_at, f->header + id_at, ID_BYTES) != 0) {
        return status_set(st, STATUS_CONFIG, "it was encrypted with another key than encryption_key names");
    }
    if (memcmp(f->held, f->header, sizeof f->header) != 0) {
        return status_set(st, STATUS_CORRUPT, "its header is not what its name says");
    }
    f->headed = true;
    f->held_len = 0;
    return true;
}

static bool take_chunk(struct frame *f, size_t bytes, struct buf *out, struct status *st) {
    int len = 0;
    if (!begin(f, false, st)) {
        return false;
    }
    if (!buf_reserve(out, bytes + 1)) {
        return status_no_memory(st);
    }
    uint8_t end[FRAME_TAG_BYTES];
    bool good = (bytes == 0 || EVP_CipherUpdate(f->cipher, out->data + out->len, &len, f->held, (int)bytes) == 1) &&
                EVP_CIPHER_CTX_ctrl(f->cipher, EVP_CTRL_GCM_SET_TAG, FRAME_TAG_BYTES, f->held + bytes) == 1 && EVP_CipherFinal_ex(f->cipher, end, &len) == 1;
    if (!good) {
        return status_set(st, STATUS_CORRUPT, "chunk %llu of it is not what was written, or not in its place", (unsigned long long)f->next);
    }
    out->len += bytes;
    f->next++;
    f->held_len = 0;
    return true;
}

bool frame_open(struct frame *f, struct slice piece, struct buf *out, struct status *st) {
    while (piece.len > 0) {
        if (f->headed && f->next == f->chunks) {
            return status_set(st, STATUS_CORRUPT, "there is something behind its end");
        }
        size_t bytes = f->headed ? chunk_bytes(f) : 0;
        size_t want = f->headed ? bytes + FRAME_TAG_BYTES : FRAME_HEADER_BYTES;
        size_t take = piece.len < want - f->held_len ? piece.len : want - f->held_len;
        memcpy(f->held + f->held_len, piece.data, take);
        f->held_len += take;
        piece = slice_of(piece.data + take, piece.len - take);
        if (f->held_len == want && !(f->headed ? take_chunk(f, bytes, out, st) : take_header(f, st))) {
            return false;
        }
    }
    return true;
}

bool frame_opened(const struct frame *f, struct status *st) {
    return (f->headed && f->next == f->chunks && f->held_len == 0) || status_set(st, STATUS_CORRUPT, "it is cut short");
}
