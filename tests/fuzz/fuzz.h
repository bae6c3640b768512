/*
 * fuzz.h - what the fuzz targets share. Each target is one file, fuzz_NAME.c, with libFuzzer's entry; its kept inputs are in corpus/NAME. tests/fuzz/fuzz runs
 * them. An input that once failed stays in the corpus, which every run begins with.
 *
 * What a target asks for beyond "no crash, no undefined behaviour, no leak" it says by FUZZ_CHECK.
 */
#ifndef QUIRE_TESTS_FUZZ_H
#define QUIRE_TESTS_FUZZ_H

#include "base/buf.h"
#include "base/status.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define FUZZ_CHECK(what)                                                                                                         \
    do {                                                                                                                         \
        if (!(what)) {                                                                                                           \
            (void)fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);                                      \
            abort();                                                                                                             \
        }                                                                                                                        \
    } while (0)

/* A failed call has said why. */
static inline void fuzz_check_status(bool good, const struct status *st) {
    FUZZ_CHECK(good || (st->code != STATUS_OK && st->detail[0] != '\0'));
}

/* The next byte of the input, taken off; 0 at its end. */
static inline uint8_t fuzz_byte(struct slice *in) {
    uint8_t b = in->len > 0 ? in->data[0] : 0;
    *in = slice_of(in->data + (in->len > 0 ? 1 : 0), in->len - (in->len > 0 ? 1 : 0));
    return b;
}
/* The next n bytes, or what is left. */
static inline struct slice fuzz_take(struct slice *in, size_t n) {
    size_t len = n < in->len ? n : in->len;
    struct slice taken = slice_of(in->data, len);
    *in = slice_of(in->data + len, in->len - len);
    return taken;
}
/* Up to the byte `end`, which is taken off, too. */
static inline struct slice fuzz_until(struct slice *in, uint8_t end) {
    size_t len = 0;
    while (len < in->len && in->data[len] != end) {
        len++;
    }
    struct slice taken = fuzz_take(in, len);
    (void)fuzz_take(in, 1);
    return taken;
}

#endif
