/* test_durable_snapshot_hostile.c - archives that nobody should trust: each is refused, says why, and leaves nothing anywhere. */
#include "durable_fixture.h"

#include "base/hash.h"
#include "durable/snapshot.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>

#define ARCHIVE_NAME "snapshot_20300101_000000.tar.zst"
#define ID "0193a5b0-0000-7000-8000-000000000001"
#define OTHER_ID "0193a5b0-0000-7000-8000-000000000002"
#define MANIFEST "{\"kind\":\"quire snapshot\",\"format\":1,\"created_at\":\"2026-01-01T00:00:00Z\",\"lsn\":9,\"base\":null}"
#define LIBRARY_OF(id, more)                                                                                                     \
    "{\"id\":\"" id "\",\"name\":\"n\",\"embedding_model\":\"m\",\"created_at\":\"2026-01-01T00:00:00Z\"" more "}"
#define LIBRARY LIBRARY_OF(ID, "")
#define DOCUMENT                                                                                                                 \
    "{\"id\":\"d\",\"metadata\":{\"created_at\":\"2026-01-01T00:00:00Z\"},\"chunks\":[{\"id\":\"c\",\"text\":\"t\"}]}\n"
#define LIBRARY_ENTRY "libraries/" ID "/library.json"
#define DOCUMENTS_ENTRY "libraries/" ID "/documents-000001.jsonl"

enum { NAMES_MAX = 16, SUMS_MAX = 65536, OP_COUNT_MAX = 1000 };

/* --- packing --- */

struct pack {
    struct scratch dir;
    struct archive *archive;
    char sums[SUMS_MAX];
    size_t sums_len;
};

static int set_up(void **state) {
    struct pack *p = (struct pack *)calloc(1, sizeof *p);
    scratch_make(&p->dir);
    *state = p;
    return 0;
}

static int tear_down(void **state) {
    struct pack *p = (struct pack *)*state;
    scratch_remove(&p->dir);
    free(p);
    return 0;
}

static void begin_packed(struct pack *p, const int *filters, size_t count) {
    char path[512];
    (void)snprintf(path, sizeof path, "%s/" ARCHIVE_NAME, p->dir.path);
    p->sums_len = 0;
    p->sums[0] = '\0';
    p->archive = archive_write_new();
    assert_int_equal(archive_write_set_format_pax_restricted(p->archive), ARCHIVE_OK);
    for (size_t i = 0; i < count; i++) {
        assert_true(archive_write_add_filter(p->archive, filters[i]) >= ARCHIVE_WARN);
    }
    assert_int_equal(archive_write_open_filename(p->archive, path), ARCHIVE_OK);
}

static void begin_with(struct pack *p, int filter) {
    begin_packed(p, &filter, 1);
}

static void begin(struct pack *p) {
    begin_with(p, ARCHIVE_FILTER_ZSTD);
}

static void add_sum(struct pack *p, const char *name, const char *content) {
    char hex[65];
    sha256_hex(content, strlen(content), hex);
    p->sums_len += (size_t)snprintf(p->sums + p->sums_len, SUMS_MAX - p->sums_len, "%s  %s\n", hex, name);
}

static void put(struct pack *p, struct archive_entry *e, const char *content) {
    assert_true(archive_write_header(p->archive, e) >= ARCHIVE_WARN);
    if (content != NULL && content[0] != '\0') {
        assert_int_equal(archive_write_data(p->archive, content, strlen(content)), (la_ssize_t)strlen(content));
    }
    archive_entry_free(e);
}

static struct archive_entry *entry_of(const char *name, unsigned type, size_t size) {
    struct archive_entry *e = archive_entry_new();
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, type);
    archive_entry_set_perm(e, 0644);
    archive_entry_set_size(e, (la_int64_t)size);
    return e;
}

static void put_file(struct pack *p, const char *name, const char *content) {
    put(p, entry_of(name, AE_IFREG, strlen(content)), content);
}

static void add_file(struct pack *p, const char *name, const char *content) {
    put_file(p, name, content);
    add_sum(p, name, content);
}

static void finish(struct pack *p) {
    put_file(p, "SHA256SUMS", p->sums);
    assert_int_equal(archive_write_free(p->archive), ARCHIVE_OK);
}

/* A snapshot that is good but for what the caller does with its three contents. */
static void whole(struct pack *p, const char *manifest, const char *library, const char *documents) {
    begin(p);
    add_file(p, "manifest.json", manifest);
    add_file(p, LIBRARY_ENTRY, library);
    add_file(p, DOCUMENTS_ENTRY, documents);
    finish(p);
}

