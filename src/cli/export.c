/*
 * export.c - quire export: all documents of a library, one a line, to standard output.
 *
 * Only whole lines are written, and each once. When the connection breaks, or the server is restarted, it goes on behind the last document that came whole.
 */
#include "cli/cli.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define PATIENCE_US (60 * INT64_C(1000000)) /* so long without anything new it tries again */
#define PAUSE_MS 500L

struct export_run {
    struct cli *cli;
    char library[64];
    struct buf line; /* what came of the next one */
    struct buf last; /* the last one that came whole */
    uint64_t documents;
    int64_t moved_us; /* when it came */
    int output_errno; /* of standard output; 0: it takes everything */
};

static bool take_line(struct export_run *e) {
    struct buf swap = e->last;
    if (!buf_ok(&e->line) || fwrite(e->line.data, 1, e->line.len, stdout) != e->line.len) {
        e->output_errno = buf_ok(&e->line) ? errno : ENOMEM;
        return false;
    }
    e->last = e->line;
    e->line = swap;
    buf_reset(&e->line);
    e->documents++;
    e->moved_us = clock_monotonic_us();
    return true;
}

static bool on_bytes(void *ctx, const char *bytes, size_t len) {
    struct export_run *e = ctx;
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline == NULL ? len : (size_t)(newline - bytes) + 1;
        buf_put(&e->line, bytes, n);
        if (newline != NULL && !take_line(e))
            return false;
        bytes += n;
        len -= n;
    }
    return true;
}

/* "?include_embeddings=true&after=<id>", where vectors were asked for, and of the last document. */
static void put_query(struct export_run *e, struct buf *path) {
    bool vectors = cli_has(e->cli, OPTION_VECTORS);
    if (vectors)
        buf_put_str(path, "?include_embeddings=true&encoding=base64");
    if (e->last.len == 0)
        return;
    struct buf text;
    buf_init(&text);
    buf_put_slice(&text, buf_slice(&e->last));
    buf_put_u8(&text, 0);
    struct json_object *document = buf_ok(&text) ? json_tokener_parse((const char *)text.data) : NULL;
    buf_put_str(path, vectors ? "&after=" : "?after=");
    client_escape(path, slice_str(member_text(document, "id")));
    json_object_put(document);
    buf_fini(&text);
}

static bool attempt(struct export_run *e, struct status *st) {
    struct buf path;
    struct client *client = NULL;
    buf_init(&path);
    buf_printf(&path, "/v1/libraries/%s/export", e->library);
    put_query(e, &path);
    buf_put_u8(&path, 0);
    buf_reset(&e->line);
    bool ok = buf_check(&path, st) && client_new(&e->cli->server, &client, st);
    if (ok) {
        const struct client_stream stream = {.method = "GET", .path = (const char *)path.data, .write = on_bytes, .ctx = e};
        ok = client_run_stream(client, &stream, st);
    }
    client_free(client);
    buf_fini(&path);
    return ok;
}

static bool run(struct export_run *e, struct status *st) {
    e->moved_us = clock_monotonic_us();
    bool begun = false;
    while (!attempt(e, st)) {
        begun |= e->documents > 0;
        if (!begun || st->code != STATUS_IO || clock_monotonic_us() - e->moved_us > PATIENCE_US)
            return false;
        client_pause_ms(PAUSE_MS);
    }
    if (e->output_errno != 0 || fflush(stdout) != 0)
        return status_set_errno(st, e->output_errno != 0 ? e->output_errno : errno, "standard output");
    return true;
}

int command_export(struct cli *cli) {
    struct export_run e = {.cli = cli};
    struct status st = {0};
    bool ok = cli_find_library(cli, cli->argv[0], e.library, &st) && run(&e, &st);
    if (ok && isatty(STDERR_FILENO))
        fprintf(stderr, "%llu document%s\n", (unsigned long long)e.documents, e.documents == 1 ? "" : "s");
    buf_fini(&e.line);
    buf_fini(&e.last);
    return ok ? EX_OK : cli_fail(&st);
}
