/* import_message.h - what an import says of documents that it could not bring in: the first of them, in the order in which they stand in the source, whoever sent them. */
#ifndef QUIRE_CLI_IMPORT_MESSAGE_H
#define QUIRE_CLI_IMPORT_MESSAGE_H

#include "base/buf.h"

#include <stdio.h>

enum { IMPORT_MESSAGES_SHOWN = 10, IMPORT_MESSAGE_MAX = 800 };

struct import_messages {
    uint64_t count;
    struct import_message {
        uint64_t order;
        char text[IMPORT_MESSAGE_MAX];
    } first[IMPORT_MESSAGES_SHOWN]; /* by order; min(count, IMPORT_MESSAGES_SHOWN) of them */
};

/* order: the document's place in the source. where: its file, with the line, or "". detail: as the server said it (import_message_reason), or any other text. */
void import_messages_add(struct import_messages *m, uint64_t order, const char *where, const char *detail);
/* Prints and forgets them. */
void import_messages_print(struct import_messages *m, FILE *out);

/* "/documents/2/metadata/tags: is the name of a field ..." without the place in a request that nobody has seen, and with what is to be done where that is known. */
void import_message_reason(const char *detail, struct buf *out);

#endif
