/*
 * bench.c - quire bench: how fast is this server, from here?
 *
 * A fair small load: a library of its own, texts of its own, some connections that each wait for their reply before they send the next request, a bounded time.
 * Three phases: documents in batches, searches, then single documents, each durable when it is acknowledged. With the name of a library only the searches, for
 * words that its texts may or may not have. What it made it removes at the end, on SIGINT and SIGTERM, too.
 *
 * A connection is a thread with a client of its own. What a thread counts it counts for itself; the sums are made when it has ended.
 */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/json_out.h"
#include "cli/latency.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

enum {
    SECONDS = 10,
    CONNECTIONS = 4,
    CONNECTIONS_MOST = 256,
    DOCUMENTS = 2000,
    DOCUMENTS_MOST = 1000000,
    BATCH = 100,
    WORDS_A_TEXT = 60,
    WORDS_A_QUERY = 3,
    JSON_FORMAT = 1,
    EXIT_INTERRUPTED = 130
};
#define US_PER_SECOND INT64_C(1000000)
#define SETTLE_US (INT64_C(30) * US_PER_SECOND)

static const char *const words[] = {
    "harbour", "lantern", "meadow", "copper", "kettle", "winter", "ladder", "orchard", "signal", "velvet", "quarry", "saddle", "timber", "pepper", "mirror", "canyon",
    "ribbon",  "garden",  "thunder", "marble", "needle", "pigeon", "basket", "anchor",  "cellar", "ginger", "hammer", "island", "jacket", "market", "oyster", "pencil",
    "rocket",  "silver",  "tunnel", "valley", "willow", "bridge", "candle", "desert",  "engine", "feather", "glacier", "honey", "iron",  "journey", "kitchen", "letter",
    "morning", "notebook", "ocean", "paper",  "river",  "stone",  "table",  "umbrella", "village", "window", "yellow", "bread", "cloud",  "dance",   "evening", "forest"};
enum { WORDS = sizeof words / sizeof words[0] };

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

/* xorshift64*: the same texts in every run, other ones for each connection. */
static uint64_t draw(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

static void put_words(struct buf *out, uint64_t *state, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        /* The lesser of two draws: some words are frequent, others rare, as in texts. */
        uint64_t a = draw(state) % WORDS, b = draw(state) % WORDS;
        buf_printf(out, "%s%s", i == 0 ? "" : " ", words[a < b ? a : b]);
    }
}

static void put_document(struct buf *out, uint64_t *state) {
    buf_put_str(out, "{\"title\":\"");
    put_words(out, state, 4);
    buf_put_str(out, "\",\"texts\":[\"");
    put_words(out, state, WORDS_A_TEXT);
    buf_put_str(out, "\"]}");
}

/* --- a phase --- */

enum phase_kind { PHASE_LOAD, PHASE_SEARCH, PHASE_WRITE, PHASES };
static const char *const phase_names[PHASES] = {"load", "search", "write"};

struct phase {
    enum phase_kind kind;
    char path[128];
    const char *mode;    /* of searches; NULL: the server's preset */
    int64_t deadline_us; /* monotonic; of a load: when it is given up */
    int64_t left;        /* of a load: batches that nobody has taken yet. Atomic */
};

struct connection {
    pthread_t thread;
    struct phase *phase;
    struct client *client;
    uint64_t random;
    struct latencies times; /* of what succeeded */
    uint64_t errors, refused; /* refused: 429 and 503, among the errors */
    char error[STATUS_DETAIL_MAX]; /* the first */
};

struct outcome {
    bool ran;
    double seconds;
    struct latencies times;
    uint64_t errors, refused;
    char error[STATUS_DETAIL_MAX];
};

