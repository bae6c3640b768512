/* fuzz_provider.c - what a provider of embeddings, or whoever sits in its place, may reply. The first byte chooses the dialect. */
#include "fuzz.h"

#include "embed/remote_dialect.h"

#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size);
    struct remote_reply reply = {0};
    struct status st = {0};
    uint8_t choice = fuzz_byte(&in);
    size_t count = 1 + (choice >> 2 & 3);
    uint32_t dimension = (choice & 0x80) != 0 ? 2 : 0;
    bool good = remote_dialect_parse((enum remote_dialect)(choice % 4), in, count, dimension, &reply, &st);
    fuzz_check_status(good, &st);
    if (good) {
        FUZZ_CHECK(reply.dimension > 0 && reply.floats.len == count * reply.dimension * sizeof(float));
        FUZZ_CHECK(dimension == 0 || reply.dimension == dimension);
        for (size_t i = 0; i < count * reply.dimension; i++) {
            FUZZ_CHECK(isfinite(((const float *)(const void *)reply.floats.data)[i]));
        }
    }
    (void)remote_dialect_complaint(in);
    remote_reply_fini(&reply);
    return 0;
}
