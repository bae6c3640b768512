/* test_durable_snapshot_chain.c - incremental snapshots: each holds what changed and no more, all of a chain comes out as it went in, and a chain with a bad
 * link is refused before anything of it is used. */
#include "durable_fixture.h"
#include "store_fixture.h"

#include "base/hash.h"
#include "durable/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIBRARIES = 4, ENOUGH = 8, NAMES_MAX = 64 };

struct chain {
    struct fixture *store;
    struct scratch dir;
    struct snapshot_options options;
    struct snapshot_base *base;
};

static int set_up(void **state) {
    struct chain *c = (struct chain *)calloc(1, sizeof *c);
    void *store = NULL;
    scratch_make(&c->dir);
    assert_int_equal(fixture_set_up(&store), 0);
    c->store = (struct fixture *)store;
    c->options = (struct snapshot_options){.compression = SNAPSHOT_ZSTD, .chain_max = ENOUGH};
    *state = c;
    return 0;
}

static int tear_down(void **state) {
    struct chain *c = (struct chain *)*state;
    void *store = c->store;
    fault_disarm();
    snapshot_base_free(c->base);
    scratch_remove(&c->dir);
    int failed = fixture_tear_down(&store);
    free(c);
    return failed;
}

/* Writes one on top of the last. */
static struct snapshot_info take(struct chain *c) {
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct snapshot_base *next = NULL;
    struct status st = {0};
    assert_true(snapshot_cut_take(c->store->catalog, &cut, &st));
    c->options.base = c->base;
    bool ok = snapshot_write(c->dir.fd, &cut, &c->options, NULL, &info, &next, &st);
    snapshot_cut_release(c->store->catalog, &cut);
    if (!ok) {
        fail_msg("snapshot_write: %s", st.detail);
    }
    assert_non_null(next);
    snapshot_base_free(c->base);
    c->base = next;
    return info;
}

/* --- what is in a state --- */

/* A sum over libraries and documents, whatever their order: ops of a snapshot, or of the catalog as it is. */
struct content {
    uint64_t sum;
    uint64_t libraries, documents;
};

static bool add_op(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct content *content = (struct content *)ctx;
    (void)st;
    content->sum += hash64(1, item->op->bytes.data, item->op->bytes.len);
    content->libraries += item->op->type == OP_LIBRARY_CREATE ? 1 : 0;
    content->documents += item->op->type == OP_DOCUMENT_PUT ? 1 : 0;
    return true;
}

static bool load(struct chain *c, const char *name, struct content *ret, struct status *st) {
    struct snapshot_info info;
    *ret = (struct content){0};
    return snapshot_load(c->dir.fd, name, NULL, add_op, ret, &info, st);
}

static struct content loaded(struct chain *c, const char *name) {
    struct content content;
    struct status st = {0};
    if (!load(c, name, &content, &st)) {
        fail_msg("load %s: %s", name, st.detail);
    }
    return content;
}

/* What a whole archive of the present state gives. */
static struct content present(struct chain *c) {
    struct snapshot_options options = {.compression = SNAPSHOT_PLAIN};
    struct snapshot_cut cut;
    struct snapshot_info info;
    struct status st = {0};
    assert_true(snapshot_cut_take(c->store->catalog, &cut, &st));
    assert_true(snapshot_write(c->dir.fd, &cut, &options, NULL, &info, NULL, &st));
    snapshot_cut_release(c->store->catalog, &cut);
    assert_string_equal(info.base, "");
    struct content content = loaded(c, info.name);
    assert_int_equal(unlinkat(c->dir.fd, info.name, 0), 0);
    return content;
}

static void holds_the_present(struct chain *c, const struct snapshot_info *info) {
    struct content now = present(c);
    struct content then = loaded(c, info->name);
    assert_int_equal(then.libraries, now.libraries);
    assert_int_equal(then.documents, now.documents);
    assert_true(then.sum == now.sum);
    assert_int_equal(info->libraries, now.libraries);
    assert_int_equal(info->documents, now.documents);
}

static void fill(struct chain *c) {
    for (unsigned i = 1; i <= LIBRARIES; i++) {
        struct uuid id = fixture_library_id(i);
        fixture_create(c->store, &id, INDEX_HNSW, "test");
        for (unsigned d = 0; d < 6; d++) {
            char name[32];
            (void)snprintf(name, sizeof name, "d%u", d);
            fixture_put(c->store, &id, PUT_CREATE, name, 2, "a text of some length, so that a library weighs something");
        }
    }
}

