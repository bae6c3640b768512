/* search.c - quire search. */
#include "cli/cli.h"

#include "base/json_out.h"

#include <sysexits.h>

#define EXCERPT_BYTES 300

static void print_hit(struct json_object *hit, size_t number) {
    struct json_object *chunk = member(hit, "chunk");
    printf("%2zu. ", number);
    cli_print_clean(stdout, member_text(hit, "document_title"), 200);
    printf("  (distance %.3f)\n    ", member_double(hit, "distance"));
    const char *text = member_text(chunk, "text");
    cli_print_clean(stdout, text, EXCERPT_BYTES);
    printf("%s\n", strlen(text) > EXCERPT_BYTES ? " ..." : "");
}

static void print_hits(struct json_object *reply) {
    struct json_object *results = member(reply, "results");
    size_t count = json_object_is_type(results, json_type_array) ? json_object_array_length(results) : 0;
    for (size_t i = 0; i < count; i++)
        print_hit(json_object_array_get_idx(results, i), i + 1);
    if (count == 0)
        puts("nothing found");
    struct json_object *index = member(reply, "index");
    printf("%zu hits in %.2f ms (%s, %s%s, coverage %.0f%%)\n", count, member_double(reply, "query_time_ms"),
           member_text(index, "mode"), member_text(index, "model"),
           json_object_get_boolean(member(index, "exact")) ? ", exact" : "", 100 * member_double(index, "coverage"));
}

int command_search(struct cli *cli) {
    if (cli->argc < 2)
        return cli_usage("search LIBRARY WORDS... [-k N]");
    struct status st = {0};
    char id[64], path[128];
    if (!cli_find_library(cli, cli->argv[0], id, &st))
        return cli_fail(&st);
    struct buf words, body;
    buf_init(&words);
    buf_init(&body);
    for (int i = 1; i < cli->argc; i++) {
        if (i > 1)
            buf_put_u8(&words, ' ');
        buf_put_str(&words, cli->argv[i]);
    }
    struct json_out j = json_out_to(&body);
    json_begin_object(&j);
    json_member_string(&j, "query", buf_slice(&words));
    if (cli->k > 0)
        json_member_int(&j, "k", cli->k);
    json_end_object(&j);
    snprintf(path, sizeof path, "/v1/libraries/%s/search", id);
    struct client_reply reply;
    bool ok = client_call(cli->client, "POST", path, buf_slice(&body), true, &reply, &st);
    buf_fini(&words);
    buf_fini(&body);
    if (!ok)
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(reply.json);
    else
        print_hits(reply.json);
    client_reply_fini(&reply);
    return EX_OK;
}
