/*
 * doctor_config.c - the configuration, read with the server's own code, and the files that it names: keys, models, logs.
 *
 * The server checks rights by opening; this may run as another user, so rights are worked out from owners and modes (doctor_may) for the user that the server
 * has, and a file that only this user may not read is not looked at.
 */
#include "cli/doctor.h"

#include "base/io.h"
#include "embed/static_model.h"
#include "proc/listener.h"
#include "proc/models.h"
#include "proc/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool doctor_may(uid_t user, const gid_t *groups, size_t group_count, uid_t owner, gid_t group, mode_t mode, unsigned want) {
    if (user == 0)
        return true;
    if (user == owner)
        return (mode >> 6 & want) == want;
    for (size_t i = 0; i < group_count; i++)
        if (groups[i] == group)
            return (mode >> 3 & want) == want;
    return (mode & want) == want;
}

/* --- the file itself --- */

void doctor_look_at_config(struct doctor *d) {
    struct status st = {0};
    struct stat s;
    config_default(&d->config);
    if (d->config_path == NULL)
        return;
    if (stat(d->config_path, &s) != 0 || access(d->config_path, R_OK) != 0) {
        doctor_find(d, TROUBLE_CONFIG_UNREADABLE, d->config_path, "%s", strerror(errno));
        return;
    }
    if ((s.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (s.st_mode & S_IWOTH || s.st_gid != 0))
        doctor_find(d, TROUBLE_CONFIG_WRITABLE, d->config_path, "its mode is %04o", (unsigned)s.st_mode & 07777U);
    if (!config_read_file(&d->config, d->config_path, &st) || !config_check(&d->config, &st)) {
        doctor_find(d, TROUBLE_CONFIG_INVALID, d->config_path, "%s", st.detail);
        doctor_skip(d, "what the configuration names", "mend the configuration first");
        config_default(&d->config);
        return;
    }
    d->has_config = true;
    if (d->data_dir[0] == '\0')
        snprintf(d->data_dir, sizeof d->data_dir, "%s", d->config.data_dir);
}

/* --- what it names --- */

/* A secret: readable for others is a finding; returns whether this user may read it. */
static bool look_at_secret(struct doctor *d, const char *path, const char *key) {
    struct stat s;
    if (stat(path, &s) != 0)
        return errno != EACCES;
    if ((s.st_mode & S_IROTH) != 0)
        doctor_find(d, TROUBLE_SECRET_EXPOSED, path, "%s: its mode is %04o", key, (unsigned)s.st_mode & 07777U);
    return access(path, R_OK) == 0;
}

static void look_at_admin_key(struct doctor *d) {
    struct status st = {0};
    const char *path = d->config.admin_key_file;
    if (path[0] == '\0')
        return;
    struct stat s;
    bool there = stat(path, &s) == 0;
    if (there && (s.st_mode & S_IROTH) != 0)
        doctor_find(d, TROUBLE_HASH_EXPOSED, path, "its mode is %04o", (unsigned)s.st_mode & 07777U);
    if (there && access(path, R_OK) != 0) {
        doctor_skip(d, path, "this user may not read it");
    } else if (!config_read_secrets(&d->config, &st)) {
        doctor_find(d, TROUBLE_ADMIN_KEY_UNREADABLE, path, "%s", st.detail);
    } else if (d->knows_uid) {
        if (s.st_uid != d->uid && d->uid != 0 && (s.st_mode & (S_IRGRP | S_IROTH)) == 0)
            doctor_find(d, TROUBLE_ADMIN_KEY_UNREADABLE, path, "it belongs to user %u, and the server is %s", (unsigned)s.st_uid, d->user);
    }
}

/* Where scripts/serve keeps an instance's key: beside its configuration. */
static void look_at_instance_key(struct doctor *d) {
    static const char *const names[] = {"admin_key", "env"};
    char copy[PATH_MAX], path[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", d->config_path);
    const char *directory = dirname(copy);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (snprintf(path, sizeof path, "%s/%s", directory, names[i]) < (int)sizeof path)
            (void)look_at_secret(d, path, "an admin's key");
}

static void look_at_provider_keys(struct doctor *d) {
    for (size_t i = 0; i < d->config.model_count; i++) {
        const struct remote_settings *m = &d->config.models[i];
        struct status st = {0};
        struct buf key = {0};
        const char *where = m->key_file[0] != '\0' ? m->key_file : m->key_credential;
        if (m->key_file[0] != '\0' && !look_at_secret(d, m->key_file, m->name)) {
            doctor_skip(d, m->key_file, "this user may not read it");
            continue;
        }
        if (m->key_credential[0] != '\0') {
            doctor_skip(d, m->key_credential, "systemd hands this credential to the service alone");
            continue;
        }
        if (!remote_key_read(m, NULL, &key, &st))
            doctor_find(d, TROUBLE_PROVIDER_KEY, where, "model %s: %s", m->name, st.detail);
        remote_key_wipe(&key);
        if (m->ca_file[0] != '\0' && access(m->ca_file, R_OK) != 0)
            doctor_find(d, TROUBLE_PROVIDER_KEY, m->ca_file, "model %s, ca_file: %s", m->name, strerror(errno));
    }
}

static void look_at_models(struct doctor *d) {
    char path[CONFIG_PATH_MAX + sizeof STATIC_MODEL_FILE];
    struct embed_registry registry;
    struct status st = {0};
    int fd = -1;
    snprintf(path, sizeof path, "%s/%s", d->config.model_dir, STATIC_MODEL_FILE);
    if (!models_open(&d->config, &fd, &st)) {
        doctor_find(d, TROUBLE_MODEL_MISSING, path, "%s", st.detail);
        return;
    }
    if (models_init(&registry, &d->config, fd, MODEL_VERIFY, &st))
        embed_registry_fini(&registry);
    else if (st.code == STATUS_CONFIG || st.code == STATUS_NOT_FOUND || st.code == STATUS_INVALID)
        doctor_find(d, TROUBLE_DEFAULT_MODEL_UNKNOWN, d->config.default_model, "%s", st.detail);
    else
        doctor_find(d, TROUBLE_MODEL_DAMAGED, path, "%s", st.detail);
    io_close(&fd);
}

/* The groups of a user, as initgroups would set them. */
static size_t groups_of(const struct passwd *entry, gid_t *out, int most) {
    int count = most;
    return getgrouplist(entry->pw_name, entry->pw_gid, out, &count) < 0 ? (size_t)most : (size_t)count;
}

/* A log can be opened when it may be written, or is not there and its directory may be. */
static void look_at_log_file(struct doctor *d, const char *path, const char *key) {
    enum { GROUPS_MOST = 64, WRITE = 2, ENTER = 1 };
    char copy[PATH_MAX];
    gid_t groups[GROUPS_MOST];
    struct stat s;
    if (path[0] != '/')
        return;
    snprintf(copy, sizeof copy, "%s", path);
    bool there = stat(path, &s) == 0;
    const char *directory = there ? NULL : dirname(copy);
    if (!there && stat(directory, &s) != 0) {
        if (errno == EACCES)
            doctor_skip(d, path, "this user may not look there");
        else
            doctor_find(d, TROUBLE_LOG_UNWRITABLE, path, "%s: its directory: %s", key, strerror(errno));
        return;
    }
    const struct passwd *entry = d->knows_uid ? getpwuid(d->uid) : NULL;
    if (entry == NULL)
        return;
    if (!doctor_may(d->uid, groups, groups_of(entry, groups, GROUPS_MOST), s.st_uid, s.st_gid, s.st_mode, there ? WRITE : WRITE | ENTER))
        doctor_find(d, TROUBLE_LOG_UNWRITABLE, path, "%s: %s may not write there", key, d->user);
}

static void look_at_names(struct doctor *d) {
    struct peers peers;
    struct status st = {0};
    gid_t group;
    if (!listener_group(d->config.socket_group, &group, &st))
        doctor_find(d, TROUBLE_SOCKET_GROUP_UNKNOWN, d->config.socket_group, "%s", st.detail);
    if (!peers_parse(d->config.socket_peers, &peers, &st))
        doctor_find(d, TROUBLE_PEERS_UNKNOWN, d->config.socket_peers, "%s", st.detail);
}

void doctor_look_at_secrets(struct doctor *d) {
    if (!d->has_config)
        return;
    look_at_names(d);
    look_at_admin_key(d);
    if (d->config.auth == CONFIG_AUTH_ON)
        look_at_instance_key(d);
    look_at_provider_keys(d);
    look_at_models(d);
    look_at_log_file(d, d->config.log_file, "log_file");
    look_at_log_file(d, d->config.audit_log, "audit_log");
    if (d->config.snapshot_interval == 0 && d->config.snapshot_every_ops == 0)
        doctor_find(d, TROUBLE_SNAPSHOT_OFF, d->config_path, "%s", "");
}
