/*
 * frame.h - client-side encryption of a file: AES-256-GCM in chunks whose order and end are authenticated (the STREAM construction of Hoang, Reyhanitabar,
 * Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015).
 *
 *   header, 32 bytes
 *     8  magic "QUIREENC"
 *     4  format, little-endian: 1
 *     4  bytes of a chunk, little-endian: 65536
 *     8  id of the key, so that a wrong one is named as such
 *     8  bytes of the file, little-endian
 *   chunks: each so many bytes of the file, encrypted, and a tag of 16. The last one has what is left; the only one of an empty file has nothing.
 *
 * From the key K of the configuration:
 *     id = the first 8 bytes of HMAC-SHA256(K, "quire backup 1 id")
 *     hash of a file = HMAC-SHA256(HMAC-SHA256(K, "quire backup 1 name"), SHA-256 of the file). It stands in the object's name (names.h), where the plain
 *         SHA-256 would let whoever reads the listing recognise a file that he has
 *     key of a file = HMAC-SHA256(HMAC-SHA256(K, "quire backup 1 encrypt"), header || name of the object). The name has the hash, and what the object is
 *     nonce of a chunk = 7 zero bytes, its number (4 bytes, big-endian, from 0), 1 if it is the last one, else 0
 *     additional data = header
 *
 * So no nonce is used twice with a key: another file, or the same under another name, has another key. The same file under the same name gives the same bytes,
 * so a part that is sent again is what it was. Truncation, reordering, doubling, another name, and any bit that is not what it was are noticed at the chunk where
 * they are, before a byte of it is used. What is not hidden: sizes, times, and which objects there are.
 */
#ifndef QUIRE_S3_FRAME_H
#define QUIRE_S3_FRAME_H

#include "base/buf.h"
#include "s3/settings.h"

#define FRAME_HEADER_BYTES 32
#define FRAME_CHUNK_BYTES 65536
#define FRAME_TAG_BYTES 16
#define FRAME_HASH_BYTES 32

/* A file of `size` bytes has so many when it is encrypted. size is at most 2^48. */
uint64_t frame_stored_bytes(uint64_t size);
/* What an encrypted file's name has for the SHA-256 of its content. */
MUST_CHECK bool frame_hash(const uint8_t key[S3_KEY_BYTES], const uint8_t sha256[FRAME_HASH_BYTES], uint8_t ret[FRAME_HASH_BYTES], struct status *st);

struct frame;
/* `name`: of the object, as names.h has it; the same for both directions. */
MUST_CHECK bool frame_new(const uint8_t key[S3_KEY_BYTES], const char *name, uint64_t size, struct frame **ret, struct status *st);
void frame_free(struct frame *f); /* takes NULL */

/* Encrypts: the file comes in pieces of FRAME_CHUNK_BYTES, but for the last one; *out (appended to) gets what is stored, the header first. */
MUST_CHECK bool frame_seal(struct frame *f, struct slice chunk, struct buf *out, struct status *st);

/* Decrypts: what is stored comes in any pieces; *out (appended to) gets what has proven to be of the file. STATUS_CORRUPT: something is not what it was;
 * STATUS_CONFIG: it was encrypted with another key. */
MUST_CHECK bool frame_open(struct frame *f, struct slice piece, struct buf *out, struct status *st);
/* Everything has come, and nothing behind it. */
MUST_CHECK bool frame_opened(const struct frame *f, struct status *st);

#endif
