/* key.c - quire key create | list | revoke; with --data without a server: on the machine itself, for who may write in its data directory. */
#include "cli/cli.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/json_out.h"
#include "base/secret.h"
#include "durable/waiting_key.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sysexits.h>
#include <unistd.h>

enum { TRIES = 50, PAUSE_MS = 200 };

static bool scope_bit(const char *word, uint8_t *ret) {
    static const char *const words[] = {"read", "write", "admin"};
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i]) == 0) {
            *ret = (uint8_t)(1U << i); /* enum key_scope */
            return true;
        }
    }
    return false;
}

static void print_secret(const struct cli *cli, const char *id, const char *secret) {
    if (cli->json) {
        printf("{\"id\":\"%s\",\"secret\":\"%s\"}\n", id, secret);
        return;
    }
    fprintf(stderr, "made key %s; its secret is shown here and never again:\n", id);
    printf("%s\n", secret);
}

/* --- on the machine itself --------------------------------------------------------------------------------------------- */

/* A running server takes it within a second or so; one that is stopped, at its next start. */
static void wait_for_server(int dir_fd) {
    struct status st;
    int lock = -1;
    bool running = io_open_at(dir_fd, "LOCK", O_RDONLY | O_NOFOLLOW, 0, &lock, &st) && flock(lock, LOCK_SH | LOCK_NB) != 0;
    io_close(&lock);
    for (int i = 0; running && i < TRIES && waiting_key_is_there(dir_fd); i++) {
        client_pause_ms(PAUSE_MS);
    }
    if (waiting_key_is_there(dir_fd)) {
        fputs("quire: the server will take the key at its next start\n", stderr);
    }
}

struct contents {
    bool lock;  /* a server has had it as its data directory */
    bool other; /* anything else, but a key that waits (durable/waiting_key.h) */
};

static bool look_at(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct contents *c = (struct contents *)ctx;
    (void)dir_fd;
    (void)st;
    c->lock = c->lock || strcmp(name, "LOCK") == 0;
    c->other = c->other || strncmp(name, WAITING_KEY, strlen(WAITING_KEY)) != 0;
    return true;
}

/* A key that is left where no server looks would never be one. An empty directory may be of a server that is still to start for the first time. */
static bool check_directory(const struct cli *cli, int fd, struct status *st) {
    struct contents found = {0};
    if (!io_each_entry(fd, cli_text(cli, OPTION_DATA), look_at, &found, st)) {
        return false;
    }
    if (!found.lock && found.other) {
        return status_set(st, STATUS_INVALID, "%s is no data directory of a server; data_dir in quire.conf says which is (scripts/serve DIR has DIR/data)", cli_text(cli, OPTION_DATA));
    }
    if (!found.lock) {
        fprintf(stderr, "quire: %s is empty: the key is for the server that starts there first\n", cli_text(cli, OPTION_DATA));
    }
    return true;
}

static bool make_here(const struct cli *cli, uint8_t scopes, int64_t expires_at, struct status *st) {
    struct op_key key = {.created_at = clock_wall_us(), .expires_at = expires_at, .scopes = scopes, .all = true, .name = slice_str(cli->argv[0])};
    char secret[SECRET_TEXT + 1], id[UUID_TEXT + 1];
    int fd = -1;
    uuid_make(&key.id);
    uuid_format(&key.id, id);
    if (key.name.len == 0 || key.name.len > KEY_NAME_MAX) {
        return status_set(st, STATUS_INVALID, "the name of a key has 1 to %d bytes", KEY_NAME_MAX);
    }
    if (!secret_make(secret, st) || !io_open_at(AT_FDCWD, cli_text(cli, OPTION_DATA), O_RDONLY | O_DIRECTORY, 0, &fd, st)) {
        return false;
    }
    sha256(secret, SECRET_TEXT, key.digest);
    bool ok = check_directory(cli, fd, st) && waiting_key_leave(fd, &key, st);
    if (ok) {
        wait_for_server(fd);
        print_secret(cli, id, secret);
    }
    secret_wipe(secret, sizeof secret);
    io_close(&fd);
    return ok;
}

/* --- through the interface --------------------------------------------------------------------------------------------- */

