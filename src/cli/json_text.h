/* json_text.h - whether what was typed is JSON. */
#ifndef QUIRE_CLI_JSON_TEXT_H
#define QUIRE_CLI_JSON_TEXT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

/* Whether these bytes are one JSON value from the first to the last, blanks around it aside, by RFC 8259: no NaN, no 007, no 'a'. *ret: the value, freed by the caller; NULL is null. */
bool json_text_whole(const char *text, size_t len, struct json_object **ret);

#endif
