/*
 * model.c - ids of documents and chunks, and the hash that ties a vector to its text.
 *
 * An id has one encoding only: a text that is a canonical UUID is never stored as text, so two encodings are equal as bytes
 * exactly when the ids are equal. The id table relies on that: it compares bytes.
 */
#include "store/model.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/utf8.h"

#define ID_HASH_SEED 0x9ae16a3b2f90404fULL /* stands in files: changing it makes every id table unreadable */

static bool text_fit_for_id(struct slice text) {
    return text.len >= 1 && text.len <= ITEM_ID_TEXT_MAX && utf8_valid(text) && !utf8_has_control(text);
}

void item_id_encode_uuid(const struct uuid *id, struct buf *out) {
    buf_put_u8(out, ITEM_ID_UUID);
    buf_put(out, id->b, UUID_BYTES);
}

bool item_id_encode(struct slice text, struct buf *out) {
    struct uuid id;
    if (uuid_parse(text, &id)) {
        item_id_encode_uuid(&id, out);
        return true;
    }
    if (!text_fit_for_id(text)) {
        return false;
    }
    buf_put_u8(out, ITEM_ID_TEXT);
    buf_put_slice(out, text);
    return true;
}

bool item_id_valid(struct slice encoded) {
    if (encoded.len < 2) {
        return false;
    }
    if (encoded.data[0] == ITEM_ID_UUID) {
        return encoded.len == 1 + UUID_BYTES;
    }
    struct slice text = slice_of(encoded.data + 1, encoded.len - 1);
    struct uuid id;
    return encoded.data[0] == ITEM_ID_TEXT && text_fit_for_id(text) && !uuid_parse(text, &id);
}

size_t item_id_text(struct slice encoded, char out[ITEM_ID_TEXT_MAX + 1]) {
    out[0] = '\0';
    if (encoded.len == 1 + UUID_BYTES && encoded.data[0] == ITEM_ID_UUID) {
        struct uuid id;
        memcpy(id.b, encoded.data + 1, UUID_BYTES);
        uuid_format(&id, out);
        return UUID_TEXT;
    }
    if (encoded.len < 2 || encoded.len - 1 > ITEM_ID_TEXT_MAX) {
        return 0;
    }
    memcpy(out, encoded.data + 1, encoded.len - 1);
    out[encoded.len - 1] = '\0';
    return encoded.len - 1;
}

uint64_t item_id_hash(struct slice encoded) {
    return hash64(ID_HASH_SEED, encoded.data, encoded.len);
}

int item_id_compare(struct slice a, struct slice b) {
    char text_a[ITEM_ID_TEXT_MAX + 1];
    char text_b[ITEM_ID_TEXT_MAX + 1];
    size_t len_a = item_id_text(a, text_a);
    size_t len_b = item_id_text(b, text_b);
    return slice_compare(slice_of(text_a, len_a), slice_of(text_b, len_b));
}

uint64_t text_hash(struct slice text) {
    uint8_t digest[32];
    sha256(text.data, text.len, digest);
    uint64_t hash = load_u64le(digest);
    return hash != 0 ? hash : 1;
}