static void change(struct chain *c, unsigned library, const char *document) {
    struct uuid id = fixture_library_id(library);
    fixture_put(c->store, &id, PUT_REPLACE, document, 1, "another text");
}

/* Entries of an archive that begin with `prefix`, by tar. */
static unsigned entries_of(struct chain *c, const char *name, const char *prefix) {
    char command[512];
    char line[64] = "";
    (void)snprintf(command, sizeof command, "tar -tf '%s/%s' | grep -c '^%s'", c->dir.path, name, prefix);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    assert_non_null(fgets(line, sizeof line, out));
    (void)pclose(out);
    return (unsigned)strtoul(line, NULL, 10);
}

/* --- tests --- */

static void four_packings(void **state) {
    struct chain *c = (struct chain *)*state;
    static const char *const suffixes[] = {".tar", ".tar.gz", ".tar.zst", ".tar.xz"};
    struct content first = {0};
    uint64_t plain = 0;
    fill(c);
    for (int packing = SNAPSHOT_PLAIN; packing <= SNAPSHOT_XZ; packing++) {
        for (unsigned level = 0; level < 2; level++) {
            c->options = (struct snapshot_options){.compression = (enum snapshot_compression)packing, .level = level};
            struct snapshot_info info = take(c);
            assert_string_equal(strchr(info.name, '.'), suffixes[packing]);
            struct content content = loaded(c, info.name);
            first = first.libraries == 0 ? content : first;
            assert_true(content.sum == first.sum);
            plain = packing == SNAPSHOT_PLAIN ? info.bytes : plain;
            assert_true(packing == SNAPSHOT_PLAIN || info.bytes < plain);
        }
    }
    /* The name says nothing. */
    assert_int_equal(renameat(c->dir.fd, snapshot_base_info(c->base)->name, c->dir.fd, "snapshot_20200101_000000.tar.gz"), 0);
    assert_true(loaded(c, "snapshot_20200101_000000.tar.gz").sum == first.sum);
    struct snapshot_info *list = NULL;
    size_t count = 0;
    struct status st;
    assert_true(snapshot_list(c->dir.fd, &list, &count, &st));
    assert_int_equal(count, 8);
    free(list);
}

static void only_what_changed(void **state) {
    struct chain *c = (struct chain *)*state;
    struct uuid two = fixture_library_id(2);
    struct uuid more = fixture_library_id(9);
    fill(c);
    struct snapshot_info info = take(c);
    assert_string_equal(info.base, "");
    struct snapshot_info before = info;

    change(c, 1, "d0");
    info = take(c);
    assert_string_equal(info.base, before.name);
    assert_int_equal(info.base_lsn, before.lsn);
    assert_int_equal(info.depth, 1);
    assert_int_equal(entries_of(c, info.name, "libraries/"), 2); /* library.json and its documents */
    holds_the_present(c, &info);

    /* a deletion, of a document and of a chunk */
    fixture_delete_document(c->store, &two, "d3");
    fixture_delete_chunk(c->store, &two, "d4/1");
    info = take(c);
    assert_int_equal(info.depth, 2);
    assert_int_equal(entries_of(c, info.name, "libraries/"), 2);
    holds_the_present(c, &info);

    /* a definition alone */
    struct buf op = {0};
    fixture_library_op(&op, OP_LIBRARY_UPDATE, &two, INDEX_FLAT, "test");
    fixture_commit(c->store, &op);
    info = take(c);
    assert_int_equal(entries_of(c, info.name, "libraries/"), 2);
    holds_the_present(c, &info);

    /* a library goes, another comes */
    buf_reset(&op);
    op_encode_library_delete(&op, &two);
    fixture_commit(c->store, &op);
    fixture_create(c->store, &more, INDEX_HNSW, "test");
    info = take(c);
    assert_int_equal(info.depth, 4);
    assert_int_equal(entries_of(c, info.name, "libraries/"), 1);
    holds_the_present(c, &info);

    /* nothing */
    info = take(c);
    assert_int_equal(entries_of(c, info.name, "libraries/"), 0);
    holds_the_present(c, &info);
    buf_fini(&op);
}