/* --- judging --- */

static bool count_op(const struct snapshot_op *op, void *ctx, struct status *st) {
    unsigned *count = (unsigned *)ctx;
    (void)op;
    (void)st;
    *count += 1;
    return true;
}

static bool load(struct pack *p, unsigned *ret_ops, struct status *st) {
    struct limits limits;
    struct snapshot_info info;
    limits_default(&limits);
    *ret_ops = 0;
    return snapshot_load(p->dir.fd, ARCHIVE_NAME, &limits, count_op, ret_ops, &info, st);
}

static void refused(struct pack *p, const char *mentions) {
    char names[NAMES_MAX][64];
    struct status st = {0};
    unsigned ops = 0;
    if (load(p, &ops, &st)) {
        fail_msg("taken, although: %s", mentions);
    }
    if (st.code != STATUS_MALFORMED && st.code != STATUS_CORRUPT && st.code != STATUS_TOO_LARGE && st.code != STATUS_INVALID) {
        fail_msg("code %d: %s", (int)st.code, st.detail);
    }
    if (strstr(st.detail, mentions) == NULL) {
        fail_msg("\"%s\" does not speak of \"%s\"", st.detail, mentions);
    }
    /* nothing but the archive itself */
    size_t count = names_with(p->dir.fd, "", names, NAMES_MAX);
    for (size_t i = 0; i < count; i++) {
        assert_true(names[i][0] == '.' || strcmp(names[i], ARCHIVE_NAME) == 0);
    }
}

/* Refused before any op was handed out: the archive itself is bad. */
static void refused_at_once(struct pack *p, const char *mentions) {
    struct status st = {0};
    unsigned ops = 0;
    refused(p, mentions);
    assert_false(load(p, &ops, &st));
    assert_int_equal(ops, 0);
}

static void taken(struct pack *p, unsigned expected) {
    struct status st = {0};
    unsigned ops = 0;
    if (!load(p, &ops, &st)) {
        fail_msg("refused: %s", st.detail);
    }
    assert_int_equal(ops, expected);
}

/* --- tests --- */

static void the_good_one(void **state) {
    struct pack *p = (struct pack *)*state;
    whole(p, MANIFEST, LIBRARY, DOCUMENT DOCUMENT);
    taken(p, 3);
    whole(p, MANIFEST, LIBRARY, "\n\n{\"id\":\"d\"}"); /* empty lines, no newline at the end, nothing but an id */
    taken(p, 2);
    /* Sums first, documents before their library, directories, and "./" everywhere. */
    begin(p);
    add_sum(p, "./manifest.json", MANIFEST);
    add_sum(p, LIBRARY_ENTRY, LIBRARY);
    add_sum(p, "./" DOCUMENTS_ENTRY, DOCUMENT);
    put_file(p, "./SHA256SUMS", p->sums);
    put(p, entry_of("./", AE_IFDIR, 0), NULL);
    put(p, entry_of("./libraries/", AE_IFDIR, 0), NULL);
    put(p, entry_of("./libraries/" ID "/", AE_IFDIR, 0), NULL);
    put_file(p, "./" DOCUMENTS_ENTRY, DOCUMENT);
    put_file(p, "./" LIBRARY_ENTRY, LIBRARY);
    put_file(p, "./manifest.json", MANIFEST);
    assert_int_equal(archive_write_free(p->archive), ARCHIVE_OK);
    taken(p, 2);
    /* What a newer version may add is passed over. */
    whole(p, "{\"kind\":\"quire snapshot\",\"format\":1,\"lsn\":9,\"news\":[{}]}", LIBRARY_OF(ID, ",\"news\":1"),
          "{\"id\":\"d\",\"news\":{},\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"news\":null}]}");
    taken(p, 2);
}

