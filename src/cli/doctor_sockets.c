/*
 * doctor_sockets.c - the sockets between nginx and the workers: there, listened on, of the right group, and to be reached by nginx's user.
 *
 * Whether somebody listens is tried by connecting: the worker that accepts finds the connection closed and goes on.
 */
#include "cli/doctor.h"

#include "base/io.h"
#include "proc/listener.h"
#include "proc/peers.h"

#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { GROUPS_MOST = 64, ENTER = 1, READ_AND_WRITE = 6 };

struct user {
    bool known;
    uid_t uid;
    gid_t groups[GROUPS_MOST];
    size_t group_count;
    char name[DOCTOR_USER_MAX];
};

/* nginx's workers have the user of its configuration where its master is root, which may be anything else than root's. */
static void find_nginx_user(const struct doctor *d, struct user *ret) {
    size_t at = d->has_nginx ? nginx_setting(&d->nginx, NGINX_NONE, "user") : NGINX_NONE;
    const struct passwd *entry = getpwnam(at == NGINX_NONE ? "www-data" : nginx_word(&d->nginx, at, 1));
    int count = GROUPS_MOST;
    if (d->has_nginx && at == NGINX_NONE) {
        size_t pid_at = nginx_setting(&d->nginx, NGINX_NONE, "pid");
        char path[64];
        struct stat s;
        snprintf(path, sizeof path, "/proc/%ld", (long)doctor_read_pid(pid_at == NGINX_NONE ? "/run/nginx.pid" : nginx_word(&d->nginx, pid_at, 1)));
        if (stat(path, &s) == 0 && s.st_uid != 0)
            entry = getpwuid(s.st_uid);
    }
    if (entry == NULL)
        return;
    ret->known = true;
    ret->uid = entry->pw_uid;
    snprintf(ret->name, sizeof ret->name, "%s", entry->pw_name);
    ret->group_count = getgrouplist(entry->pw_name, entry->pw_gid, ret->groups, &count) < 0 ? GROUPS_MOST : (size_t)count;
}

static bool may(const struct user *u, const struct stat *s, unsigned want) {
    return doctor_may(u->uid, u->groups, u->group_count, s->st_uid, s->st_gid, s->st_mode, want);
}

/* Every directory on the way has to be entered. The first that cannot be is told. */
static bool look_at_way(struct doctor *d, const struct user *u, const char *socket) {
    char path[PATH_MAX];
    struct stat s;
    snprintf(path, sizeof path, "%s", socket);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (stat(path, &s) == 0 && !may(u, &s, ENTER)) {
            doctor_find(d, TROUBLE_RUN_DIR_CLOSED, path, "its mode is %04o, and nginx's user is %s", (unsigned)s.st_mode & 07777U, u->name);
            return false;
        }
        *slash = '/';
    }
    return true;
}

static void judge_rights(struct doctor *d, const struct user *u, const char *path, const struct stat *s) {
    struct status st;
    gid_t wanted;
    unsigned mode = (unsigned)s->st_mode & 07777U;
    if (d->config.socket_group[0] != '\0' && !d->has_unit && listener_group(d->config.socket_group, &wanted, &st) && s->st_gid != wanted)
        doctor_find(d, TROUBLE_SOCKET_GROUP, path, "it belongs to group %u, socket_group = %s is %u", (unsigned)s->st_gid, d->config.socket_group, (unsigned)wanted);
    if ((mode & (S_IRGRP | S_IWGRP)) != (S_IRGRP | S_IWGRP))
        doctor_find(d, TROUBLE_SOCKET_MODE, path, "its mode is %04o", mode);
    else if (u->known && !may(u, s, READ_AND_WRITE))
        doctor_find(d, TROUBLE_SOCKET_NGINX, path, "%s is not in its group %u", u->name, (unsigned)s->st_gid);
    if ((mode & S_IWOTH) != 0)
        doctor_find(d, TROUBLE_SOCKET_OPEN, path, "its mode is %04o", mode);
}

/* 0: somebody listens, or an errno. */
static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int error = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0 || errno == EAGAIN ? 0 : errno;
    (void)close(fd);
    return error;
}

static void look_at_socket(struct doctor *d, const struct user *u, const char *path) {
    struct stat s;
    if (stat(path, &s) != 0) {
        if (errno == EACCES)
            doctor_skip(d, path, "this user may not look there");
        else if (d->pid != 0)
            doctor_find(d, TROUBLE_SOCKET_MISSING, path, "%s", strerror(errno));
        return;
    }
    int error = connect_to(path);
    if (error == ECONNREFUSED) {
        doctor_find(d, TROUBLE_SOCKET_STALE, path, "%s", strerror(error));
        return;
    }
    if (!u->known || look_at_way(d, u, path))
        judge_rights(d, u, path, &s);
}

void doctor_look_at_sockets(struct doctor *d) {
    char path[CONFIG_PATH_MAX];
    struct user u = {.known = false};
    struct peers peers;
    struct status st;
    if (!d->has_config)
        return;
    find_nginx_user(d, &u);
    config_socket_path(&d->config, path);
    look_at_socket(d, &u, path);
    config_write_socket_path(&d->config, path);
    look_at_socket(d, &u, path);
    if (u.known && u.uid != d->uid && peers_parse(d->config.socket_peers, &peers, &st) && !peers_allow(&peers, u.uid))
        doctor_find(d, TROUBLE_PEERS_WITHOUT_NGINX, d->config.socket_peers, "nginx's user is %s", u.name);
}
