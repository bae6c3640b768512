/*
 * settings.c - see settings.h.
 *
 * The table is made from s3.def, so that a key is added by one line there. What a file with a secret may be is checked on the opened file: regular, and not
 * for others to read or its group to write.
 */
#include "s3/settings.h"

#include "base/io.h"
#include "base/utf8.h"
#include "embed/remote_settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FILE_MAX_BYTES = 65536, SECRET_MAX_BYTES = 16384, WHERE_MAX = 160, SHOWN_MAX = 80, DECIMAL = 10, BANDWIDTH_LEAST = 16384, HEX_DIGITS = 2 * S3_KEY_BYTES };

enum kind { KIND_TEXT, KIND_NUMBER, KIND_CHOICE };

struct key {
    const char *name;
    enum kind kind;
    size_t offset;
    const char *preset; /* TEXT, CHOICE */
    uint64_t preset_number, least, most;
    const char *unit, *choices;
};

static const struct key keys[] = {
#define TEXT(name, preset, help) {#name, KIND_TEXT, offsetof(struct s3_settings, name), preset, 0, 0, 0, NULL, NULL},
#define NUMBER(name, preset, least, most, unit, help) {#name, KIND_NUMBER, offsetof(struct s3_settings, name), NULL, preset, least, most, unit, NULL},
#define CHOICE(name, preset, choices, help) {#name, KIND_CHOICE, offsetof(struct s3_settings, name), preset, 0, 0, 0, NULL, choices},
#include "s3/s3.def"
#undef TEXT
#undef NUMBER
#undef CHOICE
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] };

/* --- values --------------------------------------------------------------------------------------------------------------- */

static void store(struct s3_settings *s, const struct key *key, const void *value, size_t len) {
    memcpy((uint8_t *)s + key->offset, value, len);
}

static void store_text(struct s3_settings *s, const struct key *key, struct slice value) {
    char text[S3_TEXT_MAX] = "";
    if (value.len > 0) {
        memcpy(text, value.data, value.len);
    }
    store(s, key, text, sizeof text);
}

static bool store_choice(struct s3_settings *s, const struct key *key, struct slice value) {
    unsigned number = 0;
    for (const char *at = key->choices; *at != '\0'; number++) {
        size_t len = strcspn(at, "|");
        if (slice_equal(value, slice_of(at, len))) {
            store(s, key, &number, sizeof number);
            return true;
        }
        at += len + (at[len] == '|' ? 1 : 0);
    }
    return false;
}

void s3_settings_default(struct s3_settings *out) {
    memset(out, 0, sizeof *out);
    for (const struct key *key = keys; key < keys + KEY_COUNT; key++) {
        if (key->kind == KIND_TEXT) {
            store_text(out, key, slice_str(key->preset));
        } else if (key->kind == KIND_NUMBER) {
            store(out, key, &key->preset_number, sizeof key->preset_number);
        } else {
            (void)store_choice(out, key, slice_str(key->preset));
        }
    }
}

struct suffix {
    const char *unit, *name;
    uint64_t factor;
};
static const struct suffix suffixes[] = {{"bytes", "K", 1ULL << 10}, {"bytes", "M", 1ULL << 20}, {"bytes", "G", 1ULL << 30}, {"bytes", "T", 1ULL << 40},
                                         {"bytes", "KiB", 1ULL << 10}, {"bytes", "MiB", 1ULL << 20}, {"bytes", "GiB", 1ULL << 30}, {"bytes", "TiB", 1ULL << 40},
                                         {"ms", "ms", 1}, {"ms", "s", 1000}, {"ms", "m", 60000}, {"ms", "min", 60000}, {"ms", "h", 3600000},
                                         {"seconds", "s", 1}, {"seconds", "m", 60}, {"seconds", "min", 60}, {"seconds", "h", 3600}, {"seconds", "d", 86400},
                                         {"days", "d", 1}};

static struct slice trim(struct slice s) {
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t' || s.data[0] == '\r')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && strchr(" \t\r\n", s.data[s.len - 1]) != NULL) {
        s.len--;
    }
    return s;
}