static bool put_body(struct cli *cli, uint8_t scopes, struct buf *body, struct status *st) {
    static const char *const words[] = {"read", "write", "admin"};
    char library[64];
    struct json_out j = json_out_to(body);
    json_begin_object(&j);
    json_member_cstring(&j, "name", cli->argv[0]);
    json_key(&j, "scopes");
    json_begin_array(&j);
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        if ((scopes & 1U << i) != 0)
            json_cstring(&j, words[i]);
    }
    json_end_array(&j);
    if (cli_has(cli, OPTION_LIBRARY)) {
        if (!cli_find_library(cli, cli_text(cli, OPTION_LIBRARY), library, st))
            return false;
        json_key(&j, "libraries");
        json_begin_array(&j);
        json_cstring(&j, library);
        json_end_array(&j);
    }
    if (cli_has(cli, OPTION_EXPIRES))
        json_member_cstring(&j, "expires_at", cli_text(cli, OPTION_EXPIRES));
    json_end_object(&j);
    return buf_check(body, st);
}

static bool make_there(struct cli *cli, uint8_t scopes, struct status *st) {
    struct buf body = {0};
    struct client_reply reply;
    /* Not again: should the reply be lost, the key may be there, and its secret is not. */
    bool ok = put_body(cli, scopes, &body, st) && client_call(cli->client, "POST", "/v1/keys", buf_slice(&body), false, &reply, st);
    buf_fini(&body);
    if (!ok)
        return false;
    if (cli->json)
        cli_print_json(reply.json);
    else
        print_secret(cli, member_text(reply.json, "id"), member_text(reply.json, "secret"));
    client_reply_fini(&reply);
    return true;
}

int command_key_create(struct cli *cli) {
    struct status st = {0};
    int64_t expires_at = 0;
    uint8_t scopes = 0;
    for (int i = 0; i < cli->given[OPTION_SCOPE].count; i++) {
        uint8_t bit = 0;
        if (!scope_bit(cli->given[OPTION_SCOPE].texts[i], &bit))
            return cli_usage(cli, "--scope takes read, write or admin");
        scopes |= bit;
    }
    if (scopes == 0)
        return cli_usage(cli, "say with --scope what the key may do");
    if (cli_has(cli, OPTION_EXPIRES) && !rfc3339_parse(slice_str(cli_text(cli, OPTION_EXPIRES)), &expires_at))
        return cli_usage(cli, "--expires takes a time, as 2027-01-31T00:00:00Z");
    if (cli_has(cli, OPTION_DATA) && cli_has(cli, OPTION_LIBRARY))
        return cli_usage(cli, "--data and --library exclude each other");
    bool ok = cli_has(cli, OPTION_DATA) ? make_here(cli, scopes, expires_at, &st) : cli_connect(cli, &st) && make_there(cli, scopes, &st);
    return ok ? EX_OK : cli_fail(&st);
}

static void print_key(struct json_object *key) {
    struct json_object *scopes = member(key, "scopes");
    struct json_object *libraries = member(key, "libraries");
    char count[CLI_COUNTED_ROOM];
    printf("%-36s  ", member_text(key, "id"));
    for (size_t i = 0; i < json_object_array_length(scopes); i++)
        printf("%s%s", i > 0 ? "," : "", json_object_get_string(json_object_array_get_idx(scopes, i)));
    if (libraries != NULL)
        printf(" (%s)", cli_counted(json_object_array_length(libraries), "library", "libraries", count));
    printf("  used %s  expires %s  ", member_text(key, "last_used_at")[0] != '\0' ? member_text(key, "last_used_at") : "never",
           member_text(key, "expires_at")[0] != '\0' ? member_text(key, "expires_at") : "never");
    cli_print_clean(stdout, member_text(key, "name"), 4096);
    putchar('\n');
}

int command_key_list(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    if (!client_call(cli->client, "GET", "/v1/keys", slice_of(NULL, 0), true, &reply, &st))
        return cli_fail(&st);
    if (cli->json)
        cli_print_json(reply.json);
    for (size_t i = 0; !cli->json && i < json_object_array_length(reply.json); i++)
        print_key(json_object_array_get_idx(reply.json, i));
    client_reply_fini(&reply);
    return EX_OK;
}

int command_key_revoke(struct cli *cli) {
    struct status st = {0};
    struct client_reply reply;
    struct buf path = {0};
    buf_put_str(&path, "/v1/keys/");
    client_escape(&path, slice_str(cli->argv[0]));
    buf_put_u8(&path, 0);
    bool ok = buf_check(&path, &st) && client_call(cli->client, "DELETE", (const char *)path.data, slice_of(NULL, 0), true, &reply, &st);
    buf_fini(&path);
    if (!ok)
        return cli_fail(&st);
    client_reply_fini(&reply);
    if (cli->json)
        puts("{}");
    else
        printf("revoked key %s\n", cli->argv[0]);
    return EX_OK;
}