static void put_request(struct buf *out, struct connection *c) {
    switch (c->phase->kind) {
    case PHASE_LOAD:
        buf_put_str(out, "{\"documents\":[");
        for (unsigned i = 0; i < BATCH; i++) {
            buf_put_str(out, i == 0 ? "" : ",");
            put_document(out, &c->random);
        }
        buf_put_str(out, "]}");
        break;
    case PHASE_SEARCH:
        buf_put_str(out, "{\"query\":\"");
        put_words(out, &c->random, WORDS_A_QUERY);
        buf_put_str(out, "\",\"k\":10");
        if (c->phase->mode != NULL)
            buf_printf(out, ",\"mode\":\"%s\"", c->phase->mode);
        buf_put_str(out, "}");
        break;
    case PHASE_WRITE:
        put_document(out, &c->random);
        break;
    case PHASES:
        break;
    }
}

static void note_error(struct connection *c, const struct status *st, bool refused) {
    if (c->errors++ == 0)
        snprintf(c->error, sizeof c->error, "%s", st->detail);
    c->refused += refused ? 1 : 0;
}

static bool one_request(struct connection *c, struct buf *body) {
    struct client_reply reply;
    struct status st = {0};
    buf_reset(body);
    put_request(body, c);
    if (!buf_ok(body))
        return false;
    int64_t begun_us = clock_monotonic_us();
    if (!client_request(c->client, "POST", c->phase->path, buf_slice(body), &reply, &st)) {
        note_error(c, &st, false);
        client_pause_ms(100); /* nobody is helped by a loop of failing connections */
        return true;
    }
    uint64_t took_us = (uint64_t)(clock_monotonic_us() - begun_us);
    if (reply.status < 400) {
        latency_add(&c->times, took_us);
    } else {
        client_reply_error(c->client, &reply, &st);
        note_error(c, &st, reply.status == 429 || reply.status == 503);
    }
    client_reply_fini(&reply);
    return true;
}

static bool goes_on(struct phase *p) {
    if (interrupted || clock_monotonic_us() >= p->deadline_us)
        return false;
    return p->kind != PHASE_LOAD || __atomic_fetch_sub(&p->left, 1, __ATOMIC_RELAXED) > 0;
}

static void *run_connection(void *arg) {
    struct connection *c = arg;
    struct buf body = {0};
    while (goes_on(c->phase) && one_request(c, &body)) {
    }
    buf_fini(&body);
    return NULL;
}

static bool run_phase(struct cli *cli, struct phase *p, unsigned count, struct outcome *ret, struct status *st) {
    struct connection *all = calloc(count, sizeof *all);
    unsigned begun = 0;
    bool ok = all != NULL || status_no_memory(st);
    int64_t from_us = clock_monotonic_us();
    for (; ok && begun < count; begun++) {
        struct connection *c = &all[begun];
        c->phase = p;
        c->random = UINT64_C(0x9e3779b97f4a7c15) * (begun + 1 + 1000 * (unsigned)p->kind);
        ok = client_new(&cli->server, &c->client, st);
        if (ok && pthread_create(&c->thread, NULL, run_connection, c) != 0) {
            client_free(c->client);
            ok = status_set(st, STATUS_NO_MEMORY, "a thread cannot be started");
        }
        if (!ok)
            break;
    }
    if (!ok)
        interrupted = 1; /* those that run end */
    for (unsigned i = 0; i < begun; i++) {
        (void)pthread_join(all[i].thread, NULL);
        latency_merge(&ret->times, &all[i].times);
        ret->errors += all[i].errors;
        ret->refused += all[i].refused;
        if (ret->error[0] == '\0')
            memcpy(ret->error, all[i].error, sizeof ret->error);
        client_free(all[i].client);
    }
    ret->seconds = (double)(clock_monotonic_us() - from_us) / (double)US_PER_SECOND;
    ret->ran = ok;
    free(all);
    return ok;
}

/* --- all of them --- */

struct bench {
    struct cli *cli;
    unsigned connections;
    int64_t seconds, documents;
    bool made; /* the library is ours to remove */
    char library[64], name[64];
    struct outcome outcome[PHASES];
};

