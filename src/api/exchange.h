/*
 * exchange.h - one request on its way to its reply, as the files of this layer see it. Nothing outside src/api includes this.
 *
 * A handler returns true when the response is complete, or false with a status, which errors.c turns into problem+json. What
 * is wrong with single members of a body is collected (problem_add), so that a client learns of all at once; a handler asks
 * problems_none when it has read everything, and stops there if there are any.
 */
#ifndef QUIRE_API_EXCHANGE_H
#define QUIRE_API_EXCHANGE_H

#include "api/api.h"
#include "api/pool.h"
#include "base/clock.h"
#include "base/json_front.h"

#include "base/json_out.h"

#define ROUTE_MAX_PARAMS 2
#define REQUEST_ID_MAX 64
#define PROBLEMS_MAX 20
#define PAGE_DEFAULT 100
#define RETRY_AFTER_SECONDS 1

/* --- routes (routes.c) --- */

enum method { METHOD_GET, METHOD_POST, METHOD_PUT, METHOD_PATCH, METHOD_DELETE, METHOD_OPTIONS, METHOD_OTHER };

enum body_rule { BODY_NONE, BODY_OPTIONAL, BODY_REQUIRED };

/* What a key must have been given for. Zero, a line that says nothing, is for nobody. */
enum route_scope { SCOPE_NOBODY, SCOPE_OPEN /* no key needed */, SCOPE_ANY /* any valid key */, SCOPE_READ, SCOPE_WRITE, SCOPE_ADMIN };

/* Where the library stands that a call is about. Zero: it may be called by nobody. */
enum route_reach {
    REACH_NOWHERE,
    REACH_NONE,   /* it is about no library, and tells nothing of any */
    REACH_ALL,    /* of the whole server: the key must be for all */
    REACH_PATH,   /* the first parameter of the path: library_param asks */
    REACH_INSIDE, /* in the body, in what is listed, or where a document or task is: the handler asks for each (access_sees, access_narrow) */
};

#define ROUTE_METRICS 1u /* open_metrics may make it open */
#define ROUTE_DATA 2u  /* needs the libraries: NotReadyError until they are back */
#define ROUTE_WRITE 4u /* changes something: refused while stopping */
#define ROUTE_SEARCH 8u
#define ROUTE_KEYED 16u /* takes an Idempotency-Key */
#define ROUTE_STREAM 32u /* its body or its reply is of any length: runs in api_stream */

#define QUERY_LIMIT 1u
#define QUERY_CURSOR 2u
#define QUERY_EMBEDDINGS 4u
#define QUERY_ENCODING 8u
#define QUERY_AFTER 16u
#define QUERY_ON_CONFLICT 32u
#define QUERY_RESULTS 64u
#define QUERY_FILTER 128u

struct exchange;
typedef bool (*handler_fn)(struct exchange *x, struct status *st);

struct route {
    enum method method;
    const char *name; /* "GET /v1/libraries/{id}" */
    handler_fn handle;
    enum body_rule body;
    unsigned flags; /* ROUTE_ */
    unsigned query; /* QUERY_ */
    enum route_scope scope;
    enum route_reach reach;
};

struct route_match {
    const struct route *route;            /* NULL: not this path, or not by this method */
    unsigned number;                      /* 1 + index in the table; 0 for none */
    unsigned methods;                     /* bit per enum method that some route on this path has; 0: no such path */
    bool open;                            /* every route on this path is open */
    struct slice param[ROUTE_MAX_PARAMS]; /* as sent */
};
enum method method_of(struct slice text);
void route_find(enum method method, struct slice path, struct route_match *ret);
/* For tests: NULL past the last. */
const struct route *route_at(unsigned index);
/* "GET, HEAD, OPTIONS" */
void route_allow(unsigned methods, struct buf *out);

/* --- collected problems (errors.c) --- */

/* Where a value stands in the body: a JSON pointer, as a chain up to the root (NULL). */
struct place {
    const struct place *parent;
    struct slice key; /* data NULL: the element `index` */
    size_t index;
};
static inline struct place place_member(const struct place *parent, const char *key) {
    return (struct place){parent, slice_str(key), 0};
}
static inline struct place place_element(const struct place *parent, size_t index) {
    return (struct place){parent, {NULL, 0}, index};
}

struct problems {
    unsigned count; /* all; the first PROBLEMS_MAX are kept */
    struct buf json;
    char first[200];
};

/* --- query parameters (query.c) --- */

/* What becomes of a document whose id is there already. */
enum conflict_rule { CONFLICT_FAIL, CONFLICT_SKIP, CONFLICT_REPLACE };

struct query_options {
    uint32_t limit;
    struct slice cursor; /* decoded; empty: from the begin */
    struct slice filter; /* decoded, JSON; empty: none */
    bool include_embeddings;
    bool base64;
    struct slice after; /* decoded; empty: from the begin */
    enum conflict_rule on_conflict;
    bool only_failed; /* results=failed */
};