static void goes_on_from_what_lies_there(void **state) {
    struct chain *c = (struct chain *)*state;
    struct status st = {0};
    fill(c);
    (void)take(c);
    change(c, 1, "d0");
    struct snapshot_info info = take(c);
    snapshot_base_free(c->base);
    c->base = NULL;
    assert_true(snapshot_base_open(c->dir.fd, info.name, NULL, &c->base, &st));
    change(c, 3, "d5");
    struct snapshot_info next = take(c);
    assert_string_equal(next.base, info.name);
    assert_int_equal(next.depth, 2);
    assert_int_equal(entries_of(c, next.name, "libraries/"), 2);
    holds_the_present(c, &next);
}

static void whole_when_it_should_be(void **state) {
    struct chain *c = (struct chain *)*state;
    fill(c);
    c->options.chain_max = 2;
    for (unsigned i = 0; i < 7; i++) {
        change(c, 1, "d0");
        assert_int_equal(take(c).depth, i % 3);
    }
    c->options.chain_max = 0;
    change(c, 1, "d0");
    assert_string_equal(take(c).base, "");
    /* too little is saved */
    c->options.chain_max = ENOUGH;
    change(c, 1, "d0");
    assert_string_not_equal(take(c).base, "");
    for (unsigned i = 1; i <= LIBRARIES; i++) {
        change(c, i, "d1");
    }
    assert_string_equal(take(c).base, "");
    /* a link is gone */
    change(c, 1, "d0");
    struct snapshot_info info = take(c);
    assert_int_equal(info.depth, 1);
    assert_int_equal(unlinkat(c->dir.fd, info.base, 0), 0);
    change(c, 1, "d0");
    info = take(c);
    assert_string_equal(info.base, "");
    holds_the_present(c, &info);
}

static void vectors_on_and_off(void **state) {
    struct chain *c = (struct chain *)*state;
    c->options.compression = SNAPSHOT_PLAIN;
    fill(c);
    struct snapshot_info without = take(c);
    c->options.include_embeddings = true;
    struct snapshot_info with = take(c);
    assert_string_equal(with.base, ""); /* every library counts as changed */
    assert_true(with.bytes > without.bytes + LIBRARIES * 6 * FIXTURE_DIMENSION * sizeof(float));
    change(c, 1, "d0");
    assert_string_equal(take(c).base, with.name);
}

/* A chain of three links of which the newest needs all. */
static void make_chain(struct chain *c, struct snapshot_info out[3]) {
    fill(c);
    out[0] = take(c);
    change(c, 1, "d0");
    out[1] = take(c);
    change(c, 2, "d0");
    out[2] = take(c);
    assert_int_equal(out[2].depth, 2);
}

static void refused(struct chain *c, const char *name, const char *mentions) {
    struct content content;
    struct snapshot_base *base = NULL;
    struct status st = {0};
    if (load(c, name, &content, &st)) {
        fail_msg("taken, although: %s", mentions);
    }
    assert_int_equal(content.libraries, 0);
    if ((st.code != STATUS_CORRUPT && st.code != STATUS_MALFORMED) || strstr(st.detail, mentions) == NULL) {
        fail_msg("code %d, \"%s\" does not speak of \"%s\"", (int)st.code, st.detail, mentions);
    }
    assert_false(snapshot_base_open(c->dir.fd, name, NULL, &base, &st));
}

static void links_are_removed(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    make_chain(c, links);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(renameat(c->dir.fd, links[i].name, c->dir.fd, "aside"), 0);
        refused(c, links[2].name, links[i].name);
        assert_int_equal(renameat(c->dir.fd, "aside", c->dir.fd, links[i].name), 0);
    }
    (void)loaded(c, links[2].name);
}

static void exchange(struct chain *c, const char *a, const char *b) {
    assert_int_equal(renameat(c->dir.fd, a, c->dir.fd, "aside"), 0);
    assert_int_equal(renameat(c->dir.fd, b, c->dir.fd, a), 0);
    assert_int_equal(renameat(c->dir.fd, "aside", c->dir.fd, b), 0);
}