/* Until what was loaded has its vectors and links, so that searches are measured as they are on a library at rest. */
static void settle(struct bench *b) {
    char path[96];
    int64_t deadline_us = clock_monotonic_us() + SETTLE_US;
    snprintf(path, sizeof path, "/v1/libraries/%s/statistics", b->library);
    while (!interrupted && clock_monotonic_us() < deadline_us) {
        struct client_reply reply;
        if (!client_request(b->cli->client, "GET", path, slice_of(NULL, 0), &reply, NULL))
            return;
        int64_t tail = member_int(member(reply.json, "index_stats"), "tail");
        bool whole = member_int(member(reply.json, "vector_store_stats"), "vectors") >= member_int(reply.json, "num_chunks");
        bool done = reply.status != 200 || (tail == 0 && whole);
        client_reply_fini(&reply);
        if (done)
            return;
        client_pause_ms(50);
    }
}

static bool make_library(struct bench *b, struct status *st) {
    struct buf body = {0};
    snprintf(b->name, sizeof b->name, "quire-bench-%ld-%" PRId64, (long)getpid(), clock_wall_us() / US_PER_SECOND);
    buf_printf(&body, "{\"name\":\"%s\",\"description\":\"made by quire bench, which removes it at its end\"}", b->name);
    b->made = buf_check(&body, st) && cli_create_library(b->cli, buf_slice(&body), b->library, NULL, st);
    buf_fini(&body);
    return b->made;
}

static bool remove_library(struct bench *b, struct status *st) {
    struct client_reply reply;
    char path[96];
    if (!b->made)
        return true;
    snprintf(path, sizeof path, "/v1/libraries/%s", b->library);
    if (!client_call(b->cli->client, "DELETE", path, slice_of(NULL, 0), true, &reply, st))
        return false;
    client_reply_fini(&reply);
    return true;
}

static bool run_kind(struct bench *b, enum phase_kind kind, const char *route, int64_t seconds, struct status *st) {
    struct phase p = {.kind = kind, .mode = cli_text(b->cli, OPTION_MODE), .deadline_us = clock_monotonic_us() + seconds * US_PER_SECOND,
                      .left = (b->documents + BATCH - 1) / BATCH};
    snprintf(p.path, sizeof p.path, "/v1/libraries/%s/%s", b->library, route);
    return interrupted || run_phase(b->cli, &p, b->connections, &b->outcome[kind], st);
}

static bool run_all(struct bench *b, struct status *st) {
    const char *named = b->cli->argc > 0 ? b->cli->argv[0] : NULL;
    int64_t half = b->seconds > 1 ? b->seconds / 2 : 1;
    if (named != NULL)
        return cli_find_library(b->cli, named, b->library, st) && run_kind(b, PHASE_SEARCH, "search", b->seconds, st);
    if (!make_library(b, st) || !run_kind(b, PHASE_LOAD, "documents/batch", 6 * b->seconds, st))
        return false;
    settle(b);
    return run_kind(b, PHASE_SEARCH, "search", half, st) && run_kind(b, PHASE_WRITE, "documents", half, st);
}

/* --- telling --- */

static double ms(uint64_t us) {
    return (double)us / 1000.0;
}

static double rate_of(const struct outcome *o, enum phase_kind kind) {
    uint64_t each = kind == PHASE_LOAD ? BATCH : 1;
    return o->seconds > 0 ? (double)(o->times.count * each) / o->seconds : 0;
}