struct api {
    struct api_host host;
    struct exchange *exchange;
    struct search_scratch *scratch;
    struct search_hit *hits;
    size_t hits_room;
    float *query; /* EMBED_MAX_DIMENSION floats */
};

/* Who calls. */
struct access {
    struct key_entry entry; /* scopes, libraries, name; all rights where no key is needed */
    bool has_id;            /* it is a key with an id, not the configured one */
    uint32_t slot;          /* then: its place in the page of keys */
};

struct exchange {
    struct api *api;
    const struct api_request *request;
    struct api_response *response;
    bool begun;
    const struct route *route;
    bool open;             /* the path needs no key */
    struct access who;     /* scopes 0: nobody who is known */
    const char *problem_type;  /* for the audit log: the error_type of the reply; NULL: it is none */
    uint16_t problem_subject;
    bool has_library;      /* for the audit log: the library of the path, as it was asked for */
    struct uuid library;
    bool has_about_key;    /* likewise: the API key that the call makes or revokes */
    struct uuid about_key;
    char request_id[REQUEST_ID_MAX + 1];
    int64_t begun_ns; /* monotonic */
    struct pool pool;
    struct slice param[ROUTE_MAX_PARAMS]; /* percent-decoded */
    struct query_options query;
    struct problems problems;
    struct json_document document; /* the body, parsed */
    bool keyed;                    /* it came with an Idempotency-Key, which its route takes */
    struct api_keyed key;
    uint64_t drawn;                /* ids drawn from its seed */
    struct asked_query *asked;     /* queries whose vectors were asked for before a view was taken, in the pool (remote.h) */
    size_t asked_count;
    uint64_t retry_after_ms;       /* for a 503; 0: the preset */
    uint64_t min_lsn;              /* of a search: what must be visible before it begins */
    const struct api_stream *stream; /* NULL: not in api_stream */
    bool streaming;                  /* the head of the reply is sent */
};

