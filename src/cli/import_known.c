/* import_known.c - see import_known.h. */
#include "cli/import_known.h"

#include "cli/request.h"

#include <stdlib.h>

/* Those that have a content_sha256. */
#define FILTER "{\"not\":{\"field\":\"content_sha256\",\"operator\":\"eq\",\"value\":null}}"
#define FILE_URL "file://"
#define FILE_ID "file:/"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The path of a file: URL, percent-decoded in place; a malformed one ends where it is. */
static char *path_of_url(const char *url) {
    char *path = strdup(url + sizeof FILE_URL - 1), *to = path;
    for (const char *from = path; path != NULL && *from != '\0'; from++) {
        int high = from[0] == '%' ? hex_digit(from[1]) : -1, low = high >= 0 ? hex_digit(from[2]) : -1;
        *to++ = low >= 0 ? (char)(uint8_t)(high * 16 + low) : *from;
        from += low >= 0 ? 2 : 0;
    }
    if (to != NULL)
        *to = '\0';
    return path;
}

static bool add(struct import_known *k, struct json_object *document, struct status *st) {
    struct json_object *metadata = member(document, "metadata");
    const char *id = member_text(document, "id"), *sum = member_text(metadata, "content_sha256"), *url = member_text(metadata, "source_url");
    if (sum[0] == '\0')
        return true;
    if (k->count == k->room) {
        size_t room = k->room > 0 ? 2 * k->room : 1024;
        void *grown = realloc(k->files, room * sizeof *k->files);
        if (grown == NULL)
            return status_no_memory(st);
        k->files = grown;
        k->room = room;
    }
    struct import_known_file *f = &k->files[k->count];
    *f = (struct import_known_file){.id = strdup(id)};
    (void)snprintf(f->content_sha256, sizeof f->content_sha256, "%s", sum);
    if (f->id == NULL)
        return status_no_memory(st);
    if (strncmp(url, FILE_URL, sizeof FILE_URL - 1) == 0)
        f->path = path_of_url(url);
    else if (strncmp(id, FILE_ID, sizeof FILE_ID - 1) == 0)
        f->path = strdup(id + sizeof FILE_ID - 2);
    k->count++;
    return true;
}

static int by_id(const void *a, const void *b) {
    return strcmp(((const struct import_known_file *)a)->id, ((const struct import_known_file *)b)->id);
}

static bool take_page(struct import_known *k, struct json_object *page, struct status *st) {
    size_t count = json_object_is_type(page, json_type_array) ? json_object_array_length(page) : 0;
    for (size_t i = 0; i < count; i++) {
        if (!add(k, json_object_array_get_idx(page, i), st))
            return false;
    }
    return true;
}

bool import_known_load(struct import_known *k, struct cli *cli, const char *library, struct status *st) {
    char next[2048] = "";
    struct request r = {0};
    bool ok = request_path(&r, st, "/v1/libraries/", library, "/documents?limit=1000", "", "&filter=", FILTER, NULL);
    if (ok)
        (void)snprintf(next, sizeof next, "%s", (const char *)r.path.data);
    request_fini(&r);
    while (ok && next[0] != '\0') {
        struct client_reply reply;
        ok = client_call(cli->client, "GET", next, slice_of(NULL, 0), true, &reply, st);
        if (!ok)
            break;
        ok = take_page(k, reply.json, st);
        (void)snprintf(next, sizeof next, "%s", reply.next);
        client_reply_fini(&reply);
    }
    if (ok && k->count > 0)
        qsort(k->files, k->count, sizeof *k->files, by_id);
    if (!ok)
        import_known_fini(k);
    return ok;
}

void import_known_fini(struct import_known *k) {
    for (size_t i = 0; i < k->count; i++) {
        free(k->files[i].id);
        free(k->files[i].path);
    }
    free(k->files);
    *k = (struct import_known){0};
}

struct import_known_file *import_known_find(const struct import_known *k, const char *id) {
    size_t low = 0, high = k->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(id, k->files[middle].id);
        if (order == 0)
            return &k->files[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool import_known_is_below(const struct import_known_file *f, const char *root) {
    size_t len = strlen(root);
    while (len > 1 && root[len - 1] == '/')
        len--;
    if (f->path == NULL || strncmp(f->path, root, len) != 0)
        return false;
    return f->path[len] == '/' || f->path[len] == '\0' || (len == 1 && root[0] == '/');
}
