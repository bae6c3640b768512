/* test_cli_top.c - what `quire top` and `quire bench` reckon with: the text of /metrics, quantiles of histograms and of measured times, rates between two readings,
 * and the picture of them. */
#include "cli/latency.h"
#include "cli/top.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void parse(const char *text, struct metrics_text *ret) {
    struct status st;
    assert_true(metrics_parse(slice_str(text), ret, &st));
}

static void lines_of_metrics(void **state) {
    struct metrics_text m;
    char label[32];
    double value = -1;
    (void)state;
    parse("# HELP a_total Things.\n# TYPE a_total counter\na_total 3\n"
          "b{mode=\"x\",name=\"with } and \\\" and ,\"} 1.5e3 1700000000\nb{mode=\"y\"} 2\n"
          "no_value\n{} 4\n\nc NaN\nlast 7",
          &m);
    assert_true(metrics_value(&m, "a_total", &value));
    assert_true(value == 3);
    assert_true(metrics_value(&m, "b", &value));
    assert_true(value == 1500);
    assert_true(metric_label(&m.all[1], "name", label, sizeof label));
    assert_string_equal(label, "with } and \" and ,");
    assert_false(metric_label(&m.all[1], "nam", label, sizeof label));
    assert_true(metrics_sum(&m, "b", NULL, NULL, &value));
    assert_true(value == 1502);
    assert_true(metrics_sum(&m, "b", "mode", "y", &value));
    assert_true(value == 2);
    assert_false(metrics_sum(&m, "b", "mode", "z", &value));
    assert_false(metrics_value(&m, "no_value", &value));
    assert_true(metrics_value(&m, "last", &value));
    assert_true(value == 7);
    assert_int_equal(m.count, 5);
    metrics_fini(&m);
    parse("", &m);
    assert_int_equal(m.count, 0);
    metrics_fini(&m);
}

static const char before_text[] = "h_bucket{class=\"a\",le=\"1\"} 10\nh_bucket{class=\"a\",le=\"2\"} 10\nh_bucket{class=\"a\",le=\"+Inf\"} 10\nh_sum{class=\"a\"} 5\n";
static const char now_text[] = "h_bucket{class=\"a\",le=\"1\"} 60\nh_bucket{class=\"a\",le=\"2\"} 109\nh_bucket{class=\"a\",le=\"+Inf\"} 110\nh_sum{class=\"a\"} 155\n"
                               "h_bucket{class=\"b\",le=\"1\"} 1\nh_bucket{class=\"b\",le=\"2\"} 1\nh_bucket{class=\"b\",le=\"+Inf\"} 1\nh_sum{class=\"b\"} 1\n";

static void histograms_between_readings(void **state) {
    struct metrics_text now, before;
    struct metrics_histogram h;
    (void)state;
    parse(now_text, &now);
    parse(before_text, &before);
    assert_true(metrics_histogram(&now, &before, "h", "class", "a", &h));
    assert_true(metrics_histogram_count(&h) == 100);
    assert_true(h.sum == 150);
    assert_true(fabs(metrics_quantile(&h, 0.5) - 1.0) < 1e-9);
    assert_true(fabs(metrics_quantile(&h, 0.25) - 0.5) < 1e-9);
    assert_true(metrics_quantile(&h, 0.75) > 1.4 && metrics_quantile(&h, 0.75) < 1.6);
    assert_true(metrics_quantile(&h, 1.0) == 2.0); /* beyond all bounds: the last one */
    /* All labels together; and since the start, where there was none before. */
    assert_true(metrics_histogram(&now, NULL, "h", NULL, NULL, &h));
    assert_true(metrics_histogram_count(&h) == 111);
    assert_int_equal(h.buckets, 3);
    /* A server that was started anew counts from nothing. */
    assert_true(metrics_histogram(&before, &now, "h", "class", "a", &h));
    assert_true(metrics_histogram_count(&h) == 10);
    assert_false(metrics_histogram(&now, NULL, "none", NULL, NULL, &h));
    h = (struct metrics_histogram){.buckets = 0};
    assert_true(metrics_quantile(&h, 0.5) == 0);
    metrics_fini(&now);
    metrics_fini(&before);
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Against a sorted list of the same times: within 1/64, and never below. */
static void latencies_have_quantiles(void **state) {
    enum { COUNT = 20000 };
    static struct latencies l, half;
    static uint64_t all[COUNT];
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1.0};
    uint64_t random = 88172645463325252ULL;
    (void)state;
    assert_int_equal(latency_quantile(&l, 0.5), 0);
    for (size_t i = 0; i < COUNT; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        all[i] = random % (UINT64_C(1) << random % 30);
        latency_add(i % 2 == 0 ? &l : &half, all[i]);
    }
    latency_merge(&l, &half);
    qsort(all, COUNT, sizeof all[0], by_size);
    assert_int_equal(l.count, COUNT);
    assert_int_equal(l.most_us, all[COUNT - 1]);
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        uint64_t is = all[(size_t)ceil(shares[i] * COUNT) - 1], told = latency_quantile(&l, shares[i]);
        if (told < is || told > is + is / 64 + 1)
            fail_msg("share %g: %llu, told %llu", shares[i], (unsigned long long)is, (unsigned long long)told);
    }
    latency_add(&l, UINT64_MAX);
    assert_int_equal(l.most_us, UINT64_MAX);
}

/* --- figures --- */

static void reading(struct top_reading *r, int64_t at_us, const char *metrics, const char *health, const char *tasks) {
    *r = (struct top_reading){.at_us = at_us, .wall_us = INT64_C(1000000000)};
    parse(metrics, &r->metrics);
    r->health = json_tokener_parse(health);
    r->tasks = json_tokener_parse(tasks);
}

