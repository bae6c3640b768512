/* test_embed_remote_parts.c - remote models, as far as no network is needed: breaker, pace and pauses, addresses, batches, requests, replies, fingerprints. */
#include "base/json_front.h"
#include "embed/remote_address.h"
#include "embed/remote_batch.h"
#include "embed/remote_dialect.h"
#include "embed/remote_limits.h"
#include "embed/remote_probe.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- limits ------------------------------------------------------------------------------------------------------------- */

static void the_breaker(void **state) {
    struct remote_breaker b;
    int64_t wait;
    (void)state;
    remote_breaker_init(&b, 3, 100);
    for (int i = 0; i < 2; i++) {
        assert_true(remote_breaker_ask(&b, 0, &wait));
        remote_breaker_failed(&b, 0, false);
    }
    remote_breaker_succeeded(&b); /* in a row: it begins anew */
    for (int i = 0; i < 3; i++) {
        assert_true(remote_breaker_ask(&b, 10, &wait));
        remote_breaker_failed(&b, 10, false);
    }
    assert_int_equal(b.state, REMOTE_OPEN);
    assert_false(remote_breaker_ask(&b, 50, &wait));
    assert_int_equal(wait, 60);
    remote_breaker_failed(&b, 60, false); /* one that was under way changes nothing */
    assert_int_equal(b.until_us, 110);
    assert_true(remote_breaker_ask(&b, 110, &wait)); /* one tries */
    assert_int_equal(b.state, REMOTE_HALF_OPEN);
    assert_false(remote_breaker_ask(&b, 111, &wait)); /* and nobody else */
    assert_true(wait > 0);
    remote_breaker_failed(&b, 120, false);
    assert_int_equal(b.until_us, 320); /* twice the time */
    assert_true(remote_breaker_ask(&b, 320, &wait));
    remote_breaker_forget(&b); /* it was cancelled: another one may try */
    assert_true(remote_breaker_ask(&b, 321, &wait));
    remote_breaker_succeeded(&b);
    assert_int_equal(b.state, REMOTE_CLOSED);
    assert_true(remote_breaker_ask(&b, 322, &wait));
    remote_breaker_failed(&b, 322, true); /* a wrong key: no use in trying on */
    assert_int_equal(b.state, REMOTE_OPEN);
    assert_int_equal(b.until_us, 422);
}

static void the_breakers_pauses_end_somewhere(void **state) {
    struct remote_breaker b;
    int64_t wait;
    int64_t now = 0;
    (void)state;
    remote_breaker_init(&b, 1, 10);
    for (int i = 0; i < 100; i++) {
        assert_true(remote_breaker_ask(&b, now, &wait));
        remote_breaker_failed(&b, now, false);
        assert_true(b.until_us - now <= 640);
        now = b.until_us;
    }
}

static void the_pace(void **state) {
    struct remote_pace p = {.per_minute = 60};
    (void)state;
    int64_t now = 1000000000;
    assert_int_equal(remote_pace_wait_us(&p, now), 0);
    remote_pace_take(&p, now, 1);
    assert_int_equal(remote_pace_wait_us(&p, now), 0); /* a second's worth in advance */
    remote_pace_take(&p, now, 1);
    assert_int_equal(remote_pace_wait_us(&p, now), 1000000);
    assert_int_equal(remote_pace_wait_us(&p, now + 1000000), 0);
    remote_pace_take(&p, now + 1000000, 30);
    assert_int_equal(remote_pace_wait_us(&p, now + 1000000), 30000000);
    p = (struct remote_pace){0};
    remote_pace_take(&p, now, 1000000);
    assert_int_equal(remote_pace_wait_us(&p, now), 0);
}

static void pauses_grow_and_differ(void **state) {
    (void)state;
    for (uint64_t random = 0; random < 1000; random++) {
        for (unsigned attempt = 0; attempt < 8; attempt++) {
            uint64_t mean = UINT64_C(100) << attempt;
            uint64_t pause = remote_backoff_ms(100, 5000, attempt, random * 7919);
            assert_true(pause <= 5000);
            assert_true(pause >= (mean < 5000 ? mean / 2 : 2500));
            assert_true(pause <= mean + mean / 2);
        }
    }
    assert_int_equal(remote_backoff_ms(1, 1, 63, 12345), remote_backoff_ms(1, 1, 63, 12345));
    assert_true(remote_backoff_ms(60000, 3600000, 1000000, UINT64_MAX) <= 3600000);
}

