/*
 * store_fixture.h - a catalog in a directory of its own, and short ways to write to it, for the tests of store.
 *
 * Failures of the fixture itself end the program (fixture_die): they are not what a test is about.
 */
#ifndef QUIRE_TESTS_STORE_FIXTURE_H
#define QUIRE_TESTS_STORE_FIXTURE_H

#include "store/backlog.h"
#include "store/catalog.h"
#include "store/search.h"

#include <limits.h>

#define FIXTURE_WORKERS 4
#define FIXTURE_DIMENSION 24 /* of the model "test"; no multiple of a row's padding */

struct fixture {
    char dir[PATH_MAX];
    int dir_fd;
    int control_fd;
    struct control *control;
    struct limits limits;
    struct embed_registry models;
    struct catalog *catalog;
    uint64_t lsn; /* of the last op */
    struct op_effect effect;
    bool pending; /* fixture_put sends no vectors */
};

_Noreturn void fixture_die(const char *what, const struct status *st);

/* cmocka's setup and teardown: *state is a struct fixture. */
int fixture_set_up(void **state);
int fixture_tear_down(void **state);
/* Closes the catalog and opens an empty one over the same files. */
void fixture_reopen(struct fixture *f);

/* The model "test": a pseudo-random unit vector that depends on the text alone. fixture_model_fails makes it fail from then on.
 */
void fixture_embed(struct slice text, float out[FIXTURE_DIMENSION]);
extern bool fixture_model_fails;
/* Called by the model while it embeds, when set; cleared by fixture_set_up. */
extern void (*fixture_while_embedding)(void *ctx);
extern void *fixture_while_embedding_ctx;

/* The whole way of a write: decode, check, reserve, apply, publish. */
bool fixture_try(struct fixture *f, struct buf *op, struct status *st);
void fixture_commit(struct fixture *f, struct buf *op); /* must succeed */

struct uuid fixture_library_id(unsigned number);
/* model: "test", "none" or "far", a provider's. */
void fixture_library_op(struct buf *out, enum op_type type, const struct uuid *id, uint32_t index_type, const char *model);
void fixture_create(struct fixture *f, const struct uuid *id, uint32_t index_type, const char *model);

/* A document of `count` chunks: ids "<document>/<i>", texts "<text> <i>". */
void fixture_put_op(struct buf *out, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                    const char *text);
void fixture_put(struct fixture *f, const struct uuid *library, enum put_mode mode, const char *document, uint32_t count,
                 const char *text);
/* The same with vectors in the op. */
void fixture_put_vectors_op(struct buf *out, const struct uuid *library, const char *document, uint32_t count, uint32_t dimension,
                            const float *values);
/* A VECTORS of the model "far" for chunks of fixture_put with these arguments, at most 64; vectors are fixture_embed's. */
void fixture_vectors_op(struct buf *out, const struct uuid *library, uint64_t fingerprint, const char *document, uint32_t count, const char *text);
void fixture_delete_document(struct fixture *f, const struct uuid *library, const char *document);
void fixture_delete_chunk(struct fixture *f, const struct uuid *library, const char *chunk);
/* Whether inverted index and columns are what the published chunks say: every living one is held with its terms and values, lengths and totals add
 * up, frequencies are those of the living, and the validators find nothing. */
void fixture_verify_texts(struct catalog *c, const struct uuid *library);
/* Encodes a text id into out (cleared) and returns it. */
struct slice fixture_id(struct buf *out, const char *text);

/* Runs the backlog until nothing is left: embeds, then links. */
void fixture_catch_up(struct fixture *f, const struct uuid *library);

/* A small fast generator, so that runs repeat. */
uint64_t fixture_random(uint64_t *state);
void fixture_unit_vector(uint64_t *state, float *out, uint32_t dimension);

#endif
