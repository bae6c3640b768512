/*
 * routes.c - the table of all calls, and how a path finds its line.
 *
 * A path is cut at its slashes before anything is decoded, so an id may hold an encoded slash. One slash at the end is no
 * difference. Where a literal segment and a parameter both fit ("documents/batch" and "documents/{doc}"), the literal line wins
 * if it has the method, so a document called "batch" can still be read. Methods of all lines that fit the path make up Allow.
 */
#include "api/exchange.h"

#define SEARCH_FLAGS (ROUTE_DATA | ROUTE_SEARCH)
#define WRITE_FLAGS (ROUTE_DATA | ROUTE_WRITE)
#define POST_FLAGS (WRITE_FLAGS | ROUTE_KEYED)
#define PAGING (QUERY_LIMIT | QUERY_CURSOR)
#define VECTORS (QUERY_EMBEDDINGS | QUERY_ENCODING)

/* The order is that of the counters in the control segment: new lines go to the end. */
static const struct route table[] = {
    {METHOD_GET, "GET /health", handle_health, BODY_NONE, 0, 0, SCOPE_OPEN, REACH_NONE},
    {METHOD_GET, "GET /liveness", handle_health, BODY_NONE, 0, 0, SCOPE_OPEN, REACH_NONE},
    {METHOD_GET, "GET /readiness", handle_readiness, BODY_NONE, 0, 0, SCOPE_OPEN, REACH_NONE},
    {METHOD_GET, "GET /health/detailed", handle_health_detailed, BODY_NONE, 0, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_GET, "GET /metrics", handle_metrics, BODY_NONE, ROUTE_METRICS, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_GET, "GET /openapi.json", handle_openapi, BODY_NONE, 0, 0, SCOPE_ANY, REACH_NONE},
    {METHOD_GET, "GET /v1/models", handle_models, BODY_NONE, 0, 0, SCOPE_READ, REACH_NONE},
    {METHOD_POST, "POST /v1/embeddings", handle_embeddings, BODY_REQUIRED, 0, 0, SCOPE_READ, REACH_NONE},
    {METHOD_GET, "GET /v1/tasks", handle_task_list, BODY_NONE, 0, 0, SCOPE_READ, REACH_INSIDE},
    {METHOD_GET, "GET /v1/tasks/{id}", handle_task_get, BODY_NONE, 0, 0, SCOPE_READ, REACH_INSIDE},
    {METHOD_DELETE, "DELETE /v1/tasks/{id}", handle_task_cancel, BODY_NONE, 0, 0, SCOPE_ADMIN, REACH_INSIDE},
    {METHOD_GET, "GET /v1/snapshots", handle_snapshot_list, BODY_NONE, 0, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_POST, "POST /v1/snapshots", handle_snapshot_take, BODY_OPTIONAL, ROUTE_DATA | ROUTE_KEYED, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_POST, "POST /v1/libraries", handle_library_create, BODY_REQUIRED, POST_FLAGS, 0, SCOPE_WRITE, REACH_ALL},
    {METHOD_GET, "GET /v1/libraries", handle_library_list, BODY_NONE, ROUTE_DATA, PAGING, SCOPE_READ, REACH_INSIDE},
    {METHOD_GET, "GET /v1/libraries/{id}", handle_library_get, BODY_NONE, ROUTE_DATA, 0, SCOPE_READ, REACH_PATH},
    {METHOD_PATCH, "PATCH /v1/libraries/{id}", handle_library_patch, BODY_REQUIRED, WRITE_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_DELETE, "DELETE /v1/libraries/{id}", handle_library_delete, BODY_NONE, WRITE_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/statistics", handle_library_statistics, BODY_NONE, ROUTE_DATA, 0, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/index/rebuild", handle_index_rebuild, BODY_OPTIONAL, POST_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/index/optimize", handle_index_optimize, BODY_OPTIONAL, POST_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/index/statistics", handle_index_statistics, BODY_NONE, ROUTE_DATA, 0, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/documents", handle_document_create, BODY_REQUIRED, POST_FLAGS, VECTORS, SCOPE_WRITE, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/documents", handle_document_list, BODY_NONE, ROUTE_DATA, PAGING | QUERY_FILTER, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/documents/with-embeddings", handle_document_create_embedded, BODY_REQUIRED,
     POST_FLAGS, VECTORS, SCOPE_WRITE, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/documents/batch", handle_document_batch, BODY_REQUIRED, POST_FLAGS, 0, SCOPE_WRITE, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/documents/batch-delete", handle_document_batch_delete, BODY_REQUIRED, POST_FLAGS, 0, SCOPE_WRITE, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/documents/{doc}", handle_document_get, BODY_NONE, ROUTE_DATA, VECTORS, SCOPE_READ, REACH_PATH},
    {METHOD_PUT, "PUT /v1/libraries/{id}/documents/{doc}", handle_document_put, BODY_REQUIRED, WRITE_FLAGS, VECTORS, SCOPE_WRITE, REACH_PATH},
    {METHOD_DELETE, "DELETE /v1/libraries/{id}/documents/{doc}", handle_document_delete, BODY_NONE, WRITE_FLAGS, 0, SCOPE_WRITE, REACH_PATH},
    {METHOD_DELETE, "DELETE /v1/documents/batch", handle_document_batch_delete_anywhere, BODY_REQUIRED, WRITE_FLAGS, 0, SCOPE_WRITE, REACH_INSIDE},
    {METHOD_GET, "GET /v1/documents/{doc}", handle_document_get_anywhere, BODY_NONE, ROUTE_DATA, VECTORS, SCOPE_READ, REACH_INSIDE},
    {METHOD_DELETE, "DELETE /v1/documents/{doc}", handle_document_delete_anywhere, BODY_NONE, WRITE_FLAGS, 0, SCOPE_WRITE, REACH_INSIDE},
    {METHOD_POST, "POST /v1/libraries/{id}/chunks/get", handle_chunks_get, BODY_REQUIRED, ROUTE_DATA, VECTORS, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/chunks/delete", handle_chunks_delete, BODY_REQUIRED, POST_FLAGS, 0, SCOPE_WRITE, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/search", handle_search, BODY_REQUIRED, SEARCH_FLAGS, QUERY_ENCODING, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/search/embedding", handle_search_embedding, BODY_REQUIRED, SEARCH_FLAGS,
     QUERY_ENCODING, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/search/filtered", handle_search_filtered, BODY_REQUIRED, SEARCH_FLAGS, QUERY_ENCODING, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/search/batch", handle_search_batch, BODY_REQUIRED, SEARCH_FLAGS, QUERY_ENCODING, SCOPE_READ, REACH_PATH},
    {METHOD_POST, "POST /v1/search", handle_search_libraries, BODY_REQUIRED, SEARCH_FLAGS, QUERY_ENCODING, SCOPE_READ, REACH_INSIDE},
    {METHOD_GET, "GET /v1/snapshots/{name}", handle_snapshot_get, BODY_NONE, 0, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_POST, "POST /v1/snapshots/{name}/verify", handle_snapshot_verify, BODY_OPTIONAL, ROUTE_DATA | ROUTE_KEYED, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_POST, "POST /v1/libraries/{id}/documents/stream", handle_document_stream, BODY_REQUIRED, WRITE_FLAGS | ROUTE_STREAM,
     QUERY_ON_CONFLICT | QUERY_RESULTS, SCOPE_WRITE, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/export", handle_export, BODY_NONE, ROUTE_DATA | ROUTE_STREAM, QUERY_AFTER | VECTORS, SCOPE_READ, REACH_PATH},
    {METHOD_PATCH, "PATCH /v1/libraries/{id}/documents/{doc}", handle_document_patch, BODY_REQUIRED, WRITE_FLAGS, VECTORS, SCOPE_WRITE, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/documents/batch-with-embeddings", handle_document_batch_embedded, BODY_REQUIRED, POST_FLAGS, 0, SCOPE_WRITE, REACH_PATH},
    {METHOD_POST, "POST /v1/keys", handle_key_create, BODY_REQUIRED, WRITE_FLAGS, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_GET, "GET /v1/keys", handle_key_list, BODY_NONE, ROUTE_DATA, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_DELETE, "DELETE /v1/keys/{id}", handle_key_delete, BODY_NONE, WRITE_FLAGS, 0, SCOPE_ADMIN, REACH_ALL},
    {METHOD_POST, "POST /v1/libraries/{id}/reembed", handle_reembed, BODY_OPTIONAL, POST_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_DELETE, "DELETE /v1/libraries/{id}/reembed", handle_reembed_drop, BODY_NONE, WRITE_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_POST, "POST /v1/libraries/{id}/reembed/rollback", handle_reembed_rollback, BODY_OPTIONAL, POST_FLAGS, 0, SCOPE_ADMIN, REACH_PATH},
    {METHOD_GET, "GET /v1/libraries/{id}/chunks/{chunk}", handle_chunk_get, BODY_NONE, ROUTE_DATA, VECTORS, SCOPE_READ, REACH_PATH},
};
#define ROUTES (sizeof table / sizeof table[0])
_Static_assert(ROUTES + 1 <= CONTROL_ROUTES, "every route has a counter in the control segment");

const char *api_route_name(unsigned route) {
    if (route == 0) {
        return "none";
    }
    return route <= ROUTES ? table[route - 1].name : NULL;
}

const struct route *route_at(unsigned index) {
    return index < ROUTES ? &table[index] : NULL;
}

enum method method_of(struct slice text) {
    static const struct {
        const char *name;
        enum method method;
    } names[] = {{"GET", METHOD_GET},     {"HEAD", METHOD_GET},      {"POST", METHOD_POST},      {"PUT", METHOD_PUT},
                 {"PATCH", METHOD_PATCH}, {"DELETE", METHOD_DELETE}, {"OPTIONS", METHOD_OPTIONS}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (slice_is(text, names[i].name)) {
            return names[i].method;
        }
    }
    return METHOD_OTHER;
}

static bool is_param(struct slice segment) {
    return segment.len > 0 && segment.data[0] == '{';
}

/* The segment at *at of a path that begins with '/'; moves on behind it. */
static struct slice next_segment(struct slice path, size_t *at) {
    size_t begin = *at + 1;
    const uint8_t *slash = (const uint8_t *)memchr(path.data + begin, '/', path.len - begin);
    size_t end = slash == NULL ? path.len : (size_t)(slash - path.data);
    *at = end;
    return slice_of(path.data + begin, end - begin);
}

/* Whether path fits pattern; *ret_params counts the parameters in it. */
static bool path_fits(struct slice path, struct slice pattern, struct slice params[ROUTE_MAX_PARAMS], unsigned *ret_params) {
    size_t at = 0, pattern_at = 0;
    unsigned found = 0;
    while (at < path.len && pattern_at < pattern.len) {
        struct slice have = next_segment(path, &at);
        struct slice want = next_segment(pattern, &pattern_at);
        if (is_param(want)) {
            if (have.len == 0 || found == ROUTE_MAX_PARAMS) {
                return false;
            }
            params[found++] = have;
        } else if (!slice_equal(have, want)) {
            return false;
        }
    }
    *ret_params = found;
    return at == path.len && pattern_at == pattern.len;
}

void route_find(enum method method, struct slice path, struct route_match *ret) {
    *ret = (struct route_match){.open = true};
    if (path.len == 0 || path.data[0] != '/') {
        return;
    }
    if (path.len > 1 && path.data[path.len - 1] == '/') {
        path.len--;
    }
    unsigned best_params = ROUTE_MAX_PARAMS + 1;
    for (unsigned i = 0; i < ROUTES; i++) {
        struct slice params[ROUTE_MAX_PARAMS] = {{NULL, 0}};
        unsigned found = 0;
        const char *pattern = strchr(table[i].name, '/');
        if (!path_fits(path, slice_str(pattern), params, &found)) {
            continue;
        }
        ret->methods |= 1u << table[i].method;
        ret->open = ret->open && table[i].scope == SCOPE_OPEN;
        if (table[i].method == method && found < best_params) {
            best_params = found;
            ret->route = &table[i];
            ret->number = i + 1;
            memcpy(ret->param, params, sizeof params);
        }
    }
}

void route_allow(unsigned methods, struct buf *out) {
    static const struct {
        enum method method;
        const char *names;
    } order[] = {{METHOD_GET, "GET, HEAD, "},
                 {METHOD_POST, "POST, "},
                 {METHOD_PUT, "PUT, "},
                 {METHOD_PATCH, "PATCH, "},
                 {METHOD_DELETE, "DELETE, "}};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        if ((methods & (1u << order[i].method)) != 0) {
            buf_put_str(out, order[i].names);
        }
    }
    buf_put_str(out, "OPTIONS");
}