static void links_are_exchanged(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    make_chain(c, links);
    struct content newest = loaded(c, links[2].name);
    struct snapshot_base *kept = c->base;
    /* another whole one of nearly the same state, and one of the same state */
    c->base = NULL;
    struct snapshot_info same = take(c);
    change(c, 3, "d0");
    struct snapshot_info other = take(c);
    const char *strangers[] = {same.name, other.name};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < 2; k++) {
            exchange(c, links[i].name, strangers[k]);
            refused(c, links[2].name, "is not the one");
            exchange(c, links[i].name, strangers[k]);
        }
    }
    exchange(c, links[0].name, links[1].name);
    refused(c, links[2].name, "");
    exchange(c, links[0].name, links[1].name);
    /* the newest with its base: what the name of the base holds now rests on itself */
    exchange(c, links[2].name, links[1].name);
    refused(c, links[1].name, "");
    exchange(c, links[2].name, links[1].name);
    assert_true(loaded(c, links[2].name).sum == newest.sum);
    snapshot_base_free(kept);
}

static void links_are_damaged(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    c->options.compression = SNAPSHOT_PLAIN;
    make_chain(c, links);
    struct content whole = loaded(c, links[2].name);
    unsigned harmless = 0;
    unsigned tried = 0;
    for (int i = 0; i < 3; i++) {
        for (size_t at = 0; at < links[i].bytes; at += 97, tried++) {
            struct content content;
            struct status st = {0};
            file_flip(c->dir.fd, links[i].name, at, 0x20);
            /* A byte that tar does not look at may change; what comes out may not. */
            if (load(c, links[2].name, &content, &st)) {
                assert_true(content.sum == whole.sum);
                harmless++;
            } else {
                assert_int_equal(content.libraries, 0);
            }
            file_flip(c->dir.fd, links[i].name, at, 0x20);
        }
    }
    assert_true(harmless < tried);
    assert_true(loaded(c, links[2].name).sum == whole.sum);
}

/* A base that was packed anew by other tools is the same base; one that was edited is not. */
static void bases_are_packed_anew(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    char command[2048];
    if (system("command -v tar gzip jq sha256sum >/dev/null 2>&1") != 0) {
        skip();
    }
    make_chain(c, links);
    struct content whole = loaded(c, links[2].name);
    (void)snprintf(command, sizeof command,
                   "cd '%s' && mkdir -p out && tar -C out -xf %s && tar -C out -czf %s . && rm -r out", c->dir.path, links[0].name, links[0].name);
    assert_int_equal(system(command), 0);
    assert_true(loaded(c, links[2].name).sum == whole.sum);
    (void)snprintf(command, sizeof command,
                   "cd '%s' && mkdir -p out && tar -C out -xf %s && cd out && f=$(ls libraries/*/library.json | head -n 1) && "
                   "jq '.description = \"x\"' $f >new && mv new $f && sha256sum manifest.json libraries/*/* >SHA256SUMS && tar -czf ../%s . && "
                   "cd .. && rm -r out",
                   c->dir.path, links[0].name, links[0].name);
    assert_int_equal(system(command), 0);
    refused(c, links[2].name, "is not the one");
    (void)loaded(c, links[0].name);
}

/* --- on trial --- */

static void count_call(void *ctx, uint64_t done, uint64_t total) {
    assert_true(done <= total);
    *(unsigned *)ctx += 1;
}

static void trials(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    struct snapshot_info info;
    struct status st = {0};
    char command[2048];
    unsigned told = 0;
    bool cancel = false;
    struct snapshot_trial_options options = {.cancel = &cancel, .tell = count_call, .ctx = &told};
    make_chain(c, links);
    if (!snapshot_trial(c->dir.fd, links[2].name, &options, &info, &st)) {
        fail_msg("trial: %s", st.detail);
    }
    assert_string_equal(info.name, links[2].name);
    assert_int_equal(info.documents, LIBRARIES * 6);
    cancel = true;
    assert_false(snapshot_trial(c->dir.fd, links[2].name, &options, &info, &st));
    assert_int_equal(st.code, STATUS_BUSY);
    cancel = false;
    assert_false(snapshot_trial(c->dir.fd, "snapshot_20200101_000000.tar", &options, &info, &st));
    assert_int_equal(st.code, STATUS_NOT_FOUND);
    assert_int_equal(renameat(c->dir.fd, links[1].name, c->dir.fd, "aside"), 0);
    assert_false(snapshot_trial(c->dir.fd, links[2].name, &options, &info, &st));
    assert_int_equal(st.code, STATUS_CORRUPT);
    assert_int_equal(renameat(c->dir.fd, "aside", c->dir.fd, links[1].name), 0);
    /* sums that hold say nothing of what was never written */
    static const char *const edits[] = {
        "jq '.num_documents += 1' manifest.json >new && mv new manifest.json",
        "jq '.num_chunks -= 1' manifest.json >new && mv new manifest.json",
        "f=$(ls libraries/*/documents-000001.jsonl | head -n 1) && sed -i 1d $f",
        "f=$(ls libraries/*/documents-000001.jsonl | head -n 1) && head -n 1 $f >new && cat new >>$f && rm new",
    };
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        (void)snprintf(command, sizeof command,
                       "command -v jq >/dev/null && cd '%s' && mkdir -p out && tar -C out -xf %s && cd out && %s && "
                       "sha256sum manifest.json libraries/*/* >SHA256SUMS && tar -cf ../snapshot_20300101_000000.tar . && cd .. && rm -r out",
                       c->dir.path, links[0].name, edits[i]);
        if (system(command) != 0) {
            skip();
        }
        assert_false(snapshot_trial(c->dir.fd, "snapshot_20300101_000000.tar", &options, &info, &st));
    }
}

