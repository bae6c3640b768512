/* config_internal.h - what config.c and config_parse.c share. */
#ifndef QUIRE_PROC_CONFIG_INTERNAL_H
#define QUIRE_PROC_CONFIG_INTERNAL_H

#include "proc/config.h"

/* Not a key of the file: how the admin key's hash stands in the workers' copy. */
#define CONFIG_HERITAGE_KEY "admin_key_sha256"

/* What a section's keys begin with outside it: "model.NAME.url". */
#define CONFIG_MODEL_PREFIX "model."

/* `fields` is the struct that the key's offset counts in: a struct config, or a struct remote_settings. */
void config_store_text(void *fields, const struct config_key *key, struct slice value); /* value fits */
void config_store_number(void *fields, const struct config_key *key, uint64_t value);
void config_store_choice(void *fields, const struct config_key *key, unsigned value);
/* The section of that name, made with its presets where there is none. NULL: there are too many. The name is valid. */
struct remote_settings *config_model(struct config *c, struct slice name);
bool config_choice_number(const char *choices, struct slice word, unsigned *ret);
bool config_parse_sha256(struct slice hex, uint8_t out[CONFIG_KEY_SHA256_BYTES]);

#endif
