/* import.h - what both ways of importing share: batches over several connections (import.c), one stream (import_stream.c). */
#ifndef QUIRE_CLI_IMPORT_H
#define QUIRE_CLI_IMPORT_H

#include "cli/cli.h"
#include "cli/import_source.h"

#include <pthread.h>

struct import_batch;

struct import {
    struct cli *cli;
    char library[64];
    pthread_mutex_t mutex;
    pthread_cond_t filled, emptied;
    struct import_batch *waiting; /* one at most: readers and senders stay close together */
    bool finished;         /* no more will come */
    bool failed;           /* stop: the server cannot be used */
    struct status why;
    uint64_t added, replaced, present, refused, chunks, documents_read;
    unsigned shown;
    int64_t began, last_line;
    bool terminal;
};

/* Counts a document that was refused, and says so for the first few. With im->mutex held, where there are several threads. */
void import_complain(struct import *im, const char *where, const char *detail);
/* Shows how far it is, if it is time. */
void import_progress(struct import *im, const struct import_source *source, bool last);
/* Sends everything through one connection after the other, each of which goes on where the one before broke. */
MUST_CHECK bool import_stream(struct import *im, struct import_source *source, struct status *st);

#endif
