/* task.c - quire task: long work that the server does in the background. */
#include "cli/request.h"

#include <sysexits.h>
#include <unistd.h>

static bool is_over(struct json_object *task) {
    const char *state = member_text(task, "state");
    return strcmp(state, "pending") != 0 && strcmp(state, "running") != 0;
}

static void show_progress(struct json_object *task, bool last) {
    int64_t done = member_int(task, "done"), total = member_int(task, "total");
    if (total > 0)
        fprintf(stderr, "\r\033[K%s: %lld of %lld, %.0f %%", member_text(task, "kind"), (long long)done, (long long)total, 100.0 * (double)done / (double)total);
    if (last)
        fputs("\r\033[K", stderr);
}

bool cli_wait_for_task(struct cli *cli, struct client_reply *reply, struct status *st) {
    enum { FIRST_MS = 50, MOST_MS = 1000 };
    char path[128];
    bool terminal = isatty(STDERR_FILENO) != 0 && !cli->json;
    (void)snprintf(path, sizeof path, "/v1/tasks/%.64s", member_text(reply->json, "id"));
    for (long ms = FIRST_MS; !is_over(reply->json); ms = ms < MOST_MS / 2 ? 2 * ms : MOST_MS) {
        client_pause_ms(ms);
        struct client_reply later;
        if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &later, st))
            return false;
        client_reply_fini(reply);
        *reply = later;
        if (terminal)
            show_progress(later.json, is_over(later.json));
    }
    return true;
}

static void tell_more(struct json_object *task) {
    if (member_int(task, "overlap_queries") > 0)
        printf("the model before and this one agree on %.0f %% of the ten nearest chunks, by %lld queries\n", 100 * member_double(task, "overlap_at_10"),
               (long long)member_int(task, "overlap_queries"));
}

int task_tell(const struct cli *cli, struct json_object *task) {
    const char *state = member_text(task, "state"), *kind = member_text(task, "kind");
    bool over = is_over(task), good = !over || strcmp(state, "succeeded") == 0;
    if (cli->json) {
        cli_print_json(task);
    } else if (!over) {
        printf("%s: under way, task %s (`quire task wait` waits for it)\n", kind, member_text(task, "id"));
    } else if (good) {
        printf("%s: done\n", kind);
        tell_more(task);
    }
    if (good)
        return EX_OK;
    fprintf(stderr, "quire: %s: %s%s", kind, state, member_text(task, "error")[0] != '\0' ? ": " : "");
    cli_print_clean(stderr, member_text(task, "error"), 1000);
    fputc('\n', stderr);
    return EX_UNAVAILABLE;
}

/* --- commands ------------------------------------------------------------------------------------------------------------ */

static void show_tasks(const struct cli *cli, struct json_object *tasks) {
    size_t count = json_object_is_type(tasks, json_type_array) ? json_object_array_length(tasks) : 0;
    (void)cli;
    for (size_t i = 0; i < count; i++) {
        struct json_object *task = json_object_array_get_idx(tasks, i);
        printf("%-36s  %-8s  %-9s  %8lld of %-8lld  %s", member_text(task, "id"), member_text(task, "kind"), member_text(task, "state"),
               (long long)member_int(task, "done"), (long long)member_int(task, "total"), member_text(task, "started_at"));
        if (member_text(task, "error")[0] != '\0') {
            fputs("  ", stdout);
            cli_print_clean(stdout, member_text(task, "error"), 200);
        }
        putchar('\n');
    }
    if (count == 0)
        puts("no tasks");
}

int command_task_list(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true, .show = show_tasks};
    return request_path(&r, &st, "/v1/tasks", NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_task_show(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true};
    return request_path(&r, &st, "/v1/tasks/", cli->argv[0], NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_task_cancel(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "DELETE", .again = true, .done = "it is asked to stop"};
    return request_path(&r, &st, "/v1/tasks/", cli->argv[0], NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_task_wait(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply = {0};
    struct request r = {0};
    bool ok = request_path(&r, &st, "/v1/tasks/", cli->argv[0], NULL) &&
              client_call(cli->client, "GET", (const char *)r.path.data, slice_of(NULL, 0), true, &reply, &st) && cli_wait_for_task(cli, &reply, &st);
    int rc = ok ? task_tell(cli, reply.json) : cli_fail(&st);
    client_reply_fini(&reply);
    request_fini(&r);
    return rc;
}