static void expect_retry_after(const char *value, int64_t wall_us, uint64_t ms) {
    uint64_t found = UINT64_MAX;
    if (!remote_retry_after(slice_str(value), wall_us, &found) || found != ms) {
        fail_msg("Retry-After: %s: %llu ms instead of %llu", value, (unsigned long long)found, (unsigned long long)ms);
    }
}

static void retry_after_in_all_its_forms(void **state) {
    static const char *const bad[] = {"", "-1", "soon", "1.5", "12 s", "Sun, 32 Foo 1994 08:49:37 GMT", "99999999999999999999999999999999999999999999999999999999999999999999999999"};
    int64_t wall = INT64_C(784111777) * 1000000; /* 1994-11-06 08:49:37 */
    uint64_t ms;
    (void)state;
    expect_retry_after("0", wall, 0);
    expect_retry_after("120", wall, 120000);
    expect_retry_after("99999999999999999999999", wall, REMOTE_RETRY_AFTER_MAX_MS);
    expect_retry_after("Sun, 06 Nov 1994 08:49:39 GMT", wall, 2000);
    expect_retry_after("Sunday, 06-Nov-94 08:49:39 GMT", wall, 2000);
    expect_retry_after("Sun Nov  6 08:49:39 1994", wall, 2000);
    expect_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", wall, 0);
    expect_retry_after("Sun, 06 Nov 1994 07:49:37 GMT", wall, 0);
    expect_retry_after("Sun, 06 Nov 2094 07:49:37 GMT", wall, REMOTE_RETRY_AFTER_MAX_MS);
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (remote_retry_after(slice_str(bad[i]), wall, &ms)) {
            fail_msg("taken: %s", bad[i]);
        }
    }
}

/* --- addresses ---------------------------------------------------------------------------------------------------------- */

static enum remote_address kind_of(const char *text) {
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) {
        return remote_address_kind((const struct sockaddr *)(const void *)&v4, sizeof v4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return remote_address_kind((const struct sockaddr *)(const void *)&v6, sizeof v6);
}

static void expect_kind(enum remote_address kind, const char *const *addresses, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (kind_of(addresses[i]) != kind) {
            fail_msg("%s is of kind %d, not %d", addresses[i], (int)kind_of(addresses[i]), (int)kind);
        }
    }
}

static void kinds_of_addresses(void **state) {
    static const char *const loopback[] = {"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::1"};
    static const char *const private[] = {"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fc00::1", "fd12:3456::1", "::ffff:10.1.2.3"};
    static const char *const public[] = {"8.8.8.8", "172.32.0.1", "172.15.255.255", "100.128.0.1", "192.167.255.255", "126.0.0.1", "2606:4700::1111", "2001:4860:4860::8888",
                                         "::ffff:8.8.8.8"};
    static const char *const never[] = {"0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1",
                                        "198.51.100.1", "203.0.113.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "fe80::1", "fe80::a9fe:a9fe", "fec0::1", "ff02::1",
                                        "fd00:ec2::254", "fd20:ce::254", "fd00:42::42", "::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "2002:a9fe:a9fe::1", "2001:db8::1",
                                        "2001::1", "::169.254.169.254", "::127.0.0.1", "4000::1", "::ffff:0.0.0.0", "64:ff9b:1::1"};
    struct sockaddr other = {.sa_family = AF_UNIX};
    (void)state;
    expect_kind(REMOTE_ADDRESS_LOOPBACK, loopback, COUNT(loopback));
    expect_kind(REMOTE_ADDRESS_PRIVATE, private, COUNT(private));
    expect_kind(REMOTE_ADDRESS_PUBLIC, public, COUNT(public));
    expect_kind(REMOTE_ADDRESS_NEVER, never, COUNT(never));
    assert_int_equal(remote_address_kind(&other, sizeof other), REMOTE_ADDRESS_NEVER);
    other.sa_family = AF_INET;
    assert_int_equal(remote_address_kind(&other, 4), REMOTE_ADDRESS_NEVER); /* cut short */
}

static bool allowed(enum remote_address kind, const char *text, bool private_addresses) {
    struct remote_url url;
    struct status st;
    assert_true(remote_url_parse(text, &url, &st));
    return remote_address_allowed(kind, &url, private_addresses);
}

