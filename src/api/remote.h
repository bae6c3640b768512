/* remote.h - libraries whose vectors a provider makes: asking it, and saying how far it is. */
#ifndef QUIRE_API_REMOTE_H
#define QUIRE_API_REMOTE_H

#include "api/library.h"

struct search_input;

/* The model's dimension as its provider has last said; 0: it has said nothing yet. */
uint32_t remote_dimension(const struct exchange *x, const struct embedder *model);

/* Asks for what searches of this library will need, before a view is taken: a view that is kept while a provider thinks would keep others waiting. What goes wrong
 * is remembered, and met by the searches. False: no memory. */
MUST_CHECK bool remote_ask_ahead(struct exchange *x, const struct uuid *library, const struct search_input *inputs, size_t count, struct status *st);
/* The vector of a query that was asked ahead, where it fits the library's. */
MUST_CHECK bool remote_query(struct exchange *x, const struct library_model *m, const struct slice *texts, size_t count, float *out, struct status *st);
/* Vectors for a write that is not to be stored without them, for library m: count * *ret_dimension floats. */
MUST_CHECK bool remote_documents(struct exchange *x, const struct library_model *m, const struct slice *texts, size_t count, struct buf *values,
                                 uint32_t *ret_dimension, struct status *st);

/* "embedding": {...} of a library. */
void remote_write_embedding(struct json_out *j, const struct exchange *x, const struct library_view *view, const struct library_definition *d,
                            uint32_t embedded, uint32_t total);
/* The members that a remote model has beside others in GET /v1/models. */
void remote_write_model(struct json_out *j, const struct exchange *x, const struct embedder *model);

#endif
