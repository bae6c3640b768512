/*
 * backup.c - quire backup: to a directory or file here (backup_here.c), or to a storage: see s3/backup.h for what it does then, and docs/operations.md for how to use it.
 *
 * With --follow it goes on until it is ended, by any signal: nothing is lost by that. A pass that fails is told and made again after `interval`; only what
 * another pass cannot mend (the settings, the keys) ends it.
 */
#include "cli/backup.h"
#include "cli/storage.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/json_out.h"
#include "s3/backup.h"

#include <inttypes.h>
#include <sysexits.h>

static void tell(void *ctx, const char *line) {
    (void)ctx;
    cli_print_clean(stderr, line, 1024);
    fputc('\n', stderr);
}

static void print_json(const struct s3_report *r) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_member_uint(&j, "uploaded", r->uploaded);
    json_member_uint(&j, "uploaded_bytes", r->uploaded_bytes);
    json_member_uint(&j, "removed", r->removed);
    json_member_uint(&j, "aborted", r->aborted);
    json_member_uint(&j, "objects", r->state.objects);
    json_member_uint(&j, "bytes", r->state.bytes);
    json_member_uint(&j, "lsn", r->state.lsn);
    json_member_uint(&j, "snapshot_lsn", r->state.snapshot_lsn);
    json_end_object(&j);
    if (buf_ok(&text))
        printf("%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
}

static void print_report(const struct s3_report *r) {
    char up[32], there[32];
    printf("%" PRIu64 " files went up (%s), %" PRIu64 " old ones were removed; there are %" PRIu64 " (%s), up to LSN %" PRIu64 "\n", r->uploaded,
           cli_bytes(r->uploaded_bytes, up), r->removed, r->state.objects, cli_bytes(r->state.bytes, there), r->state.lsn);
}

static bool mends_itself(const struct status *st) {
    return st->code != STATUS_CONFIG && st->code != STATUS_NO_MEMORY;
}

static int follow(const struct storage *s, struct s3_backup *b) {
    for (;;) {
        struct s3_report report;
        struct status st = {0};
        if (!s3_backup_pass(b, &report, &st)) {
            cli_fail(&st);
            if (!mends_itself(&st))
                return cli_exit_code(&st);
        }
        fflush(stdout);
        client_pause_ms((long)s->settings.interval * 1000);
    }
}

static int once(const struct cli *cli, struct s3_backup *b) {
    struct s3_report report;
    struct status st = {0};
    if (!s3_backup_pass(b, &report, &st))
        return cli_fail(&st);
    if (cli->json)
        print_json(&report);
    else
        print_report(&report);
    return EX_OK;
}

/* "s3://..." may be given as a word, too. */
static bool is_url(const char *text) {
    return strncmp(text, "s3://", 5) == 0;
}

static int to_storage(const struct cli *cli, const char *url) {
    struct storage storage;
    struct s3_backup *b = NULL;
    struct status st = {0};
    bool shifted = false, failing = false;
    int rc;
    if (!clock_shift_from_environment(&shifted, &st) || !io_fault_from_environment(&failing, &st))
        return cli_fail(&st);
    if (shifted || failing)
        fputs("QUIRE_CLOCK_SHIFT or QUIRE_IO_FAULT is set: this is for tests\n", stderr);
    if (!storage_open(cli, url, &storage, &st) || !s3_backup_open(storage.client, &storage.sealing, tell, NULL, &b, &st))
        rc = cli_fail(&st);
    else
        rc = cli_has(cli, OPTION_FOLLOW) ? follow(&storage, b) : once(cli, b);
    s3_backup_close(b);
    storage_close(&storage);
    return rc;
}

int command_backup(struct cli *cli) {
    bool here = cli->argc == 1 && !is_url(cli->argv[0]);
    struct status st = {0};
    if (cli->argc == 1 && cli_has(cli, OPTION_TO))
        return cli_usage(cli, "say where to once: a word, or --to");
    if (!here)
        return cli_has(cli, OPTION_LATEST) ? cli_usage(cli, "--latest goes with a directory or a file") : to_storage(cli, cli->argc == 1 ? cli->argv[0] : cli_text(cli, OPTION_TO));
    if (cli_has(cli, OPTION_CONFIG) || cli_has(cli, OPTION_FOLLOW))
        return cli_usage(cli, "--config and --follow go with s3://");
    return cli_connect(cli, &st) ? backup_here(cli) : cli_fail(&st);
}