static void which_addresses_are_allowed(void **state) {
    (void)state;
    assert_true(allowed(REMOTE_ADDRESS_PUBLIC, "https://api.example.org", false));
    assert_false(allowed(REMOTE_ADDRESS_PUBLIC, "http://api.example.org", false));
    assert_false(allowed(REMOTE_ADDRESS_PUBLIC, "http://api.example.org", true)); /* a key and texts in clear, over the internet */
    assert_false(allowed(REMOTE_ADDRESS_PUBLIC, "http://8.8.8.8", true));
    assert_false(allowed(REMOTE_ADDRESS_PRIVATE, "https://api.example.org", false)); /* what a name resolves to is not what was named */
    assert_true(allowed(REMOTE_ADDRESS_PRIVATE, "http://gpu.lan", true));
    assert_true(allowed(REMOTE_ADDRESS_PRIVATE, "http://10.0.0.7:8080", false));
    assert_false(allowed(REMOTE_ADDRESS_PRIVATE, "http://localhost", false));
    assert_true(allowed(REMOTE_ADDRESS_LOOPBACK, "http://localhost:11434", false));
    assert_true(allowed(REMOTE_ADDRESS_LOOPBACK, "http://127.0.0.1", false));
    assert_false(allowed(REMOTE_ADDRESS_LOOPBACK, "https://api.example.org", false));
    assert_true(allowed(REMOTE_ADDRESS_LOOPBACK, "http://gpu.lan", true));
    assert_false(allowed(REMOTE_ADDRESS_NEVER, "http://169.254.169.254", true));
    assert_false(allowed(REMOTE_ADDRESS_NEVER, "https://api.example.org", true));
}

/* --- batches ------------------------------------------------------------------------------------------------------------ */

static void batches_keep_their_bounds_and_all_texts(void **state) {
    struct remote_batch b;
    struct status st;
    struct slice texts[50];
    (void)state;
    assert_true(remote_batch_new(7, &b, &st));
    for (unsigned round = 0; round < 200; round++) {
        char letters[64];
        memset(letters, 'x', sizeof letters);
        for (size_t i = 0; i < COUNT(texts); i++) {
            texts[i] = (round + i * i) % 5 == 0 ? slice_str(" \n") : slice_of(letters, (round * 31 + i * 17) % sizeof letters);
        }
        struct remote_bounds bounds = {.texts = 1 + round % 9, .tokens = 5 + round % 40, .text_bytes = 40, .prefix_bytes = round % 3};
        size_t at = 0;
        size_t blank = 0;
        size_t sent = 0;
        while (at < COUNT(texts)) {
            size_t end = remote_batch_fill(&b, &bounds, texts, COUNT(texts), at);
            assert_true(end > at);
            assert_true(b.count <= bounds.texts && b.count <= 7);
            assert_true(b.count <= 1 || b.tokens <= bounds.tokens);
            for (size_t i = 0; i < b.count; i++) {
                assert_true(b.rows[i] >= at && b.rows[i] < end && (i == 0 || b.rows[i] > b.rows[i - 1]));
                assert_true(b.texts[i].data == texts[b.rows[i]].data && b.texts[i].len <= 40 && b.texts[i].len > 0);
            }
            sent += b.count;
            at = end;
        }
        for (size_t i = 0; i < COUNT(texts); i++) {
            blank += texts[i].len == 0 || texts[i].data[0] == ' ' ? 1 : 0;
        }
        assert_int_equal(sent + blank, COUNT(texts));
    }
    remote_batch_free(&b);
}

static void a_long_text_is_cut_between_code_points(void **state) {
    struct remote_bounds bounds = {.texts = 4, .tokens = 100, .text_bytes = 7};
    struct slice text = slice_str("\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4");
    struct remote_batch b;
    struct status st;
    (void)state;
    assert_true(remote_batch_new(4, &b, &st));
    assert_int_equal(remote_batch_fill(&b, &bounds, &text, 1, 0), 1);
    assert_int_equal(b.texts[0].len, 6);
    remote_batch_free(&b);
}

/* --- requests ----------------------------------------------------------------------------------------------------------- */

