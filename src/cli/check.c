/*
 * check.c - quire check DATA_DIRECTORY: is a stopped server's data directory sound? What is checked, and how: durable/check.h.
 *
 * A line for each part, then the first faults with what to do about them. Texts out of files go through cli_print_clean: a damaged file must not drive the
 * terminal.
 */
#include "cli/cli.h"

#include "base/io.h"
#include "base/json_out.h"
#include "base/utf8.h"
#include "durable/check.h"
#include "index/distance.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sysexits.h>

enum { EXIT_SOUND = 0, EXIT_FAULTS = 1, EXIT_NOT_CHECKED = 2, ADVICE_MAX = 1024, LINE_MAX_BYTES = 1024, JSON_FORMAT = 1 };

/* What check_count.looked_at counts. */
static const char *const units[CHECK_PARTS] = {
    [CHECK_LOG] = "records", [CHECK_SNAPSHOTS] = "archives", [CHECK_CHECKPOINT] = "libraries",
    [CHECK_FILES] = "files", [CHECK_ROWS] = "rows",          [CHECK_VECTORS] = "vectors",
    [CHECK_GRAPH] = "nodes", [CHECK_POSTINGS] = "texts",     [CHECK_COLUMNS] = "chunks"};

static const char *place_word(enum check_place place) {
    static const char *const words[] = {[CHECK_NOWHERE] = "", [CHECK_SLOT] = "slot", [CHECK_ROW] = "row", [CHECK_LSN] = "LSN"};
    return words[place];
}

/* --- for people --- */

static void print_part(const char *indent, enum check_part part, const struct check_count *c) {
    char state[48] = "not checked";
    if (c->faults > 0) {
        (void)snprintf(state, sizeof state, "%" PRIu64 " %s", c->faults, c->faults == 1 ? "FAULT" : "FAULTS");
    } else if (c->checked) {
        (void)snprintf(state, sizeof state, "sound");
    }
    printf("%s%-11s %-12s", indent, check_part_name(part), state);
    if (c->checked)
        printf(" %" PRIu64 " %s", c->looked_at, units[part]);
    if (c->note[0] != '\0')
        printf("%s%s", c->checked ? ", " : " ", c->note);
    putchar('\n');
}

static void print_fault(const struct check_report *r, const struct check_fault *f, const char *data_dir) {
    char advice[ADVICE_MAX];
    check_advice(r, f, data_dir, advice, sizeof advice);
    printf("  %s", f->file);
    if (f->place != CHECK_NOWHERE)
        printf(", %s %" PRIu64, place_word(f->place), f->number);
    fputs(": ", stdout);
    cli_print_clean(stdout, f->what, LINE_MAX_BYTES);
    printf("\n    %s\n", advice);
}

static void print_report(const struct check_report *r, const char *data_dir) {
    for (int part = CHECK_LOG; part <= CHECK_CHECKPOINT; part++)
        print_part("", (enum check_part)part, &r->parts[part]);
    for (size_t i = 0; i < r->library_count; i++) {
        const struct check_library *l = &r->libraries[i];
        fputs("library ", stdout);
        cli_print_clean(stdout, l->name, sizeof l->name);
        printf(" (%s)\n", l->directory);
        for (int part = CHECK_FILES; part < CHECK_PARTS; part++)
            print_part("  ", (enum check_part)part, &l->parts[part]);
    }
    if (r->total_faults == 0) {
        puts("no faults");
        return;
    }
    printf("%" PRIu64 " fault%s%s:\n", r->total_faults, r->total_faults == 1 ? "" : "s",
           r->total_faults > r->fault_count ? ", the first of them" : "");
    for (size_t i = 0; i < r->fault_count; i++)
        print_fault(r, &r->faults[i], data_dir);
}

/* --- for machines --- */

