/* test_proc_config.c - quire.conf: values and units, errors that name their place, the workers' copy, reloading, the example
 * file. */
#include "base/io.h"
#include "proc/config.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static bool read_text(struct config *c, const char *text, struct status *st) {
    config_default(c);
    status_clear(st);
    return config_read_text(c, "quire.conf", slice_str(text), st);
}

static void expect_good(struct config *c, const char *text) {
    struct status st;
    if (!read_text(c, text, &st)) {
        fail_msg("%s\nrefused: %s", text, st.detail);
    }
}

static void expect_bad(const char *text, const char *in_detail) {
    struct config c;
    struct status st;
    if (read_text(&c, text, &st)) {
        fail_msg("taken: %s", text);
    }
    assert_int_equal(st.code, STATUS_CONFIG);
    if (strstr(st.detail, in_detail) == NULL) {
        fail_msg("%s\nsays: %s\nwithout: %s", text, st.detail, in_detail);
    }
}

static void presets_are_those_of_the_tables(void **state) {
    struct config c;
    struct limits limits;
    (void)state;
    config_default(&c);
    limits_default(&limits);
    assert_string_equal(c.run_dir, "/run/quire");
    assert_int_equal(c.snapshot_interval, 300);
    assert_int_equal(c.auth, CONFIG_AUTH_ON);
    assert_memory_equal(&c.limits, &limits, sizeof limits);
    assert_false(c.has_admin_key);
}

static void lines_comments_and_quotes(void **state) {
    struct config c;
    (void)state;
    expect_good(&c, "\n  # all comment\n\tworkers=3\t# three\r\nlog_file = /var/log/a#b   # no comment before\n"
                    "socket_group = \" x # y \" # quoted\nadmin_key_file =\nauth = off");
    assert_int_equal(c.workers, 3);
    assert_string_equal(c.log_file, "/var/log/a#b");
    assert_string_equal(c.socket_group, " x # y ");
    assert_string_equal(c.admin_key_file, "");
    assert_int_equal(c.auth, CONFIG_AUTH_OFF);
}

static void units(void **state) {
    struct config c;
    (void)state;
    expect_good(&c, "wal_segment_bytes = 2M\nqueue_max_bytes = 1 GiB\nmax_body_bytes = 1024\n");
    assert_int_equal(c.wal_segment_bytes, 2097152);
    assert_int_equal(c.queue_max_bytes, 1073741824);
    assert_int_equal(c.limits.max_body_bytes, 1024);
    expect_good(&c, "write_deadline_ms = 3s\nwatchdog_request_ms = 2m\nsnapshot_interval = 1h\n");
    assert_int_equal(c.write_deadline_ms, 3000);
    assert_int_equal(c.watchdog_request_ms, 120000);
    assert_int_equal(c.snapshot_interval, 3600);
    expect_bad("workers = 3M", "takes a number");
    expect_bad("wal_segment_bytes = 3s", "takes a number");
    expect_bad("write_deadline_ms = 1d", "takes a number");
}

static void numbers_out_of_range(void **state) {
    struct config c;
    (void)state;
    expect_good(&c, "workers = 128");
    expect_bad("workers = 129", "0 to 128");
    expect_bad("workers = -1", "takes a number");
    expect_bad("workers =", "takes a number");
    expect_bad("workers = 0.5", "takes a number");
    expect_bad("workers = 18446744073709551617", "0 to 128");
    expect_bad("queue_max_bytes = 99999999999999999999T", "queue_max_bytes");
    expect_bad("queue_max_bytes = 18014398509481985K", "queue_max_bytes");
    expect_bad("snapshot_keep = 0", "1 to");
}

static void errors_name_file_and_line(void **state) {
    (void)state;
    expect_bad("# one\n\nno equals sign\n", "quire.conf:3:");
    expect_bad("workers = 1\nworkers = 2\n", "quire.conf:2:");
    expect_bad("workers = 1\nworkers = 2\n", "line 1");
    expect_bad("log_level = loud", "error|warn|info|debug");
    expect_bad(" = 3", "quire.conf:1:");
    expect_bad("log_file = \"/var/log", "quotes");
    expect_bad("log_file = \"/var/log\" more", "quotes");
    expect_bad("log_file = /var/\x01log", "control");
    expect_bad("log_file = /var/\xfflog", "UTF-8");
    expect_bad("log_file = a\"b", "quotes");
}

