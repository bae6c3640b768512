/* service.c - quire status, health, metrics, models, embed, openapi, call: what concerns the server as a whole. */
#include "cli/request.h"

#include <ctype.h>
#include <sysexits.h>

static int get(struct cli *cli, const char *path, void (*show)(const struct cli *cli, struct json_object *reply)) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true, .show = show};
    return request_path(&r, &st, path, NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_status(struct cli *cli) {
    return get(cli, "/health/detailed", NULL);
}

/* --- health ---------------------------------------------------------------------------------------------------------------- */

/* Ready or not, the reply is good: it says why. */
int command_health(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    const char *path = cli_has(cli, OPTION_LIVE) ? "/liveness" : cli_has(cli, OPTION_UP) ? "/health" : "/readiness";
    if (!client_request(cli->client, "GET", path, slice_of(NULL, 0), &reply, &st))
        return cli_fail(&st);
    bool good = reply.status == 200;
    if (cli->json && reply.json != NULL) {
        cli_print_json(reply.json);
    } else {
        const char *message = member_text(reply.json, member(reply.json, "message") != NULL ? "message" : "status");
        cli_print_clean(stdout, message[0] != '\0' ? message : "it answers, but not as Quire does", 1000);
        putchar('\n');
        if (!good)
            cli_print_members(member(reply.json, "checks"));
    }
    client_reply_fini(&reply);
    return good ? EX_OK : EX_UNAVAILABLE;
}

/* The body as it came: it is meant for other programs. */
static int print_body(struct cli *cli, const char *path) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &reply, &st))
        return cli_fail(&st);
    bool ok = fwrite(reply.body.data, 1, reply.body.len, stdout) == reply.body.len;
    client_reply_fini(&reply);
    return ok ? EX_OK : EX_IOERR;
}

int command_metrics(struct cli *cli) {
    return print_body(cli, "/metrics");
}

int command_openapi(struct cli *cli) {
    return print_body(cli, "/openapi.json");
}

/* --- models ---------------------------------------------------------------------------------------------------------------- */

static void show_models(const struct cli *cli, struct json_object *models) {
    (void)cli;
    for (size_t i = 0; i < json_object_array_length(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        printf("%-24s  %5lld dimensions  %s%s%s%s", member_text(model, "name"), (long long)member_int(model, "dimension"), member_text(model, "where"),
               member_text(model, "state")[0] != '\0' ? ", " : "", member_text(model, "state"),
               json_object_get_boolean(member(model, "default")) ? "  (for libraries that name none)" : "");
        if (member_text(model, "error")[0] != '\0') {
            fputs(": ", stdout);
            cli_print_clean(stdout, member_text(model, "error"), 300);
        }
        putchar('\n');
    }
}

int command_models(struct cli *cli) {
    return get(cli, "/v1/models", show_models);
}

static void show_vectors(const struct cli *cli, struct json_object *reply) {
    struct json_object *data = member(reply, "data");
    (void)cli;
    for (size_t i = 0; i < json_object_array_length(data); i++)
        puts(json_object_to_json_string_ext(member(json_object_array_get_idx(data, i), "embedding"), JSON_C_TO_STRING_PLAIN));
}

/* The model of libraries that name none. */
static bool put_default_model(struct cli *cli, struct json_object *body, struct status *st) {
    struct client_reply reply;
    if (!client_call(cli->client, "GET", "/v1/models", slice_of(NULL, 0), true, &reply, st))
        return false;
    for (size_t i = 0; json_object_is_type(reply.json, json_type_array) && i < json_object_array_length(reply.json); i++) {
        struct json_object *model = json_object_array_get_idx(reply.json, i);
        if (json_object_get_boolean(member(model, "default")))
            json_object_object_add(body, "model", json_object_new_string(member_text(model, "name")));
    }
    client_reply_fini(&reply);
    return member(body, "model") != NULL || status_set(st, STATUS_INVALID, "no model is the server's preset: name one with --model (`quire models`)");
}

int command_embed(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .again = true, .show = show_vectors, .body = json_object_new_object()};
    json_object_object_add(r.body, "input", request_words(cli->argc, cli->argv));
    request_put_text(cli, r.body, "model", OPTION_MODEL);
    bool ok = cli_has(cli, OPTION_MODEL) || put_default_model(cli, r.body, &st);
    ok = ok && request_path(&r, &st, "/v1/embeddings", NULL);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

/* --- any call -------------------------------------------------------------------------------------------------------------- */

int command_call(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    struct buf body = {0};
    char method[16];
    size_t n = 0;
    for (; cli->argv[0][n] != '\0' && n < sizeof method - 1; n++)
        method[n] = (char)toupper((unsigned char)cli->argv[0][n]);
    method[n] = '\0';
    if (cli->argv[1][0] != '/')
        return cli_usage(cli, "a path begins with /, as /v1/libraries");
    bool ok = (cli->argc < 3 || request_read(cli->argv[2], &body, &st)) && client_call(cli->client, method, cli->argv[1], buf_slice(&body), strcmp(method, "GET") == 0, &reply, &st);
    buf_fini(&body);
    if (!ok)
        return cli_fail(&st);
    if (reply.json != NULL)
        cli_print_json(reply.json);
    else
        ok = fwrite(reply.body.data, 1, reply.body.len, stdout) == reply.body.len;
    client_reply_fini(&reply);
    return ok ? EX_OK : EX_IOERR;
}
