/* storage.h - what `quire backup` and `quire restore s3://...` share: settings, keys and the client of a storage. */
#ifndef QUIRE_CLI_STORAGE_H
#define QUIRE_CLI_STORAGE_H

#include "cli/cli.h"
#include "durable/restore.h"
#include "s3/objects.h"

struct storage {
    struct s3_settings settings;
    struct s3_client *client;
    struct s3_sealing sealing;
    uint8_t key[S3_KEY_BYTES];
    struct uuid instance; /* of the log, where the URL ends with one */
    bool has_instance;
};

/* url NULL: as the file of --config says. To be closed, also after a failure. */
MUST_CHECK bool storage_open(const struct cli *cli, const char *url, struct storage *ret, struct status *st);
void storage_close(struct storage *s);

/* options->source is the URL. */
MUST_CHECK bool restore_from_storage(const struct cli *cli, const struct restore_options *options, struct restore_report *ret, struct status *st);

#endif
