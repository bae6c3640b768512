/* request.c - see request.h. */
#include "cli/request.h"

#include <errno.h>
#include <stdarg.h>
#include <sysexits.h>

enum { INPUT_MAX = 1024 * 1024 * 1024, PATH_ROOM = 2048 };

void request_fini(struct request *r) {
    buf_fini(&r->path);
    buf_fini(&r->raw);
    json_object_put(r->body);
    *r = (struct request){0};
}

bool request_path(struct request *r, struct status *st, ...) {
    va_list pieces;
    bool plain = true;
    va_start(pieces, st);
    for (const char *piece; (piece = va_arg(pieces, const char *)) != NULL; plain = !plain) {
        if (plain)
            buf_put_str(&r->path, piece);
        else
            client_escape(&r->path, slice_str(piece));
    }
    va_end(pieces);
    buf_put_u8(&r->path, 0);
    return buf_check(&r->path, st);
}

bool request_library(struct cli *cli, struct request *r, const char *name, const char *rest, struct status *st) {
    char id[64];
    return cli_find_library(cli, name, id, st) && request_path(r, st, "/v1/libraries/", id, rest, NULL);
}

int request_failed(struct request *r, const struct status *st) {
    request_fini(r);
    return cli_fail(st);
}

static void show(const struct cli *cli, const struct request *r, struct json_object *reply) {
    if (cli->json && reply != NULL)
        cli_print_json(reply);
    else if (cli->json)
        puts("{}");
    else if (r->done != NULL)
        puts(r->done);
    else if (r->show != NULL)
        r->show(cli, reply);
    else if (reply != NULL)
        cli_print_members(reply);
}

int request_run(struct cli *cli, struct request *r) {
    struct status st = {0};
    struct client_reply reply;
    const char *text = r->body != NULL ? json_object_to_json_string_ext(r->body, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    struct slice body = text != NULL ? slice_str(text) : buf_slice(&r->raw);
    if (!client_call(cli->client, r->method, (const char *)r->path.data, body, r->again, &reply, &st))
        return request_failed(r, &st);
    int rc = EX_OK;
    if (!r->task) {
        show(cli, r, reply.json);
        if (member_int(reply.json, "failed") > 0)
            rc = EX_DATAERR;
    } else if (cli_has(cli, OPTION_WAIT) && !cli_wait_for_task(cli, &reply, &st)) {
        rc = cli_fail(&st);
    } else {
        rc = task_tell(cli, reply.json);
    }
    client_reply_fini(&reply);
    request_fini(r);
    return rc;
}

/* --- bodies ------------------------------------------------------------------------------------------------------------ */

struct json_object *request_body(const struct cli *cli, struct status *st) {
    struct json_object *body = cli_has(cli, OPTION_BODY) ? json_tokener_parse(cli_text(cli, OPTION_BODY)) : json_object_new_object();
    if (json_object_is_type(body, json_type_object))
        return body;
    json_object_put(body);
    (void)status_set(st, STATUS_INVALID, "--body takes a JSON object");
    return NULL;
}

void request_put_text(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    if (cli_has(cli, option))
        json_object_object_add(body, key, json_object_new_string(cli_text(cli, option)));
}

void request_put_number(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    if (cli_has(cli, option))
        json_object_object_add(body, key, json_object_new_int64(cli_number(cli, option, 0)));
}

void request_put_real(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    if (cli_has(cli, option)) /* as it was written */
        json_object_object_add(body, key, json_object_new_double_s(cli->given[option].real, cli_text(cli, option)));
}

void request_put_flag(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    if (cli_has(cli, option))
        json_object_object_add(body, key, json_object_new_boolean(1));
}

void request_put_list(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    struct json_object *list = cli_has(cli, option) ? json_object_new_array() : NULL;
    for (int i = 0; i < cli->given[option].count; i++)
        json_object_array_add(list, json_object_new_string(cli->given[option].texts[i]));
    if (list != NULL)
        json_object_object_add(body, key, list);
}

void request_put_json(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option) {
    if (cli_has(cli, option))
        json_object_object_add(body, key, json_tokener_parse(cli_text(cli, option)));
}

void request_put_index(const struct cli *cli, struct json_object *body) {
    if (!cli_has(cli, OPTION_M) && !cli_has(cli, OPTION_EF_CONSTRUCTION) && !cli_has(cli, OPTION_EF_SEARCH))
        return;
    struct json_object *config = json_object_new_object();
    request_put_number(cli, config, "M", OPTION_M);
    request_put_number(cli, config, "ef_construction", OPTION_EF_CONSTRUCTION);
    request_put_number(cli, config, "ef_search", OPTION_EF_SEARCH);
    json_object_object_add(body, "index_config", config);
}

struct json_object *request_words(int count, char **words) {
    struct json_object *list = json_object_new_array();
    for (int i = 0; i < count; i++)
        json_object_array_add(list, json_object_new_string(words[i]));
    return list;
}

/* --- files, lists -------------------------------------------------------------------------------------------------------- */

bool request_read(const char *name, struct buf *ret, struct status *st) {
    bool standard = strcmp(name, "-") == 0;
    FILE *in = standard ? stdin : fopen(name, "re");
    if (in == NULL)
        return status_set_errno(st, errno, "%s", name);
    char block[65536];
    for (size_t n; ret->len <= INPUT_MAX && (n = fread(block, 1, sizeof block, in)) > 0;)
        buf_put(ret, block, n);
    bool broken = ferror(in) != 0;
    if (!standard)
        fclose(in);
    if (broken)
        return status_set(st, STATUS_IO, "%s could not be read", name);
    if (ret->len > INPUT_MAX)
        return status_set(st, STATUS_TOO_LARGE, "%s is larger than 1 GiB; `quire import` takes files of any length", name);
    buf_put_u8(ret, 0);
    if (!buf_check(ret, st))
        return false;
    ret->len--;
    return true;
}

bool request_pages(struct cli *cli, const char *path, size_t most, struct json_object **ret, struct status *st) {
    char next[PATH_ROOM];
    struct json_object *all = json_object_new_array();
    (void)snprintf(next, sizeof next, "%s", path);
    while (next[0] != '\0' && (most == 0 || json_object_array_length(all) < most)) {
        struct client_reply reply;
        if (!client_call(cli->client, "GET", next, slice_of(NULL, 0), true, &reply, st)) {
            json_object_put(all);
            return false;
        }
        size_t count = json_object_is_type(reply.json, json_type_array) ? json_object_array_length(reply.json) : 0;
        for (size_t i = 0; i < count && (most == 0 || json_object_array_length(all) < most); i++)
            json_object_array_add(all, json_object_get(json_object_array_get_idx(reply.json, i)));
        (void)snprintf(next, sizeof next, "%s", reply.next);
        client_reply_fini(&reply);
    }
    *ret = all;
    return true;
}
