/* test_s3_names.c - names of objects, the storage's XML, backup.conf, which objects stay, and the state file: all that needs no storage. */
#include "s3/backup.h"
#include "s3/retention.h"
#include "s3/xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define INSTANCE "01a22a0a-7ec8-7711-8b64-26a5182b9e95"
#define HASH "fc9ed2c32bd2cdd4427ec94b54c8fbcf51df2372b01664ae164b1d85ae726bd0"
#define SNAPSHOT INSTANCE "/snapshot/snapshot_20261130_012101.tar.zst~00000000000000000021~"
#define SEGMENT INSTANCE "/wal/wal_20261130_00000000000000000001.log~00000000000000000022~"
#define DAY INT64_C(86400000000)

/* --- names --- */

static void names_come_back(void **state) {
    static const char *const names[] = {
        SNAPSHOT "whole~182471~" HASH,
        SNAPSHOT "snapshot_20261130_011101.tar.zst~1~" HASH "~enc",
        SEGMENT "65536~" HASH,
        SEGMENT "0~" HASH "~enc",
    };
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct s3_object o;
        char again[S3_NAME_MAX];
        assert_true(s3_object_parse(names[i], &o));
        s3_object_name(&o, again);
        assert_string_equal(again, names[i]);
    }
    struct s3_object o;
    assert_true(s3_object_parse(SEGMENT "65536~" HASH, &o));
    assert_int_equal(o.kind, S3_SEGMENT);
    assert_int_equal(o.first_lsn, 1);
    assert_int_equal(o.lsn, 21);
    assert_string_equal(o.file, "wal_20261130_00000000000000000001.log");
    assert_int_equal(s3_object_bytes(&o), 65536);
    assert_true(s3_object_parse(SNAPSHOT "whole~65536~" HASH "~enc", &o));
    assert_string_equal(o.base, "");
    assert_int_equal(s3_object_bytes(&o), 32 + 65536 + 16);
}

static void hostile_names_are_none_of_ours(void **state) {
    static const char *const names[] = {
        "",
        INSTANCE,
        INSTANCE "/",
        INSTANCE "/snapshot/",
        INSTANCE "/other/wal_20261130_00000000000000000001.log~00000000000000000022~1~" HASH,
        INSTANCE "/snapshot/../../etc/passwd~00000000000000000021~whole~1~" HASH,
        INSTANCE "/snapshot/x/snapshot_20261130_012101.tar.zst~00000000000000000021~whole~1~" HASH,
        INSTANCE "/snapshot/.snapshot_20261130_012101.tar.zst.tmp~00000000000000000021~whole~1~" HASH,
        INSTANCE "/wal/snapshot_20261130_012101.tar.zst~00000000000000000021~1~" HASH,
        INSTANCE "/wal/wal_20261130_00000000000000000005.log~00000000000000000005~1~" HASH,
        INSTANCE "/wal/wal_20261130_00000000000000000000.log~00000000000000000000~1~" HASH,
        SNAPSHOT "whole~1",
        SNAPSHOT "whole~1~" HASH "~",
        SNAPSHOT "whole~1~" HASH "~enc~enc",
        SNAPSHOT "whole~1~" HASH "~xyz",
        SNAPSHOT "whole~01~" HASH,
        SNAPSHOT "whole~-1~" HASH,
        SNAPSHOT "whole~99999999999999999999~" HASH,
        SNAPSHOT "whole~999999999999999~" HASH,
        SNAPSHOT "whole~1~FC9ed2c32bd2cdd4427ec94b54c8fbcf51df2372b01664ae164b1d85ae726bd0",
        SNAPSHOT "whole~1~" HASH "0",
        SNAPSHOT "~1~" HASH,
        SNAPSHOT "snapshot_20261130_012101.tar.zst~1~" HASH, /* rests on itself */
        SNAPSHOT "../x~1~" HASH,
        INSTANCE "/snapshot/snapshot_20261130_012101.tar.zst~21~whole~1~" HASH,
        ("01A22A0A-7ec8-7711-8b64-26a5182b9e95/wal/wal_20261130_00000000000000000001.log~00000000000000000022~1~" HASH),
    };
    struct s3_object o;
    char changed[S3_NAME_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (s3_object_parse(names[i], &o)) {
            fail_msg("taken: %s", names[i]);
        }
    }
    /* No change of a byte makes a name that is taken and comes out another one. */
    for (size_t i = 0; i < strlen(SNAPSHOT "whole~1~" HASH); i++) {
        for (unsigned c = 1; c < 256; c++) {
            char again[S3_NAME_MAX];
            (void)snprintf(changed, sizeof changed, "%s", SNAPSHOT "whole~1~" HASH);
            changed[i] = (char)c;
            if (s3_object_parse(changed, &o)) {
                s3_object_name(&o, again);
                assert_string_equal(again, changed);
            }
        }
    }
}

