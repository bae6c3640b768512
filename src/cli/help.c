/* help.c - help for the terminal, and the table as JSON: of the table alone (command.h). */
#include "cli/cli.h"

#include "base/json_out.h"

#include <ctype.h>
#include <sysexits.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

enum { WIDTH = 79, COLUMN = 26 };

/* Words, broken at WIDTH; lines but the first begin at `indent`. `column`: where it begins. */
static void put_words(FILE *out, const char *text, size_t len, int indent, int column) {
    bool first = true;
    for (size_t at = 0; at < len;) {
        while (at < len && isspace((unsigned char)text[at]))
            at++;
        size_t begin = at;
        while (at < len && !isspace((unsigned char)text[at]))
            at++;
        int n = (int)(at - begin);
        if (n == 0)
            break;
        if (!first && column + 1 + n > WIDTH) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        fwrite(text + begin, 1, (size_t)n, out);
        column += n;
        first = false;
    }
    fputc('\n', out);
}

static void put_text(FILE *out, const char *text) {
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        if (text[0] == ' ')
            fprintf(out, "%.*s\n", (int)len, text);
        else
            put_words(out, text, len, 0, 0);
        text += len;
        if (end != NULL) {
            fputc('\n', out);
            text += 2;
        }
    }
}

/* "-k, --k N" */
static int put_option(char *to, size_t room, enum cli_option option) {
    const struct cli_option_form *o = &cli_options[option];
    char letter[8] = "";
    if (o->letter != 0)
        (void)snprintf(letter, sizeof letter, "-%c, ", o->letter);
    return snprintf(to, room, "%s--%s%s%s", letter, o->word, o->argument != NULL ? " " : "", o->argument != NULL ? o->argument : "");
}

void help_form(FILE *out, const struct command *command, int indent) {
    char line[1024];
    int n = snprintf(line, sizeof line, "quire %s %s", command->name, command->arguments);
    for (const struct command_option *o = command->options; o->option != CLI_OPTIONS && n > 0 && (size_t)n < sizeof line; o++) {
        const struct cli_option_form *form = &cli_options[o->option];
        char letter[2] = {form->letter, '\0'};
        n += snprintf(line + n, sizeof line - (size_t)n, " [%s%s%s%s]%s", form->letter != 0 ? "-" : "--", form->letter != 0 ? letter : form->word, form->argument != NULL ? "\x01" : "", form->argument != NULL ? form->argument : "",
                      form->kind == KIND_LIST ? "..." : "");
    }
    /* An option and its argument stay on one line: the blank between is \x01 until then. */
    int column = indent;
    bool first = true;
    for (char *at = strtok(line, " "); at != NULL; at = strtok(NULL, " ")) {
        int len = (int)strlen(at);
        if (!first && column + 1 + len > WIDTH) {
            fprintf(out, "\n%*s", indent + 2, "");
            column = indent + 2;
        } else if (!first) {
            fputc(' ', out);
            column++;
        }
        for (char *c = at; *c != '\0'; c++)
            fputc(*c == '\x01' ? ' ' : *c, out);
        column += len;
        first = false;
    }
    fputc('\n', out);
}

static void put_options(FILE *out, const struct command_option *list) {
    for (; list->option != CLI_OPTIONS; list++) {
        char left[64];
        int n = put_option(left, sizeof left, list->option);
        fprintf(out, "  %s", left);
        if (n + 4 > COLUMN)
            fprintf(out, "\n%*s", COLUMN, "");
        else
            fprintf(out, "%*s", COLUMN - n - 2, "");
        put_words(out, list->help, strlen(list->help), COLUMN, COLUMN);
    }
}

void help_command(FILE *out, const struct command *command) {
    fprintf(out, "quire %s: %s\n\nusage: ", command->name, command->summary);
    help_form(out, command, 7);
    if (command->text[0] != '\0') {
        fputc('\n', out);
        put_text(out, command->text);
    }
    if (command->options->option != CLI_OPTIONS) {
        fputs("\noptions:\n", out);
        put_options(out, command->options);
    }
    fputs("\nand for every command:\n", out);
    put_options(out, command_common_options);
}

