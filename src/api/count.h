/*
 * count.h - what a worker counts of each request, in its slot of the control segment, for /metrics.
 *
 * Every counter has one writer, so counting is a load and a store, without a locked instruction: some twenty nanoseconds for a search. A worker that is killed
 * loses what it has not counted yet; what it has counted stays in the slot, and its replacement counts on from there.
 */
#ifndef QUIRE_API_COUNT_H
#define QUIRE_API_COUNT_H

#include "api/api.h"

/* Routes by what their time says; the index of control_worker.request_time. */
enum route_class { ROUTE_CLASS_SEARCH, ROUTE_CLASS_WRITE, ROUTE_CLASS_READ, ROUTE_CLASS_OTHER, ROUTE_CLASSES };

/* The work that stands in the response: searches, embeddings, documents of streams. Sets it to zero, so a stream may be counted piece by piece. */
void count_work(struct api_response *r, struct control_worker *page);
/* A reply that is sent, with its work. took_ns negative: its time says nothing, and is not counted. */
void count_reply(struct api_response *r, int64_t took_ns, struct control_worker *page);

/* Which counter a status has, and the other way round: 0 for one that this server does not give, past the last, too. */
unsigned count_status_index(int status);
int count_status(unsigned index);
/* "search" */
const char *count_class_name(enum route_class class);
/* "hybrid"; index of control_worker.searches and .candidates */
const char *count_mode_name(unsigned index);

#endif
