/*
 * remote_settings.h - what the configuration says of a remote model, and the checks that need no network.
 *
 * The key is not among the settings: it is read from its place (remote_key_read) by whoever makes the client, and stands nowhere else.
 */
#ifndef QUIRE_EMBED_REMOTE_SETTINGS_H
#define QUIRE_EMBED_REMOTE_SETTINGS_H

#include "embed/embedder.h"

#define REMOTE_TEXT_MAX 512 /* as CONFIG_TEXT_MAX */
#define REMOTE_MODELS_MAX 8 /* the built-in ones need room in the table of models, too */
#define REMOTE_HOST_MAX 254
#define REMOTE_KEY_MAX 4096

/* The numbers of choices, in the order of remote.def. */
enum remote_dialect { REMOTE_OPENAI, REMOTE_COHERE, REMOTE_OLLAMA, REMOTE_TEI };
enum remote_switch { REMOTE_OFF, REMOTE_ON };
enum remote_encoding { REMOTE_ENCODING_FLOAT, REMOTE_ENCODING_BASE64 };

struct remote_settings {
    char name[EMBED_NAME_MAX]; /* of the section */
#define TEXT(name, preset, help) char name[REMOTE_TEXT_MAX];
#define NUMBER(name, preset, least, most, unit, help) uint64_t name;
#define CHOICE(name, preset, choices, help) unsigned name;
#include "embed/remote.def"
#undef TEXT
#undef NUMBER
#undef CHOICE
};

/* A URL cut in its parts. The strictest reading: what is not a plain host, port and path is refused, so nobody can read it in another way than we do. */
struct remote_url {
    bool https;
    char host[REMOTE_HOST_MAX]; /* lower case; a numeric IPv6 address without its brackets */
    bool numeric;               /* the host is an address */
    bool local;                 /* the host is "localhost" */
    uint16_t port;
    char path[REMOTE_TEXT_MAX]; /* "" or "/v1", without a slash at its end */
};
MUST_CHECK bool remote_url_parse(const char *url, struct remote_url *ret, struct status *st);

/* A name for a section: letters, digits, '.', '_' and '-', beginning with a letter or digit, and not "none". */
bool remote_name_valid(struct slice name);

/* What is missing, contradicts or cannot be: STATUS_CONFIG, naming section and key. */
MUST_CHECK bool remote_settings_check(const struct remote_settings *s, struct status *st);

/* Reads the key of key_file or key_credential (in the directory `credentials`, systemd's $CREDENTIALS_DIRECTORY; NULL: there is none) into *out, cleared
 * first; it stays empty where the settings name neither. White space at its end is cut off. A file that others may read, or that its group may write, is
 * refused. The caller wipes *out with remote_key_wipe. */
MUST_CHECK bool remote_key_read(const struct remote_settings *s, const char *credentials, struct buf *out, struct status *st);
void remote_key_wipe(struct buf *key); /* overwrites and frees */

#endif
