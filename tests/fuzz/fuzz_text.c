/* fuzz_text.c - texts on their way to chunks and vectors: nothing of a text is lost between chunks, and every model has a finite vector for each. */
#include "fuzz.h"

#include "base/utf8.h"
#include "embed/chunker.h"
#include "embed/embedder.h"

#include <math.h>

static struct embed_registry models;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    struct status st = {0};
    (void)argc;
    (void)argv;
    FUZZ_CHECK(embed_registry_init(&models, NULL, &st));
    return 0;
}

static void embed(struct slice text) {
    static float out[EMBED_MAX_DIMENSION];
    struct status st = {0};
    for (size_t i = 0; i < models.count; i++) {
        const struct embedder *e = &models.model[i];
        FUZZ_CHECK(e->embed(e, EMBED_DOCUMENT, &text, 1, out, &st));
        for (uint32_t d = 0; d < e->dimension; d++) {
            FUZZ_CHECK(isfinite(out[d]));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size);
    struct status st = {0};
    struct chunk_list list = {0};
    size_t at = 0;
    struct chunking how = {.max_tokens = 1 + fuzz_byte(&in) % 64, .max_chunks = SIZE_MAX / 2};
    uint8_t choice = fuzz_byte(&in);
    how.overlap = (uint32_t)(choice >> 1) % how.max_tokens;
    how.format = (choice & 1) != 0 ? TEXT_MARKDOWN : TEXT_PLAIN;
    if (!utf8_valid(in)) {
        return 0;
    }
    FUZZ_CHECK(chunker_cut(in, &how, &list, &st));
    for (size_t i = 0; i < list.count; i++) {
        const struct chunk_span *span = &list.spans[i];
        FUZZ_CHECK(span->begin == at && span->end > at && span->end <= in.len && span->overlap <= at);
        FUZZ_CHECK(utf8_valid(slice_of(in.data + at - span->overlap, span->end - at + span->overlap)));
        FUZZ_CHECK(utf8_valid(chunk_section(&list, span)) && span->section_len <= CHUNKER_SECTION_MAX_BYTES);
        at = span->end;
    }
    FUZZ_CHECK(at == in.len);
    chunk_list_fini(&list);
    embed(in);
    return 0;
}