#define IDLE "11111111-1111-7111-8111-111111111111"
#define BUSY "22222222-2222-7222-8222-222222222222"

static void two_readings(struct top_figures *ret) {
    struct top_reading before, now;
    struct status st;
    reading(&before, 0, "quire_http_responses_total{class=\"2xx\"} 100\nquire_http_responses_total{class=\"5xx\"} 0\nquire_searches_total{mode=\"hybrid\"} 50\n"
                        "quire_library_chunks{library=\"" BUSY "\"} 10\nquire_library_chunks{library=\"" IDLE "\"} 900\n", "{}", "[]");
    reading(&now, 2000000,
            "quire_http_responses_total{class=\"2xx\"} 300\nquire_http_responses_total{class=\"5xx\"} 4\nquire_searches_total{mode=\"hybrid\"} 250\n"
            "quire_http_request_seconds_bucket{class=\"search\",le=\"0.001\"} 200\nquire_http_request_seconds_bucket{class=\"search\",le=\"+Inf\"} 200\n"
            "quire_http_request_seconds_sum{class=\"search\"} 0.1\nquire_http_request_seconds_count{class=\"search\"} 200\n"
            "quire_library_chunks{library=\"" BUSY "\"} 30\nquire_library_chunks{library=\"" IDLE "\"} 900\nquire_snapshot_last_time_seconds 400\nquire_wal_lsn 12\n"
            "quire_provider_up{model=\"far\"} 0\n",
            "{\"version\":\"1.0\",\"status\":\"healthy\",\"message\":\"ready\",\"uptime_seconds\":90061,\"workers\":{\"wanted\":4,\"ready\":3,\"busy\":1,\"restarts\":2},"
            "\"libraries\":[{\"id\":\"" IDLE "\",\"name\":\"idle\",\"num_documents\":9,\"num_chunks\":900,\"embedding\":{\"state\":\"complete\",\"done\":900,\"total\":900}},"
            "{\"id\":\"" BUSY "\",\"name\":\"bu\\u001b[31msy\",\"num_documents\":3,\"num_chunks\":30,\"embedding\":{\"state\":\"running\",\"done\":15,\"total\":30}}]}",
            "[{\"kind\":\"snapshot\",\"state\":\"failed\",\"done\":1,\"total\":2,\"error\":\"disk full\"}]");
    assert_true(top_figure(&now, &before, ret, &st));
    top_reading_fini(&before);
    top_reading_fini(&now);
}

static void rates_between_readings(void **state) {
    struct top_figures f;
    (void)state;
    two_readings(&f);
    assert_true(f.seconds == 2 && f.requests == 102 && f.server_errors == 2 && f.client_errors == 0);
    assert_int_equal(f.modes, 1);
    assert_string_equal(f.mode[0].name, "hybrid");
    assert_true(f.mode[0].rate == 100);
    assert_int_equal(f.classes, 1);
    assert_true(f.class_of_route[0].times.rate == 100 && f.class_of_route[0].times.mean == 0.0005);
    assert_true(f.snapshot_age == 600 && f.verified_age == -1);
    assert_int_equal(f.library_count, 2);
    assert_string_equal(f.libraries[0].id, BUSY); /* the one that changes first */
    assert_true(f.libraries[0].changes == 10 && f.libraries[1].changes == 0);
    assert_true(f.providers == 1 && f.providers_up == 0);
    top_figures_fini(&f);
}

static void expect_in(const struct buf *b, const char *text) {
    if (memmem(b->data, b->len, text, strlen(text)) == NULL)
        fail_msg("without '%s':\n%.*s", text, (int)b->len, (const char *)b->data);
}

static void the_picture(void **state) {
    struct top_figures f;
    struct buf frame = {0}, fit = {0}, json = {0};
    (void)state;
    two_readings(&f);
    top_draw(&f, "https://127.0.0.1:8443", &frame);
    expect_in(&frame, "\001quire 1.0  https://127.0.0.1:8443  up 1d 01:01  healthy: ready\n");
    expect_in(&frame, "3 of 4 ready, 1 busy, 2 restarted");
    expect_in(&frame, "hybrid 100.0/s");
    expect_in(&frame, "snapshot 10 min ago (12 behind), verified never");
    expect_in(&frame, "0 of 1 providers answer");
    expect_in(&frame, "disk full");
    expect_in(&frame, "bu?[31msy"); /* no name drives the terminal */
    assert_null(memchr(frame.data, '\033', frame.len));
    /* Cut to the window: four rows of at most twenty columns, nothing below. */
    top_fit(buf_slice(&frame), 20, 4, &fit);
    expect_in(&fit, "\033[1;1H\033[1mquire 1.0  https://1\033[0m\033[K");
    expect_in(&fit, "\033[4;1H");
    assert_null(memmem(fit.data, fit.len, "\033[5;1H", 6));
    buf_reset(&fit);
    top_fit(slice_str("one\ntwo\n"), 20, 4, &fit);
    expect_in(&fit, "\033[3;1H\033[J");
    top_json(&f, &json);
    expect_in(&json, "\"classes\":{\"search\":{\"rate\":100,");
    buf_fini(&frame);
    buf_fini(&fit);
    buf_fini(&json);
    top_figures_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_of_metrics),         cmocka_unit_test(histograms_between_readings),
                                       cmocka_unit_test(latencies_have_quantiles), cmocka_unit_test(rates_between_readings),
                                       cmocka_unit_test(the_picture)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
