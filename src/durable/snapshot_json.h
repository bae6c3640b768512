/* snapshot_json.h - the JSON of a snapshot, written: a line per document, a library.json, the manifest. */
#ifndef QUIRE_DURABLE_SNAPSHOT_JSON_H
#define QUIRE_DURABLE_SNAPSHOT_JSON_H

#include "durable/snapshot_format.h"
#include "store/other_vectors.h"

/* What goes into an archive, by the cut's libraries. */
struct snapshot_plan {
    const struct snapshot_base *base; /* NULL: it is whole */
    const char **where;               /* the archive that holds a library already; NULL: this one gets it */
    bool *vectors;                    /* that a model made are part of it */
};

/* Whether a library's vectors go into its snapshots. */
bool snapshot_has_vectors(const struct library_view *view, const struct library_definition *d, bool include_embeddings);

/* One document of the reading, with its visible chunks, and a newline. */
MUST_CHECK bool snapshot_put_document(struct buf *out, const struct reading *rd, uint32_t row, bool vectors, const struct other_vectors *other,
                                      struct status *st);
void snapshot_put_library(struct buf *out, const struct library_view *view, const struct library_definition *d);
MUST_CHECK bool snapshot_put_manifest(struct buf *out, const struct snapshot_cut *cut, const struct snapshot_plan *plan,
                                      const struct snapshot_info *info, struct status *st);

#endif
