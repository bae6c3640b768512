/* help_man.c - the manual page quire(1) in the language of man(7), and the completion for bash: of the table alone (command.h). */
#include "cli/cli.h"

#include <ctype.h>

#define MAN_DATE "2026-11-30" /* when the manual was last gone through */

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

/* --- man(7) ------------------------------------------------------------------------------------------------------------ */

/* Text, with what roff would take for its own escaped; `word` in backquotes becomes bold. */
static void put_roff(FILE *out, const char *text, size_t len, bool bold_quotes) {
    bool bold = false, line_begins = true;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (line_begins && (c == '.' || c == '\''))
            fputs("\\&", out);
        line_begins = c == '\n';
        if (c == '\\')
            fputs("\\e", out);
        else if (c == '-')
            fputs("\\-", out);
        else if (c == '\'')
            fputs("\\(aq", out);
        else if (c == '`' && bold_quotes) {
            bold = !bold;
            fputs(bold ? "\\fB" : "\\fP", out);
        } else
            fputc(c, out);
    }
}

static void put_string(FILE *out, const char *text) {
    put_roff(out, text, strlen(text), true);
}

/* Paragraphs as in help_command. `first`: the macro before the first one, or NULL. */
static void put_paragraphs(FILE *out, const char *text, const char *first) {
    const char *macro = first;
    while (*text != '\0') {
        const char *end = strstr(text, "\n\n");
        size_t len = end != NULL ? (size_t)(end - text) : strlen(text);
        if (text[0] == ' ') {
            fputs(".IP\n.nf\n", out);
            put_roff(out, text, len, false);
            fputs("\n.fi\n", out);
        } else {
            if (macro != NULL)
                fprintf(out, "%s\n", macro);
            put_roff(out, text, len, true);
            fputc('\n', out);
        }
        macro = ".IP";
        text += len + (end != NULL ? 2 : 0);
    }
}

static void man_options(FILE *out, const struct command_option *list) {
    for (; list->option != CLI_OPTIONS; list++) {
        const struct cli_option_form *o = &cli_options[list->option];
        fputs(".TP\n", out);
        if (o->letter != 0)
            fprintf(out, "\\fB\\-%c\\fP, ", o->letter);
        fputs("\\fB\\-\\-", out);
        put_string(out, o->word);
        fputs("\\fP", out);
        if (o->argument != NULL)
            fprintf(out, " \\fI%s\\fP", o->argument);
        fputc('\n', out);
        put_string(out, list->help);
        fputc('\n', out);
    }
}

static void man_command(FILE *out, const struct command *c) {
    fputs(".TP\n\\fBquire ", out);
    put_string(out, c->name);
    fputs("\\fP", out);
    if (c->arguments[0] != '\0') {
        fputs(" \\fI", out);
        put_string(out, c->arguments);
        fputs("\\fP", out);
    }
    fputc('\n', out);
    fputc(toupper((unsigned char)c->summary[0]), out);
    put_string(out, c->summary + 1);
    fputs(".\n", out);
    put_paragraphs(out, c->text, ".IP");
    if (c->options->option != CLI_OPTIONS) {
        fputs(".RS\n", out);
        man_options(out, c->options);
        fputs(".RE\n", out);
    }
}

void help_man(FILE *out) {
    fputs(".\\\" Made from the table of commands by `quire help --man`.\n"
          ".TH QUIRE 1 \"" MAN_DATE "\" \"quire " PACKAGE_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nquire \\- search by meaning, on your own machine\n"
          ".SH SYNOPSIS\n.B quire\n.I COMMAND\n.RI [ ARGUMENT ].\\|.\\|.\n.RI [ OPTION ].\\|.\\|.\n"
          ".SH DESCRIPTION\n"
          "The command line of Quire, a vector search server: a client of its HTTP interface, and tools for the data of a server on this machine.\n"
          "A LIBRARY is named by its name or its id.\n"
          ".SH OPTIONS\nEvery command takes these:\n",
          out);
    man_options(out, command_common_options);
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->section == NULL) {
            man_command(out, c);
        } else {
            fputs(".SH \"", out);
            for (const char *at = c->section; *at != '\0'; at++) {
                char upper = (char)toupper((unsigned char)*at);
                put_roff(out, &upper, 1, false);
            }
            fputs("\"\n", out);
        }
    }
    fputs(".SH \"EXIT STATUS\"\nThat of\n.IR sysexits.h ,\nbut for\n.BR \"quire check\" ,\nwhich says its own above.\n", out);
    for (const struct cli_exit *e = cli_exits; e->meaning != NULL; e++)
        fprintf(out, ".TP\n.B %d\n%s\n", e->code, e->meaning);
    fputs(".SH ENVIRONMENT\n", out);
    for (const struct cli_variable *v = cli_variables; v->name != NULL; v++) {
        fprintf(out, ".TP\n.B %s\n", v->name);
        put_string(out, v->meaning);
        fputc('\n', out);
    }
    fputs(".SH \"SEE ALSO\"\n.BR quired (8),\n.BR quire.conf (5)\n", out);
}

/* --- bash -------------------------------------------------------------------------------------------------------------- */

/* The first words that commands begin with, each once; `second`: the words that come second behind `first`. */
static void bash_words(FILE *out, const char *first) {
    const char *last = "";
    size_t last_len = 0;
    for (const struct command *c = commands; c->name != NULL; c++) {
        size_t len = strcspn(c->name, " ");
        const char *word = c->name;
        if (first != NULL) {
            if (strncmp(word, first, strlen(first)) != 0 || len != strlen(first) || word[len] == '\0')
                continue;
            word += len + 1;
            len = strlen(word);
        } else if (len == 0 || (len == last_len && memcmp(word, last, len) == 0)) {
            continue;
        }
        fprintf(out, " %.*s", (int)len, word);
        last = word;
        last_len = len;
    }
}