static void expect_request(const struct remote_settings *s, enum embed_role role, const char *expected) {
    struct slice texts[] = {slice_str("a \"b\"\n"), slice_str("\xc3\xa4")};
    struct buf body = {0};
    remote_dialect_request(s, role, texts, 2, &body);
    buf_put_u8(&body, 0);
    assert_string_equal((const char *)body.data, expected);
    buf_fini(&body);
}

static void requests(void **state) {
    struct remote_settings s = {.model = "m-1", .dimension = 8};
    (void)state;
    expect_request(&s, EMBED_QUERY, "{\"model\":\"m-1\",\"input\":[\"a \\\"b\\\"\\n\",\"\xc3\xa4\"]}");
    s.request_dimension = REMOTE_ON;
    s.encoding = REMOTE_ENCODING_BASE64;
    (void)snprintf(s.query_prefix, sizeof s.query_prefix, "q: ");
    expect_request(&s, EMBED_DOCUMENT, "{\"model\":\"m-1\",\"input\":[\"a \\\"b\\\"\\n\",\"\xc3\xa4\"],\"encoding_format\":\"base64\",\"dimensions\":8}");
    s.dialect = REMOTE_COHERE;
    expect_request(&s, EMBED_QUERY,
                   "{\"model\":\"m-1\",\"texts\":[\"q: a \\\"b\\\"\\n\",\"q: \xc3\xa4\"],\"input_type\":\"search_query\",\"embedding_types\":[\"float\"],"
                   "\"truncate\":\"END\",\"output_dimension\":8}");
    s.dialect = REMOTE_OLLAMA;
    s.request_dimension = REMOTE_OFF;
    expect_request(&s, EMBED_DOCUMENT, "{\"model\":\"m-1\",\"input\":[\"a \\\"b\\\"\\n\",\"\xc3\xa4\"],\"truncate\":true}");
    s.dialect = REMOTE_TEI;
    expect_request(&s, EMBED_DOCUMENT, "{\"inputs\":[\"a \\\"b\\\"\\n\",\"\xc3\xa4\"],\"truncate\":true,\"normalize\":true}");
}

/* --- replies ------------------------------------------------------------------------------------------------------------ */

static bool parse(enum remote_dialect dialect, const char *text, size_t count, uint32_t dimension, struct remote_reply *reply, struct status *st) {
    status_clear(st);
    return remote_dialect_parse(dialect, slice_str(text), count, dimension, reply, st);
}

static void expect_vectors(enum remote_dialect dialect, const char *text, uint64_t tokens) {
    static const float expected[] = {1, 2, 3, 4, 5, 6};
    struct remote_reply reply = {0};
    struct status st;
    for (uint32_t dimension = 0; dimension <= 2; dimension += 2) {
        if (!parse(dialect, text, 3, dimension, &reply, &st)) {
            fail_msg("%s\nrefused: %s", text, st.detail);
        }
        assert_int_equal(reply.dimension, 2);
        assert_int_equal(reply.tokens, tokens);
        assert_memory_equal(reply.floats.data, expected, sizeof expected);
    }
    remote_reply_fini(&reply);
}

static void good_replies(void **state) {
    (void)state;
    expect_vectors(REMOTE_OPENAI,
                   "{\"object\":\"list\",\"data\":[{\"object\":\"embedding\",\"index\":2,\"embedding\":[5,6]},{\"index\":0,\"embedding\":[1,2e0]},"
                   "{\"embedding\":[3,4],\"index\":1}],\"model\":\"m\",\"usage\":{\"prompt_tokens\":7,\"total_tokens\":9}}",
                   9);
    expect_vectors(REMOTE_OPENAI,
                   "{\"data\":[{\"index\":1,\"embedding\":\"AABAQAAAgEA=\"},{\"index\":0,\"embedding\":\"AACAPwAAAEA=\"},{\"index\":2,\"embedding\":\"AACgQAAAwEA=\"}]}", 0);
    expect_vectors(REMOTE_COHERE,
                   "{\"id\":\"1\",\"embeddings\":{\"float\":[[1,2],[3,4],[5,6]]},\"texts\":[\"a\",\"b\",\"c\"],\"meta\":{\"billed_units\":{\"input_tokens\":3}}}", 3);
    expect_vectors(REMOTE_OLLAMA, "{\"model\":\"m\",\"embeddings\":[[1,2],[3,4],[5,6]],\"total_duration\":14143917,\"prompt_eval_count\":8}", 8);
    expect_vectors(REMOTE_TEI, " [[1,2],[3,4],[5.0,6]] ", 0);
    expect_vectors(REMOTE_OLLAMA, "{\"embeddings\":[[1,2],[3,4],[5,6]],\"prompt_eval_count\":-8}", 0);
}

