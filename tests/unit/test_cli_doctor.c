/* test_cli_doctor.c - the judgements of `quire doctor` on texts from elsewhere: nginx's configuration, /proc, systemd, replies of a server; and the report. What needs
 * files and processes is planted in tests/integration/doctor.bats. */
#include "cli/doctor.h"

#include "s3/backup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define DAY_US INT64_C(86400000000)

static struct cli cli;

static void begin(struct doctor *d) {
    *d = (struct doctor){.cli = &cli, .data_fd = -1, .now_us = 1000 * DAY_US, .site = NGINX_NONE};
    config_default(&d->config);
}

static void expect_only(struct doctor *d, const char *names) {
    char have[512] = "";
    for (size_t i = 0; i < d->finding_count; i++) {
        strncat(have, i == 0 ? "" : " ", sizeof have - strlen(have) - 1);
        strncat(have, doctor_name_of(d->findings[i].trouble), sizeof have - strlen(have) - 1);
    }
    assert_string_equal(have, names);
    doctor_fini(d);
}

/* --- nginx's configuration --- */

static const char site[] = "user www-data;\n"
                           "# a comment { with } braces ;\n"
                           "events { worker_connections 768; }\n"
                           "http {\n"
                           "  client_max_body_size 8m;\n"
                           "  map $http_x $id { default $request_id; \"~^[a-z]{1,64}$\" $http_x; }\n"
                           "  upstream quire { server unix:/run/quire/quired.sock max_fails=0; }\n"
                           "  log_format one '$remote_addr \"$request\" '\n"
                           "                 '$status';\n"
                           "  server { listen 443 ssl; server_name search.example.org;\n"
                           "    location / { fastcgi_pass quire; set $x \"a;b\\\"c\"; }\n"
                           "    location ~ ^/v1/(a|b)/?$ { return 200 '{\"a\":1}'; }\n"
                           "  }\n"
                           "}\n";

static void nginx_directives(void **state) {
    struct nginx_conf c = {0};
    struct status st;
    (void)state;
    if (!nginx_conf_parse(&c, slice_str(site), "nginx.conf", "/", &st))
        fail_msg("%s", st.detail);
    size_t pass = nginx_next(&c, "fastcgi_pass", 0), server = nginx_next(&c, "listen", 0);
    assert_string_equal(nginx_word(&c, pass, 1), "quire");
    assert_string_equal(nginx_word(&c, pass, 2), "");
    server = c.all[server].block;
    assert_string_equal(nginx_word(&c, server, 0), "server");
    assert_true(nginx_within(&c, pass, server));
    assert_false(nginx_within(&c, server, pass));
    assert_string_equal(nginx_word(&c, nginx_setting(&c, server, "client_max_body_size"), 1), "8m");
    assert_string_equal(nginx_word(&c, nginx_setting(&c, server, "server_name"), 1), "search.example.org");
    assert_string_equal(nginx_word(&c, nginx_setting(&c, NGINX_NONE, "user"), 1), "www-data");
    assert_true(nginx_setting(&c, server, "pid") == NGINX_NONE);
    assert_string_equal(nginx_word(&c, nginx_next(&c, "set", 0), 2), "a;b\"c");
    assert_string_equal(nginx_word(&c, nginx_next(&c, "return", 0), 2), "{\"a\":1}");
    nginx_conf_fini(&c);
}

static void nginx_errors_name_their_line(void **state) {
    static const struct {
        const char *text, *says;
    } wrong[] = {{"a b;\nc {\n d e;\n", "n:4: a block is not closed"}, {"a;\n}\n", "n:2: '}' closes nothing"},   {"a \"b;\n", "n:2: a quote is not closed"},
                 {"a b", "n:1: a directive has no end"},              {"a b }", "n:1: a directive has no end"}, {"include n[o;\ninclude /no/such/file;", "/no/such/file"}};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct nginx_conf c = {0};
        struct status st = {0};
        assert_false(nginx_conf_parse(&c, slice_str(wrong[i].text), "n", "/", &st));
        if (strstr(st.detail, wrong[i].says) == NULL)
            fail_msg("%s\nsays %s", wrong[i].text, st.detail);
        nginx_conf_fini(&c);
    }
}

