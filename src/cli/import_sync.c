/*
 * import_sync.c - quire import --sync: what vanished from a directory goes from the library, too.
 *
 * Only documents that an import made of files below this directory are touched. Nothing is removed when something could not be looked at, since it may still be there, or
 * when nothing at all was found, as below a disk that is not mounted.
 */
#include "cli/import.h"

#include "cli/request.h"

#include <stdlib.h>

enum { AT_ONCE = 1000 };

static bool remove_some(struct import *im, struct json_object *ids, struct status *st) {
    struct client_reply reply;
    struct request r = {.body = json_object_new_object()};
    json_object_object_add(r.body, "document_ids", json_object_get(ids));
    bool ok = request_path(&r, st, "/v1/libraries/", im->library, "/documents/batch-delete", NULL) &&
              client_call(im->cli->client, "POST", (const char *)r.path.data, slice_str(json_object_to_json_string_ext(r.body, JSON_C_TO_STRING_PLAIN)), true, &reply, st);
    request_fini(&r);
    if (!ok)
        return false;
    im->removed += (uint64_t)member_int(reply.json, "successful");
    client_reply_fini(&reply);
    return true;
}

static bool may_remove(const struct import *im, const struct import_source *source, size_t below, size_t gone, struct status *st) {
    const char *root = import_source_root(source);
    if (import_source_passed(source)->unreadable > 0)
        return status_set(st, STATUS_INVALID, "nothing was removed: not everything in %s could be looked at", root);
    if (gone > 0 && gone == below && im->documents_read == 0 && !cli_has(im->cli, OPTION_YES))
        return status_set(st, STATUS_INVALID, "nothing was removed: nothing was found in %s, and all of its %zu documents would go. --yes removes them", root, gone);
    return true;
}

bool import_sync(struct import *im, const struct import_source *source, struct status *st) {
    const struct import_known *k = &im->known;
    size_t below = 0, gone = 0;
    if (!im->knows)
        return status_set(st, STATUS_DENIED, "--sync needs a key that may read, to see what is there");
    for (size_t i = 0; i < k->count; i++) {
        bool here = import_known_is_below(&k->files[i], import_source_root(source));
        below += here ? 1 : 0;
        gone += here && !k->files[i].seen ? 1 : 0;
    }
    if (!may_remove(im, source, below, gone, st))
        return false;
    struct json_object *ids = json_object_new_array();
    bool ok = true;
    for (size_t i = 0; ok && i < k->count; i++) {
        if (!k->files[i].seen && import_known_is_below(&k->files[i], import_source_root(source)))
            json_object_array_add(ids, json_object_new_string(k->files[i].id));
        if (json_object_array_length(ids) == AT_ONCE || (i + 1 == k->count && json_object_array_length(ids) > 0)) {
            ok = remove_some(im, ids, st);
            json_object_put(ids);
            ids = json_object_new_array();
        }
    }
    json_object_put(ids);
    return ok;
}
