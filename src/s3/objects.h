/*
 * objects.h - what a backup does with a storage: list its objects, put a file up, get one, remove one, and clear away what interrupted uploads left.
 */
#ifndef QUIRE_S3_OBJECTS_H
#define QUIRE_S3_OBJECTS_H

#include "s3/client.h"
#include "s3/names.h"

struct s3_listing {
    struct s3_object *items;
    size_t count, cap;
    uint64_t foreign; /* names under the prefix that are none of ours */
    uint64_t damaged; /* objects whose size is not what their name says; not among the items */
    int64_t date_us;  /* the storage's clock when it answered last; ours where it did not say */
};
/* All objects of ours under the prefix, of one log (NULL: of all). Those whose size is not what their name says are left out: a storage that tears objects
 * has not got them. */
MUST_CHECK bool s3_list(struct s3_client *c, const struct uuid *instance, struct s3_listing *ret, struct status *st);
void s3_listing_fini(struct s3_listing *l); /* takes a zeroed one */
/* Adds one that was put up since. */
MUST_CHECK bool s3_listing_add(struct s3_listing *l, const struct s3_object *o, struct status *st);
void s3_listing_remove(struct s3_listing *l, size_t i);

struct s3_sealing {
    const uint8_t *key; /* S3_KEY_BYTES; NULL: what goes up is not encrypted, and what is encrypted cannot be read */
};

/* Reads the file for its size and hash. */
MUST_CHECK bool s3_measure(int fd, const struct s3_sealing *sealing, uint64_t max_bytes, struct s3_object *o, struct status *st);
/* Puts the file up as the object, whose size and hash are of s3_measure. It is there as a whole, or not at all. STATUS_CORRUPT: the file changed meanwhile. */
MUST_CHECK bool s3_put(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, int fd, struct status *st);
/* Gets the object into the file, which is empty, and holds it against its name. Never writes more than its name says. STATUS_CORRUPT: it is not what it was.
 * STATUS_NOT_FOUND: it is gone. */
MUST_CHECK bool s3_get(struct s3_client *c, const struct s3_sealing *sealing, const struct s3_object *o, int fd, struct status *st);
/* A missing one is no error. */
MUST_CHECK bool s3_remove(struct s3_client *c, const struct s3_object *o, struct status *st);
/* Ends the multipart uploads of this log's objects that nobody will complete. Only while nobody else uploads for it. */
MUST_CHECK bool s3_abort_uploads(struct s3_client *c, const struct uuid *instance, uint64_t *ret_count, struct status *st);

#endif