static void bad_replies(void **state) {
    static const struct {
        enum remote_dialect dialect;
        const char *text;
    } bad[] = {
        {REMOTE_TEI, ""},
        {REMOTE_TEI, "null"},
        {REMOTE_TEI, "{}"},
        {REMOTE_TEI, "<html>"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,6]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,6]] x"},
        {REMOTE_TEI, "[[1,2],[3,4]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,6],[7,8]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,6,7]]"},
        {REMOTE_TEI, "[[],[],[]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,null]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,NaN]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,1e999]]"},
        {REMOTE_TEI, "[[1,2],[3,4],[5,\"6\"]]"},
        {REMOTE_TEI, "[[1,2],[3,4],null]"},
        {REMOTE_TEI, "[[1,2],[3,4],5]"},
        {REMOTE_TEI, "[[1,2],[3,4],[[5,6]]]"},
        {REMOTE_COHERE, "{\"embeddings\":[[1,2],[3,4],[5,6]]}"},
        {REMOTE_COHERE, "{\"embeddings\":{\"int8\":[[1,2],[3,4],[5,6]]}}"},
        {REMOTE_COHERE, "{\"embeddings\":{\"float\":[[1,2],[3,4]],\"float\":[[1,2],[3,4],[5,6]]}}"},
        {REMOTE_OLLAMA, "{\"embedding\":[[1,2],[3,4],[5,6]]}"},
        {REMOTE_OLLAMA, "{\"error\":\"no such model\"}"},
        {REMOTE_OPENAI, "{\"data\":{}}"},
        {REMOTE_OPENAI, "{\"data\":[1,2,3]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0},{\"index\":1},{\"index\":2}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"embedding\":[1,2]},{\"embedding\":[1,2]},{\"embedding\":[1,2]}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":0,\"embedding\":[1,2]},{\"index\":2,\"embedding\":[1,2]}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]},{\"index\":3,\"embedding\":[1,2]}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]},{\"index\":-1,\"embedding\":[1,2]}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":[1,2]},{\"index\":1,\"embedding\":[1,2]},{\"index\":\"2\",\"embedding\":[1,2]}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":\"AACAPwAAAEA=\"},{\"index\":1,\"embedding\":\"AADAfwAAwH8=\"},{\"index\":2,\"embedding\":\"AACAPwAAAEA=\"}]}"},
        {REMOTE_OPENAI, "{\"data\":[{\"index\":0,\"embedding\":\"AACAPwAAAE\"},{\"index\":1,\"embedding\":[1,2]},{\"index\":2,\"embedding\":[1,2]}]}"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct remote_reply reply = {0};
        struct status st;
        for (uint32_t dimension = 0; dimension <= 2; dimension += 2) {
            if (parse(bad[i].dialect, bad[i].text, 3, dimension, &reply, &st)) {
                fail_msg("taken: %s", bad[i].text);
            }
            assert_int_equal(st.code, STATUS_MALFORMED);
        }
        remote_reply_fini(&reply);
    }
}

static void a_dimension_that_was_asked_for(void **state) {
    struct remote_reply reply = {0};
    struct status st;
    struct buf text = {0};
    (void)state;
    assert_false(parse(REMOTE_TEI, "[[1,2]]", 1, 3, &reply, &st));
    assert_string_equal(st.detail, "vector 0 has 2 numbers instead of 3");
    buf_put_str(&text, "[[1");
    for (int i = 1; i < EMBED_MAX_DIMENSION; i++) {
        buf_put_str(&text, ",1");
    }
    buf_put_str(&text, "]]");
    assert_true(remote_dialect_parse(REMOTE_TEI, buf_slice(&text), 1, 0, &reply, &st));
    assert_int_equal(reply.dimension, EMBED_MAX_DIMENSION);
    text.len -= 2;
    buf_put_str(&text, ",1]]");
    assert_false(remote_dialect_parse(REMOTE_TEI, buf_slice(&text), 1, 0, &reply, &st));
    buf_fini(&text);
    remote_reply_fini(&reply);
}

