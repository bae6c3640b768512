/*
 * objects.c - see objects.h: listing, removing, and what interrupted uploads left. transfer.c puts up and gets.
 */
#include "s3/objects.h"

#include "base/clock.h"
#include "s3/transfer.h"
#include "s3/xml.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FIRST_CAP = 64, ROUNDS_MAX = 8 };

bool s3_object_key(const struct s3_client *c, const char *name, char out[S3_OBJECT_KEY_MAX], struct status *st) {
    const char *prefix = s3_client_place(c)->prefix;
    int len = snprintf(out, S3_OBJECT_KEY_MAX, "%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", name);
    return (len > 0 && len < S3_OBJECT_KEY_MAX) || status_set(st, STATUS_TOO_LARGE, "the name of an object is too long");
}

/* --- the list --------------------------------------------------------------------------------------------------------------- */

void s3_listing_fini(struct s3_listing *l) {
    free(l->items);
    *l = (struct s3_listing){0};
}

bool s3_listing_add(struct s3_listing *l, const struct s3_object *o, struct status *st) {
    if (l->count == l->cap) {
        size_t cap = l->cap == 0 ? FIRST_CAP : 2 * l->cap;
        struct s3_object *grown = (struct s3_object *)realloc(l->items, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(st);
        }
        l->items = grown;
        l->cap = cap;
    }
    l->items[l->count++] = *o;
    return true;
}

void s3_listing_remove(struct s3_listing *l, size_t i) {
    l->count--;
    memmove(l->items + i, l->items + i + 1, (l->count - i) * sizeof *l->items);
}

/* One page of a listing, as it is read. */
struct page {
    struct s3_listing *listing;
    uint64_t max_objects;
    const struct uuid *instance;
    const char *prefix; /* what keys begin with */
    char key[XML_TEXT_MAX];
    uint64_t size;
    int64_t modified_us;
    bool truncated;
    bool is_listing;
    char token[XML_TEXT_MAX];
};

static bool take_object(struct page *p, struct status *st) {
    struct s3_object o;
    size_t len = strlen(p->prefix);
    if (strncmp(p->key, p->prefix, len) != 0 || !s3_object_parse(p->key + len, &o) || (p->instance != NULL && !uuid_equal(&o.instance, p->instance))) {
        p->listing->foreign++;
        return true;
    }
    if (p->size != s3_object_bytes(&o)) {
        p->listing->damaged++;
        return true;
    }
    if (p->listing->count >= p->max_objects) {
        return status_set(st, STATUS_TOO_LARGE, "the backup has more than %" PRIu64 " objects (max_objects)", p->max_objects);
    }
    o.modified_us = p->modified_us;
    return s3_listing_add(p->listing, &o, st);
}

static bool take_listing(const struct xml_item *item, void *ctx, struct status *st) {
    struct page *p = (struct page *)ctx;
    if (strcmp(item->path, "ListBucketResult") == 0) {
        p->is_listing = item->end;
    } else if (!item->end) {
        if (strcmp(item->path, "ListBucketResult/Contents") == 0) {
            p->key[0] = '\0';
            p->size = UINT64_MAX;
            p->modified_us = 0;
        }
    } else if (strcmp(item->path, "ListBucketResult/Contents/Key") == 0) {
        (void)snprintf(p->key, sizeof p->key, "%s", item->text);
    } else if (strcmp(item->path, "ListBucketResult/Contents/Size") == 0) {
        p->size = strtoull(item->text, NULL, 10);
    } else if (strcmp(item->path, "ListBucketResult/Contents/LastModified") == 0) {
        if (!rfc3339_parse(slice_str(item->text), &p->modified_us)) {
            return status_set(st, STATUS_MALFORMED, "the storage's listing has a time that is none");
        }
    } else if (strcmp(item->path, "ListBucketResult/Contents") == 0) {
        return take_object(p, st);
    } else if (strcmp(item->path, "ListBucketResult/IsTruncated") == 0) {
        p->truncated = strcmp(item->text, "true") == 0;
    } else if (strcmp(item->path, "ListBucketResult/NextContinuationToken") == 0) {
        (void)snprintf(p->token, sizeof p->token, "%s", item->text);
    }
    return true;
}

/* An answer that is cut short, or no XML, is asked for again. */
static bool ask_page(struct s3_client *c, const struct s3_request *request, xml_item_fn fn, struct page *p, struct status *st) {
    for (unsigned number = 1;; number++) {
        struct s3_reply reply;
        struct s3_listing before = *p->listing;
        struct status why = {0};
        if (!s3_do(c, request, &reply, NULL, st)) {
            return false;
        }
        p->truncated = false;
        p->is_listing = false;
        p->token[0] = '\0';
        bool ok = xml_read(buf_slice(&reply.body), fn, p, &why);
        if (ok && !p->is_listing) {
            ok = status_set(&why, STATUS_MALFORMED, "the storage's answer is no listing");
        }
        p->listing->date_us = reply.date_us != 0 ? reply.date_us : clock_wall_us();
        s3_reply_fini(&reply);
        if (ok) {
            return true;
        }
        if (why.code != STATUS_MALFORMED || number > s3_client_settings(c)->retries) {
            *st = why;
            return false;
        }
        p->listing->count = before.count;
        p->listing->foreign = before.foreign;
        p->listing->damaged = before.damaged;
        s3_pause(c, number);
    }
}

