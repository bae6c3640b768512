/*
 * static_model.h - a model that is a table: a text's vector is the weighted sum of its tokens' rows, scaled to unit length.
 *
 * Tables are distilled from a sentence transformer (tools/distill) and come as one file (docs/formats.md, "Models"), which is mapped
 * read-only, so all processes share its pages. Its name, dimension and fingerprint come from the file; the fingerprint covers its
 * checksum and this code's version.
 */
#ifndef QUIRE_EMBED_STATIC_MODEL_H
#define QUIRE_EMBED_STATIC_MODEL_H

#include "embed/embedder.h"

#define STATIC_MODEL_FILE "static-en.quire"
#define STATIC_MODEL_MAX_DIMENSION 1024

/* Fills *out from the model file open at fd, which may be closed afterwards. Errors name `path`. STATUS_CORRUPT: no model, of another version, or damaged. */
MUST_CHECK bool static_model_init(struct embedder *out, int fd, const char *path, enum model_trust trust, struct status *st);
void static_model_fini(struct embedder *e); /* takes NULL and a zeroed one */

/* sums[i] += row[i] * weight * times, exactly, for i < n; n is a multiple of 16, weight at most 255. Both ways that there are: they give
 * the same. */
typedef void (*static_add_fn)(int32_t *sums, const int8_t *row, int16_t weight, int32_t times, uint32_t n);
void static_add_plain(int32_t *sums, const int8_t *row, int16_t weight, int32_t times, uint32_t n);
/* NULL where the CPU has no AVX2. */
static_add_fn static_add_avx2(void);

#endif
