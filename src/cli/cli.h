/* cli.h - what the commands of `quire` share. */
#ifndef QUIRE_CLI_CLI_H
#define QUIRE_CLI_CLI_H

#include "cli/client.h"
#include "cli/command.h"

#include <stdio.h>

enum { CLI_LIST_MAX = 32 };

/* What was given for an option. */
struct cli_given {
    int count;                       /* how often; 0: not at all */
    long number;                     /* KIND_NUMBER, the last */
    double real;                     /* KIND_REAL, the last */
    const char *texts[CLI_LIST_MAX]; /* KIND_TEXT, KIND_JSON: the last, at 0; KIND_LIST: `count` of them */
};

struct cli {
    const struct command *command;
    struct client_options server;
    bool json; /* --json: what the server said, for programs */
    const char *bold, *plain; /* around what stands out; "" where standard output is no terminal, or NO_COLOR is set */
    struct cli_given given[CLI_OPTIONS];
    int argc; /* words after those of the command; as many as its entry in the table says */
    char **argv;
    struct client *client; /* NULL for commands that are OFFLINE, until cli_connect() */
};

bool cli_has(const struct cli *cli, enum cli_option option);
/* NULL: not given. */
const char *cli_text(const struct cli *cli, enum cli_option option);
/* `preset` where it was not given. */
long cli_number(const struct cli *cli, enum cli_option option, long preset);

double cli_real(const struct cli *cli, enum cli_option option, double preset);

/* Makes cli->client, where there is none yet. No connection is made before its first call. */
MUST_CHECK bool cli_connect(struct cli *cli, struct status *st);

/* What the manual says of exit codes and of the environment; both end with NULL. */
struct cli_exit {
    int code;
    const char *meaning;
};
extern const struct cli_exit cli_exits[];
struct cli_variable {
    const char *name, *meaning;
};
extern const struct cli_variable cli_variables[];

/* Says "quire: <detail>" and returns the exit code that fits. */
int cli_fail(const struct status *st);
int cli_exit_code(const struct status *st);
/* "quire: <what>", unless NULL, and how the command is to be given. Returns EX_USAGE. */
int cli_usage(const struct cli *cli, const char *what);

/* The libraries of a name: how many, and the ids of the first of them, with commas between. */
enum { CLI_IDS_SHOWN = 5 };
struct cli_named {
    unsigned count;
    char ids[CLI_IDS_SHOWN * 40];
};
MUST_CHECK bool cli_libraries_named(struct cli *cli, const char *name, struct cli_named *ret, struct status *st);
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
/* An object as "a.b  value" lines, whatever is in it: a server of another version shows what it has. */
void cli_print_members(struct json_object *json);
/* Text for a terminal: control characters (what a document may hold) are shown as '?', so no document can drive the terminal. */
void cli_print_clean(FILE *out, const char *text, size_t max_bytes);
/* "1 chunk", "2 chunks"; several: the noun for what is not one. */
enum { CLI_COUNTED_ROOM = 48 };
const char *cli_counted(uint64_t n, const char *one, const char *several, char out[CLI_COUNTED_ROOM]);
/* "1.2 MB" */
const char *cli_bytes(uint64_t bytes, char out[32]);

#endif
