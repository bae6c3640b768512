/* storage.c - see storage.h. */
#include "cli/storage.h"

#include "s3/fetch.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <unistd.h>

#define PRESET_FILE QUIRE_SYSCONFDIR "/quire/backup.conf"

static bool read_settings(const struct cli *cli, struct s3_settings *s, struct status *st) {
    const char *file = cli_text(cli, OPTION_CONFIG);
    s3_settings_default(s);
    if (file == NULL && access(PRESET_FILE, R_OK) == 0)
        file = PRESET_FILE;
    if (file != NULL && !s3_settings_read_file(s, file, st))
        return false;
    s3_settings_complete(s);
    return true;
}

bool storage_open(const struct cli *cli, const char *url, struct storage *ret, struct status *st) {
    struct s3_place place;
    bool encrypts = false;
    *ret = (struct storage){0};
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return status_set(st, STATUS_INTERNAL, "libcurl does not start");
    if (!read_settings(cli, &ret->settings, st))
        return false;
    if (url == NULL)
        url = ret->settings.to;
    if (url[0] == '\0')
        return status_set(st, STATUS_CONFIG, "say where: --to s3://BUCKET/PREFIX, or `to` in backup.conf");
    if (!s3_place_parse(url, &place, st))
        return false;
    ret->has_instance = s3_place_cut_instance(&place, &ret->instance);
    if (!s3_encryption_key_read(&ret->settings, ret->key, &encrypts, st) || !s3_client_new(&ret->settings, &place, &ret->client, st))
        return false;
    ret->sealing.key = encrypts ? ret->key : NULL;
    return true;
}

void storage_close(struct storage *s) {
    s3_client_free(s->client);
    OPENSSL_cleanse(s->key, sizeof s->key);
    curl_global_cleanup();
}

bool restore_from_storage(const struct cli *cli, const struct restore_options *options, struct restore_report *ret, struct status *st) {
    struct storage storage;
    struct s3_fetched fetched;
    bool ok = storage_open(cli, options->source, &storage, st);
    if (ok) {
        struct s3_fetch_options fetch = {.into = options->into,
                                         .to_lsn = options->to_lsn,
                                         .to_time_us = options->to_time_us,
                                         .instance = storage.has_instance ? &storage.instance : NULL,
                                         .max_bytes = options->max_bytes,
                                         .tell = options->tell,
                                         .ctx = options->ctx};
        ok = s3_fetch(storage.client, &storage.sealing, &fetch, &fetched, st);
    }
    storage_close(&storage);
    if (!ok)
        return false;
    const char *logs[CLI_LIST_MAX + 1];
    struct restore_options here = *options;
    for (size_t i = 0; i < options->log_count; i++)
        logs[i] = options->logs[i];
    logs[options->log_count] = fetched.log;
    here.source = fetched.source;
    here.logs = logs;
    here.log_count = options->log_count + 1;
    struct status left = {0};
    ok = restore_run(&here, ret, st);
    if (ok && !s3_fetched_remove(&fetched, &left))
        fprintf(stderr, "what was fetched stays in restore.fetched and may be removed: %s\n", left.detail);
    s3_fetched_close(&fetched);
    return ok;
}