static void put_line(FILE *out, const struct command *c) {
    fprintf(out, "  %-*s ", COLUMN - 3, c->name);
    if ((int)strlen(c->name) > COLUMN - 3)
        fprintf(out, "\n%*s", COLUMN, "");
    put_words(out, c->summary, strlen(c->summary), COLUMN, COLUMN);
}

bool help_group(FILE *out, int argc, char **argv) {
    bool any = false;
    for (const struct command *c = commands; argc > 0 && c->name != NULL; c++) {
        size_t len = strlen(argv[0]);
        if (strncmp(c->name, argv[0], len) != 0 || c->name[len] != ' ')
            continue;
        if (!any)
            fprintf(out, "quire %s:\n\n", argv[0]);
        any = true;
        put_line(out, c);
    }
    if (any)
        fprintf(out, "\n`quire help %s COMMAND` tells more.\n", argv[0]);
    return any;
}

void help_overview(FILE *out) {
    fputs("quire - search by meaning, on your own machine\n\nusage: quire COMMAND [ARGUMENT]... [OPTION]...\n", out);
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->section != NULL)
            fprintf(out, "\n%s\n", c->section);
        else
            put_line(out, c);
    }
    fputs("\nfor every command:\n", out);
    put_options(out, command_common_options);
    fputs("\nA LIBRARY is its name or its id. `quire help COMMAND` tells more, and so does `man quire` (not installed: `quire help --man | man -l -`).\n", out);
}

static void json_options(struct json_out *j, const struct command_option *list) {
    json_key(j, "options");
    json_begin_array(j);
    for (; list->option != CLI_OPTIONS; list++) {
        const struct cli_option_form *o = &cli_options[list->option];
        json_begin_object(j);
        json_member_cstring(j, "name", o->word);
        if (o->letter != 0)
            json_member_string(j, "letter", slice_of(&o->letter, 1));
        if (o->argument != NULL)
            json_member_cstring(j, "argument", o->argument);
        json_member_cstring(j, "help", list->help);
        json_end_object(j);
    }
    json_end_array(j);
}

static void json_calls(struct json_out *j, const char *calls) {
    json_key(j, "calls");
    json_begin_array(j);
    while (*calls != '\0') {
        size_t len = strcspn(calls, " ");
        json_string(j, slice_of(calls, len));
        calls += len + (calls[len] == ' ' ? 1 : 0);
    }
    json_end_array(j);
}

void help_json(FILE *out) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_options(&j, command_common_options);
    json_key(&j, "commands");
    json_begin_array(&j);
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->section != NULL)
            continue;
        json_begin_object(&j);
        json_member_cstring(&j, "name", c->name);
        json_member_cstring(&j, "arguments", c->arguments);
        json_member_cstring(&j, "summary", c->summary);
        json_options(&j, c->options);
        json_calls(&j, c->calls);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    if (buf_ok(&text))
        fprintf(out, "%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
}

int help_unknown(int argc, char **argv) {
    if (help_group(stderr, argc, argv))
        return EX_USAGE;
    fprintf(stderr, "quire: there is no command '%s'; `quire help` tells what there is\n", argv[0]);
    return EX_USAGE;
}

int command_help(struct cli *cli) {
    int words = 0;
    const struct command *command = command_find(cli->argc, cli->argv, &words);
    if (cli_has(cli, OPTION_MAN))
        help_man(stdout);
    else if (cli_has(cli, OPTION_BASH))
        help_bash(stdout);
    else if (cli->json)
        help_json(stdout);
    else if (cli->argc == 0)
        help_overview(stdout);
    else if (command != NULL)
        help_command(stdout, command);
    else if (!help_group(stdout, cli->argc, cli->argv))
        return help_unknown(cli->argc, cli->argv);
    return EX_OK;
}

int command_version(struct cli *cli) {
    (void)cli;
    printf("quire %s\n", PACKAGE_VERSION);
    return EX_OK;
}