/* What an attacker in the provider's place has: any bytes. A good reply with a byte changed, and cut anywhere, is taken or refused, and nothing else. */
static void damaged_replies(void **state) {
    static const char *const replies[] = {
        [REMOTE_OPENAI] = "{\"data\":[{\"index\":1,\"embedding\":[1,2]},{\"index\":0,\"embedding\":\"AACAPwAAAEA=\"}],\"usage\":{\"total_tokens\":9}}",
        [REMOTE_COHERE] = "{\"id\":\"1\",\"embeddings\":{\"float\":[[1,2],[3,4]]},\"meta\":{\"billed_units\":{\"input_tokens\":3}}}",
        [REMOTE_OLLAMA] = "{\"embeddings\":[[1,2],[3,4]],\"prompt_eval_count\":8}",
        [REMOTE_TEI] = "[[1,2],[3,4]]"};
    static const char changed[] = "\0\"[]{},:-0e.n\\\xff";
    struct remote_reply reply = {0};
    struct status st;
    size_t taken = 0;
    (void)state;
    for (unsigned dialect = 0; dialect < COUNT(replies); dialect++) {
        struct buf text = {0};
        buf_put_str(&text, replies[dialect]);
        for (size_t at = 0; at < text.len; at++) {
            uint8_t was = text.data[at];
            for (size_t c = 0; c < sizeof changed; c++) {
                text.data[at] = (uint8_t)changed[c];
                taken += remote_dialect_parse((enum remote_dialect)dialect, buf_slice(&text), 2, 0, &reply, &st) ? 1 : 0;
                assert_true(reply.dimension <= EMBED_MAX_DIMENSION);
            }
            text.data[at] = was;
            assert_false(remote_dialect_parse((enum remote_dialect)dialect, slice_of(text.data, at), 2, 2, &reply, &st));
        }
        buf_fini(&text);
    }
    assert_true(taken > 0); /* a digit for another */
    remote_reply_fini(&reply);
}

static void honest_replies_fit(void **state) {
    (void)state;
    assert_true(remote_dialect_reply_max(1, 1, 10) >= 65536);
    assert_true(remote_dialect_reply_max(32, 1536, 0) > (uint64_t)32 * 1536 * 40);
    assert_true(remote_dialect_reply_max(32, 1536, 0) < 4000000);
    assert_true(remote_dialect_reply_max(2048, 4096, 100000000) > 0);
}

static void complaints(void **state) {
    (void)state;
    assert_int_equal(remote_dialect_complaint(slice_str("")), REMOTE_COMPLAINT_OTHER);
    assert_int_equal(remote_dialect_complaint(slice_str("{\"error\":{\"code\":\"insufficient_quota\"}}")), REMOTE_COMPLAINT_QUOTA);
    assert_int_equal(remote_dialect_complaint(slice_str("This model's Maximum Context Length is 8192 tokens, however")), REMOTE_COMPLAINT_TOO_LONG);
    assert_int_equal(remote_dialect_complaint(slice_str("{\"error\":\"the input length exceeds the context length\"}")), REMOTE_COMPLAINT_TOO_LONG);
    assert_int_equal(remote_dialect_complaint(slice_str("{\"error\":\"Input validation error: `inputs` must have less than 512 tokens. Given: 785\"}")),
                     REMOTE_COMPLAINT_TOO_LONG);
    assert_int_equal(remote_dialect_complaint(slice_str("{\"error\":\"batch size 64 > maximum allowed batch size 32\",\"error_type\":\"Validation\"}")),
                     REMOTE_COMPLAINT_TOO_MANY);
    assert_int_equal(remote_dialect_complaint(slice_str("{\"message\":\"invalid request: total number of texts must be at most 96\"}")), REMOTE_COMPLAINT_TOO_MANY);
    assert_int_equal(remote_dialect_complaint(slice_str("Requested 358000 tokens, max 300000 tokens per request")), REMOTE_COMPLAINT_TOO_MANY);
    assert_int_equal(remote_dialect_complaint(slice_str("invalid model")), REMOTE_COMPLAINT_OTHER);
}

/* --- fingerprints ------------------------------------------------------------------------------------------------------- */

enum { DIMENSION = 256, MODELS = 100 };

static float random_float(uint64_t *seed) {
    *seed = *seed * UINT64_C(6364136223846793005) + 1;
    return (float)((double)(*seed >> 11) / (double)(UINT64_C(1) << 52) - 1);
}

