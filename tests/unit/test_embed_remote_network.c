/*
 * test_embed_remote_network.c - the client of remote models where the network is against it: hangs and drips, names and addresses, certificates; and several
 * callers at once.
 *
 * Where something has to end by a deadline, the deadline is short and the test asks only that it ends, and why.
 */
#include "remote_fixture.h"

#include "base/clock.h"
#include "embed/remote_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- time --------------------------------------------------------------------------------------------------------------- */

/* In the place of libc's, for libcurl as well: names resolve to nothing, and only when the test lets them. Numbers, "localhost" and what
 * remote_client_resolve says never come here. */
static pthread_mutex_t names_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t names_changed = PTHREAD_COND_INITIALIZER;
static bool names_hang;
static unsigned names_asked;
static unsigned names_answered;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
    (void)node;
    (void)service;
    (void)hints;
    *ret = NULL;
    (void)pthread_mutex_lock(&names_mutex);
    names_asked++;
    while (names_hang) {
        (void)pthread_cond_wait(&names_changed, &names_mutex);
    }
    names_answered++;
    (void)pthread_cond_broadcast(&names_changed);
    (void)pthread_mutex_unlock(&names_mutex);
    return EAI_NONAME;
}

static void hangs_and_drips_end_by_their_deadlines(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_COHERE, "hang");
    struct remote_outcome outcome;
    struct status st;
    (void)state;
    s.retries = 1;
    s.timeout_ms = 100;
    s.connect_timeout_ms = 100;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "in time", &outcome);
    struct remote_request request = {.role = EMBED_QUERY, .texts = texts, .count = 1, .dimension = FAKE_DIMENSION, .deadline_us = clock_monotonic_us() + 50000};
    assert_false(remote_embed(c, &request, vectors, &outcome, &st));
    assert_int_equal(outcome.failure, REMOTE_TIMEOUT);
    request.deadline_us = clock_monotonic_us() - 1;
    assert_false(remote_embed(c, &request, vectors, &outcome, &st));
    assert_int_equal(outcome.failure, REMOTE_TIMEOUT);
    remote_client_free(c);

    s = fake_settings(&plain, REMOTE_COHERE, "drip");
    s.retries = 0;
    s.stall_timeout_ms = 100;
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "too slowly", &outcome);
    remote_client_free(c);
}

static void a_resolver_that_hangs(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    (void)snprintf(s.url, sizeof s.url, "https://embeddings.example.org");
    s.timeout_ms = 50;
    s.connect_timeout_ms = 50;
    s.retries = 0;
    struct remote_client *c = fake_client(&s);
    names_hang = true;
    expect_failure(c, 1, REMOTE_TIMEOUT, "in time", &outcome); /* though getaddrinfo has not returned */
    assert_int_equal(names_answered, 0);
    remote_client_free(c);
    (void)pthread_mutex_lock(&names_mutex);
    names_hang = false;
    (void)pthread_cond_broadcast(&names_changed);
    while (names_answered < names_asked) {
        (void)pthread_cond_wait(&names_changed, &names_mutex);
    }
    (void)pthread_mutex_unlock(&names_mutex);
    c = fake_client(&s);
    expect_failure(c, 1, REMOTE_UNREACHABLE, "resolve", &outcome);
    remote_client_free(c);
}

/* It takes connections, and that is all: the handshake of TLS never ends. */
static void a_handshake_that_hangs(void **state) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    struct provider silent = {0};
    struct remote_outcome outcome;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &len), 0);
    silent.port = ntohs(address.sin_port);
    struct remote_settings s = fake_settings(&silent, REMOTE_TEI, NULL);
    (void)snprintf(s.url, sizeof s.url, "https://127.0.0.1:%u", silent.port);
    s.connect_timeout_ms = 50;
    s.retries = 0;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_TIMEOUT, "no connection", &outcome);
    remote_client_free(c);
    assert_int_equal(close(fd), 0);
}

/* --- where to ----------------------------------------------------------------------------------------------------------- */

