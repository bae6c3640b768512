/*
 * condition.h - which state of a document a request is about: ETag, If-Match, If-None-Match.
 *
 * A document's entity tag is its version (store/op.h), 16 hexadecimal digits. It says the same of the document whatever form the reply took, so a
 * "W/" before a tag (a proxy that compressed the reply puts it there) makes no difference.
 *
 * A library's has three parts, because three questions are asked of it (store/library_version.h): is the definition as it was (PATCH), is all that is in it (DELETE),
 * is what a GET shows (which has progress in it that no write made)? Each looks at as much of the tag as it needs.
 */
#ifndef QUIRE_API_CONDITION_H
#define QUIRE_API_CONDITION_H

#include "api/exchange.h"

/* The version as read here. */
uint64_t condition_version(const struct reading *rd, const struct stored_document *d);
/* The ETag header. */
void condition_reply(struct exchange *x, uint64_t version);

/* Of a GET of a document or chunk: STATUS_PRECONDITION where If-Match does not hold; *ret_unchanged: If-None-Match does not, the client has it already. */
MUST_CHECK bool condition_of_read(const struct exchange *x, uint64_t version, uint16_t subject, bool *ret_unchanged, struct status *st);
/*
 * Of a PUT, PATCH or DELETE of the document `id`: what the committer is to ask for (struct api_submission.version), and whether it must not be there yet
 * (If-None-Match: *, which only a PUT can mean). STATUS_PRECONDITION where it is clear now that If-Match does not hold; STATUS_NOT_FOUND: no such library.
 */
MUST_CHECK bool condition_of_write(struct exchange *x, const struct uuid *library, struct slice id, uint64_t *ret_version, bool *ret_absent,
                                   struct status *st);

struct library_state {
    uint64_t definition, content; /* library_version.h */
    uint64_t shown;               /* a hash of the reply */
};
enum library_part { LIBRARY_DEFINITION, LIBRARY_CONTENT /* and that */ };

void condition_reply_library(struct exchange *x, const struct library_state *state);
/* As condition_of_read. */
MUST_CHECK bool condition_of_library_read(const struct exchange *x, const struct library_state *state, bool *ret_unchanged, struct status *st);
/* Of a PATCH or DELETE of a library that is in this state (shown is not asked for). *ret_named: the client says which state it is about. */
MUST_CHECK bool condition_of_library_write(const struct exchange *x, const struct library_state *state, enum library_part part, bool *ret_named, struct status *st);

#endif