static bool parse_number(const struct key *key, struct slice text, uint64_t *ret) {
    uint64_t value = 0;
    uint64_t factor = 1;
    size_t digits = 0;
    for (; digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9'; digits++) {
        if (__builtin_mul_overflow(value, (uint64_t)DECIMAL, &value) || __builtin_add_overflow(value, (uint64_t)(text.data[digits] - '0'), &value)) {
            value = UINT64_MAX;
        }
    }
    struct slice unit = trim(slice_of(text.data + digits, text.len - digits));
    bool known = unit.len == 0;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(suffixes[i].unit, key->unit) == 0 && slice_is(unit, suffixes[i].name)) {
            known = true;
            factor = suffixes[i].factor;
        }
    }
    *ret = __builtin_mul_overflow(value, factor, &value) ? UINT64_MAX : value;
    return digits > 0 && known;
}

static int shown(struct slice s) {
    return (int)utf8_prefix(s, SHOWN_MAX);
}

static bool set_value(struct s3_settings *s, const struct key *key, struct slice value, const char *where, struct status *st) {
    uint64_t number = 0;
    switch (key->kind) {
    case KIND_TEXT:
        if (value.len >= S3_TEXT_MAX || !utf8_valid(value) || utf8_has_control(value)) {
            return status_set(st, STATUS_CONFIG, "%s: %s takes at most %d bytes of UTF-8, without control characters", where, key->name, S3_TEXT_MAX - 1);
        }
        store_text(s, key, value);
        return true;
    case KIND_NUMBER:
        if (!parse_number(key, value, &number) || number < key->least || number > key->most) {
            return status_set(st, STATUS_CONFIG, "%s: %s must be %llu to %llu %s, not '%.*s'", where, key->name, (unsigned long long)key->least,
                              (unsigned long long)key->most, key->unit, shown(value), value.len > 0 ? (const char *)value.data : "");
        }
        store(s, key, &number, sizeof number);
        return true;
    case KIND_CHOICE:
        return store_choice(s, key, value) ||
               status_set(st, STATUS_CONFIG, "%s: %s must be one of %s, not '%.*s'", where, key->name, key->choices, shown(value),
                          value.len > 0 ? (const char *)value.data : "");
    }
    return false;
}

/* --- lines ---------------------------------------------------------------------------------------------------------------- */

/* Cuts quotes off, or a comment. */
static bool bare_value(struct slice *value) {
    struct slice v = trim(*value);
    if (v.len > 0 && v.data[0] == '"') {
        const uint8_t *end = (const uint8_t *)memchr(v.data + 1, '"', v.len - 1);
        struct slice rest = end == NULL ? v : trim(slice_of(end + 1, (size_t)(v.data + v.len - end - 1)));
        if (end == NULL || (rest.len > 0 && rest.data[0] != '#')) {
            return false;
        }
        *value = slice_of(v.data + 1, (size_t)(end - v.data - 1));
        return true;
    }
    for (size_t i = 0; i < v.len; i++) {
        if (v.data[i] == '#' && (i == 0 || v.data[i - 1] == ' ' || v.data[i - 1] == '\t')) {
            v.len = i;
        }
    }
    *value = trim(v);
    return true;
}

/* Cuts the next line off. */
static bool next_line(struct slice *text, struct slice *ret) {
    if (text->len == 0) {
        return false;
    }
    const uint8_t *end = (const uint8_t *)memchr(text->data, '\n', text->len);
    size_t len = end == NULL ? text->len : (size_t)(end - text->data);
    *ret = trim(slice_of(text->data, len));
    len += end == NULL ? 0 : 1;
    *text = slice_of(text->data + len, text->len - len);
    return true;
}

static bool split_assignment(struct slice line, struct slice *ret_name, struct slice *ret_value) {
    const uint8_t *equals = line.len == 0 ? NULL : (const uint8_t *)memchr(line.data, '=', line.len);
    if (equals == NULL) {
        return false;
    }
    *ret_name = trim(slice_of(line.data, (size_t)(equals - line.data)));
    *ret_value = trim(slice_of(equals + 1, (size_t)(line.data + line.len - equals - 1)));
    return ret_name->len > 0;
}

