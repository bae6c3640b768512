/* transfer.h - what objects.c and transfer.c share. */
#ifndef QUIRE_S3_TRANSFER_H
#define QUIRE_S3_TRANSFER_H

#include "s3/objects.h"

#define S3_OBJECT_KEY_MAX 1024 /* S3's bound */

/* The object's key: the place's prefix and the name. */
MUST_CHECK bool s3_object_key(const struct s3_client *c, const char *name, char out[S3_OBJECT_KEY_MAX], struct status *st);
/* One that is not there any more is no error. */
MUST_CHECK bool s3_abort_upload(struct s3_client *c, const char *key, const char *upload_id, struct status *st);

#endif
