/*
 * settings.h - backup.conf: where a backup goes, and how.
 *
 * A file of its own and no section of quire.conf, because the server has no use for it: it has no network, and need not know where the keys of the storage
 * are. The form is that of quire.conf: "key = value" lines, '#' begins a comment, numbers may carry a unit. Keys: s3.def.
 *
 * Secrets are no settings. They are read from their files or the environment by whoever makes the client, and stand in neither arguments nor messages.
 */
#ifndef QUIRE_S3_SETTINGS_H
#define QUIRE_S3_SETTINGS_H

#include "base/buf.h"

#define S3_TEXT_MAX 512
#define S3_BUCKET_MAX 64
#define S3_PREFIX_MAX 512
#define S3_KEY_BYTES 32 /* of encryption_key */

enum s3_switch { S3_OFF, S3_ON };

struct s3_settings {
#define TEXT(name, preset, help) char name[S3_TEXT_MAX];
#define NUMBER(name, preset, least, most, unit, help) uint64_t name;
#define CHOICE(name, preset, choices, help) unsigned name;
#include "s3/s3.def"
#undef TEXT
#undef NUMBER
#undef CHOICE
};

/* The presets. */
void s3_settings_default(struct s3_settings *out);
/* Sets the keys that stand in text. `origin` is the file's name, for errors, which name the line. */
MUST_CHECK bool s3_settings_read(struct s3_settings *s, const char *origin, struct slice text, struct status *st);
MUST_CHECK bool s3_settings_read_file(struct s3_settings *s, const char *path, struct status *st);
/* Fills endpoint and region in from the environment, or with their presets. */
void s3_settings_complete(struct s3_settings *s);
/* What single values cannot show. STATUS_CONFIG. */
MUST_CHECK bool s3_settings_check(const struct s3_settings *s, struct status *st);

/* A bucket and a prefix, which is empty or ends without a slash. */
struct s3_place {
    char bucket[S3_BUCKET_MAX];
    char prefix[S3_PREFIX_MAX];
};
bool s3_is_url(const char *text); /* begins with s3:// */
MUST_CHECK bool s3_place_parse(const char *url, struct s3_place *ret, struct status *st);

struct s3_keys {
    char access_key[256];
    char secret_key[256];
    char session_token[4096]; /* "": none */
};
/* As settings->credentials says. The caller wipes it with s3_keys_wipe, also after a failure. */
MUST_CHECK bool s3_keys_read(const struct s3_settings *s, struct s3_keys *ret, struct status *st);
void s3_keys_wipe(struct s3_keys *keys);
/* As settings->encryption_key says; *ret_there false: it is empty. */
MUST_CHECK bool s3_encryption_key_read(const struct s3_settings *s, uint8_t ret[S3_KEY_BYTES], bool *ret_there, struct status *st);

#endif
