/* batch.h - what calls share that write many documents: each has a result of its own, and a bad one does not fail the others. */
#ifndef QUIRE_API_BATCH_H
#define QUIRE_API_BATCH_H

#include "api/document.h"
#include "api/document_write.h"

/* What became of one document. */
struct batch_item {
    struct status status;
    struct slice id; /* encoded, or empty */
    bool submitted;
};

/* Where documents go. */
struct batch_target {
    struct uuid library;
    struct library_model model; /* its dimension may be fixed by the first vector that comes */
    enum put_mode mode;
    bool embedded_only; /* each brings its chunks with their vectors; else it may */
    struct document_batch batch;
};

/* Parses one document and encodes it into the batch; what is wrong with it stands in the item. False only where the fault is not its own: the server's, or the batch
 * is full. */
MUST_CHECK bool batch_add_document(struct exchange *x, struct batch_target *target, const struct place *at, struct json_object *v,
                                   struct batch_item *item, struct status *st);
/* The status speaks of the server and not of the one document. */
bool batch_fails_all(const struct status *st);
/* success, document_id, error: the members of a result. */
void batch_item_write(struct json_out *j, const struct batch_item *item);

#endif