static void normalise(float *vectors) {
    for (size_t row = 0; row < REMOTE_PROBE_TEXTS; row++) {
        double sum = 0;
        for (size_t i = 0; i < DIMENSION; i++) {
            sum += (double)vectors[row * DIMENSION + i] * (double)vectors[row * DIMENSION + i];
        }
        for (size_t i = 0; i < DIMENSION; i++) {
            vectors[row * DIMENSION + i] /= (float)sqrt(sum);
        }
    }
}

/* Fingerprints of MODELS models with noise of that size, each beside its own without: how many are taken for the same. */
static unsigned same_with_noise(float noise) {
    struct remote_settings s = {.model = "m"};
    static float vectors[REMOTE_PROBE_TEXTS * DIMENSION];
    uint64_t seed = 1;
    unsigned same = 0;
    for (int model = 0; model < MODELS; model++) {
        for (size_t i = 0; i < COUNT(vectors); i++) {
            vectors[i] = random_float(&seed);
        }
        normalise(vectors);
        uint64_t first = remote_fingerprint(&s, vectors, DIMENSION);
        for (size_t i = 0; i < COUNT(vectors); i++) {
            vectors[i] += noise * random_float(&seed) / 16; /* 16: the root of the dimension */
        }
        normalise(vectors);
        same += remote_same_model(first, remote_fingerprint(&s, vectors, DIMENSION)) ? 1 : 0;
    }
    return same;
}

static void fingerprints_bear_noise_and_no_other_model(void **state) {
    (void)state;
    assert_int_equal(same_with_noise(0), MODELS);
    assert_int_equal(same_with_noise(0.001F), MODELS); /* float32 on other hardware is below that */
    assert_true(same_with_noise(0.05F) >= MODELS - 1);     /* cosine 0.9996 */
    assert_true(same_with_noise(1.0F) < MODELS / 10);        /* cosine 0.86 */
    assert_int_equal(same_with_noise(100.0F), 0);   /* nothing in common */
}

static void fingerprints_know_what_the_model_is_called(void **state) {
    static float vectors[REMOTE_PROBE_TEXTS * DIMENSION] = {1};
    struct remote_settings s = {.model = "m"};
    struct remote_settings other = s;
    (void)state;
    uint64_t first = remote_fingerprint(&s, vectors, DIMENSION);
    (void)snprintf(other.url, sizeof other.url, "https://elsewhere.example");
    assert_int_equal(remote_fingerprint(&other, vectors, DIMENSION), first);
    (void)snprintf(other.query_prefix, sizeof other.query_prefix, "q");
    assert_false(remote_same_model(first, remote_fingerprint(&other, vectors, DIMENSION)));
    other = s;
    other.dialect = REMOTE_TEI;
    assert_false(remote_same_model(first, remote_fingerprint(&other, vectors, DIMENSION)));
    other = s;
    (void)snprintf(other.model, sizeof other.model, "n");
    assert_false(remote_same_model(first, remote_fingerprint(&other, vectors, DIMENSION)));
    assert_false(remote_same_model(first, remote_fingerprint(&s, vectors, DIMENSION / 2)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_breaker),
        cmocka_unit_test(the_breakers_pauses_end_somewhere),
        cmocka_unit_test(the_pace),
        cmocka_unit_test(pauses_grow_and_differ),
        cmocka_unit_test(retry_after_in_all_its_forms),
        cmocka_unit_test(kinds_of_addresses),
        cmocka_unit_test(which_addresses_are_allowed),
        cmocka_unit_test(batches_keep_their_bounds_and_all_texts),
        cmocka_unit_test(a_long_text_is_cut_between_code_points),
        cmocka_unit_test(requests),
        cmocka_unit_test(good_replies),
        cmocka_unit_test(bad_replies),
        cmocka_unit_test(a_dimension_that_was_asked_for),
        cmocka_unit_test(damaged_replies),
        cmocka_unit_test(honest_replies_fit),
        cmocka_unit_test(complaints),
        cmocka_unit_test(fingerprints_bear_noise_and_no_other_model),
        cmocka_unit_test(fingerprints_know_what_the_model_is_called),
    };
    return cmocka_run_group_tests_name("embed_remote_parts", tests, NULL, NULL);
}
