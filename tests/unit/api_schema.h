/* api_schema.h - holds replies against the description, data/openapi.json, which is taken from the server itself. */
#ifndef QUIRE_TESTS_API_SCHEMA_H
#define QUIRE_TESTS_API_SCHEMA_H

#include <json-c/json.h>
#include <stdbool.h>

/* Whether `reply` (NULL: no JSON body) is described for this route ("GET /health") and status. When not, `why` says what is wrong
 * and where. Media types that are not JSON are described without being looked into. */
bool schema_reply_fits(struct json_object *openapi, const char *route, int status, struct json_object *reply, char why[512]);
/* Whether a request's body fits the description of this route; false as well where the route takes none. */
bool schema_request_fits(struct json_object *openapi, const char *route, struct json_object *body, char why[512]);

#endif
