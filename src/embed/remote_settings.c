/*
 * remote_settings.c - see remote_settings.h: the URL, the combinations, the key.
 *
 * The URL is read by a few lines of ours instead of a library's, because they are the place where it is decided what Quire may ever call: scheme, host, port and
 * path out of a fixed set of characters, and nothing else. libcurl is given what was read here, put together anew.
 */
#include "embed/remote_settings.h"

#include "base/io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { HTTPS_PORT = 443, HTTP_PORT = 80, PORT_MAX = 65535, DECIMAL = 10 };

static bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool remote_name_valid(struct slice name) {
    if (name.len == 0 || name.len >= EMBED_NAME_MAX || slice_is(name, "none") || !is_alphanumeric((char)name.data[0])) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)name.data[i];
        if (!is_alphanumeric(c) && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return true;
}

/* --- the URL ------------------------------------------------------------------------------------------------------------ */

static const char *skip_scheme(const char *url, bool *ret_https) {
    static const char https[] = "https://";
    static const char http[] = "http://";
    *ret_https = strncmp(url, https, sizeof https - 1) == 0;
    if (*ret_https) {
        return url + sizeof https - 1;
    }
    return strncmp(url, http, sizeof http - 1) == 0 ? url + sizeof http - 1 : NULL;
}

/* A host name, or an address; *at is left behind it. */
static bool read_host(const char **at, struct remote_url *u) {
    bool bracket = **at == '[';
    const char *from = *at + (bracket ? 1 : 0);
    size_t len = 0;
    struct in6_addr v6;
    struct in_addr v4;
    for (; len < REMOTE_HOST_MAX - 1; len++) {
        char c = from[len];
        if (bracket ? strchr("0123456789abcdefABCDEF:.", c) == NULL || c == '\0' : !is_alphanumeric(c) && c != '.' && c != '-') {
            break;
        }
        u->host[len] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    u->host[len] = '\0';
    *at = from + len;
    if (bracket) {
        u->numeric = true;
        return *(*at)++ == ']' && inet_pton(AF_INET6, u->host, &v6) == 1;
    }
    u->numeric = inet_pton(AF_INET, u->host, &v4) == 1;
    u->local = strcmp(u->host, "localhost") == 0;
    /* "127.1", "0x7f.1" and "2130706433" are addresses to some resolvers: a name's last label begins with a letter. */
    const char *dot = strrchr(u->host, '.');
    const char *last = dot == NULL ? u->host : dot + 1;
    return len > 0 && u->host[0] != '.' && u->host[0] != '-' && (u->numeric || (*last >= 'a' && *last <= 'z'));
}

static bool read_port(const char **at, struct remote_url *u) {
    unsigned port = 0;
    u->port = u->https ? HTTPS_PORT : HTTP_PORT;
    if (**at != ':') {
        return true;
    }
    const char *from = ++*at;
    for (; **at >= '0' && **at <= '9' && port <= PORT_MAX; ++*at) {
        port = port * DECIMAL + (unsigned)(**at - '0');
    }
    u->port = (uint16_t)port;
    return *at > from && port > 0 && port <= PORT_MAX;
}

static bool read_path(const char *at, struct remote_url *u) {
    size_t len = strlen(at);
    if (len >= sizeof u->path || (len > 0 && at[0] != '/')) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(at[i]) && strchr("/._~-", at[i]) == NULL) {
            return false;
        }
    }
    while (len > 0 && at[len - 1] == '/') {
        len--;
    }
    memcpy(u->path, at, len);
    u->path[len] = '\0';
    return strstr(u->path, "/.") == NULL && strstr(u->path, "//") == NULL;
}

bool remote_url_parse(const char *url, struct remote_url *ret, struct status *st) {
    struct remote_url u = {0};
    const char *at = skip_scheme(url, &u.https);
    if (at == NULL || !read_host(&at, &u) || !read_port(&at, &u) || !read_path(at, &u)) {
        return status_set(st, STATUS_CONFIG, "must be https://HOST[:PORT][/PATH] (or http://), without user, query or fragment");
    }
    *ret = u;
    return true;
}

/* --- the settings ------------------------------------------------------------------------------------------------------- */

static bool wrong(const struct remote_settings *s, const char *key, const char *why, struct status *st) {
    return status_set(st, STATUS_CONFIG, "[model %s]: %s %s", s->name, key, why);
}

static bool check_url(const struct remote_settings *s, struct status *st) {
    struct remote_url url;
    struct status why;
    if (s->url[0] == '\0') {
        return wrong(s, "url", "is missing", st);
    }
    return remote_url_parse(s->url, &url, &why) || wrong(s, "url", why.detail, st);
}

