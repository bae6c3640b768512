/* main.c - the `quire` command: words to a command, and help. A client of the HTTP interface, and tools for the data of a server
 * that is stopped. */
#include "cli/cli.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <getopt.h>
#include <stdlib.h>
#include <sysexits.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

static const char help[] =
    "quire - search by meaning, on your own machine\n"
    "\n"
    "  quire library create NAME [--type hnsw|flat] [--model MODEL] [--language LANGUAGE] [--description TEXT]\n"
    "  quire library list\n"
    "  quire library show LIBRARY\n"
    "  quire library delete LIBRARY [--yes]\n"
    "  quire import LIBRARY FILE|DIRECTORY|- [--replace] [--jobs N | --stream]\n"
    "  quire export LIBRARY > FILE\n"
    "  quire search LIBRARY WORDS... [-k N] [--mode hybrid|dense|lexical] [--filter JSON] [--group] [--exact] [--explain]\n"
    "  quire status\n"
    "  quire snapshot [create [--wait]|list]\n"
    "  quire reembed LIBRARY [--model MODEL | --rollback | --drop] [--wait]\n"
    "  quire key create NAME --scope read|write|admin... [--library LIBRARY] [--expires TIME] [--data DIRECTORY]\n"
    "  quire key list\n"
    "  quire key revoke ID\n"
    "  quire check DATA_DIRECTORY\n"
    "  quire restore SOURCE --into DIRECTORY [--log DIRECTORY]... [--to-time TIME | --to-lsn N] [--library LIBRARY [--as NAME]] [--max-bytes N]\n"
    "  quire restore --undo --into DIRECTORY\n"
    "\n"
    "A LIBRARY is its name or its id. import takes NDJSON (one document a line, as POST /v1/libraries/{id}/documents takes it), "
    "text and\n"
    "Markdown files, a directory of them, or NDJSON from standard input; what is there already is not imported twice.\n"
    "--stream sends NDJSON of any length through one connection.\n"
    "export writes all documents as NDJSON, as import takes it.\n"
    "search looks by meaning and by words at once; --mode takes one of them alone. --filter takes what the interface takes, as\n"
    "'{\"field\": \"author\", \"operator\": \"eq\", \"value\": \"Ida\"}'; --group shows the best of each document; --explain how "
    "each hit came to its place.\n"
    "reembed gives a library another model, or its own anew, while it serves; --rollback brings the one before back while it is kept, --drop ends\n"
    "that, or gives up what is under way; --wait waits until it is done.\n"
    "key makes, lists and revokes API keys. The secret is printed once. With --data, the data directory of a server on this machine, running or\n"
    "stopped, create needs no key: that is how the first one is made, by the server's user or root.\n"
    "check reads a stopped server's data directory and says whether log, snapshots, rows, graphs, postings and columns are "
    "sound; it "
    "exits with\n"
    "0 when they are, 1 when there are faults, 2 when it could not check.\n"
    "restore makes the state of a new data directory, or of a stopped server's, from an archive, a directory of them, or a whole data directory, with the\n"
    "log behind it: all that there is, or up to a TIME (2026-11-24T05:00:00Z) or LSN. What was in DIRECTORY is kept until the server has started well on the\n"
    "new state; --undo puts it back. With --library only that one comes, beside what DIRECTORY holds.\n"
    "\n"
    "  --json          what the server answered, for programs\n"
    "  --url URL       the server         (QUIRE_URL, https://127.0.0.1:8443)\n"
    "  --key KEY       the API key        (QUIRE_KEY; the option shows in the process list)\n"
    "  --cacert FILE   its certificate    (QUIRE_CACERT)\n"
    "  --version, --help\n";

enum {
    OPTION_JSON = 256,
    OPTION_URL,
    OPTION_KEY,
    OPTION_CACERT,
    OPTION_YES,
    OPTION_REPLACE,
    OPTION_STREAM,
    OPTION_JOBS,
    OPTION_TYPE,
    OPTION_MODEL,
    OPTION_DESCRIPTION,
    OPTION_LANGUAGE,
    OPTION_MODE,
    OPTION_FILTER,
    OPTION_GROUP,
    OPTION_EXACT,
    OPTION_EXPLAIN,
    OPTION_INTO,
    OPTION_LOG,
    OPTION_TO_TIME,
    OPTION_TO_LSN,
    OPTION_LIBRARY,
    OPTION_AS,
    OPTION_MAX_BYTES,
    OPTION_UNDO,
    OPTION_WAIT,
    OPTION_ROLLBACK,
    OPTION_DROP,
    OPTION_SCOPE,
    OPTION_EXPIRES,
    OPTION_DATA
};

