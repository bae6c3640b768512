/* command.c - see command.h. */
#include "cli/cli.h"

#include <string.h>

const struct cli_option_form cli_options[CLI_OPTIONS] = {
#define OPTION(name, word, letter, kind, argument) [OPTION_##name] = {word, letter, KIND_##kind, argument},
#include "cli/options.def"
#undef OPTION
};

const struct command_option command_common_options[] = {{OPTION_JSON, "what the server answered, for programs"},
                                                        {OPTION_URL, "the server (QUIRE_URL; https://127.0.0.1:8443)"},
                                                        {OPTION_KEY, "the API key (QUIRE_KEY; the option shows in the process list)"},
                                                        {OPTION_CACERT, "the certificate of a server that signs its own (QUIRE_CACERT)"},
                                                        {OPTION_HELP, "help for this command"},
                                                        {CLI_OPTIONS, NULL}};

const struct command commands[] = {
#define SECTION(title) {.section = title, .name = ""},
#define COMMAND(function, where, words, operands, fewest, greatest, operations, line, more)                                                                    \
    {.name = words, .arguments = operands, .least = fewest, .most = greatest, .calls = operations, .summary = line, .text = more, .run = command_##function,  \
     .place = where, .options = (const struct command_option[]){
#define OPT(name, help) {OPTION_##name, help},
#define END {CLI_OPTIONS, NULL}}},
#include "cli/commands.def"
#undef SECTION
#undef COMMAND
#undef OPT
#undef END
    {.name = NULL}};

static const char *help_in(const struct command_option *list, enum cli_option option) {
    for (; list->option != CLI_OPTIONS; list++) {
        if (list->option == option)
            return list->help;
    }
    return NULL;
}

const char *command_option_help(const struct command *command, enum cli_option option) {
    const char *help = help_in(command->options, option);
    return help != NULL ? help : help_in(command_common_options, option);
}

/* How many words of argv the name is, 0: it is not what they begin with. */
static int words_of(const char *name, int argc, char **argv) {
    int n = 0;
    for (const char *at = name; *at != '\0'; n++) {
        size_t len = strcspn(at, " ");
        if (n == argc || strlen(argv[n]) != len || memcmp(argv[n], at, len) != 0)
            return 0;
        at += len;
        while (*at == ' ')
            at++;
    }
    return n;
}

const struct command *command_find(int argc, char **argv, int *ret_words) {
    const struct command *best = NULL;
    *ret_words = 0;
    for (const struct command *c = commands; c->name != NULL; c++) {
        int words = words_of(c->name, argc, argv);
        if (words > *ret_words) {
            *ret_words = words;
            best = c;
        }
    }
    return best;
}
