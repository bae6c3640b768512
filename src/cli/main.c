/* main.c - the `quire` command: words to a command (command.h). A client of the HTTP interface, and tools for the data of a server on this machine. */
#include "cli/cli.h"
#include "cli/json_text.h"

#include <curl/curl.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

enum { GETOPT_BASE = 256 }; /* an option's value for getopt: beyond all letters */

/* A whole number of at least 1, or -1. */
static long positive(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && value >= 1 ? value : -1;
}

static bool real_number(const char *text, double *ret) {
    char *end;
    *ret = strtod(text, &end);
    return *text != '\0' && *end == '\0' && isfinite(*ret);
}

static bool is_json(const char *text) {
    struct json_object *value = NULL;
    bool whole = json_text_whole(text, strlen(text), &value);
    json_object_put(value);
    return whole;
}

static bool take_option(struct cli *cli, enum cli_option option, const char *value) {
    const struct cli_option_form *form = &cli_options[option];
    struct cli_given *given = &cli->given[option];
    if (form->kind == KIND_NUMBER && (given->number = positive(value)) < 0) {
        fprintf(stderr, "quire: --%s takes a whole number of at least 1, and '%s' is none\n", form->word, value);
        return false;
    }
    if (form->kind == KIND_REAL && !real_number(value, &given->real)) {
        fprintf(stderr, "quire: --%s takes a number, and '%s' is none\n", form->word, value);
        return false;
    }
    if (form->kind == KIND_JSON && !is_json(value)) {
        fprintf(stderr, "quire: --%s takes JSON, and '%s' is none\n", form->word, value);
        return false;
    }
    if (form->kind == KIND_LIST && given->count == CLI_LIST_MAX) {
        fprintf(stderr, "quire: --%s can be given %d times\n", form->word, CLI_LIST_MAX);
        return false;
    }
    given->texts[form->kind == KIND_LIST ? given->count : 0] = value;
    given->count++;
    return true;
}

static enum cli_option by_letter(int letter) {
    int o = 0;
    while (o < CLI_OPTIONS && cli_options[o].letter != letter)
        o++;
    return (enum cli_option)o;
}

/* Options may stand anywhere; which of them the command takes is looked at when it is known. */
static bool take_options(struct cli *cli, int argc, char **argv) {
    struct option longs[CLI_OPTIONS + 1] = {{0}};
    char letters[2 * CLI_OPTIONS + 1];
    size_t n = 0;
    for (int o = 0; o < CLI_OPTIONS; o++) {
        bool takes = cli_options[o].kind != KIND_FLAG;
        longs[o] = (struct option){cli_options[o].word, takes ? required_argument : no_argument, NULL, GETOPT_BASE + o};
        if (cli_options[o].letter == 0)
            continue;
        letters[n++] = cli_options[o].letter;
        if (takes)
            letters[n++] = ':';
    }
    letters[n] = '\0';
    for (int c; (c = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        enum cli_option option = c >= GETOPT_BASE ? (enum cli_option)(c - GETOPT_BASE) : by_letter(c);
        if (option == CLI_OPTIONS) {
            fputs("quire: `quire help` tells what there is\n", stderr);
            return false;
        }
        if (!take_option(cli, option, optarg))
            return false;
    }
    return true;
}

static int check_form(const struct cli *cli) {
    char what[160];
    for (int o = 0; o < CLI_OPTIONS; o++) {
        if (cli->given[o].count == 0 || command_option_help(cli->command, (enum cli_option)o) != NULL)
            continue;
        (void)snprintf(what, sizeof what, "`quire %s` has no option --%s", cli->command->name, cli_options[o].word);
        return cli_usage(cli, what);
    }
    if (cli->argc < cli->command->least)
        return cli_usage(cli, "something is missing");
    if (cli->argc > cli->command->most) {
        (void)snprintf(what, sizeof what, "'%.64s' is one word too many", cli->argv[cli->command->most]);
        return cli_usage(cli, what);
    }
    return EX_OK;
}

static int run(struct cli *cli) {
    struct status st = {0};
    int rc = check_form(cli);
    if (rc != EX_OK)
        return rc;
    if (cli->command->place == ONLINE && !cli_connect(cli, &st))
        return cli_fail(&st);
    rc = cli->command->run(cli);
    if (cli->client != NULL) {
        client_free(cli->client);
        curl_global_cleanup();
    }
    return rc;
}

static void choose_style(struct cli *cli) {
    const char *terminal = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool plain = isatty(STDOUT_FILENO) == 0 || (no_color != NULL && no_color[0] != '\0') || terminal == NULL || strcmp(terminal, "dumb") == 0;
    cli->bold = plain ? "" : "\033[1m";
    cli->plain = plain ? "" : "\033[0m";
}

int main(int argc, char **argv) {
    static struct cli cli;
    int words = 0, rc = EX_OK;
    if (!take_options(&cli, argc, argv))
        return EX_USAGE;
    choose_style(&cli);
    cli.json = cli_has(&cli, OPTION_JSON);
    cli.server = (struct client_options){.url = cli_text(&cli, OPTION_URL), .key = cli_text(&cli, OPTION_KEY), .cacert = cli_text(&cli, OPTION_CACERT)};
    cli.argc = argc - optind;
    cli.argv = argv + optind;
    cli.command = command_find(cli.argc, cli.argv, &words);
    if (cli_has(&cli, OPTION_VERSION)) {
        rc = command_version(&cli);
    } else if (cli_has(&cli, OPTION_HELP)) {
        rc = command_help(&cli);
    } else if (cli.argc == 0) {
        help_overview(stderr);
        rc = EX_USAGE;
    } else if (cli.command == NULL) {
        rc = help_unknown(cli.argc, cli.argv);
    } else {
        cli.argc -= words;
        cli.argv += words;
        rc = run(&cli);
    }
    if (fflush(stdout) != 0)
        return EX_IOERR;
    return rc;
}
