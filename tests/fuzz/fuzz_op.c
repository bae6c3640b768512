/* fuzz_op.c - what the log and the channel bring: ops and groups of them. What decodes is walked to its last byte. */
#include "fuzz.h"

#include "base/utf8.h"
#include "store/op_group.h"

static void walk_document(const struct op_document *d) {
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    uint32_t count = 0;
    while (chunk_walk_next(&walk, &chunk)) {
        FUZZ_CHECK(item_id_valid(chunk.id) && utf8_valid(chunk.text));
        count++;
    }
    FUZZ_CHECK(count == d->num_chunks);
    FUZZ_CHECK(d->vectors.len == (size_t)d->vector_dimension * (d->vector_dimension > 0 ? d->num_chunks : 0) * sizeof(float));
}

static void walk_op(const struct op *op) {
    struct slice id;
    size_t at = 0;
    uint64_t hash = 0;
    switch (op->type) {
    case OP_DOCUMENT_PUT:
        walk_document(&op->as.document);
        (void)document_version(slice_of(op->bytes.data, op->as.document.record_length), op->as.document.num_chunks);
        break;
    case OP_CHUNKS_DELETE:
        while (chunk_ids_next(op->as.chunk_ids.ids, &at, &id)) {
            FUZZ_CHECK(item_id_valid(id));
        }
        break;
    case OP_VECTORS:
        while (op_vectors_next(op->as.vectors.chunks, &at, &id, &hash)) {
            FUZZ_CHECK(item_id_valid(id));
        }
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct limits limits;
    struct status st = {0};
    struct op op;
    struct op_walk walk;
    struct op_document document;
    limits_default(&limits);
    bool good = op_decode(slice_of(data, size), &limits, &op, &st);
    fuzz_check_status(good, &st);
    if (good) {
        FUZZ_CHECK(op_type_name(op.type) != NULL);
        walk_op(&op);
    }
    good = op_walk_begin(&walk, slice_of(data, size), &limits, &st);
    fuzz_check_status(good, &st);
    while (good && op_walk_next(&walk, &op)) {
        walk_op(&op);
    }
    if (op_document_decode(slice_of(data, size), &document)) { /* as from a damaged arena: chunks that decode, as far as they do */
        struct chunk_walk chunks = {.bytes = document.chunks};
        struct op_chunk chunk;
        for (uint32_t i = 0; i < document.num_chunks && chunk_walk_next(&chunks, &chunk); i++) {
        }
    }
    return 0;
}