static void bad_names(void **state) {
    struct pack *p = (struct pack *)*state;
    static const char *const names[] = {
        "../evil",
        "/etc/evil",
        "libraries/../evil",
        "libraries/" ID "/../../../evil",
        "libraries/" ID "/evil",
        "libraries/" ID "/documents-000000.jsonl",
        "libraries/" ID "/documents-1.jsonl",
        "libraries/" ID "/documents-0000001.jsonl",
        "libraries/" ID "/documents-00000a.jsonl",
        "libraries/0193A5B0-0000-7000-8000-000000000001/library.json",
        "libraries/evil/library.json",
        "libraries/" ID,
        "libraries/" ID "/library.json/x",
        "manifest.json/",
        "././manifest.json",
        "Manifest.json",
        "evil",
        "SHA256SUMS.txt",
        "libraries/" ID "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxx",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        begin(p);
        add_file(p, "manifest.json", MANIFEST);
        add_file(p, names[i], "x");
        finish(p);
        refused_at_once(p, "an entry");
    }
}

static void links_and_devices(void **state) {
    struct pack *p = (struct pack *)*state;
    static const unsigned types[] = {AE_IFLNK, AE_IFCHR, AE_IFBLK, AE_IFIFO, AE_IFDIR, 0 /* a hard link */};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        begin(p);
        add_file(p, "manifest.json", MANIFEST);
        struct archive_entry *e = entry_of(LIBRARY_ENTRY, types[i] == 0 ? AE_IFREG : types[i], 0);
        if (types[i] == AE_IFLNK) {
            archive_entry_set_symlink(e, "/etc/passwd");
        } else if (types[i] == 0) {
            archive_entry_set_hardlink(e, "manifest.json");
        } else if (types[i] == AE_IFCHR || types[i] == AE_IFBLK) {
            archive_entry_set_rdev(e, 1);
        }
        put(p, e, NULL);
        finish(p);
        refused_at_once(p, "an entry");
    }
}

/* Gives the entry that begins at `at` of an unpacked archive a size of 4 TiB. */
static void claim_terabytes(struct pack *p, size_t at) {
    enum { SIZE_AT = 124, SIZE_LEN = 12, SUM_AT = 148, SUM_LEN = 8, HEADER = 512 };
    struct buf content = {0};
    unsigned sum = 0;
    file_read(p->dir.fd, ARCHIVE_NAME, &content);
    uint8_t *header = content.data + at;
    memset(header + SIZE_AT, 0, SIZE_LEN);
    header[SIZE_AT] = 0x80; /* a binary number follows */
    header[SIZE_AT + SIZE_LEN - 6] = 4;
    memset(header + SUM_AT, ' ', SUM_LEN);
    for (size_t i = 0; i < HEADER; i++) {
        sum += header[i];
    }
    (void)snprintf((char *)header + SUM_AT, SUM_LEN, "%06o", sum);
    file_write(p->dir.fd, ARCHIVE_NAME, buf_slice(&content));
    buf_fini(&content);
}

static void sparse_and_huge(void **state) {
    struct pack *p = (struct pack *)*state;
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    struct archive_entry *e = entry_of(DOCUMENTS_ENTRY, AE_IFREG, (size_t)1 << 42);
    archive_entry_sparse_add_entry(e, 0, 1);
    archive_entry_sparse_add_entry(e, (la_int64_t)((size_t)1 << 41), 1);
    put(p, e, NULL);
    (void)archive_write_free(p->archive);
    refused_at_once(p, "");
    /* Terabytes that the header only claims. */
    begin_with(p, ARCHIVE_FILTER_NONE);
    add_file(p, DOCUMENTS_ENTRY, "x");
    add_file(p, "manifest.json", MANIFEST);
    finish(p);
    claim_terabytes(p, 0);
    refused_at_once(p, "4398046511104 bytes");
}

static void other_packings(void **state) {
    struct pack *p = (struct pack *)*state;
    /* What this program does not need to read it does not let libarchive try. */
    static const int filters[] = {ARCHIVE_FILTER_COMPRESS, ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_LZMA, ARCHIVE_FILTER_LZIP, ARCHIVE_FILTER_LZ4,
                                  ARCHIVE_FILTER_UU};
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        begin_with(p, filters[i]);
        add_file(p, "manifest.json", MANIFEST);
        finish(p);
        refused_at_once(p, "");
    }
    /* one within another */
    static const int pairs[][2] = {{ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_GZIP}, {ARCHIVE_FILTER_ZSTD, ARCHIVE_FILTER_XZ}, {ARCHIVE_FILTER_GZIP, ARCHIVE_FILTER_ZSTD}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        begin_packed(p, pairs[i], 2);
        add_file(p, "manifest.json", MANIFEST);
        finish(p);
        refused_at_once(p, "more than once");
    }
    static const char *const garbage[] = {"", "x", "not an archive at all, and much longer than any magic number would need"};
    for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
        file_write(p->dir.fd, ARCHIVE_NAME, slice_str(garbage[i]));
        refused_at_once(p, "");
    }
}

