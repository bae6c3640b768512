/*
 * restore.c - quire restore: see durable/restore.h for what it does, and docs/operations.md for how to use it.
 *
 * What it is doing goes to standard error, what came of it to standard output. QUIRE_IO_FAULT works here as in quired, for the tests that kill it everywhere.
 */
#include "cli/cli.h"
#include "cli/storage.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/json_out.h"
#include "durable/restore.h"

#include <inttypes.h>
#include <sysexits.h>

enum { LINE_SHOWN_MAX = 1024 };

static void tell(void *ctx, const char *line) {
    (void)ctx;
    fprintf(stderr, "%s\n", line);
}

/* --- what came of it --- */

static void print_report(const struct restore_options *o, const struct restore_report *r) {
    char time[RFC3339_MAX] = "";
    if (r->time_us > 0)
        (void)rfc3339_format(r->time_us, time);
    char libraries[CLI_COUNTED_ROOM], documents[CLI_COUNTED_ROOM], chunks[CLI_COUNTED_ROOM];
    printf("restored: %s, %s, %s\n", cli_counted(r->libraries, "library", "libraries", libraries), cli_counted(r->documents, "document", "documents", documents),
           cli_counted(r->chunks, "chunk", "chunks", chunks));
    printf("from %s, up to LSN %" PRIu64 "%s%s\n", r->base[0] != '\0' ? r->base : "the log alone", r->lsn, time[0] != '\0' ? " of " : "", time);
    if (r->replaced_as[0] == '\0')
        return;
    printf("what was there before is in %s/%s until the server has started well;\nto put it back: quire restore --undo --into %s\n", o->into, r->replaced_as,
           o->into);
}

/* Returns whether there was memory. */
static bool print_json(const struct restore_report *r) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_member_uint(&j, "libraries", r->libraries);
    json_member_uint(&j, "documents", r->documents);
    json_member_uint(&j, "chunks", r->chunks);
    if (r->base[0] != '\0')
        json_member_cstring(&j, "base", r->base);
    json_member_uint(&j, "lsn", r->lsn);
    if (r->time_us > 0) {
        char time[RFC3339_MAX];
        (void)rfc3339_format(r->time_us, time);
        json_member_cstring(&j, "time", time);
    }
    json_member_uint(&j, "log_bytes", r->log_bytes);
    if (r->replaced_as[0] != '\0')
        json_member_cstring(&j, "replaced", r->replaced_as);
    json_end_object(&j);
    bool ok = buf_ok(&text);
    if (ok)
        printf("%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
    return ok;
}

/* --- the command --- */

static int failed(const struct status *st) {
    fputs("quire: ", stderr);
    cli_print_clean(stderr, st->detail, LINE_SHOWN_MAX);
    fputc('\n', stderr);
    return cli_exit_code(st);
}

static int undo(const struct cli *cli, const char *into) {
    char from[RESTORE_NAME_MAX];
    struct status st = {0};
    if (!restore_undo(into, from, &st))
        return failed(&st);
    if (cli->json)
        printf("{\"put_back\":\"%s\"}\n", from);
    else
        printf("%s is back as it was in %s\n", into, from);
    return EX_OK;
}

/* What is wrong with what was given, or NULL. */
static const char *take_options(struct cli *cli, struct restore_options *ret) {
    struct restore_options o = {.to_time_us = INT64_MAX, .tell = tell};
    o.source = cli->argc > 0 ? cli->argv[0] : NULL;
    o.into = cli_text(cli, OPTION_INTO);
    o.logs = cli->given[OPTION_LOG].texts;
    o.log_count = (size_t)cli->given[OPTION_LOG].count;
    o.to_lsn = (uint64_t)cli_number(cli, OPTION_TO_LSN, 0);
    o.max_bytes = (uint64_t)cli_number(cli, OPTION_MAX_BYTES, 0);
    o.library = cli_text(cli, OPTION_LIBRARY);
    o.as = cli_text(cli, OPTION_AS);
    *ret = o;
    if (o.into == NULL)
        return "say with --into where";
    if (cli_has(cli, OPTION_UNDO) != (cli->argc == 0))
        return "it takes a SOURCE, or --undo";
    if (cli_has(cli, OPTION_TO_TIME) && !rfc3339_parse(slice_str(cli_text(cli, OPTION_TO_TIME)), &ret->to_time_us))
        return "--to-time takes a time, as 2026-11-24T05:00:00Z";
    if (o.to_lsn != 0 && cli_has(cli, OPTION_TO_TIME))
        return "--to-time and --to-lsn exclude each other";
    return o.as != NULL && o.library == NULL ? "--as goes with --library" : NULL;
}

int command_restore(struct cli *cli) {
    struct restore_report report = {0};
    struct restore_options options;
    struct status st = {0};
    bool armed = false;
    const char *wrong = take_options(cli, &options);
    if (wrong != NULL)
        return cli_usage(cli, wrong);
    if (!io_fault_from_environment(&armed, &st))
        return failed(&st);
    if (armed)
        fputs("QUIRE_IO_FAULT is set: input and output fail as it says\n", stderr);
    if (cli_has(cli, OPTION_UNDO))
        return undo(cli, options.into);
    if (!(s3_is_url(options.source) ? restore_from_storage(cli, &options, &report, &st) : restore_run(&options, &report, &st)))
        return failed(&st);
    if (!cli->json)
        print_report(&options, &report);
    else if (!print_json(&report) && !status_no_memory(&st))
        return failed(&st);
    return EX_OK;
}
