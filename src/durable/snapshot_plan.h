/* snapshot_plan.h - what of a cut goes into an archive, and what it may leave to the one that it rests on. */
#ifndef QUIRE_DURABLE_SNAPSHOT_PLAN_H
#define QUIRE_DURABLE_SNAPSHOT_PLAN_H

#include "durable/snapshot_json.h"

MUST_CHECK bool snapshot_plan_make(int snapshots_dir_fd, const struct snapshot_cut *cut, const struct snapshot_options *options, struct snapshot_plan *ret,
                                   struct status *st);
void snapshot_plan_fini(struct snapshot_plan *p); /* takes a zeroed one */
/* What was just written, as a base: its manifest and its SHA256SUMS. NULL: no memory. */
struct snapshot_base *snapshot_base_made(const struct snapshot_base *under, const struct snapshot_info *info, struct slice manifest, struct slice sums,
                                         struct status *st);

#endif
