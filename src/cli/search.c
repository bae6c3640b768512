/* search.c - quire search. */
#include "cli/cli.h"

#include "base/json_out.h"

#include <sysexits.h>

#define EXCERPT_BYTES 300

/* "rank 3, 0.5" of one side of an explanation, or "-" where that side did not have the hit. */
static void print_side(const char *side, struct json_object *explained, const char *measure) {
    struct json_object *rank = member(explained, "rank");
    printf("%s ", side);
    if (rank == NULL)
        printf("-");
    else
        printf("rank %lld", (long long)json_object_get_int64(rank));
    if (member(explained, measure) != NULL)
        printf(" (%s %.4f)", measure, member_double(explained, measure));
}

static void print_explanation(struct json_object *explain) {
    printf("    ");
    print_side("dense", member(explain, "dense"), "distance");
    if (member(explain, "lexical") != NULL) {
        printf(", ");
        print_side("lexical", member(explain, "lexical"), "score");
    }
    putchar('\n');
}

static void print_hit(struct json_object *hit, size_t number) {
    struct json_object *chunk = member(hit, "chunk");
    printf("%2zu. ", number);
    cli_print_clean(stdout, member_text(hit, "document_title"), 200);
    printf("  (score %.4f", member_double(hit, "score"));
    if (member(hit, "distance") != NULL)
        printf(", distance %.3f", member_double(hit, "distance"));
    printf(")\n    ");
    const char *text = member_text(chunk, "text");
    cli_print_clean(stdout, text, EXCERPT_BYTES);
    printf("%s\n", strlen(text) > EXCERPT_BYTES ? " ..." : "");
    if (member(hit, "explain") != NULL)
        print_explanation(member(hit, "explain"));
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

/* False: the filter is no JSON. */
static bool put_request(const struct cli *cli, struct slice words, struct buf *body) {
    struct json_object *filter = NULL;
    if (cli_has(cli, OPTION_FILTER) && (filter = json_tokener_parse(cli_text(cli, OPTION_FILTER))) == NULL)
        return false;
    struct json_out j = json_out_to(body);
    json_begin_object(&j);
    json_member_string(&j, "query", words);
    if (cli_has(cli, OPTION_K))
        json_member_int(&j, "k", cli_number(cli, OPTION_K, 0));
    if (cli_has(cli, OPTION_MODE))
        json_member_cstring(&j, "mode", cli_text(cli, OPTION_MODE));
    if (cli_has(cli, OPTION_GROUP))
        json_member_cstring(&j, "group_by", "document");
    if (cli_has(cli, OPTION_EXACT))
        json_member_bool(&j, "exact", true);
    if (cli_has(cli, OPTION_EXPLAIN))
        json_member_bool(&j, "explain", true);
    if (filter != NULL) {
        json_key(&j, "filter");
        json_raw(&j, slice_str(json_object_to_json_string_ext(filter, JSON_C_TO_STRING_PLAIN)));
        json_object_put(filter);
    }
    json_end_object(&j);
    return true;
}

int command_search(struct cli *cli) {
    struct status st = {0};
    char id[64], path[128];
    struct buf words, body;
    buf_init(&words);
    buf_init(&body);
    for (int i = 1; i < cli->argc; i++) {
        if (i > 1)
            buf_put_u8(&words, ' ');
        buf_put_str(&words, cli->argv[i]);
    }
    bool ok = put_request(cli, buf_slice(&words), &body);
    buf_fini(&words);
    if (!ok) {
        fprintf(stderr, "quire: --filter takes JSON, as '{\"field\": \"author\", \"operator\": \"eq\", \"value\": \"Ida\"}'\n");
        buf_fini(&body);
        return EX_USAGE;
    }
    struct client_reply reply;
    ok = cli_find_library(cli, cli->argv[0], id, &st);
    if (ok) {
        snprintf(path, sizeof path, "/v1/libraries/%s/search", id);
        ok = client_call(cli->client, "POST", path, buf_slice(&body), true, &reply, &st);
    }
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
