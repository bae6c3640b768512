/* doctor_backup.c - backups off the machine, where backup.conf says that there shall be some: its lines, its keys, and what the last backup left of itself in the data
 * directory. The storage is not asked: `quire backup` does that. */
#include "cli/doctor.h"

#include "base/io.h"
#include "s3/backup.h"
#include "s3/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_US INT64_C(86400000000)

void doctor_judge_backup(struct doctor *d, const char *path, const struct backup_state *state) {
    if (state == NULL || state->succeeded_at == 0) {
        doctor_find(d, TROUBLE_BACKUP_NONE, path, "%s", state == NULL ? "" : "it was tried, and failed");
        return;
    }
    double age_days = (double)(d->now_us - state->succeeded_at) / (double)DAY_US;
    if (age_days > 1)
        doctor_find(d, TROUBLE_BACKUP_OLD, path, "it was made %.1f days ago; %" PRIu64 " have failed since", age_days, state->failures);
    else if (state->failures > 0)
        doctor_find(d, TROUBLE_BACKUP_FAILING, path, "%" PRIu64 " in a row", state->failures);
}

/* An absolute path; another word is the name of a credential, which systemd hands to the service alone. */
static bool can_look(struct doctor *d, const char *path, const char *key) {
    struct stat s;
    if (path[0] == '\0')
        return false;
    if (path[0] != '/') {
        doctor_skip(d, path, "systemd hands this credential (%s) to the service alone", key);
        return false;
    }
    if (stat(path, &s) == 0 && (s.st_mode & S_IROTH) != 0)
        doctor_find(d, TROUBLE_SECRET_EXPOSED, path, "%s: its mode is %04o", key, (unsigned)s.st_mode & 07777U);
    if (access(path, R_OK) == 0 || errno != EACCES)
        return true;
    doctor_skip(d, path, "this user may not read it");
    return false;
}

static void look_at_keys(struct doctor *d, const struct s3_settings *settings) {
    uint8_t key[S3_KEY_BYTES];
    struct s3_keys keys;
    struct status st = {0};
    bool there;
    if (can_look(d, settings->credentials, "credentials")) {
        if (!s3_keys_read(settings, &keys, &st))
            doctor_find(d, TROUBLE_BACKUP_KEYS, settings->credentials, "%s", st.detail);
        s3_keys_wipe(&keys);
    }
    if (can_look(d, settings->encryption_key, "encryption_key")) {
        if (!s3_encryption_key_read(settings, key, &there, &st))
            doctor_find(d, TROUBLE_BACKUP_KEYS, settings->encryption_key, "%s", st.detail);
        OPENSSL_cleanse(key, sizeof key);
    }
}

static void look_at_state(struct doctor *d, const char *path) {
    struct buf text = {0};
    struct backup_state state;
    struct status st = {0};
    if (d->data_fd < 0)
        return;
    if (!io_read_file(d->data_fd, BACKUP_STATE_DIRECTORY "/" BACKUP_STATE_FILE, BACKUP_STATE_MAX, &text, &st) && st.sys_errno != ENOENT)
        doctor_skip(d, BACKUP_STATE_DIRECTORY "/" BACKUP_STATE_FILE, "%s", st.detail);
    else
        doctor_judge_backup(d, path, backup_state_parse(buf_slice(&text), &state) ? &state : NULL);
    buf_fini(&text);
}

/* That beside quire.conf: /etc/quire/backup.conf beside /etc/quire/quire.conf. */
void doctor_look_at_backup(struct doctor *d) {
    static struct s3_settings settings;
    char copy[PATH_MAX], path[PATH_MAX];
    struct status st = {0};
    if (d->config_path == NULL)
        return;
    snprintf(copy, sizeof copy, "%s", d->config_path);
    if (snprintf(path, sizeof path, "%s/backup.conf", dirname(copy)) >= (int)sizeof path || access(path, F_OK) != 0)
        return;
    if (access(path, R_OK) != 0) {
        doctor_skip(d, path, "this user may not read it");
        return;
    }
    s3_settings_default(&settings);
    if (!s3_settings_read_file(&settings, path, &st)) {
        doctor_find(d, TROUBLE_BACKUP_INVALID, path, "%s", st.detail);
        return;
    }
    s3_settings_complete(&settings);
    if (!s3_settings_check(&settings, &st)) {
        doctor_find(d, TROUBLE_BACKUP_INVALID, path, "%s", st.detail);
        return;
    }
    look_at_keys(d, &settings);
    look_at_state(d, path);
}
