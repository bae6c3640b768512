/* library.h - libraries as this layer reads and shows them. */
#ifndef QUIRE_API_LIBRARY_H
#define QUIRE_API_LIBRARY_H

#include "api/condition.h"
#include "api/exchange.h"

#define MODEL_NONE "none" /* embedding_model of a library whose vectors come from the caller */

/* How texts of a library become vectors. */
struct library_model {
    bool by_caller;               /* embedding_model "none" */
    const struct embedder *model; /* NULL: the configuration knows the library's model no longer, or by_caller */
    uint32_t dimension;           /* 0: not fixed yet, and not known */
    uint64_t fingerprint;         /* of the vectors that there are; 0: none, or the caller's */
    uint32_t on_failure;          /* enum on_embedding_failure */
};
MUST_CHECK bool library_model_of(const struct exchange *x, const struct reading *rd, struct library_model *ret,
                                 struct status *st);
/* The same for a library by id, with a reading of its own. */
MUST_CHECK bool library_model_read(const struct exchange *x, const struct uuid *library, struct library_model *ret,
                                   struct status *st);

/* Embeds texts with the library's model: count * dimension floats. Of a remote model only queries that were asked ahead (remote.h). */
MUST_CHECK bool library_embed(struct exchange *x, const struct library_model *m, enum embed_role role, const struct slice *texts,
                              size_t count, float *out, struct status *st);

/* {id, name, num_documents, num_chunks, metadata}, and with documents the first page of their summaries. */
MUST_CHECK bool library_write(struct json_out *j, const struct exchange *x, const struct reading *rd, bool with_documents,
                              struct status *st);
/* The same with documents of one that was just created by d. */
void library_write_new(struct json_out *j, const struct exchange *x, const struct uuid *id, const struct library_definition *d);
const char *library_embedding_state(const struct library_view *view, uint32_t embedded, uint32_t total);
const char *index_type_name(uint32_t type);

/* The definition as it stands, with the dimension of its vectors; what it points to is in the pool. ret_state may be NULL. */
MUST_CHECK bool library_definition_read(struct exchange *x, const struct uuid *id, struct library_definition *ret, struct library_state *ret_state, struct status *st);
/* Says which models there are. */
void library_model_problem(struct exchange *x, const struct place *at, bool or_none);

/* Reads {M, ef_construction, ef_search} into settings. */
void index_config_read(struct exchange *x, const struct place *at, struct json_object *v, struct index_settings *settings);
bool index_type_read(struct exchange *x, const struct place *at, struct json_object *v, uint32_t *ret);

#endif
