/* remote_batch.h - which texts go into one call, and how much of each. */
#ifndef QUIRE_EMBED_REMOTE_BATCH_H
#define QUIRE_EMBED_REMOTE_BATCH_H

#include "embed/remote.h"

/* Tokens of so many bytes, estimated: three bytes each, and one for the text itself. English has four bytes a token, Chinese about three, code and other scripts fewer:
 * mostly too many are counted, which costs a call more, and where it is too few the provider says so. */
uint64_t remote_tokens(size_t bytes);

struct remote_batch {
    struct slice *texts; /* what is sent: beginnings, not blank ones */
    size_t *rows;        /* where each stands among all texts */
    size_t room;         /* of both arrays */
    size_t count;
    uint64_t tokens;
};
MUST_CHECK bool remote_batch_new(size_t room, struct remote_batch *ret, struct status *st);
void remote_batch_free(struct remote_batch *b);

/* How much a call may hold. */
struct remote_bounds {
    size_t texts;
    uint64_t tokens;
    size_t text_bytes;   /* of each text its beginning of so many bytes, prefix not counted */
    size_t prefix_bytes; /* that each text brings along */
};
struct remote_bounds remote_bounds_of(const struct remote_settings *s, enum embed_role role);

/* Fills *b from texts[from] on, and returns the first text that is not in it: all before it are in the batch, or blank. At least one text is taken. */
size_t remote_batch_fill(struct remote_batch *b, const struct remote_bounds *bounds, const struct slice *texts, size_t count, size_t from);

#endif
