/*
 * api_fixture.h - a server without sockets for the tests of the api layer: a real catalog, control segment and reader in one
 * process. A submission is decoded, checked, reserved, applied and published at once, as the committer would, only without a log.
 *
 * Every reply that passes call() is held against what holds for all: a request id, JSON that parses strictly, problems of the
 * right shape.
 */
#ifndef QUIRE_TESTS_API_FIXTURE_H
#define QUIRE_TESTS_API_FIXTURE_H

#include "api/api.h"
#include "store/backlog.h"
#include "store/key_table.h"

#include <json-c/json.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NOWHERE "00000000-0000-7000-8000-000000000000"

struct server {
    char path[256];
    int dir_fd, vectors_fd, snapshots_fd, control_fd;
    struct control *control;
    struct service_figures *figures;
    struct catalog *catalog;
    struct store_reader *reader;
    struct limits limits;
    struct embed_registry models;
    struct api_host host;
    struct api *api;
    struct api_response response;
    uint64_t lsn;
    /* what the host's functions did, and shall do */
    unsigned submits;           /* calls of submit */
    size_t submitted;           /* ops in them */
    struct status submit_fails; /* code other than OK: submit returns false with it */
    struct status op_refused;   /* code other than OK: every op is refused with it */
    enum api_command commanded;
    struct uuid command_argument;
    struct uuid command_task;
    struct status command_fails;
    /* requests with an Idempotency-Key, as the supervisor remembers them */
    struct idempotency *keys;
    struct key_table *api_keys;
    struct key_page *key_page;
    int key_page_fd;
    struct slice credential; /* of the last change of keys; valid during it */
    unsigned recalls;
    void (*before_submit)(struct server *s); /* what somebody else does just before; called once */
    bool recall_misses; /* recall tells nothing; submit finds it */
    bool undescribed; /* set by tests that make the server answer with what its routes never answer */
    struct json_object *openapi;
    /* the last reply */
    struct json_object *json;
};

struct call {
    const char *method;
    const char *path;
    const char *query;
    const char *body;         /* NULL: none */
    size_t body_len;          /* 0: strlen(body) */
    const char *content_type; /* NULL: application/json where there is a body; "": none */
    const char *authorization, *x_api_key, *request_id;
    const char *idempotency_key;
    const char *if_match, *if_none_match;
    const char *remote_address;
    const char *origin, *cors_method;
};

void server_start(struct server *s);
/* Makes the api anew, after a change of s->host or s->limits. */
void server_renew_api(struct server *s);
void server_stop(struct server *s);
/* For cmocka's fixtures: *state is the struct server. */
int server_setup(void **state);
int server_teardown(void **state);

/* One request; returns its status. The reply is in s->response and s->json (NULL where it is no JSON). */
int call(struct server *s, const struct call *c);
/* Holds the reply that stands in s->response against what holds for all, and against the description; takes it into s->json. */
void server_check_reply(struct server *s, const struct api_request *r);
/* method and path may carry "?query" behind the path. Fails the test when the status is another. */
struct json_object *expect(struct server *s, int status, const char *method, const char *path, const char *body);
void expect_error(struct server *s, int status, const char *error_type, const char *method, const char *path, const char *body);
/* The last reply is a ValidationError that points to this place. */
void expect_pointer(const struct server *s, const char *pointer);

/* A header of the last reply, copied to out; false when it has none. */
bool header(const struct server *s, const char *name, char *out, size_t room);

/* Values of the last reply (or of any JSON) by JSON pointer; a missing one fails the test. */
struct json_object *at(struct json_object *json, const char *pointer);
const char *text_at(struct json_object *json, const char *pointer);
int64_t number_at(struct json_object *json, const char *pointer);
double real_at(struct json_object *json, const char *pointer);
bool has(struct json_object *json, const char *pointer);

/* Creates a library and returns its path, "/v1/libraries/<id>". `more`: further members, beginning with a comma, or "". */
const char *make_library(struct server *s, const char *name, const char *more, char out[64]);
/* path + suffix; in a buffer that the next 8 calls leave alone. */
const char *join(const char *path, const char *suffix);

#endif