/* An include takes the place where it stands, so what it holds is in that block; one that includes itself ends. */
static void nginx_includes(void **state) {
    char directory[] = "/tmp/quire-nginx-XXXXXX", path[64], inner[64];
    struct nginx_conf c = {0};
    struct status st = {0};
    (void)state;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/nginx.conf", directory);
    snprintf(inner, sizeof inner, "%s/a.conf", directory);
    FILE *f = fopen(path, "w");
    fputs("http { include *.conf.none; include a.conf; }", f);
    fclose(f);
    f = fopen(inner, "w");
    fputs("server { listen 1; }", f);
    fclose(f);
    assert_true(nginx_conf_read(path, &c, &st));
    assert_string_equal(nginx_word(&c, c.all[nginx_next(&c, "server", 0)].block, 0), "http");
    nginx_conf_fini(&c);
    f = fopen(inner, "w");
    fputs("include a.conf;", f);
    fclose(f);
    assert_false(nginx_conf_read(path, &c, &st));
    assert_non_null(strstr(st.detail, "nested too deeply"));
    nginx_conf_fini(&c);
    unlink(path);
    unlink(inner);
    rmdir(directory);
}

static void nginx_sizes_and_times(void **state) {
    uint64_t n = 0;
    (void)state;
    assert_true(nginx_size("32m", &n) && n == 32U << 20);
    assert_true(nginx_size("0", &n) && n == 0);
    assert_true(nginx_size("33554432", &n) && n == 33554432);
    assert_true(nginx_size("99999999999g", &n) && n == UINT64_MAX);
    assert_false(nginx_size("", &n));
    assert_false(nginx_size("1x", &n));
    assert_true(nginx_time("70s", &n) && n == 70000);
    assert_true(nginx_time("60", &n) && n == 60000);
    assert_true(nginx_time("1h 30m", &n) && n == 5400000);
    assert_true(nginx_time("500ms", &n) && n == 500);
    assert_false(nginx_time("soon", &n));
}

/* --- facts of the machine --- */

static void who_holds_the_lock(void **state) {
    static const char locks[] = "1: POSIX  ADVISORY  WRITE 4 08:01:99 0 EOF\n2: FLOCK  ADVISORY  READ  5 08:01:77 0 EOF\n"
                                "3: FLOCK  ADVISORY  WRITE 711 08:01:77 0 EOF\n3: -> FLOCK  ADVISORY  WRITE 712 08:01:77 0 EOF\n4: FLOCK  ADVISORY  WRITE 0 00:2a:8 0 EOF\n";
    (void)state;
    assert_int_equal(doctor_lock_holder(locks, 8, 1, 77, 0), 711);
    assert_int_equal(doctor_lock_holder(locks, 8, 1, 99, 0), 0);
    assert_int_equal(doctor_lock_holder(locks, 0, 42, 8, 0), -1);
    assert_int_equal(doctor_lock_holder("", 8, 1, 77, 0), 0);
    /* A file system that tells another device: the one who wrote his pid into it. */
    assert_int_equal(doctor_lock_holder(locks, 0, 50, 77, 711), 711);
    assert_int_equal(doctor_lock_holder(locks, 0, 50, 77, 712), 0);
}

static void who_may(void **state) {
    static const gid_t groups[] = {33, 50};
    (void)state;
    assert_true(doctor_may(0, NULL, 0, 5, 5, 0, 7));
    assert_true(doctor_may(5, groups, 2, 5, 1, 0600, 6));
    assert_false(doctor_may(5, groups, 2, 5, 33, 0070, 4)); /* the owner's rights, not the group's */
    assert_true(doctor_may(6, groups, 2, 5, 50, 0660, 6));
    assert_false(doctor_may(6, groups, 2, 5, 50, 0606, 6));
    assert_false(doctor_may(6, groups, 2, 5, 51, 0660, 4));
    assert_true(doctor_may(6, groups, 2, 5, 51, 0001, 1));
}