static void expect_address(const char *host, bool https, const char *address, bool private_addresses, enum remote_failure failure) {
    struct remote_settings s = fake_settings(&plain, REMOTE_OLLAMA, NULL);
    struct remote_outcome outcome;
    struct status st;
    char entry[128];
    s.private_addresses = private_addresses ? REMOTE_ON : REMOTE_OFF;
    s.retries = 0;
    (void)snprintf(s.url, sizeof s.url, "%s://%s:%u", https ? "https" : "http", host, plain.port);
    (void)snprintf(entry, sizeof entry, "%s:%u:%s", host, plain.port, address);
    struct remote_client *c = fake_client(&s);
    assert_true(remote_client_resolve(c, entry, &st));
    (void)ask_for(c, 1, &outcome, &st);
    if (outcome.failure != failure) {
        fail_msg("%s at %s: %s", host, address, st.detail);
    }
    remote_client_free(c);
}

static void names_that_lead_where_nobody_pointed(void **state) {
    int64_t before = provider_count(&plain, "calls");
    (void)state;
    expect_address("api.example.org", true, "169.254.169.254", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "[fd00:ec2::254]", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "[::ffff:169.254.169.254]", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "127.0.0.1", false, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "10.0.0.1", false, REMOTE_FORBIDDEN);
    expect_address("api.example.org", true, "0.0.0.0", true, REMOTE_FORBIDDEN);
    expect_address("api.example.org", false, "8.8.8.8", true, REMOTE_FORBIDDEN); /* http to the internet */
    expect_address("localhost", false, "10.0.0.1", false, REMOTE_FORBIDDEN);
    assert_int_equal(provider_count(&plain, "calls"), before);
    expect_address("gpu.lan", false, "127.0.0.1", true, REMOTE_DONE);
    expect_address("localhost", false, "127.0.0.1", false, REMOTE_DONE);
}

static void nobody_there(void **state) {
    struct provider gone = {.port = 1};
    struct remote_settings s = fake_settings(&gone, REMOTE_TEI, NULL);
    struct remote_outcome outcome;
    (void)state;
    s.retries = 1;
    struct remote_client *c = fake_client(&s);
    expect_failure(c, 1, REMOTE_UNREACHABLE, "connect", &outcome);
    remote_client_free(c);
}

static void run_command(const char *command) {
    int status = system(command); /* NOLINT(cert-env33-c): a fixed command of the test's own */
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A certificate for localhost, signed by itself, in dir/NAME.pem and NAME.key. */
static void make_certificate(const char *dir, const char *name, int days) {
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "cd %s && printf 'subjectAltName=DNS:localhost\\n' >ext && openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
                   "-keyout %s.key -out %s.csr 2>/dev/null && openssl x509 -req -in %s.csr -days %d -extfile ext -signkey %s.key -out %s.pem 2>/dev/null",
                   dir, name, name, name, days, name, name);
    run_command(command);
}

static void expect_tls(const struct provider *p, const char *host, const char *ca_file, enum remote_failure failure) {
    struct remote_settings s = fake_settings(p, REMOTE_OPENAI, NULL);
    struct remote_outcome outcome = {0};
    s.retries = 0;
    (void)snprintf(s.url, sizeof s.url, "https://%s:%u/v1", host, p->port);
    (void)snprintf(s.ca_file, sizeof s.ca_file, "%s", ca_file);
    struct remote_client *c = fake_client(&s);
    if (failure == REMOTE_DONE) {
        expect_texts(c, 3);
    } else {
        expect_failure(c, 3, failure, "certificate is not good", &outcome);
    }
    remote_client_free(c);
}

