/*
 * backup_state.h - what `quire backup` last did, in <data>/backup/state, for /metrics and `quire doctor`. It can be lost without harm.
 *
 *     quire backup 1
 *     succeeded_at <microseconds since 1970: the last pass that did all it had to; 0: none>
 *     lsn <records up to this LSN are in the storage>
 *     snapshot_lsn <of the newest snapshot there>
 *     objects <n>
 *     bytes <of them>
 *     failures <passes in a row that failed>
 */
#ifndef QUIRE_DURABLE_BACKUP_STATE_H
#define QUIRE_DURABLE_BACKUP_STATE_H

#include "base/buf.h"

#define BACKUP_STATE_DIRECTORY "backup"
#define BACKUP_STATE_FILE "state"
#define BACKUP_STATE_MAX 1024

struct backup_state {
    int64_t succeeded_at;
    uint64_t lsn, snapshot_lsn, objects, bytes, failures;
};

void backup_state_format(const struct backup_state *s, char out[BACKUP_STATE_MAX]);
/* false: it is none. */
bool backup_state_parse(struct slice text, struct backup_state *ret);
/* false: there is none that can be read. */
bool backup_state_read(int data_dir_fd, struct backup_state *ret);

#endif
