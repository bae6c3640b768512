/*
 * origins.h - a list of web origins, separated by commas, as cors_origins of quire.conf has it. "*" is any, "" none.
 */
#ifndef QUIRE_API_ORIGINS_H
#define QUIRE_API_ORIGINS_H

#include "base/buf.h"
#include "base/status.h"

/* Whether it is one: "", "*", or origins as browsers write them (scheme://host[:port], no slash behind). STATUS_CONFIG */
MUST_CHECK bool origins_check(const char *origins, struct status *st);
/* The entry that `came` is, or "*"; empty where it is none. Points into origins. */
struct slice origins_find(const char *origins, struct slice came);

#endif
