/* embedder.c - the table of configured models. */
#include "embed/embedder.h"

bool embed_registry_init(struct embed_registry *r, const char *default_name, struct status *st) {
    struct embed_registry made = {.count = 1};
    embed_hash_init(&made.model[0]);
    const struct embedder *chosen = default_name == NULL ? &made.model[0] : embed_find(&made, slice_str(default_name));
    if (chosen == NULL) {
        return status_set(st, STATUS_CONFIG, "embedding model \"%.*s\" is not configured; there is: %s", EMBED_NAME_MAX,
                          default_name, made.model[0].name);
    }
    made.default_model = (size_t)(chosen - made.model);
    *r = made;
    return true;
}

void embed_registry_fini(struct embed_registry *r) {
    if (r != NULL) {
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