static void places(void **state) {
    struct s3_place p;
    struct status st;
    (void)state;
    assert_true(s3_place_parse("s3://bucket", &p, &st) && p.prefix[0] == '\0');
    assert_true(s3_place_parse("s3://bucket/", &p, &st) && p.prefix[0] == '\0');
    assert_true(s3_place_parse("s3://my-bucket.x/a/b_C/", &p, &st));
    assert_string_equal(p.bucket, "my-bucket.x");
    assert_string_equal(p.prefix, "a/b_C");
    static const char *const bad[] = {"", "s3://", "s3:///a", "s3://ab", "s3://Bucket/a", "s3://bucket/a//b", "s3://bucket/../b", "s3://bucket/.", "s3://bucket/a b",
                                      "s3://bucket/a?b", "s3://bucket/%41", "http://bucket/a", "s3://user@bucket/a", "s3://bucket/\xc3\xa4", "s3://bucket:80/a", "s3://.bucket"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (s3_place_parse(bad[i], &p, &st)) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_int_equal(st.code, STATUS_CONFIG);
    }
}

/* --- XML --- */

static bool note(const struct xml_item *item, void *ctx, struct status *st) {
    struct buf *out = (struct buf *)ctx;
    (void)st;
    buf_printf(out, "%s%s=%s;", item->end ? "/" : "", item->path, item->text);
    return true;
}

static bool reads(const char *xml, const char *expected) {
    struct buf out = {0};
    struct status st = {0};
    bool ok = xml_read(slice_str(xml), note, &out, &st);
    assert_true(ok || st.code == STATUS_MALFORMED);
    if (ok && expected != NULL) {
        buf_put_u8(&out, 0);
        assert_string_equal((const char *)out.data, expected);
    }
    buf_fini(&out);
    return ok;
}