static bool read_line(struct s3_settings *s, struct slice line, const char *where, unsigned number, unsigned *line_of, struct status *st) {
    struct slice name;
    struct slice value;
    if (!split_assignment(line, &name, &value) || !bare_value(&value)) {
        return status_set(st, STATUS_CONFIG, "%s: expected 'key = value', found '%.*s'", where, shown(line), (const char *)line.data);
    }
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (!slice_is(name, keys[i].name)) {
            continue;
        }
        if (line_of[i] != 0) {
            return status_set(st, STATUS_CONFIG, "%s: %s stands in line %u already", where, keys[i].name, line_of[i]);
        }
        line_of[i] = number;
        return set_value(s, &keys[i], value, where, st);
    }
    return status_set(st, STATUS_CONFIG, "%s: unknown key '%.*s'", where, shown(name), (const char *)name.data);
}

bool s3_settings_read(struct s3_settings *s, const char *origin, struct slice text, struct status *st) {
    unsigned line_of[KEY_COUNT] = {0};
    unsigned number = 0;
    struct slice line;
    while (next_line(&text, &line)) {
        char where[WHERE_MAX];
        (void)snprintf(where, sizeof where, "%s:%u", origin, ++number);
        if (line.len > 0 && line.data[0] != '#' && !read_line(s, line, where, number, line_of, st)) {
            return false;
        }
    }
    return true;
}

bool s3_settings_read_file(struct s3_settings *s, const char *path, struct status *st) {
    struct buf text = {0};
    bool ok = io_read_file(AT_FDCWD, path, FILE_MAX_BYTES, &text, st) && s3_settings_read(s, path, buf_slice(&text), st);
    buf_fini(&text);
    return ok;
}

/* --- completing and checking ---------------------------------------------------------------------------------------------- */

static void take_first(char out[S3_TEXT_MAX], const char *const *names) {
    for (; out[0] == '\0' && *names != NULL; names++) {
        const char *value = getenv(*names);
        if (value != NULL && strlen(value) < S3_TEXT_MAX) {
            (void)snprintf(out, S3_TEXT_MAX, "%s", value);
        }
    }
}