static bool check_key(const struct remote_settings *s, struct status *st) {
    if (s->key_file[0] != '\0' && s->key_credential[0] != '\0') {
        return wrong(s, "key_file", "and key_credential are two places for one key", st);
    }
    if (s->key_file[0] != '\0' && s->key_file[0] != '/') {
        return wrong(s, "key_file", "must be an absolute path", st);
    }
    if (s->key_credential[0] == '.' || strchr(s->key_credential, '/') != NULL) {
        return wrong(s, "key_credential", "is a name, not a path", st);
    }
    return s->ca_file[0] == '\0' || s->ca_file[0] == '/' || wrong(s, "ca_file", "must be an absolute path", st);
}

static bool check_dimension(const struct remote_settings *s, struct status *st) {
    if (s->request_dimension != REMOTE_ON) {
        return true;
    }
    if (s->dialect == REMOTE_TEI) {
        return wrong(s, "request_dimension", "is nothing that tei knows", st);
    }
    return s->dimension > 0 || wrong(s, "request_dimension", "needs a dimension", st);
}

bool remote_settings_check(const struct remote_settings *s, struct status *st) {
    if (!check_url(s, st) || !check_key(s, st) || !check_dimension(s, st)) {
        return false;
    }
    if (s->model[0] == '\0' && s->dialect != REMOTE_TEI) {
        return wrong(s, "model", "is missing", st);
    }
    if (s->encoding == REMOTE_ENCODING_BASE64 && s->dialect != REMOTE_OPENAI) {
        return wrong(s, "encoding", "base64 is known to openai only", st);
    }
    if (s->connect_timeout_ms > s->timeout_ms) {
        return wrong(s, "connect_timeout_ms", "is longer than timeout_ms", st);
    }
    if (s->retry_wait_ms > s->retry_wait_max_ms) {
        return wrong(s, "retry_wait_ms", "is longer than retry_wait_max_ms", st);
    }
    return s->max_text_tokens <= s->max_batch_tokens || wrong(s, "max_text_tokens", "is more than max_batch_tokens", st);
}

/* --- the key ------------------------------------------------------------------------------------------------------------ */

void remote_key_wipe(struct buf *key) {
    if (key != NULL && key->data != NULL) {
        explicit_bzero(key->data, key->cap);
    }
    buf_fini(key);
}

/* An HTTP header's value, of one word: anything else would be sent as something that it is not. */
static bool key_printable(const struct buf *key) {
    for (size_t i = 0; i < key->len; i++) {
        if (key->data[i] <= ' ' || key->data[i] > '~') {
            return false;
        }
    }
    return key->len > 0;
}

static bool check_mode(const struct remote_settings *s, const char *path, int fd, struct status *st) {
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return status_set_errno(st, errno, "[model %s]: cannot look at %.160s", s->name, path);
    }
    if (!S_ISREG(about.st_mode)) {
        return status_set(st, STATUS_CONFIG, "[model %s]: %.160s is no file", s->name, path);
    }
    return (about.st_mode & (S_IWGRP | S_IRWXO)) == 0 ||
           status_set(st, STATUS_CONFIG, "[model %s]: %.160s holds a key, and others may read it or its group may write it: chmod 0640 or 0600", s->name, path);
}

/* Read straight into room of its own, so that no copy is left behind in memory that was freed. */
static bool read_key_file(const struct remote_settings *s, const char *path, int fd, struct buf *out, struct status *st) {
    size_t len = 0;
    if (!check_mode(s, path, fd, st)) {
        return false;
    }
    if (!buf_reserve(out, REMOTE_KEY_MAX + 1)) {
        return status_no_memory(st);
    }
    if (!io_pread(fd, out->data, REMOTE_KEY_MAX + 1, 0, &len, st)) {
        return false;
    }
    for (; len > 0 && strchr(" \t\r\n", out->data[len - 1]) != NULL; len--) {
    }
    out->len = len;
    return (len <= REMOTE_KEY_MAX && key_printable(out)) ||
           status_set(st, STATUS_CONFIG, "[model %s]: %.160s must hold the key, one word of ASCII letters, and nothing else", s->name, path);
}

bool remote_key_read(const struct remote_settings *s, const char *credentials, struct buf *out, struct status *st) {
    char path[2 * REMOTE_TEXT_MAX];
    struct status why;
    int fd = -1;
    buf_reset(out);
    if (s->key_file[0] == '\0' && s->key_credential[0] == '\0') {
        return true;
    }
    if (s->key_file[0] == '\0' && credentials == NULL) {
        return wrong(s, "key_credential", "needs a unit with LoadCredential=: systemd has handed none over", st);
    }
    (void)snprintf(path, sizeof path, "%s%s%s", s->key_file[0] != '\0' ? s->key_file : credentials, s->key_file[0] != '\0' ? "" : "/", s->key_credential);
    if (!io_open_at(AT_FDCWD, path, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, &fd, &why)) {
        return status_set(st, STATUS_CONFIG, "[model %s]: the key: %s", s->name, why.detail);
    }
    bool ok = read_key_file(s, path, fd, out, st);
    io_close(&fd);
    if (!ok) {
        remote_key_wipe(out);
    }
    return ok;
}
