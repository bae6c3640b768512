/* worker_stream.h - a request that comes by HTTP/2: its body is read, and its reply written, in pieces. */
#ifndef QUIRE_PROC_WORKER_STREAM_H
#define QUIRE_PROC_WORKER_STREAM_H

#include "proc/config.h"
#include "proc/intake.h"
#include "proc/worker_link.h"

/* What a worker lends for it. */
struct worker_stream {
    int fd; /* the caller's */
    struct api *api;
    struct api_response *response;
    struct control_worker *page;
    struct worker_call *call;
    struct intake *intake;
    const struct config *config;
};

/* Serves the connection's one request. */
void worker_stream_serve(const struct worker_stream *w);

#endif
