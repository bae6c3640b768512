/* test_proc_outbox.c - what is put comes out, in order, and memory goes by what waits. */
#include "proc/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { FRAME = 4096, FRAMES = 20000, WAITING = 3 };

static void put_frame(struct outbox *o, uint32_t number) {
    uint8_t frame[FRAME];
    for (size_t i = 0; i < FRAME; i += sizeof number) {
        memcpy(frame + i, &number, sizeof number);
    }
    assert_true(outbox_put(o, slice_of(frame, sizeof frame)));
}

/* A channel that is never done, because more comes before it has taken all: some 80 MB through it, a few kilobytes of which wait. */
static void test_never_empty(void **state) {
    (void)state;
    struct outbox o = {0};
    uint64_t sent = 0;
    size_t most = 0;
    for (uint32_t put = 0; put < FRAMES; put++) {
        put_frame(&o, put);
        while (outbox_waiting(&o) > WAITING * FRAME + 100) {
            uint32_t number = 0;
            struct slice next = outbox_next(&o);
            size_t n = 1 + (size_t)(sent % 977);
            assert_true(next.len == outbox_waiting(&o));
            memcpy(&number, next.data + (sizeof number - sent % sizeof number) % sizeof number, sizeof number);
            assert_true(number == (sent + (sizeof number - sent % sizeof number) % sizeof number) / FRAME);
            outbox_sent(&o, n);
            sent += n;
        }
        most = o.bytes.cap > most ? o.bytes.cap : most;
    }
    assert_true(most <= 1048576);
    assert_true(sent + outbox_waiting(&o) == (uint64_t)FRAMES * FRAME);
    outbox_sent(&o, outbox_waiting(&o));
    assert_int_equal(outbox_waiting(&o), 0);
    assert_int_equal(outbox_next(&o).len, 0);
    assert_null(o.bytes.data);
    outbox_clear(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_never_empty)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