static bool make_prefix(const struct s3_client *c, const struct uuid *instance, char out[S3_OBJECT_KEY_MAX], size_t *ret_own, struct status *st) {
    char name[UUID_TEXT + 2] = "";
    if (!s3_object_key(c, "", out, st)) {
        return false;
    }
    *ret_own = strlen(out);
    if (instance != NULL) {
        uuid_format(instance, name);
        name[UUID_TEXT] = '/';
        name[UUID_TEXT + 1] = '\0';
    }
    return s3_object_key(c, name, out, st);
}

bool s3_list(struct s3_client *c, const struct uuid *instance, struct s3_listing *ret, struct status *st) {
    char asked[S3_OBJECT_KEY_MAX];
    char prefix[S3_OBJECT_KEY_MAX];
    char token[XML_TEXT_MAX] = "";
    size_t own = 0;
    struct s3_listing l = {0};
    struct page *p = (struct page *)calloc(1, sizeof *p);
    if (p == NULL) {
        return status_no_memory(st);
    }
    bool ok = make_prefix(c, instance, asked, &own, st);
    bool more = ok;
    (void)snprintf(prefix, sizeof prefix, "%.*s", (int)own, asked);
    *p = (struct page){.listing = &l, .instance = instance, .prefix = prefix, .max_objects = s3_client_settings(c)->max_objects};
    for (uint64_t pages = 0; ok && more; pages++) {
        struct s3_param params[] = {{"list-type", "2"}, {"prefix", asked}, {"continuation-token", token}};
        struct s3_request request = {.method = "GET", .params = params, .param_count = token[0] != '\0' ? 3 : 2};
        ok = ask_page(c, &request, take_listing, p, st);
        more = ok && p->truncated;
        if (more && (p->token[0] == '\0' || strcmp(p->token, token) == 0 || pages > p->max_objects)) {
            ok = status_set(st, STATUS_MALFORMED, "the storage's listing does not end");
        }
        memcpy(token, p->token, sizeof token);
    }
    free(p);
    if (!ok) {
        s3_listing_fini(&l);
        return false;
    }
    *ret = l;
    return true;
}

bool s3_remove(struct s3_client *c, const struct s3_object *o, struct status *st) {
    char name[S3_NAME_MAX];
    char key[S3_OBJECT_KEY_MAX];
    struct s3_reply reply;
    s3_object_name(o, name);
    struct s3_request request = {.method = "DELETE", .key = key, .may_be_missing = true};
    if (!s3_object_key(c, name, key, st) || !s3_do(c, &request, &reply, NULL, st)) {
        return false;
    }
    s3_reply_fini(&reply);
    return true;
}

/* --- what interrupted uploads left ------------------------------------------------------------------------------------------ */

struct uploads {
    struct page page; /* first: ask_page knows that */
    struct s3_client *client;
    char id[XML_TEXT_MAX];
    uint64_t aborted;
};

static bool take_upload(const struct xml_item *item, void *ctx, struct status *st) {
    struct uploads *u = (struct uploads *)ctx;
    struct s3_object o;
    if (strcmp(item->path, "ListMultipartUploadsResult") == 0) {
        u->page.is_listing = item->end;
    } else if (!item->end) {
        return true;
    } else if (strcmp(item->path, "ListMultipartUploadsResult/Upload/Key") == 0) {
        (void)snprintf(u->page.key, sizeof u->page.key, "%s", item->text);
    } else if (strcmp(item->path, "ListMultipartUploadsResult/Upload/UploadId") == 0) {
        (void)snprintf(u->id, sizeof u->id, "%s", item->text);
    } else if (strcmp(item->path, "ListMultipartUploadsResult/IsTruncated") == 0) {
        u->page.truncated = strcmp(item->text, "true") == 0;
    } else if (strcmp(item->path, "ListMultipartUploadsResult/Upload") == 0) {
        size_t len = strlen(u->page.prefix);
        bool ours = strncmp(u->page.key, u->page.prefix, len) == 0 && s3_object_parse(u->page.key + len, &o) && uuid_equal(&o.instance, u->page.instance);
        if (ours && u->id[0] != '\0') {
            u->aborted++;
            return s3_abort_upload(u->client, u->page.key, u->id, st);
        }
    }
    return true;
}

bool s3_abort_uploads(struct s3_client *c, const struct uuid *instance, uint64_t *ret_count, struct status *st) {
    char asked[S3_OBJECT_KEY_MAX];
    char prefix[S3_OBJECT_KEY_MAX];
    size_t own = 0;
    struct s3_listing unused = {0};
    struct uploads *u = (struct uploads *)calloc(1, sizeof *u);
    if (u == NULL) {
        return status_no_memory(st);
    }
    bool ok = make_prefix(c, instance, asked, &own, st);
    (void)snprintf(prefix, sizeof prefix, "%.*s", (int)own, asked);
    u->page = (struct page){.listing = &unused, .instance = instance, .prefix = prefix, .truncated = true};
    u->client = c;
    struct s3_param params[] = {{"uploads", ""}, {"prefix", asked}};
    struct s3_request request = {.method = "GET", .params = params, .param_count = 2};
    /* Those that are aborted are not listed again; a storage that lists them none the less is not asked for ever. */
    for (unsigned round = 0; ok && u->page.truncated && round < ROUNDS_MAX; round++) {
        ok = ask_page(c, &request, take_upload, &u->page, st);
    }
    *ret_count = ok ? u->aborted : 0;
    free(u);
    return ok;
}