void s3_settings_complete(struct s3_settings *s) {
    static const char *const regions[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    static const char *const endpoints[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
    enum { REGION_MAX = 64 };
    take_first(s->region, regions);
    take_first(s->endpoint, endpoints);
    if (s->region[0] == '\0') {
        (void)snprintf(s->region, sizeof s->region, "us-east-1");
    }
    if (s->endpoint[0] == '\0') {
        (void)snprintf(s->endpoint, sizeof s->endpoint, "https://s3.%.*s.amazonaws.com", REGION_MAX, s->region);
    }
}

static bool is_path_or_name(const char *value) {
    return value[0] == '\0' || value[0] == '/' || (strchr(value, '/') == NULL && value[0] != '.');
}

bool s3_settings_check(const struct s3_settings *s, struct status *st) {
    struct remote_url url;
    struct status why = {0};
    if (s->region[strspn(s->region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")] != '\0') {
        return status_set(st, STATUS_CONFIG, "region takes letters, digits and '-', not '%.100s'", s->region);
    }
    if (!remote_url_parse(s->endpoint, &url, &why) || url.path[0] != '\0') {
        return status_set(st, STATUS_CONFIG, "endpoint must be https://HOST[:PORT] (or http://), not '%.100s'", s->endpoint);
    }
    if (s->data_dir[0] != '/' || (s->archive_dir[0] != '\0' && s->archive_dir[0] != '/') || (s->ca_file[0] != '\0' && s->ca_file[0] != '/')) {
        return status_set(st, STATUS_CONFIG, "data_dir, archive_dir and ca_file must be absolute paths");
    }
    if (!is_path_or_name(s->credentials) || !is_path_or_name(s->encryption_key)) {
        return status_set(st, STATUS_CONFIG, "credentials and encryption_key take an absolute path, or the name of a systemd credential");
    }
    if (s->max_bytes_per_second != 0 && s->max_bytes_per_second < BANDWIDTH_LEAST) {
        return status_set(st, STATUS_CONFIG, "max_bytes_per_second must be at least %d, or 0", BANDWIDTH_LEAST);
    }
    if (s->path_style == S3_OFF && url.numeric) {
        return status_set(st, STATUS_CONFIG, "path_style = off needs an endpoint with a name, not an address");
    }
    return true;
}

/* --- the place ------------------------------------------------------------------------------------------------------------ */

static const char scheme[] = "s3://";

bool s3_is_url(const char *text) {
    return strncmp(text, scheme, sizeof scheme - 1) == 0;
}

/* No "." or "..", which some put together; no empty names. */
static bool names_are_plain(const char *path) {
    for (const char *at = path; *at != '\0';) {
        size_t len = strcspn(at, "/");
        if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && at[0] == '.' && at[1] == '.')) {
            return false;
        }
        at += len + (at[len] == '/' ? 1 : 0);
    }
    return true;
}

bool s3_place_parse(const char *url, struct s3_place *ret, struct status *st) {
    enum { BUCKET_LEAST = 3, PREFIX_MOST = 400 };
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";
    struct s3_place place = {0};
    const char *at = s3_is_url(url) ? url + sizeof scheme - 1 : "";
    size_t bucket = strspn(at, "abcdefghijklmnopqrstuvwxyz0123456789.-");
    size_t len = strlen(at);
    bool ok = bucket >= BUCKET_LEAST && bucket < sizeof place.bucket && (at[bucket] == '/' || at[bucket] == '\0') && at[0] != '.' && at[0] != '-' &&
              at[strspn(at, allowed)] == '\0' && len < PREFIX_MOST;
    if (ok) {
        memcpy(place.bucket, at, bucket);
        (void)snprintf(place.prefix, sizeof place.prefix, "%s", at[bucket] == '/' ? at + bucket + 1 : "");
        len = strlen(place.prefix);
        if (len > 0 && place.prefix[len - 1] == '/') {
            place.prefix[len - 1] = '\0';
        }
        ok = names_are_plain(place.prefix);
    }
    if (!ok) {
        return status_set(st, STATUS_CONFIG, "'%.100s' is no s3://BUCKET/PREFIX of letters, digits, '.', '_', '-' and '/'", url);
    }
    *ret = place;
    return true;
}

/* --- secrets -------------------------------------------------------------------------------------------------------------- */

static bool is_private(int fd, const char *what, struct status *st) {
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return status_set_errno(st, errno, "cannot look at the file of %s", what);
    }
    /* systemd gives a service's credentials to its user by an entry of an access list, which shows as the group's right to read. */
    return (S_ISREG(about.st_mode) && (about.st_mode & (S_IWGRP | S_IRWXO)) == 0) ||
           status_set(st, STATUS_CONFIG, "the file of %s may be read by others, or written by its group: chmod 600", what);
}

/* `value` is a path, or the name of a credential. Of a path, too, a credential of the file's name is taken where there is one: so the same setting serves the unit, whose
 * user cannot read root's file, and root at the keyboard. */
static bool open_secret(const char *value, const char *what, int *ret_fd, struct status *st) {
    char path[2 * S3_TEXT_MAX];
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    const char *slash = strrchr(value, '/');
    struct status failed = {0};
    if (slash == NULL && directory == NULL) {
        return status_set(st, STATUS_CONFIG, "%s names the systemd credential '%.60s', and there are none here: give an absolute path", what, value);
    }
    if (directory != NULL) {
        (void)snprintf(path, sizeof path, "%.512s/%s", directory, slash != NULL ? slash + 1 : value);
        if (io_open_at(AT_FDCWD, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, ret_fd, &failed)) {
            return true;
        }
        if (slash == NULL || failed.sys_errno != ENOENT) {
            *st = failed;
            return false;
        }
    }
    return io_open_at(AT_FDCWD, value, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, ret_fd, st);
}

static bool read_secret(const char *value, const char *what, struct buf *out, struct status *st) {
    off_t size = 0;
    int fd = -1;
    struct status failed = {0};
    if (!open_secret(value, what, &fd, &failed)) {
        return failed.code == STATUS_CONFIG ? status_set(st, STATUS_CONFIG, "%s", failed.detail) : status_set(st, STATUS_CONFIG, "%s: %.250s", what, failed.detail);
    }
    bool ok = is_private(fd, what, st) && io_size(fd, &size, st);
    if (ok && size > SECRET_MAX_BYTES) {
        ok = status_set(st, STATUS_CONFIG, "the file of %s is too large for a key", what);
    }
    if (ok) {
        ok = buf_reserve(out, (size_t)size + 1) || status_no_memory(st);
        ok = ok && io_pread_full(fd, out->data, (size_t)size, 0, st);
        out->len = ok ? (size_t)size : 0;
    }
    io_close(&fd);
    return ok;
}

static void wipe_buf(struct buf *b) {
    if (b->data != NULL) {
        explicit_bzero(b->data, b->cap);
    }
    buf_fini(b);
}

void s3_keys_wipe(struct s3_keys *k) {
    explicit_bzero(k, sizeof *k);
}

/* A header is made of it. */
static bool take(char *out, size_t cap, struct slice value) {
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] <= ' ' || value.data[i] >= 0x7f) {
            return false;
        }
    }
    if (value.len == 0 || value.len >= cap) {
        return false;
    }
    memcpy(out, value.data, value.len);
    out[value.len] = '\0';
    return true;
}

