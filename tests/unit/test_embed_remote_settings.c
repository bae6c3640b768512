/* test_embed_remote_settings.c - a remote model's settings: names, URLs, and where its key is. */
#include "embed/remote_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void names(void **state) {
    static const char *const good[] = {"a", "7b", "my-openai", "text_3.small"};
    static const char *const bad[] = {"", "-a", ".a", "a b", "a/b", "none", "\xc3\xa4"};
    char longest[EMBED_NAME_MAX + 1];
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_true(remote_name_valid(slice_str(good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(remote_name_valid(slice_str(bad[i])));
    }
    memset(longest, 'a', sizeof longest);
    assert_true(remote_name_valid(slice_of(longest, EMBED_NAME_MAX - 1)));
    assert_false(remote_name_valid(slice_of(longest, EMBED_NAME_MAX)));
}

static void good_url(const char *url, bool https, const char *host, unsigned port, const char *path, bool numeric) {
    struct remote_url u;
    struct status st;
    if (!remote_url_parse(url, &u, &st)) {
        fail_msg("refused: %s", url);
    }
    assert_int_equal(u.https, https);
    assert_string_equal(u.host, host);
    assert_int_equal(u.port, port);
    assert_string_equal(u.path, path);
    assert_int_equal(u.numeric, numeric);
    assert_int_equal(u.local, strcmp(host, "localhost") == 0);
}

static void urls(void **state) {
    (void)state;
    good_url("https://api.openai.com/v1", true, "api.openai.com", 443, "/v1", false);
    good_url("https://API.Example.org:8443/v1/", true, "api.example.org", 8443, "/v1", false);
    good_url("http://localhost:11434", false, "localhost", 11434, "", false);
    good_url("http://127.0.0.1:80/", false, "127.0.0.1", 80, "", true);
    good_url("https://[2001:DB8::1]/a_b/c.d~e", true, "2001:db8::1", 443, "/a_b/c.d~e", true);
    good_url("http://gpu", false, "gpu", 80, "", false);
}

static void urls_that_could_be_read_in_two_ways(void **state) {
    static const char *const bad[] = {
        "", "api.openai.com", "//api.openai.com", "ftp://a.example", "file:///etc/passwd", "HTTPS://a.example", "https:/a.example", "https://",
        "https:///v1", "https://user@a.example", "https://user:key@a.example", "https://a.example:", "https://a.example:0", "https://a.example:65536",
        "https://a.example:99999999999", "https://a.example:80a", "https://a.example?x", "https://a.example/?x", "https://a.example/#x",
        "https://a.example/a b", "https://a.example/%2e%2e", "https://a.example/../b", "https://a.example/./b", "https://a.example//b",
        "https://a.example\\b", "https://a_b.example", "https://[::1", "https://[::1]x", "https://[a.example]", "https://[fe80::1%25eth0]", "https://::1",
        "https://127.1", "https://2130706433", "https://0x7f.0.0.1", "https://0x7f000001", "https://127.0.0.0x1", "https://127.0.0.01", "https://a.example.", "https://.a",
        "https://-a", "https://a.example:80:80"};
    struct remote_url u;
    struct status st;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (remote_url_parse(bad[i], &u, &st)) {
            fail_msg("taken: %s", bad[i]);
        }
        assert_int_equal(st.code, STATUS_CONFIG);
    }
}

static void write_key(const char *path, const char *text, size_t len, mode_t mode) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void expect_no_key(const struct remote_settings *s, const char *credentials, const char *in_detail) {
    struct buf key = {0};
    struct status st;
    assert_false(remote_key_read(s, credentials, &key, &st));
    assert_int_equal(st.code, STATUS_CONFIG);
    if (strstr(st.detail, in_detail) == NULL) {
        fail_msg("says: %s\nwithout: %s", st.detail, in_detail);
    }
    assert_null(strstr(st.detail, "sk-"));
    assert_int_equal(key.len, 0);
}

static void keys(void **state) {
    char dir[] = "/tmp/quire-test-key.XXXXXX";
    char long_text[REMOTE_KEY_MAX + 1];
    struct remote_settings s = {.name = "a"};
    struct buf key = {0};
    struct status st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_true(remote_key_read(&s, NULL, &key, &st));
    assert_int_equal(key.len, 0);
    (void)snprintf(s.key_file, sizeof s.key_file, "%s/key", dir);
    expect_no_key(&s, NULL, "No such file");
    write_key(s.key_file, "sk-1 \r\n", 7, 0640);
    assert_true(remote_key_read(&s, NULL, &key, &st));
    assert_true(slice_is(buf_slice(&key), "sk-1"));
    remote_key_wipe(&key);
    assert_null(key.data);
    write_key(s.key_file, "sk-1", 4, 0644);
    expect_no_key(&s, NULL, "others may read it");
    write_key(s.key_file, "sk-1", 4, 0660);
    expect_no_key(&s, NULL, "group may write it");
    write_key(s.key_file, "sk-1\nsk-2", 9, 0600);
    expect_no_key(&s, NULL, "one word");
    write_key(s.key_file, "sk-\0x", 5, 0600);
    expect_no_key(&s, NULL, "one word");
    write_key(s.key_file, "\n", 1, 0600);
    expect_no_key(&s, NULL, "one word");
    memset(long_text, 'a', sizeof long_text);
    write_key(s.key_file, long_text, sizeof long_text, 0600);
    expect_no_key(&s, NULL, "one word");
    s.key_file[0] = '\0';
    (void)snprintf(s.key_credential, sizeof s.key_credential, "key");
    expect_no_key(&s, NULL, "LoadCredential");
    write_key(strcat(strcpy(long_text, dir), "/key"), "sk-3", 4, 0400);
    assert_true(remote_key_read(&s, dir, &key, &st));
    assert_true(slice_is(buf_slice(&key), "sk-3"));
    remote_key_wipe(&key);
    assert_int_equal(unlink(long_text), 0);
    (void)snprintf(s.key_credential, sizeof s.key_credential, ".");
    expect_no_key(&s, dir, "no file");
    assert_int_equal(rmdir(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(urls),
        cmocka_unit_test(urls_that_could_be_read_in_two_ways),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests_name("embed_remote_settings", tests, NULL, NULL);
}
