/* condition.h - `--where`: what is typed as a condition, as the interface takes it. */
#ifndef QUIRE_CLI_CONDITION_H
#define QUIRE_CLI_CONDITION_H

#include "base/status.h"

#include <json-c/json.h>

/*
 * "author eq Ida" to {"field": "author", "operator": "eq", "value": "Ida"}, which the caller frees. A value that is JSON from its begin to its end (3, true, null, "3", ["a"])
 * is taken as that, every other is the string that it is (2024-05-11, 3d-print, nullable). For "in", "3, 4" is [3, 4]. NULL: *st says what is missing.
 */
struct json_object *condition_of(const char *text, struct status *st);

#endif
