/* cli.c - see cli.h. */
#include "cli/cli.h"

#include "base/json_out.h"
#include "base/utf8.h"
#include "base/uuid.h"

#include <curl/curl.h>
#include <errno.h>
#include <sysexits.h>

const struct cli_exit cli_exits[] = {{EX_OK, "It is done."},
                                     {EX_USAGE, "The command was not given as it takes it."},
                                     {EX_DATAERR, "What was given is not what the server takes, or a part of it is not."},
                                     {EX_NOINPUT, "What was named is not there: a library, a document, a file."},
                                     {EX_UNAVAILABLE, "The server cannot be reached or does not do it now, or a task has failed."},
                                     {EX_SOFTWARE, "A fault of the program."},
                                     {EX_OSERR, "Memory or another means of the system is short."},
                                     {EX_CANTCREAT, "A file cannot be made, or there is no room for it."},
                                     {EX_IOERR, "Reading or writing failed."},
                                     {EX_TEMPFAIL, "Something else holds it now; try again later."},
                                     {EX_NOPERM, "The key is missing, or may not do this."},
                                     {EX_CONFIG, "A configuration file is wrong, or lacks something."},
                                     {0, NULL}};

const struct cli_variable cli_variables[] = {{"QUIRE_URL", "Where the server is."},
                                             {"QUIRE_KEY", "The API key."},
                                             {"QUIRE_CACERT", "A file with the certificate of a server that signs its own, or of who signed it."},
                                             {"AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN", "Keys of the storage, for backup and restore s3://, where backup.conf names no file."},
                                             {"AWS_REGION, AWS_ENDPOINT_URL", "Where that storage is, where backup.conf does not say."},
                                             {"NO_COLOR", "Where it is set, nothing is shown in bold. What goes to a file or a pipe never is."},
                                             {NULL, NULL}};

bool cli_has(const struct cli *cli, enum cli_option option) {
    return cli->given[option].count > 0;
}

const char *cli_text(const struct cli *cli, enum cli_option option) {
    return cli->given[option].texts[0];
}

long cli_number(const struct cli *cli, enum cli_option option, long preset) {
    return cli_has(cli, option) ? cli->given[option].number : preset;
}

double cli_real(const struct cli *cli, enum cli_option option, double preset) {
    return cli_has(cli, option) ? cli->given[option].real : preset;
}

bool cli_connect(struct cli *cli, struct status *st) {
    if (cli->client != NULL)
        return true;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    client_options_from_environment(&cli->server);
    return client_new(&cli->server, &cli->client, st);
}

int cli_usage(const struct cli *cli, const char *what) {
    if (what != NULL)
        fprintf(stderr, "quire: %s\n", what);
    fputs("usage: ", stderr);
    help_form(stderr, cli->command, 7);
    fprintf(stderr, "       `quire help %s` tells more\n", cli->command->name);
    return EX_USAGE;
}

int cli_fail(const struct status *st) {
    fprintf(stderr, "quire: %s\n", st->detail[0] != '\0' ? st->detail : status_code_name(st->code));
    return cli_exit_code(st);
}

int cli_exit_code(const struct status *st) {
    switch (st->code) {
    case STATUS_NO_MEMORY:
        return EX_OSERR;
    case STATUS_IO: /* of a file that was named, or the server cannot be reached */
        return st->sys_errno == ENOENT || st->sys_errno == ENOTDIR ? EX_NOINPUT : EX_UNAVAILABLE;
    case STATUS_NOT_FOUND:
        return EX_NOINPUT;
    case STATUS_BUSY:
        return EX_TEMPFAIL;
    case STATUS_NO_SPACE:
        return EX_CANTCREAT;
    case STATUS_UNAUTHENTICATED:
    case STATUS_DENIED:
        return EX_NOPERM;
    case STATUS_INTERNAL:
        return EX_SOFTWARE;
    case STATUS_CONFIG:
        return EX_CONFIG;
    default:
        return EX_DATAERR;
    }
}

struct json_object *member(struct json_object *object, const char *key) {
    struct json_object *value = NULL;
    if (object != NULL && json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, key, &value);
    return value;
}

