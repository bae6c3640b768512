/* library_version.c - see library_version.h. */
#include "store/library_version.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "store/op.h"

static uint64_t usable(uint64_t version) {
    return version > DOCUMENT_VERSION_ANY ? version : version + DOCUMENT_VERSION_ANY + 1;
}

uint64_t library_definition_version(struct slice record) {
    return usable(hash64(0, record.data, record.len));
}

uint64_t library_content_version(uint64_t definition, uint64_t changed_lsn, const struct library_view *view) {
    /* The LSN alone would do within one log. A server that was restored has another log, in which the same numbers stand for other ops. */
    uint8_t bytes[4 * sizeof(uint64_t)];
    store_u64le(bytes, changed_lsn);
    store_u64le(bytes + 8, view->live_documents);
    store_u64le(bytes + 16, view->live_chunks);
    store_u64le(bytes + 24, view->text_bytes);
    return usable(hash64(definition, bytes, sizeof bytes));
}
