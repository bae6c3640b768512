/*
 * remote_dialect.h - what providers speak: from texts to a request's body, and from a reply's to vectors. No network, no state.
 *
 * A reply is believed in nothing. One that is not what the dialect says is refused as a whole; what its bytes cost is bounded by their number.
 */
#ifndef QUIRE_EMBED_REMOTE_DIALECT_H
#define QUIRE_EMBED_REMOTE_DIALECT_H

#include "embed/remote_settings.h"

/* What stands behind the base URL: "/embeddings". */
const char *remote_dialect_path(enum remote_dialect dialect);

/* The request for texts[count]. `out` is appended to; it remembers when memory is short. */
void remote_dialect_request(const struct remote_settings *s, enum embed_role role, const struct slice *texts, size_t count, struct buf *out);

struct remote_reply {
    struct buf floats; /* float[count * dimension], in the order of the texts, finite, not normalised */
    uint32_t dimension;
    uint64_t tokens; /* that the provider counted; 0: it does not say */
};
/* Reads a reply to `count` texts. dimension 0: any up to EMBED_MAX_DIMENSION, the same for all. false: STATUS_MALFORMED, or STATUS_NO_MEMORY; the detail speaks of places and
 * numbers, and repeats nothing of the reply. remote_reply_fini whatever it returned; *ret may be zeroed or one that was used before. */
MUST_CHECK bool remote_dialect_parse(enum remote_dialect dialect, struct slice body, size_t count, uint32_t dimension, struct remote_reply *ret,
                                     struct status *st);
void remote_reply_fini(struct remote_reply *r);
/* The most bytes that an honest reply has. */
uint64_t remote_dialect_reply_max(size_t count, uint32_t dimension, size_t request_bytes);

/* What an error's body complains of, as far as that changes what to do. Found by words, since every provider has a form of its own. */
enum remote_complaint {
    REMOTE_COMPLAINT_OTHER,
    REMOTE_COMPLAINT_TOO_LONG, /* of a text */
    REMOTE_COMPLAINT_TOO_MANY, /* of the whole: texts, or tokens in all of them */
    REMOTE_COMPLAINT_QUOTA
};
enum remote_complaint remote_dialect_complaint(struct slice body);

#endif
