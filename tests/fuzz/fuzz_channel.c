/* fuzz_channel.c - what a broken worker can send the supervisor, and what it takes for the supervisor's answers. */
#include "fuzz.h"

#include "proc/submission.h"

#include <string.h>

enum { MAX_OPS = 100, MAX_BYTES = 1 << 20 };

static void submit(struct slice payload) {
    struct limits limits;
    struct status st = {0};
    struct submission *sub = NULL;
    limits_default(&limits);
    uint8_t *copy = (uint8_t *)malloc(payload.len + 1);
    FUZZ_CHECK(copy != NULL);
    memcpy(copy, payload.len > 0 ? payload.data : (const uint8_t *)"", payload.len);
    bool good = submission_decode(copy, payload.len, MAX_OPS, &limits, &sub, &st);
    fuzz_check_status(good, &st);
    if (good) {
        FUZZ_CHECK(sub->count > 0 && sub->count <= MAX_OPS);
        submission_free(sub);
    } else {
        free(copy);
    }
}

static void results(struct slice payload) {
    struct channel_results r;
    struct status st = {0};
    if (!channel_results_begin(payload, &r, &st)) {
        fuzz_check_status(false, &st);
        return;
    }
    struct api_op_result *all = (struct api_op_result *)calloc(r.count + 1, sizeof *all); /* bounded by the payload */
    FUZZ_CHECK(all != NULL);
    fuzz_check_status(channel_results_take(&r, all, &st), &st);
    free(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct channel_frame frame;
    struct channel_command command;
    struct idempotency_id id;
    struct status st = {0}, answered = {0};
    struct uuid task;
    size_t used = 0;
    struct slice all = slice_of(data, size);
    if (channel_frame_parse(all, MAX_BYTES, &frame, &used, &st)) {
        FUZZ_CHECK(used <= size && frame.payload.len <= size);
    }
    submit(all);
    results(all);
    fuzz_check_status(channel_get_command(all, &command, &st), &st);
    fuzz_check_status(channel_get_recall(all, &id, &st), &st);
    fuzz_check_status(channel_get_answer(all, &answered, &task, &st), &st);
    return 0;
}
