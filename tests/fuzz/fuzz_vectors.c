/* fuzz_vectors.c - numbers and base64 as vectors come in: our scanner against strtof, and base64 there and back. */
#include "fuzz.h"

#include "base/json_front.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

/* A number in JSON's grammar is taken whole and rounded as strtof rounds it. */
static void check_number(const uint8_t *data, size_t size) {
    char text[256];
    float ours = 0;
    size_t len = size < sizeof text - 1 ? size : sizeof text - 1;
    memcpy(text, data, len);
    text[len] = '\0';
    size_t used = scan_float(text, len, &ours);
    FUZZ_CHECK(used <= len);
    if (used == 0) {
        return;
    }
    char *end = NULL;
    text[used] = '\0';
    float theirs = strtof(text, &end);
    FUZZ_CHECK(end == text + used);
    FUZZ_CHECK(memcmp(&ours, &theirs, sizeof ours) == 0);
}

static void check_base64(const uint8_t *data, size_t size) {
    struct buf text = {0}, back = {0};
    base64_encode(slice_of(data, size), &text);
    FUZZ_CHECK(base64_decode(buf_slice(&text), &back));
    FUZZ_CHECK(slice_equal(buf_slice(&back), slice_of(data, size)));
    buf_reset(&back);
    if (base64_decode(slice_of(data, size), &back)) { /* what decodes is the only encoding of its bytes */
        buf_reset(&text);
        base64_encode(buf_slice(&back), &text);
        FUZZ_CHECK(slice_equal(buf_slice(&text), slice_of(data, size)));
    }
    buf_fini(&text);
    buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_number(data, size);
    check_base64(data, size);
    return 0;
}