static void bash_groups(FILE *out) {
    const char *last = "";
    size_t last_len = 0;
    for (const struct command *c = commands; c->name != NULL; c++) {
        size_t len = strcspn(c->name, " ");
        if (c->name[len] == '\0' || (len == last_len && memcmp(c->name, last, len) == 0))
            continue;
        char first[32];
        (void)snprintf(first, sizeof first, "%.*s", (int)len, c->name);
        fprintf(out, "        %s) words='", first);
        bash_words(out, first);
        fputs("' ;;\n", out);
        last = c->name;
        last_len = len;
    }
}

static void bash_option_words(FILE *out, const struct command_option *list) {
    for (; list->option != CLI_OPTIONS; list++)
        fprintf(out, " --%s", cli_options[list->option].word);
}

/* What completes an argument of this name: a kind that the function below knows, or the words themselves. */
static void bash_argument(FILE *out, const char *argument) {
    static const char *const kinds[] = {"FILE", "DIRECTORY", "LIBRARY"};
    bool choices = strchr(argument, '|') != NULL && islower((unsigned char)argument[0]);
    for (const char *at = argument; choices && *at != '\0'; at++)
        fputc(*at == '|' ? ' ' : *at, out);
    for (size_t i = 0; !choices && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strncmp(argument, kinds[i], strlen(kinds[i])) == 0) {
            fprintf(out, "@%s", kinds[i]);
            break;
        }
    }
}

static void bash_options_of_commands(FILE *out) {
    for (const struct command *c = commands; c->name != NULL; c++) {
        if (c->section != NULL)
            continue;
        fprintf(out, "        '%s') options='", c->name);
        bash_option_words(out, c->options);
        fputs("'; arguments='", out);
        for (const char *at = c->arguments; *at != '\0';) {
            size_t len = strcspn(at, " ");
            char word[64];
            (void)snprintf(word, sizeof word, "%.*s", (int)len, at);
            bash_argument(out, word[0] == '[' ? word + 1 : word);
            fputc(' ', out);
            at += len + (at[len] == ' ' ? 1 : 0);
        }
        fputs("' ;;\n", out);
    }
}

void help_bash(FILE *out) {
    fputs("# bash completion for quire: made from the table of commands by `quire help --bash`.\n"
          "_quire_offer() {\n"
          "    case $1 in\n"
          "        @FILE) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- \"$2\") ;;\n"
          "        @DIRECTORY) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- \"$2\") ;;\n"
          "        @LIBRARY)\n"
          "            local name\n"
          "            while IFS= read -r name; do\n"
          "                [[ $name != \"$2\"* ]] || COMPREPLY+=(\"$(printf %q \"$name\")\")\n"
          "            done < <(quire library list --names 2>/dev/null)\n"
          "            ;;\n"
          "        *) mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$2\") ;;\n"
          "    esac\n"
          "}\n"
          "_quire() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words='' options='' arguments='' command='' i word plain=()\n"
          "    COMPREPLY=()\n"
          "    case $prev in\n",
          out);
    for (int o = 0; o < CLI_OPTIONS; o++) {
        if (cli_options[o].argument == NULL)
            continue;
        fprintf(out, "        --%s", cli_options[o].word);
        if (cli_options[o].letter != 0)
            fprintf(out, " | -%c", cli_options[o].letter);
        fputs(") _quire_offer '", out);
        bash_argument(out, cli_options[o].argument);
        fputs("' \"$cur\"; return ;;\n", out);
    }
    fputs("    esac\n"
          "    # The words that are neither options nor their arguments.\n"
          "    local takes=' ",
          out);
    for (int o = 0; o < CLI_OPTIONS; o++) {
        if (cli_options[o].argument != NULL)
            fprintf(out, "--%s ", cli_options[o].word);
        if (cli_options[o].argument != NULL && cli_options[o].letter != 0)
            fprintf(out, "-%c ", cli_options[o].letter);
    }
    fputs("'\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        word=${COMP_WORDS[i]}\n"
          "        if [[ $word != -* ]]; then\n"
          "            plain+=(\"$word\")\n"
          "        elif [[ $takes == *\" $word \"* ]]; then\n"
          "            ((i++))\n"
          "        fi\n"
          "    done\n"
          "    case ${plain[0]-} in\n"
          "        '') words='",
          out);
    bash_words(out, NULL);
    fputs("' ;;\n", out);
    bash_groups(out);
    fputs("    esac\n"
          "    command=\"${plain[*]:0:2}\"\n"
          "    [[ ${#plain[@]} -ge 2 && \" $words \" == *\" ${plain[1]} \"* ]] || command=${plain[0]-}\n"
          "    case $command in\n",
          out);
    bash_options_of_commands(out);
    fputs("    esac\n"
          "    if [[ $cur == -* ]]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$options",
          out);
    bash_option_words(out, command_common_options);
    fputs("\" -- \"$cur\")\n"
          "    elif [[ ${#plain[@]} = 0 || ( ${#plain[@]} = 1 && -n $words ) ]]; then\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "    else\n"
          "        local offers\n"
          "        read -r -a offers <<<\"$arguments\"\n"
          "        [[ $command == *' '* ]] && i=$((${#plain[@]} - 2)) || i=$((${#plain[@]} - 1))\n"
          "        _quire_offer \"${offers[i]-}\" \"$cur\"\n"
          "    fi\n"
          "}\n"
          "complete -F _quire quire\n",
          out);
}