/* A problem with the value at `at`. */
void problem_add(struct exchange *x, const struct place *at, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* A problem with a query parameter. */
void problem_add_query(struct exchange *x, struct slice name, const char *detail);
void problems_clear(struct problems *p);
/* True when nothing was collected; else false and a STATUS_INVALID that sums it up. */
MUST_CHECK bool problems_none(struct exchange *x, struct status *st);

struct http_error {
    int status;
    const char *type; /* error_type */
    const char *title;
};
struct http_error http_error_of(const struct status *st);
/* What a client may read of a status: nothing of the inside. */
const char *public_detail(const struct status *st);
/* Makes the response a problem of this status. */
void reply_problem(struct exchange *x, const struct status *st);
/* For the counters: so many texts were embedded, since begun_ns (monotonic). */
void note_embedded(struct exchange *x, size_t count, int64_t begun_ns);

/* Percent-decodes (query: '+' is a space, too) into the pool. MALFORMED on a bad escape or what is not UTF-8. */
MUST_CHECK bool percent_decode(struct exchange *x, struct slice text, bool plus_is_space, struct slice *ret, struct status *st);
void percent_encode(struct slice text, struct buf *out);
/* Reads the query string; what the route does not know is a problem. */
MUST_CHECK bool query_read(struct exchange *x, unsigned allowed, struct status *st);

/* auth.c. Sets x->who. STATUS_UNAUTHENTICATED */
MUST_CHECK bool auth_check(struct exchange *x, struct status *st);
/* Whether the path may be asked for without a key. */
bool auth_open(const struct exchange *x, const struct route_match *match);
/* Whether who calls may call x->route. STATUS_DENIED */
MUST_CHECK bool access_check(const struct exchange *x, struct status *st);
/* Asked again and again by what goes on for long: whether the key is still one. STATUS_UNAUTHENTICATED */
MUST_CHECK bool access_holds(const struct exchange *x, struct status *st);
/* Whether the library is there for who calls. */
bool access_sees(const struct exchange *x, const struct uuid *library);
/* One that is not becomes one that does not exist. */
void access_narrow(const struct exchange *x, struct uuid *library);
/* The key that came with the request, or empty. */
struct slice auth_key(const struct api_request *request);

/* --- requests with an Idempotency-Key (request_key.c) --- */

/* The header, on a route that takes it. STATUS_INVALID */
MUST_CHECK bool request_key_read(struct exchange *x, struct status *st);
/* With the body: was it done before? */
MUST_CHECK bool request_key_recall(struct exchange *x, struct status *st);
/* Runs the route's handler. */
MUST_CHECK bool request_run(struct exchange *x, struct status *st);
/* It was done before: its first reply is being made again. */
bool request_known(const struct exchange *x);
/* Id and time for what the request makes; where it has a key, the same each time that it comes. */
void request_uuid(struct exchange *x, struct uuid *ret);
int64_t request_time(const struct exchange *x);

/* audit.c: the line of a request that is answered, into its response, where it is to leave one. */
void audit_note(const struct exchange *x);

/* --- replies (api.c) --- */

/* Begins a reply in JSON. */
struct json_out reply_json(struct exchange *x, int status);
/* Whether what has been written is within a reply's share of the worker's memory; asked by loops over what may be large. */
MUST_CHECK bool reply_fits(const struct exchange *x, const struct buf *written, struct status *st);
void reply_empty(struct exchange *x, int status);
/* Begins a reply of NDJSON that is sent in pieces. */
void reply_stream(struct exchange *x);
/* Sends what has been written since the last time. False: the client is gone, and the handler is to return false, too. */
MUST_CHECK bool reply_flush(struct exchange *x, struct status *st);
/* Quire-LSN of a write's reply. 0: nothing was logged, so what is visible already. */
void reply_lsn(struct exchange *x, uint64_t lsn);
/* Submits ops (request_key.c); one whose own result is bad is left to the caller. Once in a request. */
MUST_CHECK bool submit_ops(struct exchange *x, const struct api_submission *ops, size_t count, struct api_op_result *results,
                           struct status *st);
/* Submits one; its refusal becomes the status. */
MUST_CHECK bool submit_one(struct exchange *x, const struct api_submission *op, struct api_op_result *ret, struct status *st);
/* The library named by the first path parameter. */
MUST_CHECK bool library_param(struct exchange *x, struct uuid *ret, struct status *st);

/* service.c: what /readiness answers by. */
bool service_is_ready(const struct api_host *host);

/* --- handlers --- */

bool handle_health(struct exchange *x, struct status *st);
bool handle_readiness(struct exchange *x, struct status *st);
bool handle_health_detailed(struct exchange *x, struct status *st);
bool handle_metrics(struct exchange *x, struct status *st);
bool handle_openapi(struct exchange *x, struct status *st);
bool handle_models(struct exchange *x, struct status *st);
bool handle_embeddings(struct exchange *x, struct status *st);
bool handle_task_list(struct exchange *x, struct status *st);
bool handle_task_get(struct exchange *x, struct status *st);
bool handle_task_cancel(struct exchange *x, struct status *st);
bool handle_snapshot_list(struct exchange *x, struct status *st);
bool handle_snapshot_take(struct exchange *x, struct status *st);
bool handle_snapshot_get(struct exchange *x, struct status *st);
bool handle_snapshot_verify(struct exchange *x, struct status *st);

bool handle_library_create(struct exchange *x, struct status *st);
bool handle_library_list(struct exchange *x, struct status *st);
bool handle_library_get(struct exchange *x, struct status *st);
bool handle_library_patch(struct exchange *x, struct status *st);
bool handle_library_delete(struct exchange *x, struct status *st);
bool handle_library_statistics(struct exchange *x, struct status *st);
bool handle_index_rebuild(struct exchange *x, struct status *st);
bool handle_index_optimize(struct exchange *x, struct status *st);
bool handle_reembed(struct exchange *x, struct status *st);
bool handle_reembed_rollback(struct exchange *x, struct status *st);
bool handle_reembed_drop(struct exchange *x, struct status *st);
bool handle_index_statistics(struct exchange *x, struct status *st);

bool handle_document_create(struct exchange *x, struct status *st);
bool handle_document_create_embedded(struct exchange *x, struct status *st);
bool handle_document_put(struct exchange *x, struct status *st);
bool handle_document_patch(struct exchange *x, struct status *st);
bool handle_document_list(struct exchange *x, struct status *st);
bool handle_document_get(struct exchange *x, struct status *st);
bool handle_document_delete(struct exchange *x, struct status *st);
bool handle_document_get_anywhere(struct exchange *x, struct status *st);
bool handle_document_delete_anywhere(struct exchange *x, struct status *st);
bool handle_document_batch(struct exchange *x, struct status *st);
bool handle_document_batch_embedded(struct exchange *x, struct status *st);
bool handle_document_batch_delete(struct exchange *x, struct status *st);
bool handle_document_batch_delete_anywhere(struct exchange *x, struct status *st);
bool handle_document_stream(struct exchange *x, struct status *st);
bool handle_export(struct exchange *x, struct status *st);
bool handle_chunk_get(struct exchange *x, struct status *st);
bool handle_chunks_get(struct exchange *x, struct status *st);
bool handle_chunks_delete(struct exchange *x, struct status *st);

bool handle_search(struct exchange *x, struct status *st);
bool handle_search_embedding(struct exchange *x, struct status *st);
bool handle_search_filtered(struct exchange *x, struct status *st);
bool handle_search_batch(struct exchange *x, struct status *st);
bool handle_search_libraries(struct exchange *x, struct status *st);

bool handle_key_create(struct exchange *x, struct status *st);
bool handle_key_list(struct exchange *x, struct status *st);
bool handle_key_delete(struct exchange *x, struct status *st);

#endif