static void json_parts(struct json_out *j, const struct check_count *parts, int first, int end) {
    json_key(j, "parts");
    json_begin_object(j);
    for (int part = first; part < end; part++) {
        const struct check_count *c = &parts[part];
        json_key(j, check_part_name((enum check_part)part));
        json_begin_object(j);
        json_member_bool(j, "checked", c->checked);
        json_member_uint(j, units[part], c->looked_at);
        json_member_uint(j, "faults", c->faults);
        if (c->note[0] != '\0')
            json_member_cstring(j, "note", c->note);
        json_end_object(j);
    }
    json_end_object(j);
}

/* Text out of a damaged file may be no UTF-8, which JSON has to be: then what is not ASCII becomes '?'. */
static void json_member_text(struct json_out *j, const char *key, const char *text) {
    char clean[ADVICE_MAX];
    size_t n = 0;
    if (utf8_valid(slice_str(text))) {
        json_member_cstring(j, key, text);
        return;
    }
    for (; text[n] != '\0' && n < sizeof clean - 1; n++)
        clean[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    clean[n] = '\0';
    json_member_cstring(j, key, clean);
}

static void json_fault(struct json_out *j, const struct check_report *r, const struct check_fault *f, const char *data_dir) {
    char advice[ADVICE_MAX];
    check_advice(r, f, data_dir, advice, sizeof advice);
    json_begin_object(j);
    json_member_cstring(j, "part", check_part_name(f->part));
    json_member_cstring(j, "file", f->file);
    if (f->place != CHECK_NOWHERE)
        json_member_uint(j, place_word(f->place), f->number);
    json_member_text(j, "what", f->what);
    json_member_text(j, "advice", advice);
    json_end_object(j);
}

static void json_libraries(struct json_out *j, const struct check_report *r) {
    json_key(j, "libraries");
    json_begin_array(j);
    for (size_t i = 0; i < r->library_count; i++) {
        json_begin_object(j);
        json_key(j, "id");
        json_uuid(j, &r->libraries[i].id);
        json_member_text(j, "name", r->libraries[i].name);
        json_parts(j, r->libraries[i].parts, CHECK_FILES, CHECK_PARTS);
        json_end_object(j);
    }
    json_end_array(j);
}

/* Returns whether there was memory. */
static bool json_report(const struct check_report *r, const char *data_dir) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_member_uint(&j, "format", JSON_FORMAT);
    json_member_bool(&j, "sound", r->total_faults == 0);
    json_member_uint(&j, "faults", r->total_faults);
    json_member_bool(&j, "arenas_checked", r->has_checkpoint);
    json_member_uint(&j, "checkpoint_lsn", r->lsn);
    json_parts(&j, r->parts, CHECK_LOG, CHECK_FILES);
    json_libraries(&j, r);
    json_key(&j, "first_faults");
    json_begin_array(&j);
    for (size_t i = 0; i < r->fault_count; i++)
        json_fault(&j, r, &r->faults[i], data_dir);
    json_end_array(&j);
    json_end_object(&j);
    bool ok = buf_ok(&text);
    if (ok)
        printf("%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
    return ok;
}

static int not_checked(const struct status *st) {
    (void)cli_fail(st);
    return EXIT_NOT_CHECKED;
}

int command_check(struct cli *cli) {
    struct check_report report = {0};
    struct check_options options = {.data_dir_fd = -1};
    struct status st = {0};
    (void)distance_init(NULL);
    if (!io_open_at(AT_FDCWD, cli->argv[0], O_RDONLY | O_DIRECTORY, 0, &options.data_dir_fd, &st))
        return not_checked(&st);
    bool ok = check_run(&options, &report, &st);
    io_close(&options.data_dir_fd);
    if (!ok)
        return not_checked(&st);
    if (!cli->json)
        print_report(&report, cli->argv[0]);
    else if (!json_report(&report, cli->argv[0]) && !status_no_memory(&st))
        return not_checked(&st);
    int rc = report.total_faults == 0 ? EXIT_SOUND : EXIT_FAULTS;
    check_report_fini(&report);
    return rc;
}
