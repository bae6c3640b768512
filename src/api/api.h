/*
 * api.h - HTTP without a server: a request comes in as slices, a response goes out as bytes. Knows routes, replies, errors and who may do what;
 * knows neither FastCGI nor descriptors, so all of it is tested without a socket.
 *
 * Two steps, because a body is read only once it is known to be wanted: api_begin looks at the head (route, method, key, media type, length) and may
 * answer at once; api_finish gets the body and answers. Where the body or the reply can be of any length, the second step is api_stream: it reads and writes in
 * pieces, through functions of whoever has the connection.
 */
#ifndef QUIRE_API_API_H
#define QUIRE_API_API_H

#include "api/figures.h"
#include "embed/embedder.h"
#include "store/idempotency.h"
#include "store/key_page.h"
#include "store/reading.h"
#include "store/search.h"

struct api_request {
    struct slice method, path; /* path as sent, percent-encoded, without the query */
    struct slice query;
    struct slice content_type;
    int64_t content_length;    /* -1: none given */
    struct slice authorization, x_api_key;
    struct slice request_id;   /* from nginx; empty: one is made */
    struct slice idempotency_key; /* empty: none */
    struct slice if_match, if_none_match; /* empty: none */
    struct slice host;
    struct slice origin, cors_method; /* Origin, Access-Control-Request-Method; empty: none */
    struct slice remote_address; /* as nginx says */
    struct slice body;         /* set for api_finish */
};

struct api_response {
    int status;
    unsigned route;            /* for counters: api_route_name */
    const char *content_type;  /* NULL where there is no body */
    struct buf headers;        /* further ones, "Name: value\r\n" each */
    struct buf body;
    int file_fd;               /* >= 0: the body is this file, of file_bytes, instead. Closed by api_response_reset */
    uint64_t file_bytes;
    bool streams;              /* set by api_begin: the second step is api_stream */
    bool cut;                  /* set by api_stream: the reply was begun and cannot be completed */
    struct buf audit;          /* the line for the audit log; empty: none */
    bool is_refusal;           /* that line, of a request that was not allowed */
    uint64_t documents_in, documents_out; /* streamed, counted since the last write */
    uint64_t searches[CONTROL_SEARCH_MODES];   /* by mode: its number less one */
    uint64_t candidates[CONTROL_SEARCH_MODES]; /* that they visited */
    uint64_t embedded;         /* texts embedded */
    int64_t embedding_ns;      /* the time that it took */
};

/* One op for the supervisor. `vectors`: num_chunks * dimension floats computed here for a DOCUMENT_PUT whose op carries none, or NULL.
 * `version`: of the document or library that it may change (catalog_check_version), or DOCUMENT_VERSION_NONE. `model`: fingerprint of the library's model that made the
 * vectors, these or the op's, since it may have another by now (catalog_check_made_by); 0: they are the caller's, or there are none. */
struct api_submission {
    struct slice op;
    uint64_t version;
    uint64_t model;
    const float *vectors;
    uint32_t vector_count, dimension;
};
struct api_op_result {
    struct status status; /* STATUS_OK, or why it was refused */
    uint64_t lsn;
    bool replaced;
    uint32_t chunks_added, chunks_deleted;
};

/* A request with an Idempotency-Key. */
struct api_keyed {
    struct idempotency_id id;
    struct idempotency_origin origin; /* drawn for this request; the first one's where it is known */
    bool known;                       /* it was done before: */
    uint64_t lsn;                     /* at that LSN; also set by submit when it is done now */
    struct buf results;               /* with that outcome, a struct api_op_result for each op */
};

enum api_command { API_TAKE_SNAPSHOT = 1, API_REBUILD_INDEX = 2, API_CANCEL_TASK = 3, API_OPTIMIZE_INDEX = 4, API_VERIFY_SNAPSHOT = 5 };

/* What a provider has answered. */
struct api_embedded {
    uint64_t fingerprint;
    uint32_t dimension;
    uint64_t retry_after_ms; /* 0: it is not known */
};

