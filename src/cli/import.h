/* import.h - what both ways of importing share: batches over several connections (import.c), one stream (import_stream.c). */
#ifndef QUIRE_CLI_IMPORT_H
#define QUIRE_CLI_IMPORT_H

#include "cli/cli.h"
#include "cli/import_message.h"
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
    uint64_t added, replaced, present, refused, empty, removed, chunks, documents_read;
    uint64_t file_bytes; /* of files that are done */
    struct import_known known; /* what the library has of files, where */
    bool knows;                /* it could be asked */
    struct import_messages messages;
    int64_t began, last_line;
    bool terminal;
};

/* Counts a document that was refused, and keeps why for the end (import_message.h). With im->mutex held, where there are several threads. */
void import_complain(struct import *im, uint64_t order, const char *where, const char *detail);
/* Shows how far it is, if it is time. */
void import_progress(struct import *im, const struct import_source *source, bool last);
/* Sends everything through one connection after the other, each of which goes on where the one before broke. */
MUST_CHECK bool import_stream(struct import *im, struct import_source *source, struct status *st);

/* For files: counts one that is not to be sent, or tells why it cannot be. True: it is loaded, and goes to the server. With the mutex held only as import_complain says. */
MUST_CHECK bool import_settle_loaded(struct import *im, const struct import_document *d, enum import_loaded how, const struct status *why);
/* Removes the documents of files below the directory that were not met. Behind all else, when nothing has failed. */
MUST_CHECK bool import_sync(struct import *im, const struct import_source *source, struct status *st);

#endif
