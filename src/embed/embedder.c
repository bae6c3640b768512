/* embedder.c - the table of configured models. */
#include "embed/embedder.h"

#include "embed/static_model.h"

bool embed_registry_init(struct embed_registry *r, const char *default_name, struct status *st) {
    struct embed_registry made = {.count = 1};
    embed_hash_init(&made.model[0]);
    if (default_name != NULL && !embed_registry_prefer(&made, default_name, st)) {
        return false;
    }
    *r = made;
    return true;
}

bool embed_registry_add_file(struct embed_registry *r, int fd, const char *path, enum model_trust trust, struct status *st) {
    struct embedder made;
    if (r->count == EMBED_MODELS_MAX) {
        return status_set(st, STATUS_CONFIG, "there are more than %d embedding models", EMBED_MODELS_MAX);
    }
    if (!static_model_init(&made, fd, path, trust, st)) {
        return false;
    }
    if (embed_find(r, slice_str(made.name)) != NULL) {
        (void)status_set(st, STATUS_CONFIG, "the model file %s holds \"%s\", and there is such a model already", path, made.name);
        static_model_fini(&made);
        return false;
    }
    r->model[r->count++] = made;
    return true;
}

bool embed_registry_add_remote(struct embed_registry *r, const char *name, const char *where, float dense_weight, struct status *st) {
    if (r->count == EMBED_MODELS_MAX) {
        return status_set(st, STATUS_CONFIG, "there are more than %d embedding models", EMBED_MODELS_MAX);
    }
    if (embed_find(r, slice_str(name)) != NULL || strcmp(name, "none") == 0 || strlen(name) >= EMBED_NAME_MAX) {
        return status_set(st, STATUS_CONFIG, "a model cannot be called \"%.*s\": there is such a one already, or the name is too long", EMBED_NAME_MAX, name);
    }
    uint8_t number = 0;
    for (size_t i = 0; i < r->count; i++) {
        number = (uint8_t)(number + (r->model[i].remote ? 1 : 0));
    }
    struct embedder *m = &r->model[r->count++];
    *m = (struct embedder){.remote = true, .number = number, .where = where, .dense_weight = dense_weight};
    memcpy(m->name, name, strlen(name) + 1);
    return true;
}

bool embed_registry_prefer(struct embed_registry *r, const char *name, struct status *st) {
    const struct embedder *chosen = embed_find(r, slice_str(name));
    if (chosen == NULL) {
        struct buf names;
        buf_init(&names);
        for (size_t i = 0; i < r->count; i++) {
            buf_printf(&names, "%s%s", i > 0 ? ", " : "", r->model[i].name);
        }
        (void)status_set(st, STATUS_CONFIG, "embedding model \"%.*s\" is not configured; there is: %.*s", EMBED_NAME_MAX, name, (int)names.len,
                         (const char *)names.data);
        buf_fini(&names);
        return false;
    }
    r->default_model = (size_t)(chosen - r->model);
    return true;
}

void embed_registry_fini(struct embed_registry *r) {
    if (r != NULL) {
        for (size_t i = 0; i < r->count; i++) {
            if (r->model[i].fini != NULL) {
                r->model[i].fini(&r->model[i]);
            }
        }
        *r = (struct embed_registry){0};
    }
}

const struct embedder *embed_find(const struct embed_registry *r, struct slice name) {
    for (size_t i = 0; i < r->count; i++) {
        if (slice_is(name, r->model[i].name)) {
            return &r->model[i];
        }
    }
    return NULL;
}