static void tell_text(const struct bench *b) {
    static const char *const what[PHASES] = {"documents/s", "searches/s", "documents/s, each durable"};
    printf("%u connection%s\n%-8s %9s %9s %9s %9s %8s %9s\n", b->connections, b->connections == 1 ? "" : "s", "", "rate", "p50 ms", "p90 ms", "p99 ms", "most ms", "errors");
    for (int kind = 0; kind < PHASES; kind++) {
        const struct outcome *o = &b->outcome[kind];
        if (!o->ran)
            continue;
        printf("%-8s %9.1f %9.2f %9.2f %9.2f %8.1f %9" PRIu64 "  %s%s\n", phase_names[kind], rate_of(o, (enum phase_kind)kind), ms(latency_quantile(&o->times, 0.5)),
               ms(latency_quantile(&o->times, 0.9)), ms(latency_quantile(&o->times, 0.99)), ms(o->times.most_us), o->errors, what[kind],
               kind == PHASE_LOAD ? " (times are of batches of 100)" : "");
    }
    for (int kind = 0; kind < PHASES; kind++) {
        const struct outcome *o = &b->outcome[kind];
        if (o->errors == 0)
            continue;
        fprintf(stderr, "quire: %s, first error: ", phase_names[kind]);
        cli_print_clean(stderr, o->error, sizeof o->error);
        fprintf(stderr, "%s\n", o->refused > 0 ? "\nquire: the server refused some because of its limits: fewer --connections, or raise limit_req in nginx's site" : "");
    }
}

static void json_phase(struct json_out *j, const struct outcome *o, enum phase_kind kind) {
    json_key(j, phase_names[kind]);
    json_begin_object(j);
    json_member_uint(j, "requests", o->times.count);
    json_member_uint(j, "errors", o->errors);
    json_member_uint(j, "refused", o->refused);
    json_member_double(j, "seconds", o->seconds);
    json_member_double(j, "rate", rate_of(o, kind));
    json_member_double(j, "p50_ms", ms(latency_quantile(&o->times, 0.5)));
    json_member_double(j, "p90_ms", ms(latency_quantile(&o->times, 0.9)));
    json_member_double(j, "p99_ms", ms(latency_quantile(&o->times, 0.99)));
    json_member_double(j, "most_ms", ms(o->times.most_us));
    json_end_object(j);
}

static bool tell_json(const struct bench *b, struct status *st) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_member_uint(&j, "format", JSON_FORMAT);
    json_member_uint(&j, "connections", b->connections);
    json_member_bool(&j, "interrupted", interrupted != 0);
    for (int kind = 0; kind < PHASES; kind++)
        if (b->outcome[kind].ran)
            json_phase(&j, &b->outcome[kind], (enum phase_kind)kind);
    json_end_object(&j);
    bool ok = buf_check(&text, st);
    if (ok)
        printf("%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
    return ok;
}

/* Nothing but errors is no measurement. */
static int exit_code(const struct bench *b) {
    if (interrupted)
        return EXIT_INTERRUPTED;
    for (int kind = 0; kind < PHASES; kind++)
        if (b->outcome[kind].ran && b->outcome[kind].times.count == 0)
            return EX_UNAVAILABLE;
    return EX_OK;
}

int command_bench(struct cli *cli) {
    static struct bench b; /* its ranges are large for a stack */
    struct sigaction action = {.sa_handler = on_signal};
    struct status st = {0}, left = {0};
    b = (struct bench){.cli = cli, .connections = (unsigned)cli_number(cli, OPTION_CONNECTIONS, CONNECTIONS), .seconds = cli_number(cli, OPTION_SECONDS, SECONDS),
                       .documents = cli_number(cli, OPTION_DOCUMENTS, DOCUMENTS)};
    if (cli_number(cli, OPTION_CONNECTIONS, CONNECTIONS) > CONNECTIONS_MOST)
        return cli_usage(cli, "--connections is at most 256");
    if (b.documents > DOCUMENTS_MOST || b.seconds > 86400)
        return cli_usage(cli, "--documents is at most 1000000, --seconds at most 86400");
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    bool ok = run_all(&b, &st);
    bool removed = remove_library(&b, &left);
    if (ok && b.outcome[PHASE_SEARCH].ran + b.outcome[PHASE_LOAD].ran > 0)
        ok = cli->json ? tell_json(&b, &st) : (tell_text(&b), true);
    if (!removed)
        fprintf(stderr, "quire: the library %s is left behind (%s); `quire library delete %s --yes` removes it\n", b.name, left.detail, b.name);
    return !ok ? cli_fail(&st) : !removed ? cli_exit_code(&left) : exit_code(&b);
}