static void names_in_sixteen_bytes(void **state) {
    static const char *const names[] = {"snapshot_20261129_195300.tar.zst", "snapshot_00000000_000000.tar", "snapshot_99999999_999999.tar.gz",
                                        "snapshot_20300101_000001.tar.xz"};
    char again[SNAPSHOT_NAME_MAX];
    struct uuid packed;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snapshot_name_pack(names[i], &packed);
        assert_true(snapshot_name_unpack(&packed, again));
        assert_string_equal(again, names[i]);
    }
    memset(&packed, 0xff, sizeof packed);
    assert_false(snapshot_name_unpack(&packed, again));
}

/* Manifests that say where libraries are, and lie. */
static void manifests_that_lie(void **state) {
    struct chain *c = (struct chain *)*state;
    struct snapshot_info links[3];
    char command[2048];
    static const struct {
        const char *edit, *mentions;
    } lies[] = {
        {"del(.libraries[0].archive)", ""},
        {".libraries[0].archive = \"snapshot_20200101_000000.tar\"", "is not where"},
        {".libraries[0].archive = \"../x\"", "manifest.json"},
        {".libraries[0].id = \"0193a5b0-0000-7000-8000-0000000000ff\"", ""},
        {".libraries += [.libraries[0]]", "twice"},
        {".libraries = [.libraries[] | select(.archive)]", "is in it, and not in its manifest"},
        {".libraries = null", "manifest.json"},
        {".base.lsn = 1", "was made from LSN"},
        {".base.archive = \"snapshot_20200101_000000.tar\"", "snapshot_20200101_000000.tar"},
        {".base.sha256sums = \"00\"", "manifest.json"},
        {".base = \"x\"", "manifest.json"},
        {".base = null", ""},
        {".lsn = 1", "was made from LSN"},
        {"(.libraries[] | select(.archive)).archive = .base.archive", "is not where"},
    };
    if (system("command -v tar jq sha256sum >/dev/null 2>&1") != 0) {
        skip();
    }
    make_chain(c, links);
    struct content whole = loaded(c, links[2].name);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct content content;
        struct status st = {0};
        (void)snprintf(command, sizeof command,
                       "cd '%s' && mkdir -p out && tar -C out -xf %s && cd out && jq '%s' manifest.json >new && mv new manifest.json && "
                       "sha256sum manifest.json libraries/*/* >SHA256SUMS && tar -cf ../snapshot_20300101_000000.tar . && cd .. && rm -r out",
                       c->dir.path, links[2].name, lies[i].edit);
        assert_int_equal(system(command), 0);
        if (lies[i].mentions[0] != '\0') {
            refused(c, "snapshot_20300101_000000.tar", lies[i].mentions);
        } else if (load(c, "snapshot_20300101_000000.tar", &content, &st)) {
            assert_true(content.sum != whole.sum || content.libraries != whole.libraries); /* an edit that makes another sound archive */
            assert_int_equal(strcmp(lies[i].edit, ".base = null"), 0);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(four_packings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_what_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(goes_on_from_what_lies_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(whole_when_it_should_be, set_up, tear_down),
        cmocka_unit_test_setup_teardown(vectors_on_and_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_removed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_exchanged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bases_are_packed_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(manifests_that_lie, set_up, tear_down),
        cmocka_unit_test_setup_teardown(trials, set_up, tear_down),
        cmocka_unit_test(names_in_sixteen_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