static void xml(void **state) {
    (void)state;
    assert_true(reads("<?xml version=\"1.0\"?>\n<a xmlns='u>v'><b>x&amp;&quot;y&#65;</b> <c/>\n</a>\n", "a=;a/b=;/a/b=x&\"yA;a/c=;/a/c=;/a=;"));
    assert_true(reads("<n:a><n:b></n:b></n:a>", "a=;a/b=;/a/b=;/a=;"));
    static const char *const bad[] = {"", "  ", "text", "<a>", "</a>", "<a></b>", "<a><b></a></b>", "<a>&x;</a>", "<a>&#0;</a>", "<a>&#99999;</a>", "<!DOCTYPE a><a/>",
                                      "<a><!-- c --></a>", "<a><![CDATA[x]]></a>", "<a", "<a b=\"", "<a><b", "<a/>x", "<1:/>", "<a><?x?></a>",
                                      "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (reads(bad[i], NULL)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
    char *longest = (char *)calloc(1, 3 * XML_TEXT_MAX);
    assert_non_null(longest);
    (void)snprintf(longest, 3 * XML_TEXT_MAX, "<a>%*s</a>", XML_TEXT_MAX + 1, "x");
    assert_false(reads(longest, NULL));
    /* No beginning of it is taken for the whole. */
    static const char whole[] = "<r><k>a</k><k>b</k></r>";
    for (size_t len = 0; len + 1 < sizeof whole; len++) {
        (void)snprintf(longest, 3 * XML_TEXT_MAX, "%.*s", (int)len, whole);
        assert_false(reads(longest, NULL));
    }
    free(longest);
}

/* --- settings --- */

static bool read_settings(const char *text, struct s3_settings *s, struct status *st) {
    s3_settings_default(s);
    if (!s3_settings_read(s, "backup.conf", slice_str(text), st)) {
        return false;
    }
    s3_settings_complete(s);
    return s3_settings_check(s, st);
}

static void settings(void **state) {
    struct s3_settings s;
    struct status st = {0};
    (void)state;
    (void)unsetenv("AWS_ENDPOINT_URL");
    (void)unsetenv("AWS_ENDPOINT_URL_S3");
    (void)unsetenv("AWS_REGION");
    (void)unsetenv("AWS_DEFAULT_REGION");
    assert_true(read_settings("", &s, &st));
    assert_string_equal(s.endpoint, "https://s3.us-east-1.amazonaws.com");
    assert_int_equal(s.part_bytes, 16777216);
    assert_int_equal(s.keep_days, 7);
    assert_true(read_settings("# a comment\nendpoint = https://storage.example:9000 # here\n part_bytes = 8 MiB\nretry_wait_ms=2s\nkeep_days = 3d\nregion = \"eu-1\"\n", &s, &st));
    assert_string_equal(s.endpoint, "https://storage.example:9000");
    assert_int_equal(s.part_bytes, 8388608);
    assert_int_equal(s.retry_wait_ms, 2000);
    assert_int_equal(s.keep_days, 3);
    (void)setenv("AWS_REGION", "eu-west-9", 1);
    assert_true(read_settings("", &s, &st));
    assert_string_equal(s.endpoint, "https://s3.eu-west-9.amazonaws.com");
    (void)unsetenv("AWS_REGION");
    static const char *const bad[][2] = {
        {"\nendpiont = x", "backup.conf:2: unknown key 'endpiont'"}, {"keep = 1\nkeep = 2", "stands in line 1 already"}, {"keep = 0", "must be 1 to"},
        {"keep = 3x", "must be 1 to"}, {"path_style = maybe", "off|on"}, {"nonsense", "expected 'key = value'"}, {"endpoint = ftp://x", "endpoint must be"},
        {"endpoint = https://user@host", "endpoint must be"}, {"endpoint = https://host/path", "endpoint must be"}, {"credentials = ../keys", "systemd credential"},
        {"data_dir = here", "absolute"}, {"max_bytes_per_second = 5", "at least 16384"}, {"part_bytes = 1M", "must be 5242880 to"}, {"region = a/b", "region takes"},
        {"path_style = off\nendpoint = https://127.0.0.1", "not an address"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (read_settings(bad[i][0], &s, &st)) {
            fail_msg("taken: %s", bad[i][0]);
        }
        assert_int_equal(st.code, STATUS_CONFIG);
        if (strstr(st.detail, bad[i][1]) == NULL) {
            fail_msg("%s says: %s", bad[i][0], st.detail);
        }
    }
}

static void write_file(const char *path, const char *text, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void secrets(void **state) {
    char directory[] = "/tmp/quire-s3-XXXXXX";
    char path[64];
    struct s3_settings s;
    struct s3_keys keys;
    struct status st = {0};
    uint8_t key[S3_KEY_BYTES];
    bool there = false;
    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/keys", directory);
    s3_settings_default(&s);
    (void)snprintf(s.credentials, sizeof s.credentials, "%s", path);
    write_file(path, "[default]\naws_access_key_id = A1\n# no\naws_secret_access_key=b/2+=\n[other]\naws_access_key_id = C\n", 0600);
    assert_true(s3_keys_read(&s, &keys, &st));
    assert_string_equal(keys.access_key, "A1");
    assert_string_equal(keys.secret_key, "b/2+=");
    assert_string_equal(keys.session_token, "");
    write_file(path, "aws_access_key_id = A1\naws_secret_access_key = b\n", 0644);
    assert_false(s3_keys_read(&s, &keys, &st));
    assert_non_null(strstr(st.detail, "chmod 600"));
    write_file(path, "aws_access_key_id = A1\n", 0600);
    assert_false(s3_keys_read(&s, &keys, &st));
    write_file(path, "aws_access_key_id = A 1\naws_secret_access_key = hidden\n", 0600);
    assert_false(s3_keys_read(&s, &keys, &st));
    assert_null(strstr(st.detail, "hidden"));
    /* A name is a credential of systemd's. */
    (void)snprintf(s.credentials, sizeof s.credentials, "keys");
    (void)unsetenv("CREDENTIALS_DIRECTORY");
    assert_false(s3_keys_read(&s, &keys, &st));
    (void)setenv("CREDENTIALS_DIRECTORY", directory, 1);
    write_file(path, "aws_access_key_id = A1\naws_secret_access_key = b\naws_session_token = t\n", 0440);
    assert_true(s3_keys_read(&s, &keys, &st));
    assert_string_equal(keys.session_token, "t");
    s3_keys_wipe(&keys);
    assert_string_equal(keys.secret_key, "");

    assert_true(s3_encryption_key_read(&s, key, &there, &st));
    assert_false(there);
    (void)snprintf(s.encryption_key, sizeof s.encryption_key, "%s", path);
    write_file(path, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF\n", 0600);
    assert_true(s3_encryption_key_read(&s, key, &there, &st) && there);
    assert_int_equal(key[1], 1);
    assert_int_equal(key[31], 255);
    write_file(path, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e\n", 0600);
    assert_false(s3_encryption_key_read(&s, key, &there, &st));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

/* --- what stays --- */

static void add_snapshot(struct s3_listing *l, uint64_t lsn, uint64_t base, int64_t age_hours) {
    struct s3_object o = {.kind = S3_SNAPSHOT, .lsn = lsn, .modified_us = l->date_us - age_hours * DAY / 24};
    struct status st;
    (void)snprintf(o.file, sizeof o.file, "snapshot_20260101_%06u.tar", (unsigned)lsn);
    if (base != 0) {
        (void)snprintf(o.base, sizeof o.base, "snapshot_20260101_%06u.tar", (unsigned)base);
    }
    assert_true(s3_listing_add(l, &o, &st));
}

static void add_segment(struct s3_listing *l, uint64_t first, uint64_t last) {
    struct s3_object o = {.kind = S3_SEGMENT, .first_lsn = first, .lsn = last, .modified_us = l->date_us};
    struct status st;
    (void)snprintf(o.file, sizeof o.file, "wal_20260101_%020u.log", (unsigned)first);
    assert_true(s3_listing_add(l, &o, &st));
}

/* LSNs of what stays, as "30 20 10 | 11-20", and the floor. */
static void expect_kept(struct s3_listing *l, uint64_t keep, uint64_t days, const char *expected) {
    bool marks[64];
    uint64_t floor = 0;
    char text[512] = "";
    size_t len = 0;
    struct status st;
    struct s3_retention r = {.keep = keep, .keep_days = days};
    assert_true(s3_retain(l, &r, marks, &floor, &st));
    for (size_t i = 0; i < l->count; i++) {
        const struct s3_object *o = &l->items[i];
        if (marks[i] && o->kind == S3_SNAPSHOT) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%u ", (unsigned)o->lsn);
        } else if (marks[i]) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%u-%u ", (unsigned)o->first_lsn, (unsigned)o->lsn);
        }
    }
    (void)snprintf(text + len, sizeof text - len, "| %u", (unsigned)floor);
    assert_string_equal(text, expected);
    s3_listing_fini(l);
    l->date_us = 1000 * DAY;
}

static void what_stays(void **state) {
    struct s3_listing l = {.date_us = 1000 * DAY};
    (void)state;
    expect_kept(&l, 3, 7, "| 0");
    /* The newest, one a day, one older than the days; the log behind the oldest of them. */
    for (unsigned i = 1; i <= 20; i++) {
        add_snapshot(&l, 10 * i, 0, (20 - i) * 12);
        add_segment(&l, 10 * i - 9, 10 * i);
    }
    expect_kept(&l, 3, 2, "200 190 180 160 161-170 171-180 181-190 191-200 | 160");
}

static void chains_stay_whole(void **state) {
    struct s3_listing l = {.date_us = 1000 * DAY};
    (void)state;
    add_snapshot(&l, 10, 0, 100);
    add_snapshot(&l, 20, 10, 90);
    add_snapshot(&l, 30, 20, 1);
    add_snapshot(&l, 25, 0, 80);
    add_segment(&l, 5, 10);
    add_segment(&l, 8, 11);
    expect_kept(&l, 1, 1, "30 25 20 10 8-11 | 10");
    /* A snapshot whose base is gone is none: it counts for nothing, and goes when it is old. */
    add_snapshot(&l, 40, 35, 1);
    add_snapshot(&l, 30, 0, 2);
    add_snapshot(&l, 20, 15, 100);
    add_snapshot(&l, 10, 0, 200);
    expect_kept(&l, 1, 1, "40 30 10 | 10");
    /* A circle ends. */
    add_snapshot(&l, 40, 40, 1);
    expect_kept(&l, 1, 1, "40 | 0");
    /* The last one stays, however old. */
    add_snapshot(&l, 40, 0, 100000);
    add_segment(&l, 30, 40);
    add_segment(&l, 41, 50);
    expect_kept(&l, 1, 1, "40 41-50 | 40");
    /* Nothing goes where nothing is to go, but the shorter copy. */
    add_snapshot(&l, 40, 0, 100000);
    add_snapshot(&l, 50, 0, 100000);
    add_segment(&l, 1, 4);
    add_segment(&l, 1, 9);
    expect_kept(&l, 1, 0, "50 40 1-9 | 40");
    /* A storage whose clock went back removes nothing. */
    add_snapshot(&l, 40, 0, -50);
    add_snapshot(&l, 50, 0, -40);
    expect_kept(&l, 2, 1, "50 40 | 40");
}

static void the_state_comes_back(void **state) {
    struct backup_state s = {.succeeded_at = 1796001661574422, .lsn = UINT64_MAX, .snapshot_lsn = 2, .objects = 3, .bytes = 4, .failures = 5};
    struct backup_state again;
    char text[BACKUP_STATE_MAX];
    (void)state;
    backup_state_format(&s, text);
    assert_true(backup_state_parse(slice_str(text), &again));
    assert_memory_equal(&s, &again, sizeof s);
    for (size_t len = 0; len + 1 < strlen(text); len++) {
        if (backup_state_parse(slice_of(text, len), &again)) {
            assert_true(text[len] >= '0' && text[len] <= '9'); /* a number that is cut short is a number */
        }
    }
    assert_false(backup_state_parse(slice_str("quire backup 1\nsucceeded_at x"), &again));
    assert_false(backup_state_parse(slice_str(""), &again));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_come_back), cmocka_unit_test(hostile_names_are_none_of_ours), cmocka_unit_test(places), cmocka_unit_test(xml),
        cmocka_unit_test(settings), cmocka_unit_test(secrets), cmocka_unit_test(what_stays), cmocka_unit_test(chains_stay_whole),
        cmocka_unit_test(the_state_comes_back),
    };
    return cmocka_run_group_tests_name("s3_names", tests, NULL, NULL);
}