/* What the process around gives. Functions may block up to their deadline. */
struct api_host {
    struct store_reader *reader;
    struct control *control;
    const struct service_figures *figures;
    const struct limits *limits;
    const struct embed_registry *models;
    int snapshots_dir_fd;
    /* Asks the provider of a remote model for vectors of texts and waits, within the deadline of a query, or of a write that must not be stored without them.
     * values: cleared, then count * ret->dimension floats. False: STATUS_NO_EMBEDDING, and ret says when to try again; nothing of it came. */
    bool (*embed)(void *ctx, const struct embedder *model, enum embed_role role, const struct slice *texts, size_t count, struct buf *values,
                  struct api_embedded *ret, struct status *st);
    struct search_scratch *scratch; /* the caller's, shared by all apis of a thread, since no request uses it across a wait; NULL: the api makes its own */
    uint32_t min_lsn_wait_ms; /* how long a search waits for its min_lsn */
    uint32_t slot;            /* of the worker, who waits then */
    bool auth_on;
    bool has_admin_key;
    uint8_t admin_key_sha256[32];
    const struct key_page *keys; /* the others; NULL: none */
    bool audits;                 /* somebody wants lines for the audit log */
    const char *cors_origins;    /* as in origins.h; NULL: none */
    bool open_metrics;           /* /metrics needs no key from a loopback address */
    /* Ops are durable and visible when it returns true; each has its own result. False: nothing is known of any of them (deadline, supervisor gone).
     * With a key (else NULL) those that are done and what is remembered of them are durable together. When key->known is true then, another request with this
     * key was done meanwhile, and nothing of this one. */
    bool (*submit)(void *ctx, struct api_keyed *key, const struct api_submission *ops, size_t count, struct api_op_result *results, struct status *st);
    /* Was it done before? Sets key->known and what goes with it. STATUS_INVALID: by another body. */
    bool (*recall)(void *ctx, struct api_keyed *key, struct status *st);
    /* argument: for REBUILD and OPTIMIZE the library's 16 bytes, for CANCEL the task's, for VERIFY the snapshot's (snapshot_name_pack); *ret_task: the task that was begun, which may be one that waits and
     * does the same. With a key (else NULL) it is a new one under the id *ret_task, given by the caller, and is remembered when this returns; key->known as in
     * submit. */
    bool (*command)(void *ctx, struct api_keyed *key, enum api_command command, const struct uuid *argument, struct uuid *ret_task, struct status *st);
    /* A KEY_ADD or KEY_REMOVE, durable and in force everywhere when it returns true. credential: the key that the request came with; the supervisor looks
     * at it itself, so that nobody can change keys who has not been given one for that. */
    bool (*change_keys)(void *ctx, struct slice credential, struct slice op, uint64_t *ret_lsn, struct status *st);
    void *ctx;
};

/* --- streams --- */

enum api_stream_read {
    API_STREAM_BYTES,   /* something came */
    API_STREAM_NOTHING, /* nothing came within wait_ms */
    API_STREAM_END,     /* the body is complete */
    API_STREAM_SILENT,  /* nothing came for as long as a client may be silent */
    API_STREAM_STOP,    /* this process is told to go */
    API_STREAM_GONE     /* the client is; *st says how */
};

/* A connection, as a handler sees it that streams. */
struct api_stream {
    /* A place among those that stream at a time. STATUS_BUSY */
    bool (*begin)(void *ctx, struct status *st);
    /* Appends what has come of the body, at most `most` bytes. Waits for the first of them for wait_ms, or, where that is negative, as long as a client may
     * be silent. */
    enum api_stream_read (*read)(void *ctx, struct buf *to, size_t most, int64_t wait_ms, struct status *st);
    /* Sends the reply's head, the first time, and what stands in its body, which is empty after it. Returns when it is handed on, so a client that does not read
     * holds it up, up to the time that it may be silent. */
    bool (*write)(void *ctx, struct api_response *response, struct status *st);
    void *ctx;
};

struct api;
MUST_CHECK bool api_new(const struct api_host *host, struct api **ret, struct status *st);
void api_free(struct api *a);

void api_response_init(struct api_response *r);
void api_response_reset(struct api_response *r);
void api_response_fini(struct api_response *r);

/* True: answered (response is complete, the body need not be read). False: read *ret_body_max bytes at most and call api_finish; where response->streams is set, call
 * api_stream instead. */
bool api_begin(struct api *a, const struct api_request *request, struct api_response *response, uint64_t *ret_body_max);
void api_finish(struct api *a, const struct api_request *request, struct api_response *response);
/* What then stands in the response is still to be sent: all of a reply, where stream->write was never called, or its end. */
void api_stream(struct api *a, const struct api_request *request, const struct api_stream *stream, struct api_response *response);
/* A response for what went wrong around the request (body cut short, too long, out of time). */
void api_fail(struct api *a, const struct api_request *request, const struct status *st, struct api_response *response);
/* "POST /v1/libraries/{id}/search"; NULL past the last. */
const char *api_route_name(unsigned route);

#endif
