/*
 * doctor_nginx.c - nginx: does it run, does its configuration lead to this server's sockets, and do the two agree on sizes, times and addresses?
 *
 * The site is the server block that passes requests to the socket of quire.conf. What nginx runs with may be older than what its files say; of that it
 * tells nobody, so its files are what is looked at.
 */
#include "cli/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DEFAULT_BODY = 1 << 20, DEFAULT_TIMEOUT_MS = 60000 };
#define DEFAULT_PID "/run/nginx.pid"
#define DEFAULT_BODY_DIRECTORY "/var/lib/nginx/body"

static bool same_file(const char *a, const char *b) {
    struct stat sa, sb;
    return strcmp(a, b) == 0 || (stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

/* The unix socket that "unix:/path" names; NULL: it names none. */
static const char *unix_path(const char *word) {
    return strncmp(word, "unix:", 5) == 0 ? word + 5 : NULL;
}

/* Whether what a pass directive says leads to the socket; other: a unix socket that it leads to instead. */
static bool leads_to(const struct nginx_conf *c, const char *target, const char *socket, const char **other) {
    target += strncmp(target, "grpc://", 7) == 0 ? 7 : 0;
    const char *direct = unix_path(target);
    if (direct != NULL) {
        *other = direct;
        return same_file(direct, socket);
    }
    for (size_t up = nginx_next(c, "upstream", 0); up != NGINX_NONE; up = nginx_next(c, "upstream", up + 1)) {
        if (strcmp(nginx_word(c, up, 1), target) != 0)
            continue;
        for (size_t s = nginx_next(c, "server", up); s != NGINX_NONE; s = nginx_next(c, "server", s + 1)) {
            const char *path = c->all[s].block == up ? unix_path(nginx_word(c, s, 1)) : NULL;
            if (path != NULL && same_file(path, socket))
                return true;
            *other = path != NULL ? path : *other;
        }
    }
    return false;
}

/* The server block around a directive; NGINX_NONE: there is none. */
static size_t server_of(const struct nginx_conf *c, size_t at) {
    while (at != NGINX_NONE && strcmp(nginx_word(c, at, 0), "server") != 0)
        at = c->all[at].block;
    return at;
}

/* The first server block that passes something to the socket. *other: a socket of a quired that one passes to instead, and its block in *ret_other. */
static size_t find_site(const struct nginx_conf *c, const char *socket, const char **other, size_t *ret_other) {
    for (size_t at = nginx_next(c, "fastcgi_pass", 0); at != NGINX_NONE; at = nginx_next(c, "fastcgi_pass", at + 1)) {
        const char *path = NULL;
        if (leads_to(c, nginx_word(c, at, 1), socket, &path))
            return server_of(c, at);
        if (path != NULL && *other == NULL && (strstr(path, "quire") != NULL || strncmp(nginx_word(c, at, 1), "quire", 5) == 0)) {
            *other = path;
            *ret_other = server_of(c, at);
        }
    }
    return NGINX_NONE;
}

static void judge_sockets(struct doctor *d) {
    char socket[CONFIG_PATH_MAX], write_socket[CONFIG_PATH_MAX];
    const char *other = NULL, *ignored = NULL;
    size_t other_site = NGINX_NONE;
    config_socket_path(&d->config, socket);
    config_write_socket_path(&d->config, write_socket);
    d->site = find_site(&d->nginx, socket, &other, &other_site);
    if (d->site == NGINX_NONE && other != NULL) {
        doctor_find(d, TROUBLE_NGINX_OTHER_SOCKET, d->nginx_path, "it passes to %s, and the server listens on %s", other, socket);
        d->site = other_site;
    } else if (d->site == NGINX_NONE) {
        doctor_find(d, TROUBLE_NGINX_NO_SITE, d->nginx_path, "nothing in it leads to %s", socket);
    } else {
        for (size_t at = nginx_next(&d->nginx, "fastcgi_pass", 0); at != NGINX_NONE; at = nginx_next(&d->nginx, "fastcgi_pass", at + 1))
            if (leads_to(&d->nginx, nginx_word(&d->nginx, at, 1), write_socket, &ignored))
                return;
        doctor_find(d, TROUBLE_NGINX_ONE_SOCKET, d->nginx_path, "nothing in it leads to %s", write_socket);
    }
}

/* --- what the site says --- */

static const char *setting(const struct doctor *d, const char *name) {
    size_t at = nginx_setting(&d->nginx, d->site, name);
    return at == NGINX_NONE ? "" : nginx_word(&d->nginx, at, 1);
}

static void judge_sizes(struct doctor *d) {
    uint64_t body = DEFAULT_BODY, timeout_ms = DEFAULT_TIMEOUT_MS;
    (void)nginx_size(setting(d, "client_max_body_size"), &body);
    (void)nginx_time(setting(d, "fastcgi_read_timeout"), &timeout_ms);
    if (body != 0 && body < d->config.limits.max_body_bytes)
        doctor_find(d, TROUBLE_NGINX_BODY, d->nginx_path, "client_max_body_size is %" PRIu64 ", max_body_bytes %" PRIu64, body, d->config.limits.max_body_bytes);
    if (timeout_ms < d->config.watchdog_request_ms)
        doctor_find(d, TROUBLE_NGINX_TIMEOUT, d->nginx_path, "fastcgi_read_timeout is %" PRIu64 " ms, watchdog_request_ms %" PRIu64, timeout_ms,
                    d->config.watchdog_request_ms);
}

/* "127.0.0.1:443", "[::1]:443", "443", "*:443", "host": the port, and whether only this machine reaches it. */
static unsigned long port_of(const char *listen, bool *ret_loopback) {
    const char *colon = strrchr(listen, ':');
    bool bracket = colon != NULL && strchr(colon, ']') != NULL;
    bool bare = listen[strspn(listen, "0123456789")] == '\0';
    *ret_loopback = strncmp(listen, "127.", 4) == 0 || strncmp(listen, "[::1]", 5) == 0 || strncmp(listen, "localhost", 9) == 0;
    if (bare)
        return strtoul(listen, NULL, 10);
    return colon == NULL || bracket ? 80 : strtoul(colon + 1, NULL, 10);
}

static bool is_name(const char *word) {
    return word[0] != '\0' && strpbrk(word, "*~$_") == NULL;
}

/* Where the client finds it, when nobody has said so: by the site's name, which the certificate is for, at the address that nginx listens on. */
static void find_url(struct doctor *d, const char *listen) {
    bool loopback;
    unsigned long port = port_of(listen, &loopback);
    const char *name = setting(d, "server_name");
    const char *colon = strrchr(listen, ':');
    bool wild = colon == NULL || listen[0] == '*' || strncmp(listen, "0.0.0.0", 7) == 0 || strncmp(listen, "[::]", 4) == 0;
    int host = wild ? 0 : (int)(colon - listen);
    if (d->url[0] != '\0')
        return;
    snprintf(d->url, sizeof d->url, "https://%s:%lu", is_name(name) ? name : "localhost", port);
    snprintf(d->connect_to, sizeof d->connect_to, "::%.*s:%lu", wild ? 9 : host, wild ? "127.0.0.1" : listen, port);
}

static void judge_addresses(struct doctor *d) {
    bool wanted_loopback, agrees = false, any = false;
    unsigned long wanted = port_of(d->config.listen, &wanted_loopback);
    char seen[160] = "";
    for (size_t at = nginx_next(&d->nginx, "listen", 0); at != NGINX_NONE; at = nginx_next(&d->nginx, "listen", at + 1)) {
        const char *listen = nginx_word(&d->nginx, at, 1);
        bool loopback;
        if (d->nginx.all[at].block != d->site || unix_path(listen) != NULL)
            continue;
        any = true;
        agrees = agrees || port_of(listen, &loopback) == wanted;
        (void)port_of(listen, &loopback);
        snprintf(seen, sizeof seen, "%s", listen);
        if (!loopback && d->config.auth == CONFIG_AUTH_OFF)
            doctor_find(d, TROUBLE_OPEN_SERVER, listen, "%s listens there, and auth is off", d->nginx_path);
        else if (!loopback && wanted_loopback)
            doctor_find(d, TROUBLE_NGINX_LISTEN, listen, "listen in quire.conf is %s", d->config.listen);
        find_url(d, listen);
    }
    if (any && !agrees)
        doctor_find(d, TROUBLE_NGINX_LISTEN, seen, "listen in quire.conf is %s", d->config.listen);
}

/* Bodies lie there while they come in, each up to its limit. */
static void judge_uploads(struct doctor *d) {
    enum { BODIES = 4 };
    const char *path = setting(d, "client_body_temp_path");
    struct statvfs v;
    char have[32];
    if (path[0] == '\0')
        path = DEFAULT_BODY_DIRECTORY;
    if (statvfs(path, &v) != 0) {
        if (errno == EACCES)
            doctor_skip(d, path, "this user may not look at it");
        return;
    }
    uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
    if (room < BODIES * d->config.limits.max_body_bytes)
        doctor_find(d, TROUBLE_UPLOAD_ROOM, path, "%s are free, and one body may have %" PRIu64 " bytes", cli_bytes(room, have), d->config.limits.max_body_bytes);
}

static void judge_running(struct doctor *d) {
    size_t at = nginx_setting(&d->nginx, NGINX_NONE, "pid");
    const char *path = at == NGINX_NONE ? DEFAULT_PID : nginx_word(&d->nginx, at, 1);
    pid_t pid = doctor_read_pid(path);
    if (access(path, R_OK) != 0 && errno == EACCES)
        doctor_skip(d, path, "this user may not read it");
    else if (!doctor_is_alive(pid, "nginx"))
        doctor_find(d, TROUBLE_NGINX_NOT_RUNNING, path, pid == 0 ? "there is no pid in it" : "process %ld is none of nginx", (long)pid);
}

void doctor_look_at_nginx(struct doctor *d) {
    struct status st = {0};
    d->site = NGINX_NONE;
    if (!d->has_config)
        return;
    if (access(d->nginx_path, F_OK) != 0 && errno == ENOENT) {
        doctor_skip(d, "nginx", "there is no %s; --nginx names its configuration", d->nginx_path);
        return;
    }
    if (!nginx_conf_read(d->nginx_path, &d->nginx, &st)) {
        doctor_skip(d, d->nginx_path, "%s", st.detail);
        return;
    }
    d->has_nginx = true;
    judge_running(d);
    judge_sockets(d);
    if (d->site == NGINX_NONE)
        return;
    judge_sizes(d);
    judge_addresses(d);
    judge_uploads(d);
}