static const struct option options[] = {{"json", no_argument, NULL, OPTION_JSON},
                                        {"url", required_argument, NULL, OPTION_URL},
                                        {"key", required_argument, NULL, OPTION_KEY},
                                        {"cacert", required_argument, NULL, OPTION_CACERT},
                                        {"yes", no_argument, NULL, OPTION_YES},
                                        {"replace", no_argument, NULL, OPTION_REPLACE},
                                        {"stream", no_argument, NULL, OPTION_STREAM},
                                        {"jobs", required_argument, NULL, OPTION_JOBS},
                                        {"type", required_argument, NULL, OPTION_TYPE},
                                        {"model", required_argument, NULL, OPTION_MODEL},
                                        {"description", required_argument, NULL, OPTION_DESCRIPTION},
                                        {"language", required_argument, NULL, OPTION_LANGUAGE},
                                        {"mode", required_argument, NULL, OPTION_MODE},
                                        {"filter", required_argument, NULL, OPTION_FILTER},
                                        {"group", no_argument, NULL, OPTION_GROUP},
                                        {"exact", no_argument, NULL, OPTION_EXACT},
                                        {"explain", no_argument, NULL, OPTION_EXPLAIN},
                                        {"into", required_argument, NULL, OPTION_INTO},
                                        {"log", required_argument, NULL, OPTION_LOG},
                                        {"to-time", required_argument, NULL, OPTION_TO_TIME},
                                        {"to-lsn", required_argument, NULL, OPTION_TO_LSN},
                                        {"library", required_argument, NULL, OPTION_LIBRARY},
                                        {"as", required_argument, NULL, OPTION_AS},
                                        {"max-bytes", required_argument, NULL, OPTION_MAX_BYTES},
                                        {"undo", no_argument, NULL, OPTION_UNDO},
                                        {"wait", no_argument, NULL, OPTION_WAIT},
                                        {"rollback", no_argument, NULL, OPTION_ROLLBACK},
                                        {"drop", no_argument, NULL, OPTION_DROP},
                                        {"scope", required_argument, NULL, OPTION_SCOPE},
                                        {"expires", required_argument, NULL, OPTION_EXPIRES},
                                        {"data", required_argument, NULL, OPTION_DATA},
                                        {"version", no_argument, NULL, 'V'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static const struct {
    const char *name;
    int (*run)(struct cli *cli);
    bool offline; /* without a server */
} commands[] = {{"library", command_library, false},
                {"import", command_import, false},
                {"export", command_export, false},
                {"search", command_search, false},
                {"status", command_status, false},
                {"snapshot", command_snapshot, false},
                {"reembed", command_reembed, false},
                {"key", command_key, false},
                {"check", command_check, true},
                {"restore", command_restore, true},
                {NULL, NULL, false}};

/* A command that asks a server. */
static int run_online(struct cli *cli, int (*run)(struct cli *cli)) {
    struct status st = {0};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client_options_from_environment(&cli->server);
    if (!client_new(&cli->server, &cli->client, &st))
        return cli_fail(&st);
    int rc = run(cli);
    client_free(cli->client);
    curl_global_cleanup();
    return rc;
}

int cli_usage(const char *form) {
    fprintf(stderr, "usage: quire %s\n       quire --help tells more\n", form);
    return EX_USAGE;
}

/* A whole number of at least 1, or -1. */
static long positive(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && value >= 1 ? value : -1;
}

/* An option of restore; false: it is none, or its value no good. */
static bool parse_restore(struct cli *cli, int option, char *value) {
    struct restore_options *r = &cli->restore;
    long number = -1;
    switch (option) {
    case OPTION_INTO:
        r->into = value;
        return true;
    case OPTION_LOG:
        cli->logs[r->log_count < CLI_LOGS_MAX ? r->log_count : 0] = value;
        return r->log_count++ < CLI_LOGS_MAX;
    case OPTION_TO_TIME:
        return rfc3339_parse(slice_str(value), &r->to_time_us);
    case OPTION_TO_LSN:
        number = positive(value);
        r->to_lsn = (uint64_t)number;
        return number > 0;
    case OPTION_LIBRARY:
        r->library = value;
        return true;
    case OPTION_AS:
        r->as = value;
        return true;
    case OPTION_MAX_BYTES:
        number = positive(value);
        r->max_bytes = (uint64_t)number;
        return number > 0;
    case OPTION_ROLLBACK:
        cli->rollback = true;
        return true;
    case OPTION_DROP:
        cli->drop = true;
        return true;
    case OPTION_UNDO:
        cli->undo = true;
        return true;
    default:
        return false;
    }
}

/* Returns -1 to go on, else the exit code. */
static int parse(struct cli *cli, int argc, char **argv) {
    int c;
    while ((c = getopt_long(argc, argv, "k:Vh", options, NULL)) != -1) {
        switch (c) {
        case OPTION_JSON:
            cli->json = true;
            break;
        case OPTION_URL:
            cli->server.url = optarg;
            break;
        case OPTION_KEY:
            cli->server.key = optarg;
            break;
        case OPTION_CACERT:
            cli->server.cacert = optarg;
            break;
        case OPTION_YES:
            cli->yes = true;
            break;
        case OPTION_WAIT:
            cli->wait = true;
            break;
        case OPTION_REPLACE:
            cli->replace = true;
            break;
        case OPTION_STREAM:
            cli->stream = true;
            break;
        case OPTION_TYPE:
            cli->type = optarg;
            break;
        case OPTION_MODEL:
            cli->model = optarg;
            break;
        case OPTION_DESCRIPTION:
            cli->description = optarg;
            break;
        case OPTION_LANGUAGE:
            cli->language = optarg;
            break;
        case OPTION_MODE:
            cli->mode = optarg;
            break;
        case OPTION_FILTER:
            cli->filter = optarg;
            break;
        case OPTION_GROUP:
            cli->group = true;
            break;
        case OPTION_EXACT:
            cli->exact = true;
            break;
        case OPTION_EXPLAIN:
            cli->explain = true;
            break;
        case OPTION_SCOPE:
            if (cli->scope_count == 3)
                return cli_usage("key create NAME --scope read|write|admin..., each once");
            cli->scopes[cli->scope_count++] = optarg;
            break;
        case OPTION_EXPIRES:
            cli->expires = optarg;
            break;
        case OPTION_DATA:
            cli->data = optarg;
            break;
        case OPTION_JOBS:
            if ((cli->jobs = positive(optarg)) < 0)
                return cli_usage("import ... --jobs N, N at least 1");
            break;
        case 'k':
            if ((cli->k = positive(optarg)) < 0)
                return cli_usage("search ... -k N, N at least 1");
            break;
        case 'V':
            printf("quire %s\n", PACKAGE_VERSION);
            return EX_OK;
        case 'h':
            fputs(help, stdout);
            return EX_OK;
        case '?':
            fputs("quire --help tells what there is\n", stderr);
            return EX_USAGE;
        default:
            if (!parse_restore(cli, c, optarg))
                return cli_usage("restore ... --to-time 2026-11-24T05:00:00Z | --to-lsn N, --max-bytes N, N at least 1, and up to 32 times --log DIRECTORY");
        }
    }
    return -1;
}

int main(int argc, char **argv) {
    struct cli cli = {.jobs = 4, .restore = {.to_time_us = INT64_MAX}};
    int rc = parse(&cli, argc, argv);
    if (rc >= 0)
        return rc;
    if (optind >= argc) {
        fputs(help, stderr);
        return EX_USAGE;
    }
    const char *name = argv[optind];
    cli.argc = argc - optind - 1;
    cli.argv = argv + optind + 1;
    for (size_t i = 0; commands[i].name != NULL; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        rc = commands[i].offline || (cli.data != NULL && commands[i].run == command_key) ? commands[i].run(&cli) : run_online(&cli, commands[i].run);
        if (fflush(stdout) != 0)
            return EX_IOERR;
        return rc;
    }
    fprintf(stderr, "quire: there is no command '%s'; quire --help tells what there is\n", name);
    return EX_USAGE;
}