static void an_unknown_key_brings_the_nearest(void **state) {
    (void)state;
    expect_bad("snapshot_intervall = 3", "did you mean 'snapshot_interval'");
    expect_bad("worker = 3", "did you mean 'workers'");
    expect_bad("max_boddy_bytes = 3", "did you mean 'max_body_bytes'");
    expect_bad("zzzzzzzzzz = 3", "unknown key 'zzzzzzzzzz'");
    struct config c;
    struct status st;
    assert_false(read_text(&c, "zzzzzzzzzz = 3", &st));
    assert_null(strstr(st.detail, "did you mean"));
    expect_bad("admin_key_sha256 = 00", "unknown key"); /* only the workers' copy has it */
}

static void too_long_a_value(void **state) {
    char text[CONFIG_TEXT_MAX + 32];
    (void)state;
    int n = snprintf(text, sizeof text, "log_file = /");
    memset(text + n, 'a', (size_t)CONFIG_TEXT_MAX);
    text[n + CONFIG_TEXT_MAX] = '\0';
    expect_bad(text, "bytes");
    text[n + CONFIG_TEXT_MAX - 2] = '\0'; /* '/' and so many: one under the limit */
    struct config c;
    expect_good(&c, text);
    assert_int_equal(strlen(c.log_file), CONFIG_TEXT_MAX - 1);
}

static void command_line(void **state) {
    struct config c;
    struct status st;
    (void)state;
    config_default(&c);
    assert_true(config_set(&c, "workers=7", &st));
    assert_true(config_set(&c, "log_file = /a # b", &st));
    assert_int_equal(c.workers, 7);
    assert_string_equal(c.log_file, "/a # b");
    assert_false(config_set(&c, "workers", &st));
    assert_false(config_set(&c, "workers=x", &st));
    assert_non_null(strstr(st.detail, "--set"));
    assert_false(config_set(&c, "wrkers=1", &st));
    assert_non_null(strstr(st.detail, "did you mean 'workers'"));
    assert_int_equal(c.workers, 7);
}

static void expect_together(const char *text, const char *in_detail) {
    struct config c;
    struct status st;
    expect_good(&c, text);
    if (in_detail == NULL) {
        if (!config_check(&c, &st)) {
            fail_msg("%s\nrefused: %s", text, st.detail);
        }
        return;
    }
    assert_false(config_check(&c, &st));
    assert_int_equal(st.code, STATUS_CONFIG);
    if (strstr(st.detail, in_detail) == NULL) {
        fail_msg("%s\nsays: %s\nwithout: %s", text, st.detail, in_detail);
    }
}

static void keys_together(void **state) {
    (void)state;
    expect_together("", NULL);
    expect_together("data_dir = data", "absolute");
    expect_together("log_file = quire.log", "absolute");
    expect_together("archive_dir = archive", "absolute");
    expect_together("auth = off", NULL);
    expect_together("auth = off\nlisten = [::1]:443", NULL);
    expect_together("auth = off\nlisten = localhost:443", NULL);
    expect_together("auth = off\nlisten = 127.8.8.8:443", NULL);
    expect_together("auth = off\nlisten = 0.0.0.0:443", "loopback");
    expect_together("auth = off\nlisten = [::]:443", "loopback");
    expect_together("auth = off\nlisten = 443", "loopback");
    expect_together("auth = off\nlisten =", "loopback");
    expect_together("auth = off\nlisten = 127.0.0.1.example.org:443", "loopback");
    expect_together("listen = 0.0.0.0:443", NULL);
    expect_together("queue_max_bytes = 64M", "queue_max_bytes");
    expect_together("watchdog_request_ms = 5s\nwrite_deadline_ms = 5s", "longer");
    expect_together("worker_memory_bytes = 128M\nmax_body_bytes = 128M", "worker_memory_bytes");
    expect_together(
        "run_dir = /a/very/long/path/that/no/unix/socket/can/have/because/an/address/has/room/for/one/hundred/and/eight/bytes",
        "path");
}

static void the_workers_copy_says_the_same(void **state) {
    struct config c;
    struct config copy;
    struct status st;
    struct buf text = {0};
    (void)state;
    expect_good(&c, "workers = 5\nsocket_group = \" a # b \"\nauth = off\ndistance_kernel = plain\nmax_k = 77\n");
    c.has_admin_key = true;
    for (size_t i = 0; i < sizeof c.admin_key_sha256; i++) {
        c.admin_key_sha256[i] = (uint8_t)(i * 8 + 1);
    }
    config_dump(&c, &text);
    assert_true(buf_ok(&text));
    memset(&copy, 0x5a, sizeof copy);
    if (!config_read_heritage(&copy, buf_slice(&text), &st)) {
        fail_msg("%s", st.detail);
    }
    struct buf again = {0};
    config_dump(&copy, &again);
    assert_true(slice_equal(buf_slice(&text), buf_slice(&again)));
    assert_string_equal(copy.socket_group, " a # b ");
    assert_true(copy.has_admin_key);
    assert_memory_equal(copy.admin_key_sha256, c.admin_key_sha256, sizeof c.admin_key_sha256);
    buf_fini(&text);
    buf_fini(&again);
}