static void certificates(void **state) {
    static const struct {
        const char *name;
        int days;
    } kinds[] = {{"good", 3650}, {"expired", -1}};
    char dir[] = "/tmp/quire-test-tls.XXXXXX";
    char pem[2][64];
    char key[64];
    (void)state;
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < COUNT(kinds); i++) {
        struct provider p;
        make_certificate(dir, kinds[i].name, kinds[i].days);
        (void)snprintf(pem[i], sizeof pem[i], "%s/%s.pem", dir, kinds[i].name);
        (void)snprintf(key, sizeof key, "%s/%s.key", dir, kinds[i].name);
        const char *const options[] = {"--tls", pem[i], key, NULL};
        provider_start(&p, options);
        if (i == 0) {
            expect_tls(&p, "localhost", pem[0], REMOTE_DONE);
            expect_tls(&p, "localhost", "", REMOTE_UNREACHABLE);      /* nobody known has signed it */
            expect_tls(&p, "127.0.0.1", pem[0], REMOTE_UNREACHABLE);  /* it is another's */
        } else {
            expect_tls(&p, "localhost", pem[1], REMOTE_UNREACHABLE);
        }
        provider_stop(&p);
    }
    (void)snprintf(pem[0], sizeof pem[0], "rm -r %s", dir);
    run_command(pem[0]);
}

/* --- several at once ---------------------------------------------------------------------------------------------------- */

struct crowd {
    struct remote_client *client;
    bool ok[16];
};

struct member {
    struct crowd *crowd;
    size_t number;
};

static void *run_member(void *ctx) {
    struct crowd *crowd = ((struct member *)ctx)->crowd;
    size_t i = ((struct member *)ctx)->number;
    float vector[FAKE_DIMENSION];
    struct remote_request request = {
        .role = i % 4 == 0 ? EMBED_QUERY : EMBED_DOCUMENT, .texts = texts + i, .count = 1, .dimension = FAKE_DIMENSION, .deadline_us = far_away()};
    struct remote_outcome outcome;
    struct status st;
    crowd->ok[i] = remote_embed(crowd->client, &request, vector, &outcome, &st);
    return NULL;
}

static void run_crowd(struct crowd *crowd) {
    pthread_t threads[COUNT(crowd->ok)];
    struct member members[COUNT(crowd->ok)];
    for (size_t i = 0; i < COUNT(crowd->ok); i++) {
        members[i] = (struct member){crowd, i};
        assert_int_equal(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    for (size_t i = 0; i < COUNT(crowd->ok); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void no_more_calls_at_a_time_than_wanted(void **state) {
    static const char *const options[] = {NULL};
    struct provider own;
    struct crowd crowd = {0};
    (void)state;
    provider_start(&own, options);
    struct remote_settings s = fake_settings(&own, REMOTE_TEI, "slow~20");
    s.concurrency = 3;
    crowd.client = fake_client(&s);
    run_crowd(&crowd);
    for (size_t i = 0; i < COUNT(crowd.ok); i++) {
        assert_true(crowd.ok[i]);
    }
    assert_true(provider_count(&own, "most_at_once") <= 3);
    assert_int_equal(provider_count(&own, "calls"), COUNT(crowd.ok));
    remote_client_free(crowd.client);
    provider_stop(&own);
}

static void *cancel_when_busy(void *ctx) {
    struct remote_client *c = (struct remote_client *)ctx;
    struct remote_state about;
    do {
        remote_state(c, &about);
    } while (about.in_flight == 0);
    remote_cancel(c);
    return NULL;
}

static void cancelling_ends_all(void **state) {
    struct remote_settings s = fake_settings(&plain, REMOTE_TEI, "hang");
    struct crowd crowd = {.client = fake_client(&s)};
    struct remote_state about;
    pthread_t thread;
    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_busy, crowd.client), 0);
    run_crowd(&crowd);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t i = 0; i < COUNT(crowd.ok); i++) {
        assert_false(crowd.ok[i]);
    }
    remote_state(crowd.client, &about);
    assert_true(about.failures[REMOTE_CANCELLED] > 0);
    assert_int_equal(about.in_flight, 0);
    remote_client_free(crowd.client);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hangs_and_drips_end_by_their_deadlines),
        cmocka_unit_test(a_resolver_that_hangs),
        cmocka_unit_test(a_handshake_that_hangs),
        cmocka_unit_test(names_that_lead_where_nobody_pointed),
        cmocka_unit_test(nobody_there),
        cmocka_unit_test(certificates),
        cmocka_unit_test(no_more_calls_at_a_time_than_wanted),
        cmocka_unit_test(cancelling_ends_all),
    };
    return cmocka_run_group_tests_name("embed_remote_network", tests, fixture_set_up, fixture_tear_down);
}
