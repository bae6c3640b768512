/* init.c - see init.h. */
#include "proc/init.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/io.h"
#include "base/secret.h"
#include "base/uuid.h"
#include "durable/waiting_key.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { DIRECTORY_MODE = 0700 };

struct contents {
    bool key;   /* one waits */
    bool other; /* anything else */
};

static bool look_at(int dir_fd, const char *name, void *ctx, struct status *st) {
    struct contents *c = (struct contents *)ctx;
    (void)dir_fd;
    (void)st;
    bool key = strncmp(name, WAITING_KEY, strlen(WAITING_KEY)) == 0;
    c->key = c->key || key;
    c->other = c->other || !key;
    return true;
}

/* What is there already has its first key, or another way to one. */
static bool check_empty(const char *path, int fd, struct status *st) {
    struct contents found = {0};
    if (!io_each_entry(fd, path, look_at, &found, st)) {
        return false;
    }
    if (found.other) {
        return status_set(st, STATUS_CONFLICT, "%s is not empty: nothing was changed. In the data directory of a server, `quire key create NAME --scope admin --data %s` makes a key",
                          path, path);
    }
    return !found.key || status_set(st, STATUS_CONFLICT, "%s has its first key already, which was shown when it was made: nothing was changed. Start the server", path);
}

static bool leave_key(int fd, struct status *st) {
    struct op_key key = {.created_at = clock_wall_us(), .scopes = KEY_ADMIN, .all = true, .name = slice_str(INIT_KEY_NAME)};
    char secret[SECRET_TEXT + 1];
    uuid_make(&key.id);
    if (!secret_make(secret, st)) {
        return false;
    }
    sha256(secret, SECRET_TEXT, key.digest);
    bool ok = waiting_key_leave(fd, &key, st);
    if (ok) {
        (void)fprintf(stderr, "the first key, which may do everything; it is shown here and never again:\n");
        (void)printf("%s\n", secret);
    }
    secret_wipe(secret, sizeof secret);
    return ok;
}

bool init_data(const struct config *config, struct status *st) {
    int fd = -1;
    if (config->admin_key_file[0] != '\0') {
        return status_set(st, STATUS_CONFLICT, "admin_key_file names a key that may do everything: nothing was changed");
    }
    if (!io_mkdir_at(AT_FDCWD, config->data_dir, DIRECTORY_MODE, st) || !io_open_at(AT_FDCWD, config->data_dir, O_RDONLY | O_DIRECTORY, 0, &fd, st)) {
        return false;
    }
    bool ok = check_empty(config->data_dir, fd, st) && leave_key(fd, st);
    io_close(&fd);
    return ok;
}
