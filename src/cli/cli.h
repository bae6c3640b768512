/* cli.h - what the commands of `quire` share. */
#ifndef QUIRE_CLI_CLI_H
#define QUIRE_CLI_CLI_H

#include "cli/client.h"
#include "durable/restore.h"

#include <stdio.h>

enum { CLI_LOGS_MAX = 32 };

struct cli {
    struct client_options server;
    bool json;                                         /* --json: what the server said, for programs */
    bool yes;                                          /* --yes: no questions */
    bool replace;                                      /* import --replace */
    bool wait;                                         /* snapshot create, reembed --wait: until it is done */
    long k;                                            /* search -k; 0: the server's preset */
    bool stream;                                       /* import --stream */
    long jobs;                                         /* import --jobs */
    const char *type, *model, *description, *language; /* library create; reembed --model */
    const char *mode, *filter;                         /* search; NULL: the server's preset, no filter */
    bool group, exact, explain;                        /* search */
    const char *scopes[3], *expires, *data;            /* key; data: of the server on this machine */
    int scope_count;
    bool rollback, drop;                               /* reembed */
    struct restore_options restore;                    /* restore; its logs are logs below */
    const char *logs[CLI_LOGS_MAX];
    bool undo;
    int argc;                                          /* words after the command */
    char **argv;
    struct client *client;
};

/* Commands return an exit code of sysexits.h; on failure they have said why on standard error. */
int command_library(struct cli *cli);
int command_import(struct cli *cli);
int command_export(struct cli *cli);
int command_search(struct cli *cli);
int command_status(struct cli *cli);
int command_snapshot(struct cli *cli);
int command_reembed(struct cli *cli);
/* With cli->data offline. */
int command_key(struct cli *cli);
/* Offline: works on a stopped server's data directory, cli->client is NULL. Returns 0 sound, 1 faults, 2 it could not check. */
int command_check(struct cli *cli);
/* Offline, too: makes a data directory's state from an archive and log segments. */
int command_restore(struct cli *cli);

/* Says "quire: <detail>" and returns the exit code that fits. */
int cli_fail(const struct status *st);
int cli_exit_code(const struct status *st);
int cli_usage(const char *form);

/* A library by id or by its name. STATUS_NOT_FOUND, or STATUS_CONFLICT where several have the name. */
MUST_CHECK bool cli_find_library(struct cli *cli, const char *name_or_id, char ret_id[64], struct status *st);
/* Makes one of that name. */
MUST_CHECK bool cli_create_library(struct cli *cli, struct slice body, char ret_id[64], struct client_reply *ret_reply,
                                   struct status *st);

/* Asks for the task that *reply is until it is over, more and more seldom; *reply becomes what it is then. */
MUST_CHECK bool cli_wait_for_task(struct cli *cli, struct client_reply *reply, struct status *st);

/* Members of a JSON object; a missing one is "", 0, NULL. */
const char *member_text(struct json_object *object, const char *key);
int64_t member_int(struct json_object *object, const char *key);
double member_double(struct json_object *object, const char *key);
struct json_object *member(struct json_object *object, const char *key);

/* Prints the reply's body, pretty, with a newline. */
void cli_print_json(struct json_object *json);
/* Text for a terminal: control characters (what a document may hold) are shown as '?', so no document can drive the terminal. */
void cli_print_clean(FILE *out, const char *text, size_t max_bytes);
/* "1.2 MB" */
const char *cli_bytes(uint64_t bytes, char out[32]);

#endif