static void doubles_and_sums(void **state) {
    struct pack *p = (struct pack *)*state;
    /* an entry twice, with the same or another content */
    for (int same = 0; same < 2; same++) {
        begin(p);
        add_file(p, "manifest.json", MANIFEST);
        add_file(p, LIBRARY_ENTRY, LIBRARY);
        put_file(p, LIBRARY_ENTRY, same != 0 ? LIBRARY : LIBRARY_OF(ID, ",\"language\":\"x\""));
        finish(p);
        refused_at_once(p, "twice");
    }
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    put_file(p, "SHA256SUMS", p->sums);
    finish(p);
    refused_at_once(p, "twice");
    /* listed twice */
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    add_sum(p, "manifest.json", MANIFEST);
    finish(p);
    refused_at_once(p, "twice");
    /* listed and not there, there and not listed */
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    add_sum(p, LIBRARY_ENTRY, LIBRARY);
    finish(p);
    refused_at_once(p, "what is not there");
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    put_file(p, LIBRARY_ENTRY, LIBRARY);
    finish(p);
    refused_at_once(p, "does not list every entry");
    /* another content */
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    put_file(p, LIBRARY_ENTRY, LIBRARY);
    add_sum(p, LIBRARY_ENTRY, LIBRARY " ");
    finish(p);
    refused_at_once(p, "fails its checksum");
    /* no sums, no manifest, lines that are none */
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    assert_int_equal(archive_write_free(p->archive), ARCHIVE_OK);
    refused_at_once(p, "SHA256SUMS is missing");
    begin(p);
    add_file(p, LIBRARY_ENTRY, LIBRARY);
    finish(p);
    refused_at_once(p, "manifest.json is missing");
    static const char *const lines[] = {"", "\n", "x", "0123456789abcdef  manifest.json\n", "manifest.json  0123"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        begin(p);
        put_file(p, "manifest.json", MANIFEST);
        put_file(p, "SHA256SUMS", lines[i]);
        assert_int_equal(archive_write_free(p->archive), ARCHIVE_OK);
        refused_at_once(p, "SHA256SUMS");
    }
}

static void bad_manifests(void **state) {
    struct pack *p = (struct pack *)*state;
    static const char *const manifests[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"kind\":\"another\",\"format\":1}",
        "{\"kind\":1,\"format\":1}",
        "{\"kind\":\"quire snapshot\"}",
        "{\"kind\":\"quire snapshot\",\"format\":0}",
        "{\"kind\":\"quire snapshot\",\"format\":3}",
        "{\"kind\":\"quire snapshot\",\"format\":\"1\"}",
        "{\"kind\":\"quire snapshot\",\"format\":1,\"lsn\":-1}",
        "{\"kind\":\"quire snapshot\",\"format\":1,\"lsn\":1e300}",
        "{\"kind\":\"quire snapshot\",\"format\":1,\"created_at\":\"yesterday\"}",
        "{\"kind\":\"quire snapshot\",\"format\":1,\"base\":\"snapshot_20200101_000000.tar.zst\"}",
        "{\"kind\":\"quire snapshot\",\"format\":1,\"format\":1}",
    };
    for (size_t i = 0; i < sizeof manifests / sizeof manifests[0]; i++) {
        whole(p, manifests[i], LIBRARY, DOCUMENT);
        refused_at_once(p, "manifest.json");
    }
    char deep[4096];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    whole(p, deep, LIBRARY, DOCUMENT);
    refused_at_once(p, "manifest.json");
}

