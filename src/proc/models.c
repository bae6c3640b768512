/* models.c - see models.h. */
#include "proc/models.h"

#include "base/io.h"
#include "embed/static_model.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define PERCENT 100.0F

static bool wants_file(const struct config *c) {
    return c->model_dir[0] != '\0';
}

static bool file_path(const struct config *c, char *out, size_t size, struct status *st) {
    int length = snprintf(out, size, "%s/%s", c->model_dir, STATIC_MODEL_FILE);
    return (length > 0 && (size_t)length < size) || status_set(st, STATUS_CONFIG, "model_dir is too long");
}

bool models_open(const struct config *c, int *ret_fd, struct status *st) {
    char path[CONFIG_TEXT_MAX + sizeof STATIC_MODEL_FILE];
    struct status why;
    if (!wants_file(c)) {
        return io_open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0, ret_fd, st);
    }
    if (!file_path(c, path, sizeof path, st)) {
        return false;
    }
    if (io_open_at(AT_FDCWD, path, O_RDONLY, 0, ret_fd, &why)) {
        return true;
    }
    if (why.sys_errno != ENOENT && why.sys_errno != ENOTDIR && why.sys_errno != EACCES) { /* no fault of what was written down */
        return status_set(st, why.code, "model_dir: %s", why.detail);
    }
    return status_set(st, STATUS_CONFIG, "model_dir: %s; with an empty model_dir there is only hash-384", why.detail);
}

static bool add_remote(struct embed_registry *r, const struct config *c, struct status *st) {
    bool ok = true;
    for (size_t i = 0; ok && i < c->model_count; i++) {
        const struct remote_settings *m = &c->models[i];
        ok = embed_registry_add_remote(r, m->name, m->url, (float)m->dense_weight / PERCENT, st);
    }
    return ok;
}

bool models_init(struct embed_registry *r, const struct config *c, int fd, enum model_trust trust, struct status *st) {
    char path[CONFIG_TEXT_MAX + sizeof STATIC_MODEL_FILE];
    struct embed_registry made;
    if (!file_path(c, path, sizeof path, st) || !embed_registry_init(&made, NULL, st)) {
        return false;
    }
    if ((wants_file(c) && !embed_registry_add_file(&made, fd, path, trust, st)) || !add_remote(&made, c, st) || !embed_registry_prefer(&made, c->default_model, st)) {
        embed_registry_fini(&made);
        return false;
    }
    *r = made;
    return true;
}