static void rooms_and_file_systems(void **state) {
    struct doctor d;
    struct doctor_room room = {.total_bytes = 1000U << 20, .free_bytes = 500U << 20, .total_inodes = 1000000, .free_inodes = 500000};
    (void)state;
    begin(&d);
    doctor_judge_room(&d, "/d", &room, 32U << 20);
    doctor_judge_file_system(&d, "/d", 0xEF53, "rw,relatime,rw,errors=remount-ro");
    expect_only(&d, "");
    begin(&d);
    room.free_bytes = 40U << 20;
    room.free_inodes = 20;
    doctor_judge_room(&d, "/d", &room, 32U << 20);
    expect_only(&d, "disk-low inodes-low");
    begin(&d);
    room = (struct doctor_room){.total_bytes = 1000U << 20, .free_bytes = 1U << 20};
    doctor_judge_room(&d, "/d", &room, 32U << 20);
    expect_only(&d, "disk-full");
    begin(&d);
    doctor_judge_file_system(&d, "/d", 0x6969, "rw,vers=4.2");
    doctor_judge_file_system(&d, "/d", 0xEF53, "rw,barrier=0");
    doctor_judge_file_system(&d, "/d", 0xEF53, "ro,relatime");
    doctor_judge_file_system(&d, "/d", 0x01021994, "rw");
    expect_only(&d, "data-network data-no-barrier data-read-only data-volatile");
}

static void options_of_mounts(void **state) {
    static const char mounts[] = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n"
                                 "36 22 0:33 / /mnt rw,noatime - xfs /dev/sdb rw,nobarrier\n";
    char options[64];
    (void)state;
    assert_true(doctor_mount_options(mounts, 8, 1, options, sizeof options));
    assert_string_equal(options, "rw,relatime,rw,errors=remount-ro");
    assert_true(doctor_mount_options(mounts, 0, 33, options, sizeof options));
    assert_string_equal(options, "rw,noatime,rw,nobarrier");
    assert_false(doctor_mount_options(mounts, 8, 2, options, sizeof options));
}

static void limits_and_memory(void **state) {
    struct doctor d;
    (void)state;
    begin(&d);
    doctor_judge_limits(&d, "Max open files            65536                65536                files     \n");
    doctor_judge_limits(&d, "Max open files            unlimited            unlimited            files     \n");
    doctor_judge_limits(&d, "");
    doctor_judge_memory(&d, "MemTotal:        8000000 kB\n", "0\n", 1U << 30);
    expect_only(&d, "");
    begin(&d);
    doctor_judge_limits(&d, "Limit  Soft\nMax open files            256                  4096                 files     \n");
    doctor_judge_memory(&d, "MemTotal:        1000000 kB\n", "2\n", 1U << 30);
    expect_only(&d, "files-limit memory-low memory-overcommit");
}

static void units_of_systemd(void **state) {
    struct doctor d;
    (void)state;
    begin(&d);
    doctor_judge_unit(&d, "Result=success\nActiveState=active\nSubState=running\nNRestarts=0\n");
    expect_only(&d, "");
    begin(&d);
    doctor_judge_unit(&d, "ActiveState=failed\nResult=exit-code\n");
    doctor_judge_unit(&d, "ActiveState=activating\nSubState=auto-restart\nNRestarts=1\n");
    doctor_judge_unit(&d, "ActiveState=active\nSubState=running\nNRestarts=40\n");
    expect_only(&d, "unit-failed unit-restarting unit-restarting");
}

/* --- what a server says --- */

static void judge_metrics(struct doctor *d, const char *text) {
    struct metrics_text m;
    struct status st;
    assert_true(metrics_parse(slice_str(text), &m, &st));
    doctor_judge_metrics(d, &m);
    metrics_fini(&m);
}

