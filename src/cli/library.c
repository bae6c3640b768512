/* library.c - quire library create | list | show | delete. */
#include "cli/cli.h"

#include "base/json_out.h"

#include <sysexits.h>
#include <unistd.h>

int command_library_create(struct cli *cli) {
    const char *description = cli_text(cli, OPTION_DESCRIPTION), *type = cli_text(cli, OPTION_TYPE);
    const char *model = cli_text(cli, OPTION_MODEL), *language = cli_text(cli, OPTION_LANGUAGE);
    struct buf body;
    buf_init(&body);
    struct json_out j = json_out_to(&body);
    json_begin_object(&j);
    json_member_cstring(&j, "name", cli->argv[0]);
    if (description != NULL)
        json_member_cstring(&j, "description", description);
    if (type != NULL)
        json_member_cstring(&j, "index_type", type);
    if (model != NULL)
        json_member_cstring(&j, "embedding_model", model);
    if (language != NULL)
        json_member_cstring(&j, "language", language);
    json_end_object(&j);
    char id[64];
    struct status st = {0};
    struct client_reply reply;
    bool ok = cli_create_library(cli, buf_slice(&body), id, &reply, &st);
    buf_fini(&body);
    if (!ok)
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(reply.json);
    else
        printf("made library %s\n", id);
    client_reply_fini(&reply);
    return EX_OK;
}

int command_library_list(struct cli *cli) {
    struct status st = {0};
    char path[640] = "/v1/libraries?limit=1000";
    struct json_object *all = json_object_new_array();
    while (path[0] != '\0') {
        struct client_reply reply;
        if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &reply, &st)) {
            json_object_put(all);
            return cli_fail(&st);
        }
        size_t count = json_object_is_type(reply.json, json_type_array) ? json_object_array_length(reply.json) : 0;
        for (size_t i = 0; i < count; i++)
            json_object_array_add(all, json_object_get(json_object_array_get_idx(reply.json, i)));
        snprintf(path, sizeof path, "%s", reply.next);
        client_reply_fini(&reply);
    }
    if (cli->json) {
        cli_print_json(all);
    } else if (cli_has(cli, OPTION_NAMES)) {
        for (size_t i = 0; i < json_object_array_length(all); i++)
            puts(member_text(json_object_array_get_idx(all, i), "name"));
    } else if (json_object_array_length(all) == 0) {
        puts("no libraries; `quire library create NAME` makes one");
    } else {
        printf("%-36s  %10s  %10s  %s\n", "id", "documents", "chunks", "name");
        for (size_t i = 0; i < json_object_array_length(all); i++) {
            struct json_object *library = json_object_array_get_idx(all, i);
            printf("%-36s  %10lld  %10lld  ", member_text(library, "id"), (long long)member_int(library, "num_documents"),
                   (long long)member_int(library, "num_chunks"));
            cli_print_clean(stdout, member_text(library, "name"), 4096);
            putchar('\n');
        }
    }
    json_object_put(all);
    return EX_OK;
}

static void print_library(struct json_object *library) {
    struct json_object *metadata = member(library, "metadata");
    struct json_object *embedding = member(metadata, "embedding");
    printf("name         ");
    cli_print_clean(stdout, member_text(library, "name"), 4096);
    printf("\nid           %s\n", member_text(library, "id"));
    if (member_text(metadata, "description")[0] != '\0') {
        printf("description  ");
        cli_print_clean(stdout, member_text(metadata, "description"), 8192);
        putchar('\n');
    }
    printf("documents    %lld\nchunks       %lld\n", (long long)member_int(library, "num_documents"),
           (long long)member_int(library, "num_chunks"));
    printf("index        %s\nmodel        %s, %lld dimensions\n", member_text(metadata, "index_type"),
           member_text(metadata, "embedding_model"), (long long)member_int(metadata, "embedding_dimension"));
    printf("language     %s\n", member_text(metadata, "language"));
    printf("embedding    %s, %lld of %lld\n", member_text(embedding, "state"), (long long)member_int(embedding, "done"),
           (long long)member_int(embedding, "total"));
    struct json_object *exchange = member(metadata, "exchange");
    if (member_text(exchange, "state")[0] != '\0')
        printf("exchange     %s, %s\n", member_text(exchange, "state"), member_text(exchange, "embedding_model"));
    printf("created      %s\n", member_text(metadata, "created_at"));
}

int command_library_show(struct cli *cli) {
    struct status st = {0};
    char id[64], path[128];
    struct client_reply reply;
    if (!cli_find_library(cli, cli->argv[0], id, &st))
        return cli_fail(&st);
    snprintf(path, sizeof path, "/v1/libraries/%s", id);
    if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &reply, &st))
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(reply.json);
    else
        print_library(reply.json);
    client_reply_fini(&reply);
    return EX_OK;
}

/* On a terminal the name is asked for; a script says --yes. */
static bool confirmed(const struct cli *cli, const char *name) {
    if (cli_has(cli, OPTION_YES))
        return true;
    if (!isatty(STDIN_FILENO)) {
        fputs("quire: deleting a library removes all its documents; say --yes to do it\n", stderr);
        return false;
    }
    char line[512];
    fprintf(stderr, "This removes the library '%s' with all its documents. Type its name to go on: ", name);
    if (fgets(line, sizeof line, stdin) == NULL)
        return false;
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0;
}

int command_library_delete(struct cli *cli) {
    struct status st = {0};
    char id[64], path[128];
    struct client_reply reply;
    if (!cli_find_library(cli, cli->argv[0], id, &st))
        return cli_fail(&st);
    if (!confirmed(cli, cli->argv[0]))
        return EX_USAGE;
    snprintf(path, sizeof path, "/v1/libraries/%s", id);
    if (!client_call(cli->client, "DELETE", path, slice_of(NULL, 0), false, &reply, &st))
        return cli_fail(&st);
    client_reply_fini(&reply);
    if (!cli->json)
        printf("deleted library %s\n", id);
    return EX_OK;
}
