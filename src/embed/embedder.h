/*
 * embedder.h - what turns text into vectors: the interface, and the table of the configured models.
 *
 * Static models, remote models and later a transformer in process stand behind the same few functions. A model is named by its
 * configuration name ("hash-384") and known by its fingerprint, which changes whenever the same text would get another vector.
 */
#ifndef QUIRE_EMBED_EMBEDDER_H
#define QUIRE_EMBED_EMBEDDER_H

#include "base/buf.h"

#define EMBED_NAME_MAX 64
#define EMBED_MAX_DIMENSION 4096
#define EMBED_MODELS_MAX 16

struct wordpiece;

enum embed_role { EMBED_QUERY, EMBED_DOCUMENT };

struct embedder {
    char name[EMBED_NAME_MAX];
    uint32_t dimension;
    uint64_t fingerprint;
    bool remote;       /* a provider makes its vectors: dimension and fingerprint are known only to those who have asked it, 0 here, and there is no embed */
    uint8_t number;    /* among the remote ones, in the order of the configuration's sections */
    const char *where; /* "in process", or the host that computes it */
    float dense_weight; /* 0 to 1: the share of the vectors with which a weighted fusion of words and vectors finds best; measured */
    /* texts[count], valid UTF-8 -> out[count * dimension], unit length, or all zero where the text has nothing the model knows.
     * Thread-safe. In-process models fail only for memory. The same text gives the same bits on every CPU and in every process. */
    bool (*embed)(const struct embedder *e, enum embed_role role, const struct slice *texts, size_t count, float *out,
                  struct status *st);
    void (*fini)(struct embedder *e); /* NULL: there is nothing to free */
    void *state;                      /* the model's own, read-only after setup */
    const struct wordpiece *vocabulary; /* what its tokens are; NULL: they are not known here, and estimated */
};

/* hash-384: signed feature hashing (Weinberger et al. 2009) of words and character n-grams with sublinear term frequency. No weights. */
void embed_hash_init(struct embedder *out);

/* The models of a configuration. Owned by the caller; models stay at their address. */
struct embed_registry {
    struct embedder model[EMBED_MODELS_MAX];
    size_t count;
    size_t default_model; /* index */
};
/* The table begins with what needs no file. default_name NULL: the first. */
MUST_CHECK bool embed_registry_init(struct embed_registry *r, const char *default_name, struct status *st);
/* Whether the whole file is read for its checksum (milliseconds), or another process has done that with the same open file. */
enum model_trust { MODEL_VERIFY, MODEL_VERIFIED };
/* Adds the model of a file (static_model.h); path is for messages. */
MUST_CHECK bool embed_registry_add_file(struct embed_registry *r, int fd, const char *path, enum model_trust trust, struct status *st);
/* Adds a provider's model. `where` is borrowed; dense_weight as above. */
MUST_CHECK bool embed_registry_add_remote(struct embed_registry *r, const char *name, const char *where, float dense_weight, struct status *st);
/* Makes it the default. */
MUST_CHECK bool embed_registry_prefer(struct embed_registry *r, const char *name, struct status *st);
void embed_registry_fini(struct embed_registry *r);
/* NULL when there is no such model. "none" is never a model: it means that the caller brings vectors. */
const struct embedder *embed_find(const struct embed_registry *r, struct slice name);

#endif
