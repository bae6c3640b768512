/* reembed.c - quire reembed: another model for a library, the one before back, or no longer kept. */
#include "cli/cli.h"

#include "base/json_out.h"

#include <sysexits.h>

static void print_overlap(struct json_object *task) {
    if (member_int(task, "overlap_queries") > 0) {
        printf("the model before and this one agree on %.0f %% of the ten nearest chunks, by %lld queries\n",
               100 * member_double(task, "overlap_at_10"), (long long)member_int(task, "overlap_queries"));
    }
}

/* The task: begun, or over. */
static int tell_task(const struct cli *cli, struct json_object *task) {
    const char *state = member_text(task, "state");
    bool good = !cli_has(cli, OPTION_WAIT) || strcmp(state, "succeeded") == 0;
    if (cli->json)
        cli_print_json(task);
    else if (!cli_has(cli, OPTION_WAIT))
        printf("it is under way (task %s); `quire library show` tells of it\n", member_text(task, "id"));
    else if (good)
        print_overlap(task);
    if (!good) {
        fprintf(stderr, "quire: the task has %s: ", state);
        cli_print_clean(stderr, member_text(task, "error"), 1000);
        fputc('\n', stderr);
    }
    return good ? EX_OK : EX_UNAVAILABLE;
}

static int drop(struct cli *cli, const char *path) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "DELETE", path, slice_of(NULL, 0), false, &reply, &st))
        return cli_fail(&st);
    client_reply_fini(&reply);
    if (!cli->json)
        puts("given up");
    return EX_OK;
}

static int begin(struct cli *cli, const char *path, struct slice body) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "POST", path, body, false, &reply, &st))
        return cli_fail(&st);
    int rc = cli_has(cli, OPTION_WAIT) && !cli_wait_for_task(cli, &reply, &st) ? cli_fail(&st) : tell_task(cli, reply.json);
    client_reply_fini(&reply);
    return rc;
}

int command_reembed(struct cli *cli) {
    const char *model = cli_text(cli, OPTION_MODEL);
    bool back = cli_has(cli, OPTION_ROLLBACK), given_up = cli_has(cli, OPTION_DROP);
    if ((back && given_up) || (model != NULL && (back || given_up)))
        return cli_usage(cli, "--model, --rollback and --drop exclude each other");
    struct status st = {0};
    char id[64], path[128];
    if (!cli_find_library(cli, cli->argv[0], id, &st))
        return cli_fail(&st);
    snprintf(path, sizeof path, "/v1/libraries/%s/reembed%s", id, back ? "/rollback" : "");
    if (given_up)
        return drop(cli, path);
    struct buf body;
    buf_init(&body);
    struct json_out j = json_out_to(&body);
    json_begin_object(&j);
    if (model != NULL)
        json_member_cstring(&j, "embedding_model", model);
    json_end_object(&j);
    int rc = begin(cli, path, buf_slice(&body));
    buf_fini(&body);
    return rc;
}
