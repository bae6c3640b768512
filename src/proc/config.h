/*
 * config.h - quire.conf: reading, checking and printing it.
 *
 * The file holds "key = value" lines. Behind them may stand sections, "[model NAME]", each with the keys of one remote model. A section's header is a
 * prefix: "url = ..." within it is the key "model.NAME.url", which is also how --set names it. '#' begins a comment at the start of a line or after a blank; a value that needs one stands
 * in double quotes. A number may carry a unit where its key has one: bytes take K, M, G or T (powers of 1024), durations ms, s,
 * m, h or d. A key stands in the file once; --set on the command line overrides it. Every error names file and line (or the
 * --set).
 *
 * The keys are those of config.def and of store/limits.def; of a section, those of embed/remote.def. A struct config is plain data and can be copied.
 */
#ifndef QUIRE_PROC_CONFIG_H
#define QUIRE_PROC_CONFIG_H

#include "base/buf.h"
#include "embed/remote_settings.h"
#include "store/limits.h"

#define CONFIG_TEXT_MAX 512
#define CONFIG_KEY_SHA256_BYTES 32
#define CONFIG_MAX_KEYS 128
#define CONFIG_PATH_MAX (CONFIG_TEXT_MAX + 32)
#define CONFIG_CHOICE_MAX 32

/* The numbers of choices, in the order in which config.def lists them. log_level and log_format are those of base/log.h. */
enum config_auth { CONFIG_AUTH_ON, CONFIG_AUTH_OFF };
enum config_open_metrics { CONFIG_OPEN_METRICS_OFF, CONFIG_OPEN_METRICS_LOOPBACK };
enum config_switch { CONFIG_OFF, CONFIG_ON };
enum config_compression { CONFIG_COMPRESSION_NONE, CONFIG_COMPRESSION_GZIP, CONFIG_COMPRESSION_ZSTD, CONFIG_COMPRESSION_XZ };
enum config_kernel { CONFIG_KERNEL_AUTO };

struct config {
#define TEXT(name, preset, help) char name[CONFIG_TEXT_MAX];
#define NUMBER(name, preset, least, most, unit, help) uint64_t name;
#define BOUND(name, preset, least, most, unit, error, help) uint64_t name;
#define CHOICE(name, preset, choices, help) unsigned name;
#include "proc/config.def"
#undef TEXT
#undef NUMBER
#undef BOUND
#undef CHOICE
    struct limits limits;
    struct remote_settings models[REMOTE_MODELS_MAX]; /* the sections, in the order in which they came */
    size_t model_count;

    /* not keys: what admin_key_file holds, read by config_read_secrets */
    bool has_admin_key;
    uint8_t admin_key_sha256[CONFIG_KEY_SHA256_BYTES];
};

enum config_kind { CONFIG_TEXT, CONFIG_NUMBER, CONFIG_CHOICE };

struct config_key {
    const char *name;
    enum config_kind kind;
    size_t offset;      /* of the field in struct config, or in struct remote_settings */
    const char *preset; /* TEXT and CHOICE */
    uint64_t preset_number, least, most;
    const char *unit;    /* NUMBER */
    const char *choices; /* CHOICE */
    const char *help;
};

/* All keys, those of config.def first. */
const struct config_key *config_keys(size_t *ret_count);
/* Those of a section. */
const struct config_key *config_model_keys(size_t *ret_count);
bool config_key_reloads(const struct config_key *key); /* follows SIGHUP */

void config_default(struct config *out);
/* Sets the keys that stand in text. `origin` is the file's name, for errors. */
MUST_CHECK bool config_read_text(struct config *c, const char *origin, struct slice text, struct status *st);
MUST_CHECK bool config_read_file(struct config *c, const char *path, struct status *st);
/* One "key=value" of the command line; "model.NAME.key=value" for a section, which is made where there is none of that name. */
MUST_CHECK bool config_set(struct config *c, const char *assignment, struct status *st);
/* What single values cannot show: paths, combinations of keys, an open server on a public address, what a remote model lacks. */
MUST_CHECK bool config_check(const struct config *c, struct status *st);
/* Reads admin_key_file: 64 hex digits, the SHA-256 of the key. */
MUST_CHECK bool config_read_secrets(struct config *c, struct status *st);

/* "key = value" for all keys, sections' as "model.NAME.key", and the admin key's hash as a comment-free last line that only config_read_heritage takes. */
void config_dump(const struct config *c, struct buf *out);
/* What config_dump wrote; for workers. */
MUST_CHECK bool config_read_heritage(struct config *c, struct slice text, struct status *st);

/* Takes over into `c` the [reload] keys (and the admin key) of `fresh`. Counts in *ret_ignored the other keys that differ, naming
 * them in `ignored` (comma-separated). Returns whether something that workers use has changed. */
bool config_reload(struct config *c, const struct config *fresh, char ignored[CONFIG_TEXT_MAX], unsigned *ret_ignored);

/* Paths with their presets filled in. */
void config_socket_path(const struct config *c, char out[CONFIG_PATH_MAX]);
void config_write_socket_path(const struct config *c, char out[CONFIG_PATH_MAX]);
void config_pid_path(const struct config *c, char out[CONFIG_PATH_MAX]);
/* The name for distance_init; "" where it shall choose. */
void config_kernel_name(const struct config *c, char out[CONFIG_CHOICE_MAX]);
bool config_listens_on_loopback(const struct config *c);
/* "auto", "plain", ...: the word of `choices` with that number. */
void config_choice_name(const char *choices, unsigned number, char out[CONFIG_CHOICE_MAX]);

#endif
