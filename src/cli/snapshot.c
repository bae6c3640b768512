/* snapshot.c - quire snapshot: take, list, verify, download. `quire backup` does it all at once (backup.c). */
#include "cli/backup.h"
#include "cli/request.h"

#include <sysexits.h>

static void show_snapshots(const struct cli *cli, struct json_object *snapshots) {
    size_t count = json_object_is_type(snapshots, json_type_array) ? json_object_array_length(snapshots) : 0;
    (void)cli;
    for (size_t i = 0; i < count; i++) {
        struct json_object *snapshot = json_object_array_get_idx(snapshots, i), *verified = member(snapshot, "verified");
        char bytes[32], others[CLI_COUNTED_ROOM];
        printf("%-44s  lsn %-10lld  %8s  %s  %s", member_text(snapshot, "name"), (long long)member_int(snapshot, "lsn"),
               cli_bytes((uint64_t)member_int(snapshot, "bytes"), bytes), member_text(snapshot, "created_at"),
               verified == NULL ? "not verified" : json_object_get_boolean(member(verified, "good")) ? "verified" : "BROKEN");
        if (member_text(snapshot, "base")[0] != '\0')
            printf("  rests on %s", cli_counted((uint64_t)member_int(snapshot, "depth"), "other", "others", others));
        putchar('\n');
    }
    if (count == 0)
        puts("no snapshots yet; `quire snapshot create` takes one");
}

int command_snapshot_list(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "GET", .again = true, .show = show_snapshots};
    return request_path(&r, &st, "/v1/snapshots", NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_snapshot_take(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .task = true};
    return request_path(&r, &st, "/v1/snapshots", NULL) ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_snapshot_verify(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .task = true};
    char newest[BACKUP_NAME_MAX];
    if (cli->argc == 0 && !backup_newest(cli, newest, &st))
        return cli_fail(&st);
    bool ok = request_path(&r, &st, "/v1/snapshots/", cli->argc == 0 ? newest : cli->argv[0], "/verify", NULL);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}

int command_snapshot_download(struct cli *cli) {
    struct status st = {0};
    const char *name = cli->argv[0], *to = cli->argc > 1 ? cli->argv[1] : name;
    uint64_t bytes = 0;
    char size[32];
    if (!backup_download(cli, name, to, &bytes, &st))
        return cli_fail(&st);
    if (cli->json)
        printf("{\"bytes\":%llu}\n", (unsigned long long)bytes);
    else
        printf("%s, %s\n", to, cli_bytes(bytes, size));
    return EX_OK;
}