static void reload_takes_what_may_change(void **state) {
    struct config c;
    struct config fresh;
    char ignored[CONFIG_TEXT_MAX];
    unsigned count;
    (void)state;
    expect_good(&c, "workers = 2");
    expect_good(&fresh, "workers = 3\nsnapshot_keep = 9\nmax_k = 5");
    assert_false(config_reload(&c, &fresh, ignored, &count));
    assert_int_equal(count, 2);
    assert_string_equal(ignored, "workers, max_k");
    assert_int_equal(c.workers, 2);
    assert_int_equal(c.limits.max_k, 1000);
    assert_int_equal(c.snapshot_keep, 9);
    expect_good(&fresh, "workers = 2\nlog_level = debug");
    assert_true(config_reload(&c, &fresh, ignored, &count));
    assert_int_equal(count, 0);
    assert_int_equal(c.snapshot_keep, 3);
    fresh.has_admin_key = true;
    fresh.admin_key_sha256[0] = 1;
    assert_true(config_reload(&c, &fresh, ignored, &count));
    assert_true(c.has_admin_key);
    assert_int_equal(c.admin_key_sha256[0], 1);
    assert_false(config_reload(&c, &fresh, ignored, &count));
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static void the_admin_key_file(void **state) {
    char path[] = "/tmp/quire-test-key.XXXXXX";
    struct config c;
    struct status st;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    io_close(&fd);
    config_default(&c);
    assert_true(config_read_secrets(&c, &st));
    assert_false(c.has_admin_key);
    (void)snprintf(c.admin_key_file, sizeof c.admin_key_file, "%s", path);
    write_file(path, "E3B0C44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
    assert_true(config_read_secrets(&c, &st));
    assert_true(c.has_admin_key);
    assert_int_equal(c.admin_key_sha256[0], 0xe3);
    assert_int_equal(c.admin_key_sha256[31], 0x55);
    write_file(path, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85\n");
    assert_false(config_read_secrets(&c, &st));
    assert_false(c.has_admin_key);
    write_file(path, "g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
    assert_false(config_read_secrets(&c, &st));
    assert_int_equal(unlink(path), 0);
    assert_false(config_read_secrets(&c, &st)); /* a file that is named must be there */
}

static void config_path(const struct config *c, char out[CONFIG_PATH_MAX]) {
    config_socket_path(c, out);
}

static void paths_with_presets(void **state) {
    struct config c;
    char path[CONFIG_PATH_MAX];
    (void)state;
    expect_good(&c, "run_dir = /x");
    config_path(&c, path);
    assert_string_equal(path, "/x/quired.sock");
    config_pid_path(&c, path);
    assert_string_equal(path, "/x/quired.pid");
    expect_good(&c, "run_dir = /x\nsocket = /y/s\npid_file = /z/p");
    config_path(&c, path);
    assert_string_equal(path, "/y/s");
    config_pid_path(&c, path);
    assert_string_equal(path, "/z/p");
}

#define MODEL_TEXT "workers = 4\n[model my-openai] # one\nurl = https://api.example.org/v1\nmodel = small\n"

static void sections_are_prefixes(void **state) {
    struct config c;
    struct status st;
    (void)state;
    expect_good(&c, MODEL_TEXT "timeout_ms = 5s\nquery_prefix = \"query: \"\n\n[ model  b.2 ]\ndialect = tei\nurl=http://127.0.0.1:8080\n"
                               "[model my-openai]\nretries = 0\n");
    assert_int_equal(c.model_count, 2);
    assert_int_equal(c.workers, 4);
    assert_string_equal(c.models[0].name, "my-openai");
    assert_string_equal(c.models[0].url, "https://api.example.org/v1");
    assert_string_equal(c.models[0].query_prefix, "query: ");
    assert_int_equal(c.models[0].timeout_ms, 5000);
    assert_int_equal(c.models[0].retries, 0);
    assert_int_equal(c.models[0].max_batch, 32);
    assert_string_equal(c.models[1].name, "b.2");
    assert_int_equal(c.models[1].dialect, REMOTE_TEI);
    assert_true(config_check(&c, &st));
    assert_true(config_set(&c, "model.b.2.max_batch = 8", &st));
    assert_true(config_set(&c, "model.third.dialect=cohere", &st));
    assert_int_equal(c.models[1].max_batch, 8);
    assert_int_equal(c.model_count, 3);
    expect_good(&c, "model.x.url = https://a.example\nworkers = 3\nmodel.x.model = m");
    assert_string_equal(c.models[0].model, "m");
    assert_int_equal(c.workers, 3);
}

static void errors_in_sections(void **state) {
    struct config c;
    struct status st;
    (void)state;
    expect_bad("[model a]\n\nurll = x", "quire.conf:3: unknown key 'urll'; did you mean 'url'?");
    expect_bad("[model a]\nretries = 21", "0 to 20");
    expect_bad("[model a]\ndialect = soap", "openai|cohere|ollama|tei");
    expect_bad("[model a]\nurl = x\n[model a]\nurl = y", "quire.conf:4: url stands in line 2 already");
    expect_bad("model.a.url = x\n[model a]\nurl = y", "line 1 already");
    expect_bad("[model a]\nworkers = 3", "before the first section");
    expect_bad("[model none]", "no name");
    expect_bad("[model ]", "a section begins");
    expect_bad("[model a b]", "no name");
    expect_bad("[modela]", "a section begins");
    expect_bad("[model a] more", "a section begins");
    expect_bad("[model a", "a section begins");
    expect_bad("model.url = x", "unknown key");
    expect_bad("[model a]\n[model b]\n[model c]\n[model d]\n[model e]\n[model f]\n[model g]\n[model h]\n[model i]", "more than 8");
    config_default(&c);
    assert_false(config_set(&c, "model.a.urll=3", &st));
    assert_int_equal(c.model_count, 0);
    assert_false(config_set(&c, "model.-.url=3", &st));
}

static void models_alone_and_together(void **state) {
    (void)state;
    expect_together(MODEL_TEXT, NULL);
    expect_together("[model a]", "[model a]: url is missing");
    expect_together("[model a]\nurl = https://a.example", "model is missing");
    expect_together("[model a]\nurl = https://a.example\ndialect = tei", NULL);
    expect_together("[model a]\nurl = ftp://a.example\ndialect = tei", "url must be https://HOST");
    expect_together(MODEL_TEXT "key_file = key", "absolute");
    expect_together(MODEL_TEXT "key_file = /key\nkey_credential = key", "two places");
    expect_together(MODEL_TEXT "key_credential = ../key", "a name");
    expect_together(MODEL_TEXT "request_dimension = on", "needs a dimension");
    expect_together(MODEL_TEXT "request_dimension = on\ndimension = 8", NULL);
    expect_together(MODEL_TEXT "dialect = cohere\nencoding = base64", "openai only");
    expect_together(MODEL_TEXT "timeout_ms = 1s", "longer");
    expect_together(MODEL_TEXT "max_text_tokens = 200000", "max_batch_tokens");
}

static void models_reach_the_workers_and_need_a_restart(void **state) {
    struct config c;
    struct config copy;
    struct config fresh;
    struct status st;
    struct buf text = {0};
    char ignored[CONFIG_TEXT_MAX];
    unsigned count;
    (void)state;
    expect_good(&c, MODEL_TEXT "document_prefix = \"a # \"\n[model z.1]\ndimension = 7");
    config_dump(&c, &text);
    if (!config_read_heritage(&copy, buf_slice(&text), &st)) {
        fail_msg("%s", st.detail);
    }
    assert_int_equal(copy.model_count, 2);
    assert_memory_equal(copy.models, c.models, sizeof c.models);
    buf_fini(&text);
    expect_good(&fresh, MODEL_TEXT "document_prefix = \"b # \"\nretries = 1\n[model y]\ndimension = 7");
    (void)config_reload(&c, &fresh, ignored, &count);
    assert_int_equal(count, 4);
    assert_string_equal(ignored, "model.my-openai.document_prefix, model.my-openai.retries, model.z.1, model.y");
    assert_int_equal(c.model_count, 2);
}

/* Puts the line that gives a key its preset in the example, without its "# ", to `bare`. */
static void take_example(const char *example, const struct config_key *key, struct buf *bare) {
    char line[96];
    (void)snprintf(line, sizeof line, "\n# %s = ", key->name);
    const char *at = strstr(example, line);
    if (at == NULL) {
        fail_msg("conf/quire.conf.example lacks %s", key->name);
        return;
    }
    at += 3; /* without the newline and "# " */
    buf_put(bare, at, strcspn(at, "\n"));
    buf_put_str(bare, "\n");
}

/* Every key stands in the example, commented out, and at its preset. */
static void the_example_has_every_key_at_its_preset(void **state) {
    struct buf example = {0};
    struct buf bare = {0};
    struct config c;
    struct config preset;
    struct status st;
    size_t count;
    size_t model_count;
    const struct config_key *keys = config_keys(&count);
    const struct config_key *model_keys = config_model_keys(&model_count);
    (void)state;
    if (!io_read_file(AT_FDCWD, EXAMPLE_CONF, 1048576, &example, &st)) {
        fail_msg("%s", st.detail);
    }
    buf_put_u8(&example, 0);
    const char *section = strstr((const char *)example.data, "\n# [model ");
    assert_non_null(section);
    for (size_t i = 0; i < count; i++) {
        take_example((const char *)example.data, &keys[i], &bare);
    }
    buf_put_str(&bare, "[model a]\n");
    for (size_t i = 0; i < model_count; i++) {
        take_example(section, &model_keys[i], &bare);
    }
    config_default(&preset);
    assert_true(config_read_text(&preset, "preset", slice_str("[model a]"), &st));
    config_default(&c);
    memset(c.data_dir, 0, sizeof c.data_dir);
    memset(c.model_dir, 0, sizeof c.model_dir);
    memset(&c.limits, 0, sizeof c.limits);
    if (!config_read_text(&c, "example", buf_slice(&bare), &st)) {
        fail_msg("%s", st.detail);
    }
    /* The two presets that depend on how it was built. */
    (void)snprintf(c.data_dir, sizeof c.data_dir, "%s", preset.data_dir);
    (void)snprintf(c.model_dir, sizeof c.model_dir, "%s", preset.model_dir);
    struct buf expected = {0};
    struct buf found = {0};
    config_dump(&preset, &expected);
    config_dump(&c, &found);
    buf_put_u8(&expected, 0);
    buf_put_u8(&found, 0);
    assert_string_equal((const char *)expected.data, (const char *)found.data);
    buf_fini(&expected);
    buf_fini(&found);
    buf_fini(&example);
    buf_fini(&bare);
}

/* The seconds of a directive of nginx, which stands once in its file. */
static uint64_t nginx_seconds(const char *site, const char *directive) {
    const char *at = strstr(site, directive);
    if (at == NULL || strstr(at + 1, directive) != NULL) {
        fail_msg("%s stands once in nginx/quire.conf.in", directive);
    }
    return strtoull(at + strlen(directive), NULL, 10);
}

/* Whoever gives up first says why. A worker knows more than nginx does. */
static void a_worker_gives_up_before_nginx(void **state) {
    struct buf site = {0};
    struct config preset;
    struct status st;
    (void)state;
    if (!io_read_file(AT_FDCWD, NGINX_SITE, 1048576, &site, &st)) {
        fail_msg("%s", st.detail);
    }
    buf_put_u8(&site, 0);
    config_default(&preset);
    uint64_t patience_ms = 1000 * nginx_seconds((const char *)site.data, "\n    fastcgi_read_timeout ");
    assert_true(preset.write_deadline_ms < preset.watchdog_request_ms);
    assert_true(preset.watchdog_request_ms < patience_ms);
    buf_fini(&site);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_those_of_the_tables),
        cmocka_unit_test(lines_comments_and_quotes),
        cmocka_unit_test(units),
        cmocka_unit_test(numbers_out_of_range),
        cmocka_unit_test(errors_name_file_and_line),
        cmocka_unit_test(an_unknown_key_brings_the_nearest),
        cmocka_unit_test(too_long_a_value),
        cmocka_unit_test(command_line),
        cmocka_unit_test(keys_together),
        cmocka_unit_test(the_workers_copy_says_the_same),
        cmocka_unit_test(reload_takes_what_may_change),
        cmocka_unit_test(the_admin_key_file),
        cmocka_unit_test(paths_with_presets),
        cmocka_unit_test(sections_are_prefixes),
        cmocka_unit_test(errors_in_sections),
        cmocka_unit_test(models_alone_and_together),
        cmocka_unit_test(models_reach_the_workers_and_need_a_restart),
        cmocka_unit_test(the_example_has_every_key_at_its_preset),
        cmocka_unit_test(a_worker_gives_up_before_nginx),
    };
    return cmocka_run_group_tests_name("proc_config", tests, NULL, NULL);
}
