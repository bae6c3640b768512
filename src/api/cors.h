/*
 * cors.h - which pages of other origins may read replies: cors_origins of quire.conf (origins.h).
 */
#ifndef QUIRE_API_CORS_H
#define QUIRE_API_CORS_H

#include "api/exchange.h"

/* The headers of every reply; without cors_origins none. */
void cors_put(struct exchange *x);
/* Answers a browser that asks whether a page may make a call; false: the request asks no such thing, or for a page that may not. */
bool cors_preflight(struct exchange *x);

#endif
