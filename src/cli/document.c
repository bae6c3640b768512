/* document.c - quire document, quire chunk: single documents and chunks. `quire import` takes many. */
#include "cli/request.h"

#include <sysexits.h>

static void show_documents(const struct cli *cli, struct json_object *documents) {
    (void)cli;
    for (size_t i = 0; i < json_object_array_length(documents); i++) {
        struct json_object *document = json_object_array_get_idx(documents, i);
        cli_print_clean(stdout, member_text(document, "id"), 200);
        char chunks[CLI_COUNTED_ROOM];
        printf("  %s  ", cli_counted((uint64_t)member_int(document, "num_chunks"), "chunk", "chunks", chunks));
        cli_print_clean(stdout, member_text(member(document, "metadata"), "title"), 200);
        putchar('\n');
    }
    if (json_object_array_length(documents) == 0)
        puts("no documents");
}

int command_document_list(struct cli *cli) {
    enum { PAGE = 1000 };
    struct status st = {0};
    struct request r = {0};
    struct json_object *documents = NULL;
    char query[64];
    size_t most = (size_t)cli_number(cli, OPTION_LIMIT, 0);
    (void)snprintf(query, sizeof query, "/documents?limit=%zu", most > 0 && most < PAGE ? most : (size_t)PAGE);
    const char *filter = cli_text(cli, OPTION_FILTER);
    char id[64];
    bool ok = cli_find_library(cli, cli->argv[0], id, &st);
    ok = ok && (filter != NULL ? request_path(&r, &st, "/v1/libraries/", id, query, "", "&filter=", filter, NULL) : request_path(&r, &st, "/v1/libraries/", id, query, NULL));
    ok = ok && request_pages(cli, (const char *)r.path.data, most, &documents, &st);
    request_fini(&r);
    if (!ok)
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(documents);
    else
        show_documents(cli, documents);
    json_object_put(documents);
    return EX_OK;
}

static void show_chunk(const struct cli *cli, struct json_object *chunk) {
    (void)cli;
    fputs("chunk ", stdout);
    cli_print_clean(stdout, member_text(chunk, "id"), 200);
    putchar('\n');
    cli_print_clean(stdout, member_text(chunk, "text"), SIZE_MAX);
    putchar('\n');
}

/* One document: its metadata as lines, then the texts. */
static void show_document(const struct cli *cli, struct json_object *document) {
    struct json_object *chunks = member(document, "chunks");
    printf("%-40s  ", "id");
    cli_print_clean(stdout, member_text(document, "id"), 200);
    putchar('\n');
    cli_print_members(member(document, "metadata"));
    for (size_t i = 0; i < json_object_array_length(chunks); i++) {
        putchar('\n');
        show_chunk(cli, json_object_array_get_idx(chunks, i));
    }
}

static void show_made(const struct cli *cli, struct json_object *document) {
    (void)cli;
    fputs("document ", stdout);
    cli_print_clean(stdout, member_text(document, "id"), 200);
    char chunks[CLI_COUNTED_ROOM];
    printf(", %s\n", cli_counted(json_object_array_length(member(document, "chunks")), "chunk", "chunks", chunks));
}

static void show_batch(const struct cli *cli, struct json_object *reply) {
    struct json_object *results = member(reply, "results");
    (void)cli;
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        struct json_object *result = json_object_array_get_idx(results, i), *error = member(result, "error");
        if (error == NULL)
            continue;
        printf("%zu: ", i + 1);
        cli_print_clean(stdout, member_text(error, "detail"), 400);
        putchar('\n');
    }
    printf("%lld done, %lld failed\n", (long long)member_int(reply, "successful"), (long long)member_int(reply, "failed"));
}

static const char *vectors(const struct cli *cli) {
    return cli_has(cli, OPTION_VECTORS) ? "?include_embeddings=true" : "";
}

int command_document_get(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true, .show = show_document};
    char id[64];
    bool ok = false;
    if (cli->argc == 1)
        ok = request_path(&r, &st, "/v1/documents/", cli->argv[0], vectors(cli), NULL);
    else
        ok = cli_find_library(cli, cli->argv[0], id, &st) && request_path(&r, &st, "/v1/libraries/", id, "/documents/", cli->argv[1], vectors(cli), NULL);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

/* A document as the interface takes it, or several: an array of them, or {"documents": [...]}. With "chunks" they bring their vectors. */
static const char *adding(struct json_object *given, bool *ret_batch, bool *ret_wrap) {
    struct json_object *list = json_object_is_type(given, json_type_array) ? given : member(given, "documents");
    struct json_object *first = given;
    *ret_batch = list != NULL;
    *ret_wrap = list == given;
    if (list != NULL)
        first = json_object_array_get_idx(list, 0);
    bool own = member(first, "chunks") != NULL;
    if (list != NULL)
        return own ? "/documents/batch-with-embeddings" : "/documents/batch";
    return own ? "/documents/with-embeddings" : "/documents";
}

