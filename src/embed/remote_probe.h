/* remote_probe.h - inside embed: from the vectors of the fixed texts to a fingerprint. */
#ifndef QUIRE_EMBED_REMOTE_PROBE_H
#define QUIRE_EMBED_REMOTE_PROBE_H

#include "embed/remote.h"

#define REMOTE_PROBE_TEXTS 4
extern const char *const remote_probe_texts[REMOTE_PROBE_TEXTS];

/* vectors[REMOTE_PROBE_TEXTS * dimension], of unit length each. */
uint64_t remote_fingerprint(const struct remote_settings *s, const float *vectors, uint32_t dimension);

#endif
