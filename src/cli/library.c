/* library.c - quire library. */
#include "cli/request.h"

#include <sysexits.h>
#include <unistd.h>

static void show_made(const struct cli *cli, struct json_object *library) {
    (void)cli;
    printf("made library %s\n", member_text(library, "id"));
}

/* The interface takes a name that is taken; by it no command finds either library then. */
static void warn_of_namesakes(const char *name, const struct cli_named *before) {
    if (before->count == 0)
        return;
    fputs("quire: the name '", stderr);
    cli_print_clean(stderr, name, 200);
    fprintf(stderr, "' was taken before, by %s%s: commands need the ids of these libraries now (`quire library update ID --name NAME` gives one another name)\n", before->ids,
            before->count > CLI_IDS_SHOWN ? ", ..." : "");
}

int command_library_create(struct cli *cli) {
    struct status st = {0}, unread = {0};
    struct cli_named before = {0};
    struct request r = {.method = "POST", .show = show_made};
    bool ok = (r.body = request_body(cli, &st)) != NULL;
    if (ok) {
        request_put_json(cli, r.body, "metadata", OPTION_METADATA);
        json_object_object_add(r.body, "name", json_object_new_string(cli->argv[0]));
        request_put_text(cli, r.body, "description", OPTION_DESCRIPTION);
        request_put_text(cli, r.body, "index_type", OPTION_TYPE);
        request_put_text(cli, r.body, "embedding_model", OPTION_MODEL);
        request_put_text(cli, r.body, "language", OPTION_LANGUAGE);
        request_put_index(cli, r.body);
    }
    if (!ok || !request_path(&r, &st, "/v1/libraries", NULL))
        return request_failed(&r, &st);
    if (!cli_libraries_named(cli, cli->argv[0], &before, &unread) && unread.code != STATUS_DENIED) /* a key that may only write does without */
        return request_failed(&r, &unread);
    int rc = request_run(cli, &r);
    if (rc == EX_OK)
        warn_of_namesakes(cli->argv[0], &before);
    return rc;
}

int command_library_update(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "PATCH", .again = true, .done = "changed"};
    bool ok = (r.body = request_body(cli, &st)) != NULL;
    if (ok) {
        request_put_json(cli, r.body, "metadata", OPTION_METADATA);
        request_put_text(cli, r.body, "name", OPTION_NAME);
        request_put_text(cli, r.body, "description", OPTION_DESCRIPTION);
        request_put_index(cli, r.body);
    }
    if (ok && json_object_object_length(r.body) == 0) {
        request_fini(&r);
        return cli_usage(cli, "say what is to be changed");
    }
    ok = ok && request_library(cli, &r, cli->argv[0], "", &st);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_library_stats(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true};
    bool ok = request_library(cli, &r, cli->argv[0], cli_has(cli, OPTION_INDEX) ? "/index/statistics" : "/statistics", &st);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_library_rebuild(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .task = true};
    bool ok = (r.body = request_body(cli, &st)) != NULL;
    if (ok) {
        request_put_text(cli, r.body, "index_type", OPTION_TYPE);
        request_put_index(cli, r.body);
    }
    ok = ok && request_library(cli, &r, cli->argv[0], "/index/rebuild", &st);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_library_optimize(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .task = true};
    return request_library(cli, &r, cli->argv[0], "/index/optimize", &st) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_library_list(struct cli *cli) {
    struct status st = {0};
    struct json_object *all = NULL;
    if (!request_pages(cli, "/v1/libraries?limit=1000", 0, &all, &st))
        return cli_fail(&st);
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

static void print_library(const struct cli *cli, struct json_object *library) {
    (void)cli;
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
    struct request r = {.method = "GET", .again = true, .show = print_library};
    return request_library(cli, &r, cli->argv[0], "", &st) ? request_run(cli, &r) : request_failed(&r, &st);
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
    struct request r = {.method = "DELETE", .again = true, .done = "deleted"};
    if (!request_library(cli, &r, cli->argv[0], "", &st))
        return request_failed(&r, &st);
    if (confirmed(cli, cli->argv[0]))
        return request_run(cli, &r);
    request_fini(&r);
    return EX_USAGE;
}