static void figures(void **state) {
    struct doctor d;
    (void)state;
    begin(&d);
    judge_metrics(&d, "quire_pending_vectors 10\nquire_authentication_on 1\nquire_api_keys 1\nquire_snapshots_taken_total 5\n"
                      "quire_snapshot_failures_total 1\n");
    expect_only(&d, "");
    begin(&d);
    d.has_config = true;
    judge_metrics(&d, "quire_write_path_failed 1\nquire_disk_full 1\nquire_watchdog_kills_total 2\n"
                      "quire_authentication_on 1\nquire_api_keys 0\n");
    expect_only(&d, "writes-failed disk-full workers-killed no-key");
    begin(&d);
    judge_metrics(&d, "quire_snapshot_failures_total 3\nquire_snapshots_taken_total 0\nquire_snapshot_verification_failures_total 1\nquire_snapshot_verified_good 0\n"
                      "quire_checkpoint_failures_total 1\nquire_wal_archive_failures_total 9\nquire_wal_archive_lag_segments 4\n");
    expect_only(&d, "snapshot-failed verify-failed checkpoint-failed archive-lag");
}

/* Nothing but a number that stays where it is, or grows. */
static void vectors_that_wait(void **state) {
    static const struct {
        const char *before, *now, *found;
    } cases[] = {{"quire_pending_vectors 10\n", "quire_pending_vectors 9\n", ""},
                 {"quire_pending_vectors 10\n", "quire_pending_vectors 10\n", "vectors-pending"},
                 {"quire_pending_vectors 10\n", "quire_pending_vectors 12\n", "vectors-pending"},
                 {"quire_pending_vectors 0\n", "quire_pending_vectors 12\n", ""}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct metrics_text before, now;
        struct doctor d;
        struct status st;
        begin(&d);
        assert_true(metrics_parse(slice_str(cases[i].before), &before, &st) && metrics_parse(slice_str(cases[i].now), &now, &st));
        doctor_judge_pending(&d, &before, &now);
        metrics_fini(&before);
        metrics_fini(&now);
        expect_only(&d, cases[i].found);
    }
}

static void backups(void **state) {
    struct backup_state s = {.succeeded_at = 999 * DAY_US + DAY_US / 2};
    struct doctor d;
    (void)state;
    begin(&d);
    doctor_judge_backup(&d, "backup.conf", &s);
    expect_only(&d, "");
    begin(&d);
    doctor_judge_backup(&d, "backup.conf", NULL);
    s.failures = 2;
    doctor_judge_backup(&d, "backup.conf", &s);
    s.succeeded_at = 998 * DAY_US;
    doctor_judge_backup(&d, "backup.conf", &s);
    s.succeeded_at = 0;
    doctor_judge_backup(&d, "backup.conf", &s);
    expect_only(&d, "backup-none backup-failing backup-old backup-none");
}

static void judge_json(struct doctor *d, void (*judge)(struct doctor *d, struct json_object *json), const char *text) {
    struct json_object *json = json_tokener_parse(text);
    assert_non_null(json);
    judge(d, json);
    json_object_put(json);
}

