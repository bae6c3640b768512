/*
 * command.h - the table of commands: what `quire` understands, its help, its completion and its manual page come from it alone.
 *
 * options.def names each option once, commands.def each command with its options. A new command is an entry there and a function here below; main.c checks options and
 * the number of words before it calls the function.
 */
#ifndef QUIRE_CLI_COMMAND_H
#define QUIRE_CLI_COMMAND_H

#include <stdbool.h>
#include <stdio.h>

struct cli;

enum cli_option {
#define OPTION(name, word, letter, kind, argument) OPTION_##name,
#include "cli/options.def"
#undef OPTION
    CLI_OPTIONS
};

enum option_kind { KIND_FLAG, KIND_TEXT, KIND_NUMBER, KIND_REAL, KIND_JSON, KIND_LIST };

struct cli_option_form {
    const char *word; /* "replace", of --replace */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *argument; /* NULL: it takes none */
};
extern const struct cli_option_form cli_options[CLI_OPTIONS];

struct command_option {
    enum cli_option option; /* CLI_OPTIONS ends a list */
    const char *help;
};

enum command_place { ONLINE, OFFLINE }; /* ONLINE: cli->client is there when it is called */
enum { ANY_NUMBER = 1000000 };

struct command {
    const char *section;   /* not NULL: this is no command but the title of those that follow, its name "" */
    const char *name;      /* its words: "library create" */
    const char *arguments; /* behind them: "LIBRARY FILE" */
    int least, most;       /* words of those */
    const char *calls;     /* operationIds of data/openapi.json that it makes, or "" */
    const char *summary;   /* a line */
    const char *text;      /* paragraphs, an empty line between; one that begins with a blank is shown as it stands. Or "" */
    const struct command_option *options;
    int (*run)(struct cli *cli);
    enum command_place place;
};
extern const struct command commands[];                      /* ends with a NULL name */
extern const struct command_option command_common_options[]; /* those that every command takes */

/* command_library_create() and so on. They return an exit code of sysexits.h; on failure they have said why on standard error. */
#define SECTION(title)
#define COMMAND(function, where, words, operands, fewest, greatest, operations, line, more) int command_##function(struct cli *cli);
#define OPT(name, help)
#define END
#include "cli/commands.def"
#undef SECTION
#undef COMMAND
#undef OPT
#undef END

/* What an option has for this command, or NULL: it does not take it. */
const char *command_option_help(const struct command *command, enum cli_option option);
/* The command whose words begin argv, the longest; *ret_words of them. NULL: there is none. */
const struct command *command_find(int argc, char **argv, int *ret_words);

/* --- help: of the table ------------------------------------------------------------------------------------------------ */

/* "library create NAME [--type hnsw|flat] ...", broken before `width` and indented. */
void help_form(FILE *out, const struct command *command, int indent);
void help_command(FILE *out, const struct command *command);
/* Those that begin with these words: `quire library`. False: none does. */
bool help_group(FILE *out, int argc, char **argv);
/* Says that there is no such command, or what there is of a group. Returns EX_USAGE. */
int help_unknown(int argc, char **argv);
void help_overview(FILE *out);
/* The manual page quire(1), for man(7). */
void help_man(FILE *out);
void help_bash(FILE *out);
void help_json(FILE *out);

#endif
