/*
 * log_floor.h - how far back the log is needed, and by whom. A segment may go when nobody needs a record of it: not the newest snapshot that counts, not
 * the checkpoints that a start may use, not the archive.
 */
#ifndef QUIRE_PROC_LOG_FLOOR_H
#define QUIRE_PROC_LOG_FLOOR_H

#include "proc/supervisor.h"

enum log_need { LOG_NEED_SNAPSHOT, LOG_NEED_CHECKPOINT, LOG_NEED_ARCHIVE, LOG_NEEDS };

struct log_floor;
/* Nothing may go before the first snapshot is told; checkpoint and archive ask for nothing until they are told. */
MUST_CHECK bool log_floor_new(struct supervisor *s, struct log_floor **ret, struct status *st);
void log_floor_free(struct log_floor *f); /* takes NULL */
/* For this one, records up to lsn are no longer needed (UINT64_MAX: it needs none). Lets the segments go that nobody needs any more; a failure of that costs
 * room on the disk, is logged and nothing else. Any thread. */
void log_floor_set(struct log_floor *f, enum log_need need, uint64_t lsn);

#endif