int command_document_add(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST"};
    struct buf input = {0};
    bool batch = false, wrap = false;
    bool ok = request_read(cli->argv[1], &input, &st);
    struct json_object *given = ok ? json_tokener_parse((const char *)input.data) : NULL;
    if (ok && !json_object_is_type(given, json_type_object) && !json_object_is_type(given, json_type_array))
        ok = status_set(&st, STATUS_INVALID, "%s: no JSON of a document, or of several (`quire import` takes texts)", cli->argv[1]);
    const char *rest = ok ? adding(given, &batch, &wrap) : "";
    json_object_put(given);
    /* The text and not what was parsed of it: numbers stay as they were written. */
    if (wrap)
        buf_put_str(&r.raw, "{\"documents\":");
    buf_put_slice(&r.raw, buf_slice(&input));
    if (wrap)
        buf_put_u8(&r.raw, '}');
    buf_fini(&input);
    r.show = batch ? show_batch : show_made;
    ok = ok && buf_check(&r.raw, &st) && request_library(cli, &r, cli->argv[0], rest, &st);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_document_put(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "PUT", .again = true, .show = show_made};
    char id[64];
    bool ok = request_read(cli->argv[2], &r.raw, &st) && cli_find_library(cli, cli->argv[0], id, &st) &&
              request_path(&r, &st, "/v1/libraries/", id, "/documents/", cli->argv[1], NULL);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_document_update(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "PATCH", .again = true, .show = show_made};
    char id[64];
    bool ok = (r.body = request_body(cli, &st)) != NULL;
    if (ok) {
        request_put_json(cli, r.body, "metadata", OPTION_METADATA);
        request_put_text(cli, r.body, "title", OPTION_TITLE);
        request_put_text(cli, r.body, "author", OPTION_AUTHOR);
        request_put_list(cli, r.body, "tags", OPTION_TAG);
    }
    if (ok && json_object_object_length(r.body) == 0) {
        request_fini(&r);
        return cli_usage(cli, "say what is to be changed: --title, --author, --tag or --metadata");
    }
    ok = ok && cli_find_library(cli, cli->argv[0], id, &st) && request_path(&r, &st, "/v1/libraries/", id, "/documents/", cli->argv[1], NULL);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

/* One by its own call, which says 404 where it is not there; several in one. */
int command_document_delete(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "DELETE", .again = true, .done = "deleted"};
    bool anywhere = cli_has(cli, OPTION_ANYWHERE), ok = false;
    int count = cli->argc - (anywhere ? 0 : 1);
    char **ids = cli->argv + (anywhere ? 0 : 1);
    char id[64];
    if (count < 1)
        return cli_usage(cli, "say which documents");
    if (!anywhere && !cli_find_library(cli, cli->argv[0], id, &st))
        return cli_fail(&st);
    if (count == 1) {
        ok = anywhere ? request_path(&r, &st, "/v1/documents/", ids[0], NULL) : request_path(&r, &st, "/v1/libraries/", id, "/documents/", ids[0], NULL);
    } else {
        r = (struct request){.method = anywhere ? "DELETE" : "POST", .again = true, .show = show_batch, .body = json_object_new_object()};
        json_object_object_add(r.body, "document_ids", request_words(count, ids));
        ok = anywhere ? request_path(&r, &st, "/v1/documents/batch", NULL) : request_path(&r, &st, "/v1/libraries/", id, "/documents/batch-delete", NULL);
    }
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

/* --- chunks -------------------------------------------------------------------------------------------------------------- */

static void show_chunks(const struct cli *cli, struct json_object *reply) {
    struct json_object *chunks = member(reply, "chunks");
    for (size_t i = 0; i < json_object_array_length(chunks); i++)
        show_chunk(cli, json_object_array_get_idx(chunks, i));
    if (json_object_array_length(chunks) == 0)
        puts("none of them is there");
}

static int chunks_call(struct cli *cli, struct request *r, const char *rest) {
    struct status st = {0};
    r->method = "POST";
    r->again = true;
    r->body = json_object_new_object();
    json_object_object_add(r->body, "ids", request_words(cli->argc - 1, cli->argv + 1));
    return request_library(cli, r, cli->argv[0], rest, &st) ? request_run(cli, r) : request_failed(r, &st);
}

int command_chunk_get(struct cli *cli) {
    struct request r = {.show = show_chunks};
    struct status st = {0};
    char id[64];
    if (cli->argc == 2) {
        r = (struct request){.method = "GET", .again = true, .show = show_chunk};
        bool ok = cli_find_library(cli, cli->argv[0], id, &st) && request_path(&r, &st, "/v1/libraries/", id, "/chunks/", cli->argv[1], vectors(cli), NULL);
        return ok ? request_run(cli, &r) : request_failed(&r, &st);
    }
    return chunks_call(cli, &r, cli_has(cli, OPTION_VECTORS) ? "/chunks/get?include_embeddings=true" : "/chunks/get");
}

int command_chunk_delete(struct cli *cli) {
    struct request r = {0};
    return chunks_call(cli, &r, "/chunks/delete");
}
