/* fuzz_json.c - the JSON front end: the scanner that sets the bounds, json-c behind it, and the vectors that are cut out. */
#include "fuzz.h"

#include "base/json_front.h"

#include <math.h>

static const char *const places[] = {"embedding", "embeddings.[]", "chunks.[].embedding", NULL};

static void take_vector(const struct json_document *d, struct json_object *value) {
    struct status st = {0};
    struct buf scratch = {0};
    const float *values = NULL;
    uint32_t length = 0;
    bool good = json_document_vector(d, value, &scratch, &values, &length, &st);
    fuzz_check_status(good, &st);
    for (uint32_t i = 0; good && i < length; i++) {
        FUZZ_CHECK(isfinite(values[i]));
    }
    buf_fini(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct status st = {0};
    struct json_document d = {0};
    const struct json_limits limits = {.max_depth = 16, .max_tokens = 2000, .max_vector_length = 512, .max_keys = 64};
    bool good = json_document_parse(slice_of(data, size), &limits, places, &d, &st);
    fuzz_check_status(good, &st);
    struct json_object *value = NULL;
    if (good && json_object_is_type(d.root, json_type_object) && json_object_object_get_ex(d.root, "embedding", &value)) {
        take_vector(&d, value);
    }
    if (good) { /* what was taken can be written, and taken again */
        size_t len = 0;
        const char *text = json_object_to_json_string_length(d.root, JSON_C_TO_STRING_PLAIN, &len);
        FUZZ_CHECK(text != NULL || d.root == NULL);
        json_document_fini(&d);
    }
    return 0;
}
