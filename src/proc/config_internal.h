/* config_internal.h - what config.c and config_parse.c share. */
#ifndef QUIRE_PROC_CONFIG_INTERNAL_H
#define QUIRE_PROC_CONFIG_INTERNAL_H

#include "proc/config.h"

/* Not a key of the file: how the admin key's hash stands in the workers' copy. */
#define CONFIG_HERITAGE_KEY "admin_key_sha256"

void config_store_text(struct config *c, const struct config_key *key, struct slice value); /* value fits */
void config_store_number(struct config *c, const struct config_key *key, uint64_t value);
void config_store_choice(struct config *c, const struct config_key *key, unsigned value);
bool config_choice_number(const char *choices, struct slice word, unsigned *ret);
bool config_parse_sha256(struct slice hex, uint8_t out[CONFIG_KEY_SHA256_BYTES]);

#endif
