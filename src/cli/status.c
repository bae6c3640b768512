/* status.c - quire status, quire snapshot. */
#include "cli/cli.h"

#include <sysexits.h>

static void print_value(const char *prefix, const char *key, struct json_object *value);

/* Objects of any depth as "a.b  value" lines: a server of another version shows what it has. */
static void print_object(const char *prefix, struct json_object *object) {
    json_object_object_foreach(object, key, value) {
        print_value(prefix, key, value);
    }
}

static void print_value(const char *prefix, const char *key, struct json_object *value) {
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
    if (json_object_is_type(value, json_type_object)) {
        print_object(name, value);
        return;
    }
    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            char index[32];
            snprintf(index, sizeof index, "%zu", i);
            print_value(name, index, json_object_array_get_idx(value, i));
        }
        return;
    }
    printf("%-40s  ", name);
    cli_print_clean(stdout, json_object_is_type(value, json_type_null) ? "-" : json_object_get_string(value), 1000);
    putchar('\n');
}

int command_status(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "GET", "/health/detailed", slice_of(NULL, 0), false, &reply, &st))
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(reply.json);
    else if (json_object_is_type(reply.json, json_type_object))
        print_object("", reply.json);
    client_reply_fini(&reply);
    return EX_OK;
}

int command_snapshot_list(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "GET", "/v1/snapshots", slice_of(NULL, 0), true, &reply, &st))
        return cli_fail(&st);
    if (cli->json) {
        cli_print_json(reply.json);
    } else {
        size_t count = json_object_is_type(reply.json, json_type_array) ? json_object_array_length(reply.json) : 0;
        for (size_t i = 0; i < count; i++) {
            struct json_object *snapshot = json_object_array_get_idx(reply.json, i);
            char bytes[32];
            printf("%-44s  lsn %-10lld  %8s  %s\n", member_text(snapshot, "name"), (long long)member_int(snapshot, "lsn"),
                   cli_bytes((uint64_t)member_int(snapshot, "bytes"), bytes), member_text(snapshot, "created_at"));
        }
        if (count == 0)
            puts("no snapshots yet; `quire snapshot` takes one");
    }
    client_reply_fini(&reply);
    return EX_OK;
}

bool cli_wait_for_task(struct cli *cli, struct client_reply *reply, struct status *st) {
    enum { FIRST_MS = 50, MOST_MS = 1000 };
    char path[128];
    snprintf(path, sizeof path, "/v1/tasks/%.64s", member_text(reply->json, "id"));
    for (long ms = FIRST_MS;; ms = ms < MOST_MS / 2 ? 2 * ms : MOST_MS) {
        const char *state = member_text(reply->json, "state");
        if (strcmp(state, "pending") != 0 && strcmp(state, "running") != 0)
            return true;
        client_pause_ms(ms);
        struct client_reply later;
        if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &later, st))
            return false;
        client_reply_fini(reply);
        *reply = later;
    }
}

/* The snapshot's task: begun, or over. */
static int tell_task(const struct cli *cli, struct json_object *task) {
    const char *state = member_text(task, "state");
    bool good = !cli_has(cli, OPTION_WAIT) || strcmp(state, "succeeded") == 0;
    if (cli->json)
        cli_print_json(task);
    else if (!cli_has(cli, OPTION_WAIT))
        printf("a snapshot is being taken (task %s); `quire snapshot list` shows it\n", member_text(task, "id"));
    else if (good)
        puts("the snapshot is taken; `quire snapshot list` shows it");
    if (!good) {
        fprintf(stderr, "quire: the snapshot has %s: ", state);
        cli_print_clean(stderr, member_text(task, "error"), 1000);
        fputc('\n', stderr);
    }
    return good ? EX_OK : EX_UNAVAILABLE;
}

int command_snapshot_take(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "POST", "/v1/snapshots", slice_of(NULL, 0), false, &reply, &st))
        return cli_fail(&st);
    int rc = cli_has(cli, OPTION_WAIT) && !cli_wait_for_task(cli, &reply, &st) ? cli_fail(&st) : tell_task(cli, reply.json);
    client_reply_fini(&reply);
    return rc;
}
