/*
 * fuzz_snapshot.c - archives from anywhere: the file itself, and what would be in its entries.
 *
 * The first byte says how the rest is taken: as an archive (tar, packed or not), as a manifest, as a library, or as a library and its documents a line.
 */
#include "fuzz.h"

#include "base/log.h"
#include "durable/snapshot_archive.h"
#include "durable/snapshot_parse.h"
#include "store/limits.h"

#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

static void as_archive(struct slice in) {
    struct limits limits;
    struct status st = {0};
    struct verified v = {0};
    limits_default(&limits);
    int fd = memfd_create("archive", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && (in.len == 0 || write(fd, in.data, in.len) == (ssize_t)in.len));
    fuzz_check_status(snapshot_verify_open(fd, "snapshot_20260101_000000.tar", &limits, NULL, &v, &st), &st);
    verified_fini(&v);
    (void)close(fd);
}

static void as_manifest(struct slice in) {
    struct snapshot_manifest m = {0};
    struct status st = {0};
    bool good = snapshot_parse_manifest(in, &m, &st);
    fuzz_check_status(good, &st);
    if (good) {
        snapshot_manifest_fini(&m);
    }
}

static void as_documents(struct slice in) {
    static const struct uuid id = {{1}};
    struct limits limits;
    struct snapshot_library library;
    struct document_parser parser = {0};
    struct buf encoded = {0};
    struct status st = {0};
    struct op op;
    limits_default(&limits);
    bool good = snapshot_parse_library(fuzz_until(&in, '\n'), &id, "library.json", &encoded, &library, &st);
    fuzz_check_status(good, &st);
    while (good && in.len > 0) {
        const float *vectors = NULL, *others = NULL;
        struct op again;
        bool read = snapshot_parse_document(&parser, &library, fuzz_until(&in, '\n'), &op, &vectors, &others, &st);
        fuzz_check_status(read, &st);
        /* what a snapshot gives is an op like any other */
        FUZZ_CHECK(!read || op_decode(op.bytes, &limits, &again, &st) || st.code == STATUS_TOO_LARGE || st.code == STATUS_INVALID);
    }
    document_parser_fini(&parser);
    buf_fini(&encoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct slice in = slice_of(data, size);
    switch (fuzz_byte(&in) % 3) {
    case 0:
        as_archive(in);
        break;
    case 1:
        as_manifest(in);
        break;
    default:
        as_documents(in);
        break;
    }
    return 0;
}
