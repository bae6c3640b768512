/*
 * config.c - the tables of keys, made from config.def, store/limits.def and embed/remote.def, and what needs no parsing: presets, printing,
 * reloading, and the checks that look at several keys at once.
 *
 * The table is the only place that knows a key's field, kind and range, so that a key is added by one line in a .def file, and
 * the example file, -t, --set, the workers' copy and the reload follow by themselves.
 */
#include "proc/config_internal.h"

#include "api/origins.h"
#include "base/io.h"
#include "proc/channel.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#define RELOAD_MARK "[reload]"

static const struct config_key keys[] = {
#define TEXT(name, preset, help) {#name, CONFIG_TEXT, offsetof(struct config, name), preset, 0, 0, 0, NULL, NULL, help},
#define NUMBER(name, preset, least, most, unit, help)                                                                            \
    {#name, CONFIG_NUMBER, offsetof(struct config, name), NULL, preset, least, most, unit, NULL, help},
#define BOUND(name, preset, least, most, unit, error, help) NUMBER(name, preset, least, most, unit, help)
#define CHOICE(name, preset, choices, help)                                                                                      \
    {#name, CONFIG_CHOICE, offsetof(struct config, name), preset, 0, 0, 0, NULL, choices, help},
#include "proc/config.def"
#undef TEXT
#undef NUMBER
#undef BOUND
#undef CHOICE
#define LIMIT(name, preset, least, most, unit, error, help)                                                                      \
    {#name, CONFIG_NUMBER, offsetof(struct config, limits.name), NULL, preset, least, most, unit, NULL, help},
#define FIXED(name, value, unit, error, help)
#include "store/limits.def"
#undef LIMIT
#undef FIXED
};
enum { KEY_COUNT = sizeof keys / sizeof keys[0] };
_Static_assert(KEY_COUNT <= CONFIG_MAX_KEYS, "the parser keeps a line number per key");

static const struct config_key model_keys[] = {
#define TEXT(name, preset, help) {#name, CONFIG_TEXT, offsetof(struct remote_settings, name), preset, 0, 0, 0, NULL, NULL, help},
#define NUMBER(name, preset, least, most, unit, help)                                                                            \
    {#name, CONFIG_NUMBER, offsetof(struct remote_settings, name), NULL, preset, least, most, unit, NULL, help},
#define CHOICE(name, preset, choices, help)                                                                                      \
    {#name, CONFIG_CHOICE, offsetof(struct remote_settings, name), preset, 0, 0, 0, NULL, choices, help},
#include "embed/remote.def"
#undef TEXT
#undef NUMBER
#undef CHOICE
};
enum { MODEL_KEY_COUNT = sizeof model_keys / sizeof model_keys[0] };
_Static_assert(MODEL_KEY_COUNT <= CONFIG_MAX_KEYS, "the parser keeps a line number per key");
_Static_assert(REMOTE_TEXT_MAX == CONFIG_TEXT_MAX, "texts of both tables are stored alike");

const struct config_key *config_keys(size_t *ret_count) {
    *ret_count = KEY_COUNT;
    return keys;
}

const struct config_key *config_model_keys(size_t *ret_count) {
    *ret_count = MODEL_KEY_COUNT;
    return model_keys;
}

bool config_key_reloads(const struct config_key *key) {
    return strncmp(key->help, RELOAD_MARK, sizeof RELOAD_MARK - 1) == 0;
}

static void *field_of(void *fields, const struct config_key *key) {
    return (uint8_t *)fields + key->offset;
}

static const void *const_field_of(const void *fields, const struct config_key *key) {
    return (const uint8_t *)fields + key->offset;
}

void config_store_text(void *fields, const struct config_key *key, struct slice value) {
    char *field = (char *)field_of(fields, key);
    size_t len = value.len < CONFIG_TEXT_MAX - 1 ? value.len : CONFIG_TEXT_MAX - 1;
    if (len > 0) {
        memcpy(field, value.data, len);
    }
    field[len] = '\0';
}

void config_store_number(void *fields, const struct config_key *key, uint64_t value) {
    memcpy(field_of(fields, key), &value, sizeof value);
}

void config_store_choice(void *fields, const struct config_key *key, unsigned value) {
    memcpy(field_of(fields, key), &value, sizeof value);
}

static uint64_t load_number(const void *fields, const struct config_key *key) {
    uint64_t value;
    memcpy(&value, const_field_of(fields, key), sizeof value);
    return value;
}

static unsigned load_choice(const void *fields, const struct config_key *key) {
    unsigned value;
    memcpy(&value, const_field_of(fields, key), sizeof value);
    return value;
}

bool config_choice_number(const char *choices, struct slice word, unsigned *ret) {
    unsigned number = 0;
    for (const char *at = choices;; number++) {
        const char *end = strchr(at, '|');
        size_t len = end == NULL ? strlen(at) : (size_t)(end - at);
        if (slice_equal(word, slice_of(at, len))) {
            *ret = number;
            return true;
        }
        if (end == NULL) {
            return false;
        }
        at = end + 1;
    }
}

void config_choice_name(const char *choices, unsigned number, char out[CONFIG_CHOICE_MAX]) {
    const char *at = choices;
    for (; number > 0; number--) {
        const char *bar = strchr(at, '|');
        at = bar == NULL ? at : bar + 1;
    }
    (void)snprintf(out, CONFIG_CHOICE_MAX, "%.*s", (int)strcspn(at, "|"), at);
}

static void set_presets(void *fields, const struct config_key *table, size_t count) {
    for (const struct config_key *key = table; key < table + count; key++) {
        unsigned choice = 0;
        switch (key->kind) {
        case CONFIG_TEXT:
            config_store_text(fields, key, slice_str(key->preset));
            break;
        case CONFIG_NUMBER:
            config_store_number(fields, key, key->preset_number);
            break;
        case CONFIG_CHOICE:
            (void)config_choice_number(key->choices, slice_str(key->preset), &choice);
            config_store_choice(fields, key, choice);
            break;
        }
    }
}

void config_default(struct config *out) {
    memset(out, 0, sizeof *out);
    set_presets(out, keys, KEY_COUNT);
}

static const struct remote_settings *find_model(const struct config *c, struct slice name) {
    for (size_t i = 0; i < c->model_count; i++) {
        if (slice_is(name, c->models[i].name)) {
            return &c->models[i];
        }
    }
    return NULL;
}

struct remote_settings *config_model(struct config *c, struct slice name) {
    const struct remote_settings *known = find_model(c, name);
    if (known != NULL) {
        return &c->models[known - c->models];
    }
    if (c->model_count == REMOTE_MODELS_MAX) {
        return NULL;
    }
    struct remote_settings *made = &c->models[c->model_count++];
    memset(made, 0, sizeof *made);
    memcpy(made->name, name.data, name.len);
    set_presets(made, model_keys, MODEL_KEY_COUNT);
    return made;
}

/* A value as the file would hold it. */
static void put_value(const void *fields, const struct config_key *key, struct buf *out) {
    char word[CONFIG_CHOICE_MAX];
    switch (key->kind) {
    case CONFIG_TEXT:
        buf_printf(out, "\"%s\"", (const char *)const_field_of(fields, key));
        break;
    case CONFIG_NUMBER:
        buf_printf(out, "%llu", (unsigned long long)load_number(fields, key));
        break;
    case CONFIG_CHOICE:
        config_choice_name(key->choices, load_choice(fields, key), word);
        buf_put_str(out, word);
        break;
    }
}

static void dump_model(const struct remote_settings *m, struct buf *out) {
    for (const struct config_key *key = model_keys; key < model_keys + MODEL_KEY_COUNT; key++) {
        buf_printf(out, CONFIG_MODEL_PREFIX "%s.%s = ", m->name, key->name);
        put_value(m, key, out);
        buf_put_str(out, "\n");
    }
}

void config_dump(const struct config *c, struct buf *out) {
    for (const struct config_key *key = keys; key < keys + KEY_COUNT; key++) {
        buf_printf(out, "%s = ", key->name);
        put_value(c, key, out);
        buf_put_str(out, "\n");
    }
    for (size_t i = 0; i < c->model_count; i++) {
        dump_model(&c->models[i], out);
    }
    if (c->has_admin_key) {
        buf_put_str(out, CONFIG_HERITAGE_KEY " = ");
        for (size_t i = 0; i < CONFIG_KEY_SHA256_BYTES; i++) {
            buf_printf(out, "%02x", c->admin_key_sha256[i]);
        }
        buf_put_str(out, "\n");
    }
}

static bool same_value(const void *a, const void *b, const struct config_key *key) {
    switch (key->kind) {
    case CONFIG_TEXT:
        return strcmp((const char *)const_field_of(a, key), (const char *)const_field_of(b, key)) == 0;
    case CONFIG_NUMBER:
        return load_number(a, key) == load_number(b, key);
    case CONFIG_CHOICE:
        return load_choice(a, key) == load_choice(b, key);
    }
    return true;
}

static void copy_value(struct config *c, const struct config *from, const struct config_key *key) {
    if (key->kind == CONFIG_TEXT) {
        config_store_text(c, key, slice_str((const char *)const_field_of(from, key)));
    } else if (key->kind == CONFIG_NUMBER) {
        config_store_number(c, key, load_number(from, key));
    } else {
        config_store_choice(c, key, load_choice(from, key));
    }
}

/* The names of changed keys that a reload leaves alone, as far as they have room. */
struct ignored {
    char *names; /* CONFIG_TEXT_MAX */
    size_t len;
    unsigned count;
};

static void PRINTF_LIKE(2, 3) ignore(struct ignored *i, const char *fmt, ...) {
    char name[CONFIG_PATH_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    int n = snprintf(i->names + i->len, CONFIG_TEXT_MAX - i->len, "%s%s", i->count == 0 ? "" : ", ", name);
    i->len = n > 0 && i->len + (size_t)n < CONFIG_TEXT_MAX ? i->len + (size_t)n : i->len;
    i->count++;
}

/* All that is said of models needs a restart. */
static void ignore_models(const struct config *c, const struct config *fresh, struct ignored *ignored) {
    for (size_t i = 0; i < c->model_count; i++) {
        const struct remote_settings *was = &c->models[i];
        const struct remote_settings *is = find_model(fresh, slice_str(was->name));
        if (is == NULL) {
            ignore(ignored, CONFIG_MODEL_PREFIX "%s", was->name);
        }
        for (const struct config_key *key = model_keys; is != NULL && key < model_keys + MODEL_KEY_COUNT; key++) {
            if (!same_value(was, is, key)) {
                ignore(ignored, CONFIG_MODEL_PREFIX "%s.%s", was->name, key->name);
            }
        }
    }
    for (size_t i = 0; i < fresh->model_count; i++) {
        if (find_model(c, slice_str(fresh->models[i].name)) == NULL) {
            ignore(ignored, CONFIG_MODEL_PREFIX "%s", fresh->models[i].name);
        }
    }
}

bool config_reload(struct config *c, const struct config *fresh, char ignored[CONFIG_TEXT_MAX], unsigned *ret_ignored) {
    bool for_workers = c->log_level != fresh->log_level || c->has_admin_key != fresh->has_admin_key ||
                       memcmp(c->admin_key_sha256, fresh->admin_key_sha256, CONFIG_KEY_SHA256_BYTES) != 0;
    struct ignored left = {.names = ignored};
    ignored[0] = '\0';
    for (const struct config_key *key = keys; key < keys + KEY_COUNT; key++) {
        if (same_value(c, fresh, key)) {
            continue;
        }
        if (config_key_reloads(key)) {
            copy_value(c, fresh, key);
        } else {
            ignore(&left, "%s", key->name);
        }
    }
    ignore_models(c, fresh, &left);
    *ret_ignored = left.count;
    c->has_admin_key = fresh->has_admin_key;
    memcpy(c->admin_key_sha256, fresh->admin_key_sha256, CONFIG_KEY_SHA256_BYTES);
    return for_workers;
}

void config_socket_path(const struct config *c, char out[CONFIG_PATH_MAX]) {
    if (c->socket[0] != '\0') {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s", c->socket);
    } else {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s/quired.sock", c->run_dir);
    }
}

void config_write_socket_path(const struct config *c, char out[CONFIG_PATH_MAX]) {
    if (c->write_socket[0] != '\0') {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s", c->write_socket);
    } else {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s/quired-writes.sock", c->run_dir);
    }
}

void config_pid_path(const struct config *c, char out[CONFIG_PATH_MAX]) {
    if (c->pid_file[0] != '\0') {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s", c->pid_file);
    } else {
        (void)snprintf(out, CONFIG_PATH_MAX, "%s/quired.pid", c->run_dir);
    }
}

void config_kernel_name(const struct config *c, char out[CONFIG_CHOICE_MAX]) {
    out[0] = '\0';
    if (c->distance_kernel == CONFIG_KERNEL_AUTO) {
        return;
    }
    for (const struct config_key *key = keys; key < keys + KEY_COUNT; key++) {
        if (key->offset == offsetof(struct config, distance_kernel)) {
            config_choice_name(key->choices, c->distance_kernel, out);
        }
    }
}

/* "127.0.0.1:8443", "[::1]:8443", "localhost:8443" or a port alone, which is every address. */
bool config_listens_on_loopback(const struct config *c) {
    char host[CONFIG_TEXT_MAX];
    const char *at = c->listen[0] == '[' ? c->listen + 1 : c->listen;
    const char *end = c->listen[0] == '[' ? strchr(at, ']') : strrchr(at, ':');
    struct in_addr v4;
    struct in6_addr v6;
    if (end == NULL) {
        end = at + strlen(at);
    }
    (void)snprintf(host, sizeof host, "%.*s", (int)(end - at), at);
    if (inet_pton(AF_INET, host, &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == IN_LOOPBACKNET;
    }
    if (inet_pton(AF_INET6, host, &v6) == 1) {
        return IN6_IS_ADDR_LOOPBACK(&v6) != 0;
    }
    return strcmp(host, "localhost") == 0;
}

static bool check_path(const char *key, const char *path, bool may_be_empty, struct status *st) {
    if (path[0] == '/' || (may_be_empty && path[0] == '\0')) {
        return true;
    }
    return status_set(st, STATUS_CONFIG, "%s must be an absolute path, not '%.200s'", key, path);
}

static bool check_socket_length(const char *path, struct status *st) {
    struct sockaddr_un address;
    /* The socket is bound under a temporary name first. */
    size_t most = sizeof address.sun_path - sizeof ".new";
    return strlen(path) <= most ||
           status_set(st, STATUS_CONFIG, "the socket's path has %zu bytes, at most %zu can be bound: %.160s", strlen(path), most,
                      path);
}

static bool check_sockets(const struct config *c, struct status *st) {
    char path[CONFIG_PATH_MAX];
    char write_path[CONFIG_PATH_MAX];
    config_socket_path(c, path);
    config_write_socket_path(c, write_path);
    if (strcmp(path, write_path) == 0) {
        return status_set(st, STATUS_CONFIG, "socket and write_socket must be two: %.160s", path);
    }
    return check_socket_length(path, st) && check_socket_length(write_path, st);
}

static bool check_together(const struct config *c, struct status *st) {
    uint64_t frame = channel_max_bytes(&c->limits);
    if (c->queue_max_bytes < frame) {
        return status_set(st, STATUS_CONFIG,
                          "queue_max_bytes (%llu) must hold at least one frame of two max_op_bytes and a bit (%llu)",
                          (unsigned long long)c->queue_max_bytes, (unsigned long long)frame);
    }
    if (c->watchdog_request_ms <= c->write_deadline_ms) {
        return status_set(st, STATUS_CONFIG, "watchdog_request_ms (%llu) must be longer than write_deadline_ms (%llu)",
                          (unsigned long long)c->watchdog_request_ms, (unsigned long long)c->write_deadline_ms);
    }
    if (c->watchdog_request_ms <= c->min_lsn_wait_ms) {
        return status_set(st, STATUS_CONFIG, "watchdog_request_ms (%llu) must be longer than min_lsn_wait_ms (%llu)",
                          (unsigned long long)c->watchdog_request_ms, (unsigned long long)c->min_lsn_wait_ms);
    }
    if (c->limits.worker_memory_bytes < 2 * c->limits.max_body_bytes) {
        return status_set(st, STATUS_CONFIG, "worker_memory_bytes (%llu) must be at least twice max_body_bytes (%llu)",
                          (unsigned long long)c->limits.worker_memory_bytes, (unsigned long long)c->limits.max_body_bytes);
    }
    return true;
}

static bool check_level(const struct config *c, struct status *st) {
    enum { MOST = 9 };
    bool nine = c->snapshot_compression == CONFIG_COMPRESSION_GZIP || c->snapshot_compression == CONFIG_COMPRESSION_XZ;
    return !nine || c->snapshot_level <= MOST ||
           status_set(st, STATUS_CONFIG, "snapshot_level = %u: gzip and xz have levels from 1 to %d", (unsigned)c->snapshot_level, MOST);
}

static bool check_models(const struct config *c, struct status *st) {
    for (size_t i = 0; i < c->model_count; i++) {
        if (!remote_settings_check(&c->models[i], st)) {
            return false;
        }
    }
    return true;
}

bool config_check(const struct config *c, struct status *st) {
    if (!check_path("data_dir", c->data_dir, false, st) || !check_path("run_dir", c->run_dir, false, st) ||
        !check_path("socket", c->socket, true, st) || !check_path("write_socket", c->write_socket, true, st) || !check_path("pid_file", c->pid_file, true, st) ||
        !check_path("log_file", c->log_file, true, st) || !check_path("model_dir", c->model_dir, true, st) || !check_path("admin_key_file", c->admin_key_file, true, st) ||
        !check_path("archive_dir", c->archive_dir, true, st) ||
        (strcmp(c->audit_log, "none") != 0 && !check_path("audit_log", c->audit_log, true, st)) ||
        !origins_check(c->cors_origins, st) || !check_sockets(c, st) || !check_together(c, st) || !check_level(c, st) ||
        !check_models(c, st)) {
        return false;
    }
    if (c->auth == CONFIG_AUTH_OFF && !config_listens_on_loopback(c)) {
        return status_set(
            st, STATUS_CONFIG,
            "auth = off opens everything to everyone, and listen = %.100s is not a loopback address: set auth = on, "
            "or let nginx listen on 127.0.0.1 or [::1] alone",
            c->listen);
    }
    return true;
}

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20; /* lower case */
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool config_parse_sha256(struct slice hex, uint8_t out[CONFIG_KEY_SHA256_BYTES]) {
    if (hex.len != 2 * CONFIG_KEY_SHA256_BYTES) {
        return false;
    }
    for (size_t i = 0; i < CONFIG_KEY_SHA256_BYTES; i++) {
        int high = hex_digit(hex.data[2 * i]);
        int low = hex_digit(hex.data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

bool config_read_secrets(struct config *c, struct status *st) {
    enum { KEY_FILE_MAX = 4096 };
    struct buf text = {0};
    uint8_t hash[CONFIG_KEY_SHA256_BYTES];
    bool ok = false;

    c->has_admin_key = false;
    memset(c->admin_key_sha256, 0, sizeof c->admin_key_sha256);
    if (c->admin_key_file[0] == '\0') {
        return true;
    }
    if (!io_read_file(AT_FDCWD, c->admin_key_file, KEY_FILE_MAX, &text, st)) {
        goto out;
    }
    while (text.len > 0 && strchr(" \t\r\n", text.data[text.len - 1]) != NULL) {
        text.len--;
    }
    if (!config_parse_sha256(buf_slice(&text), hash)) {
        (void)status_set(st, STATUS_CONFIG, "%.200s must hold the SHA-256 of the admin key, 64 hex digits and nothing else",
                         c->admin_key_file);
        goto out;
    }
    memcpy(c->admin_key_sha256, hash, sizeof hash);
    c->has_admin_key = true;
    ok = true;
out:
    buf_fini(&text);
    return ok;
}