/* Only the first section of the file counts; others are for others. */
static bool parse_keys(struct slice text, struct s3_keys *k) {
    struct slice line;
    unsigned sections = 0;
    bool good = true;
    while (good && next_line(&text, &line)) {
        struct slice name;
        struct slice value;
        sections += line.len > 0 && line.data[0] == '[' ? 1 : 0;
        if (sections > 1 || !split_assignment(line, &name, &value)) {
            continue;
        }
        if (slice_is(name, "aws_access_key_id")) {
            good = take(k->access_key, sizeof k->access_key, value);
        } else if (slice_is(name, "aws_secret_access_key")) {
            good = take(k->secret_key, sizeof k->secret_key, value);
        } else if (slice_is(name, "aws_session_token")) {
            good = take(k->session_token, sizeof k->session_token, value);
        }
    }
    return good && k->access_key[0] != '\0' && k->secret_key[0] != '\0';
}

static bool keys_from_environment(struct s3_keys *k, struct status *st) {
    const char *access = getenv("AWS_ACCESS_KEY_ID");
    const char *secret = getenv("AWS_SECRET_ACCESS_KEY");
    const char *token = getenv("AWS_SESSION_TOKEN");
    if (access == NULL || secret == NULL) {
        return status_set(st, STATUS_CONFIG, "there are no keys for the storage: set credentials in backup.conf, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
    }
    bool ok = take(k->access_key, sizeof k->access_key, slice_str(access)) && take(k->secret_key, sizeof k->secret_key, slice_str(secret)) &&
              (token == NULL || token[0] == '\0' || take(k->session_token, sizeof k->session_token, slice_str(token)));
    return ok || status_set(st, STATUS_CONFIG, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN is no key");
}

bool s3_keys_read(const struct s3_settings *s, struct s3_keys *ret, struct status *st) {
    struct buf text = {0};
    memset(ret, 0, sizeof *ret);
    if (s->credentials[0] == '\0') {
        return keys_from_environment(ret, st);
    }
    bool ok = read_secret(s->credentials, "credentials", &text, st);
    if (ok && !parse_keys(buf_slice(&text), ret)) {
        ok = status_set(st, STATUS_CONFIG, "the file of credentials must have the lines aws_access_key_id = ... and aws_secret_access_key = ...");
    }
    wipe_buf(&text);
    return ok;
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + DECIMAL : -1;
}

bool s3_encryption_key_read(const struct s3_settings *s, uint8_t ret[S3_KEY_BYTES], bool *ret_there, struct status *st) {
    struct buf text = {0};
    *ret_there = s->encryption_key[0] != '\0';
    if (!*ret_there) {
        return true;
    }
    bool ok = read_secret(s->encryption_key, "encryption_key", &text, st);
    struct slice hex = trim(buf_slice(&text));
    bool good = hex.len == HEX_DIGITS;
    for (size_t i = 0; ok && good && i < S3_KEY_BYTES; i++) {
        int high = hex_digit(hex.data[2 * i]);
        int low = hex_digit(hex.data[2 * i + 1]);
        good = high >= 0 && low >= 0;
        ret[i] = (uint8_t)(high << 4 | low);
    }
    if (ok && !good) {
        ok = status_set(st, STATUS_CONFIG, "the file of encryption_key must hold 64 hex digits and nothing else: openssl rand -hex 32");
    }
    wipe_buf(&text);
    return ok;
}