static void replies(void **state) {
    struct doctor d;
    (void)state;
    begin(&d);
    judge_json(&d, doctor_judge_health, "{\"version\":\"0.0.0\",\"workers\":{\"wanted\":4,\"ready\":2},\"libraries\":[{\"name\":\"a\",\"embedding\":{\"state\":\"complete\"}},"
                                        "{\"name\":\"b\",\"embedding\":{\"state\":\"model_changed\",\"error\":\"other vectors\"}}]}");
    judge_json(&d, doctor_judge_models, "[{\"name\":\"static-en\",\"where\":\"in process\"},{\"name\":\"far\",\"where\":\"https://x\",\"state\":\"away\",\"error\":\"401\"},"
                                        "{\"name\":\"new\",\"state\":\"unknown\"}]");
    judge_json(&d, doctor_judge_tasks, "[{\"id\":\"1\",\"state\":\"failed\",\"finished_at\":\"1972-09-26T23:00:00Z\"},{\"id\":\"2\",\"state\":\"failed\",\"finished_at\":"
                                       "\"1972-09-20T00:00:00Z\"},{\"id\":\"3\",\"state\":\"succeeded\"}]");
    judge_json(&d, doctor_judge_keys, "[{\"id\":\"1\",\"name\":\"old\",\"expires_at\":\"1971-01-01T00:00:00Z\"},{\"id\":\"2\",\"expires_at\":null},{\"id\":\"3\",\"expires_at\":"
                                      "\"2100-01-01T00:00:00Z\"}]");
    expect_only(&d, "workers-missing version-differs model-changed provider-down task-failed key-expired");
    begin(&d);
    struct json_object *models = json_tokener_parse("[{\"name\":\"static-en\"}]");
    struct json_object *libraries = json_tokener_parse("[{\"name\":\"a\",\"metadata\":{\"embedding_model\":\"static-en\"}},{\"name\":\"b\",\"metadata\":{\"embedding_model\":\"gone\"}},"
                                                       "{\"name\":\"c\",\"metadata\":{\"embedding_model\":\"none\"}}]");
    doctor_judge_libraries(&d, libraries, models);
    json_object_put(models);
    json_object_put(libraries);
    assert_int_equal(d.finding_count, 1);
    assert_string_equal(d.findings[0].where, "b");
    expect_only(&d, "library-model-missing");
    /* Whatever a server of another kind says, nothing falls. */
    begin(&d);
    judge_json(&d, doctor_judge_health, "[1,2]");
    judge_json(&d, doctor_judge_models, "{\"a\":1}");
    judge_json(&d, doctor_judge_tasks, "[1,null,\"x\"]");
    judge_json(&d, doctor_judge_keys, "[[]]");
    expect_only(&d, "");
}

/* --- the report --- */

/* A command is for a shell: what stands for a path is one word, whatever is in it. */
static void commands_are_safe_to_copy(void **state) {
    struct doctor d;
    char out[256];
    (void)state;
    begin(&d);
    snprintf(d.data_dir, sizeof d.data_dir, "/var/lib/quire");
    doctor_expand(&d, "chown {user}: {where} {data} {unknown} {", "/a b/$(x)'y", true, out, sizeof out);
    assert_string_equal(out, "chown quire: '/a b/$(x)'\\''y' /var/lib/quire {unknown} {");
    doctor_expand(&d, "{where}", "", true, out, sizeof out);
    assert_string_equal(out, "''");
    doctor_expand(&d, "look at {where}.", "/a b", false, out, sizeof out);
    assert_string_equal(out, "look at /a b.");
}

/* Each trouble has its own name and says what to do. */
static void the_table(void **state) {
    (void)state;
    for (int t = 0; t < TROUBLES; t++) {
        const char *name = doctor_name_of((enum trouble)t);
        assert_true(strspn(name, "abcdefghijklmnopqrstuvwxyz-") == strlen(name) && strlen(name) > 3);
        for (int other = 0; other < t; other++)
            assert_string_not_equal(name, doctor_name_of((enum trouble)other));
    }
    assert_true(TROUBLES >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nginx_directives),       cmocka_unit_test(nginx_errors_name_their_line), cmocka_unit_test(nginx_includes),   cmocka_unit_test(nginx_sizes_and_times),
        cmocka_unit_test(who_holds_the_lock),     cmocka_unit_test(who_may),                      cmocka_unit_test(rooms_and_file_systems),
        cmocka_unit_test(options_of_mounts),      cmocka_unit_test(limits_and_memory),            cmocka_unit_test(units_of_systemd), cmocka_unit_test(figures),
        cmocka_unit_test(vectors_that_wait),      cmocka_unit_test(backups),
        cmocka_unit_test(replies),                cmocka_unit_test(commands_are_safe_to_copy),    cmocka_unit_test(the_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