static void bad_libraries(void **state) {
    struct pack *p = (struct pack *)*state;
    static const char *const libraries[] = {
        "",
        "{}",
        "[]",
        LIBRARY_OF(OTHER_ID, ""),
        LIBRARY_OF(ID, ",\"index_type\":\"magic\""),
        LIBRARY_OF(ID, ",\"index_type\":1"),
        LIBRARY_OF(ID, ",\"index_config\":[]"),
        LIBRARY_OF(ID, ",\"index_config\":{\"M\":-1}"),
        LIBRARY_OF(ID, ",\"index_config\":{\"M\":1000000}"),
        LIBRARY_OF(ID, ",\"index_config\":{\"M\":4294967297}"),
        LIBRARY_OF(ID, ",\"dimension\":1000000"),
        LIBRARY_OF(ID, ",\"custom\":[]"),
        LIBRARY_OF(ID, ",\"snapshot_vectors\":\"yes\""),
        LIBRARY_OF(ID, ",\"model_fingerprint\":\"xyz\""),
        LIBRARY_OF(ID, ",\"model_fingerprint\":\"00000000000000\""),
        LIBRARY_OF(ID, ",\"model_fingerprint\":\"0000000000000000000000\""),
        LIBRARY_OF(ID, ",\"description\":7"),
        LIBRARY_OF(ID, ",\"language_base64\":\"!\""),
        LIBRARY_OF(ID, ",\"created_at\":\"now\""),
    };
    for (size_t i = 0; i < sizeof libraries / sizeof libraries[0]; i++) {
        whole(p, MANIFEST, libraries[i], DOCUMENT);
        refused(p, "");
    }
    /* documents without a library */
    begin(p);
    add_file(p, "manifest.json", MANIFEST);
    add_file(p, DOCUMENTS_ENTRY, DOCUMENT);
    finish(p);
    refused_at_once(p, "library.json is missing");
}

static void bad_documents(void **state) {
    struct pack *p = (struct pack *)*state;
    static const char *const lines[] = {
        "x",
        "[]",
        "{\"id\":\"d\"",
        "{}",
        "{\"id\":7}",
        "{\"id\":\"\"}",
        "{\"id\":\"a\\u0000b\"}",
        "{\"id\":\"\xff\"}",
        "{\"id\":\"d\",\"id\":\"d\"}",
        "{\"id\":\"d\",\"chunks\":{}}",
        "{\"id\":\"d\",\"chunks\":[7]}",
        "{\"id\":\"d\",\"chunks\":[{}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\"}]}",
        "{\"id\":\"d\",\"chunks\":[{\"text\":\"t\"}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":7}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"metadata\":[]}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"metadata\":{\"page_number\":-2}}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"metadata\":{\"page_number\":1.5}}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":7}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[]}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[1e999]}]}",
        "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":\"AAA\"}]}",
        "{\"id\":\"d\",\"metadata\":7}",
        "{\"id\":\"d\",\"metadata\":{\"tags\":{}}}",
        "{\"id\":\"d\",\"metadata\":{\"custom\":[]}}",
        "{\"id\":\"d\",\"metadata\":{\"created_at\":\"9999999-01-01T00:00:00Z\"}}",
        "{\"id\":\"d\",\"metadata\":{\"title\":{}}}",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char two[1024];
        (void)snprintf(two, sizeof two, DOCUMENT "%s\n", lines[i]);
        whole(p, MANIFEST, LIBRARY, two);
        refused(p, "documents-000001.jsonl, line 2");
    }
    whole(p, MANIFEST, LIBRARY,
          "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[1,2]},{\"id\":\"e\",\"text\":\"t\","
          "\"embedding\":[1]}]}");
    refused(p, "documents-000001.jsonl, line 1");
    /* A library without a model: each chunk must bring its vector. */
    static const char none[] = "{\"id\":\"" ID "\",\"name\":\"n\",\"embedding_model\":\"none\",\"dimension\":2}";
    whole(p, MANIFEST, none,
          "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[0,1]},{\"id\":\"e\",\"text\":\"t\"}]}\n");
    refused(p, "missing in some chunks");
    whole(p, MANIFEST, none, "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[0,1,0]}]}\n");
    refused(p, "dimension");
    whole(p, MANIFEST, none, "{\"id\":\"d\",\"chunks\":[{\"id\":\"c\",\"text\":\"t\",\"embedding\":[0,1]}]}\n");
    taken(p, 2);
}

/* Wide JSON that would cost a parser gigabytes is counted before it is built. */
static void wide_lines(void **state) {
    struct pack *p = (struct pack *)*state;
    size_t len = (size_t)4 << 20;
    char *line = (char *)malloc(len + 64);
    size_t at = (size_t)snprintf(line, 64, "{\"id\":\"d\",\"metadata\":{\"custom\":{\"x\":[");
    while (at < len) {
        memcpy(line + at, "[[[[[[[[", 8);
        at += 8;
    }
    line[at] = '\0';
    whole(p, MANIFEST, LIBRARY, line);
    refused(p, "line 1");
    free(line);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_good_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_and_devices, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sparse_and_huge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_packings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(doubles_and_sums, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_manifests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_libraries, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_documents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wide_lines, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