const char *member_text(struct json_object *object, const char *key) {
    struct json_object *value = member(object, key);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

int64_t member_int(struct json_object *object, const char *key) {
    return json_object_get_int64(member(object, key));
}

double member_double(struct json_object *object, const char *key) {
    return json_object_get_double(member(object, key));
}

void cli_print_json(struct json_object *json) {
    puts(
        json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static void print_value(const char *prefix, const char *key, struct json_object *value);

/* Objects of any depth as "a.b  value" lines: a server of another version shows what it has. */
static void print_object(const char *prefix, struct json_object *object) {
    json_object_object_foreach(object, key, value) {
        print_value(prefix, key, value);
    }
}

static void print_value(const char *prefix, const char *key, struct json_object *value) {
    char name[256];
    snprintf(name, sizeof name, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", key);
    if (json_object_is_type(value, json_type_object)) {
        print_object(name, value);
        return;
    }
    if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            char index[32];
            snprintf(index, sizeof index, "%zu", i);
            print_value(name, index, json_object_array_get_idx(value, i));
        }
        return;
    }
    printf("%-40s  ", name);
    cli_print_clean(stdout, json_object_is_type(value, json_type_null) ? "-" : json_object_get_string(value), 1000);
    putchar('\n');
}

void cli_print_members(struct json_object *json) {
    if (json_object_is_type(json, json_type_object))
        print_object("", json);
    else if (json != NULL)
        cli_print_json(json);
}

void cli_print_clean(FILE *out, const char *text, size_t max_bytes) {
    struct slice s = slice_str(text);
    s.len = utf8_prefix(s, max_bytes);
    for (size_t at = 0; at < s.len;) {
        size_t begin = at;
        uint32_t c = utf8_next(s, &at);
        if (c == '\n' || c == '\t' || c == '\r')
            fputc(' ', out);
        else if (c < 0x20 || (c >= 0x7f && c < 0xa0))
            fputc('?', out);
        else
            fwrite(s.data + begin, 1, at - begin, out);
    }
}

const char *cli_counted(uint64_t n, const char *one, const char *several, char out[CLI_COUNTED_ROOM]) {
    (void)snprintf(out, CLI_COUNTED_ROOM, "%llu %s", (unsigned long long)n, n == 1 ? one : several);
    return out;
}

const char *cli_bytes(uint64_t bytes, char out[32]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1000 && unit < 4) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 32, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

bool cli_libraries_named(struct cli *cli, const char *name, struct cli_named *ret, struct status *st) {
    char path[640] = "/v1/libraries?limit=1000";
    *ret = (struct cli_named){0};
    while (path[0] != '\0') {
        struct client_reply reply;
        if (!client_call(cli->client, "GET", path, slice_of(NULL, 0), true, &reply, st))
            return false;
        size_t count = json_object_is_type(reply.json, json_type_array) ? json_object_array_length(reply.json) : 0;
        for (size_t i = 0; i < count; i++) {
            struct json_object *library = json_object_array_get_idx(reply.json, i);
            if (strcmp(member_text(library, "name"), name) != 0)
                continue;
            const char *id = member_text(library, "id");
            size_t len = strlen(ret->ids);
            if (ret->count++ < CLI_IDS_SHOWN)
                snprintf(ret->ids + len, sizeof ret->ids - len, "%s%s", len > 0 ? ", " : "", id);
        }
        snprintf(path, sizeof path, "%s", reply.next);
        client_reply_fini(&reply);
    }
    return true;
}

bool cli_find_library(struct cli *cli, const char *name_or_id, char ret_id[64], struct status *st) {
    struct uuid id;
    struct cli_named named;
    if (uuid_parse(slice_str(name_or_id), &id)) {
        uuid_format(&id, ret_id);
        return true;
    }
    if (!cli_libraries_named(cli, name_or_id, &named, st)) {
        if (st->code == STATUS_DENIED) /* a key that may only write */
            (void)status_set(st, STATUS_DENIED, "this key may not read, so it cannot look for a library by its name: give the id of '%.100s' instead", name_or_id);
        return false;
    }
    if (named.count == 0)
        return status_set(st, STATUS_NOT_FOUND, "there is no library '%s'; `quire library list` shows those there are", name_or_id);
    if (named.count > 1)
        return status_set(st, STATUS_CONFLICT, "%u libraries have the name '%.60s'; give the id instead: %s%s", named.count, name_or_id, named.ids, named.count > CLI_IDS_SHOWN ? ", ..." : "");
    snprintf(ret_id, 64, "%.63s", named.ids);
    return true;
}

bool cli_create_library(struct cli *cli, struct slice body, char ret_id[64], struct client_reply *ret_reply, struct status *st) {
    struct client_reply reply;
    if (!client_call(cli->client, "POST", "/v1/libraries", body, false, &reply, st))
        return false;
    snprintf(ret_id, 64, "%s", member_text(reply.json, "id"));
    if (ret_reply != NULL)
        *ret_reply = reply;
    else
        client_reply_fini(&reply);
    return true;
}
