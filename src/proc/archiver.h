/* archiver.h - the thread that copies finished log segments into archive_dir. */
#ifndef QUIRE_PROC_ARCHIVER_H
#define QUIRE_PROC_ARCHIVER_H

#include "proc/supervisor.h"

/* Before anything may let log segments go: from now on they wait for their copies. Without archive_dir it does nothing, ever. */
MUST_CHECK bool archiver_new(struct supervisor *s, struct archiver **ret, struct status *st);
/* Committer: after each commit; `place` is the log's (oplog_position). */
void archiver_note(struct archiver *a, uint64_t place);
/* Committer: whether writes must wait because the archive is too far behind; then STATUS_NO_SPACE. */
MUST_CHECK bool archiver_admits(struct archiver *a, struct status *st);
/* What is kept as snapshots can be rolled forward from that LSN on. Any thread. */
void archiver_set_oldest(struct archiver *a, uint64_t lsn);
/* Ends the thread. final: at an orderly stop, when the log is closed; it copies what there is, the last segment included, before. False: it hangs in archive_dir, and
 * has been told of in the log. It may go on at any moment, so what it works on (the log, the catalog, the record of snapshots) has to stay until the process ends. */
bool archiver_stop(struct archiver *a, bool final);
void archiver_free(struct archiver *a); /* stops first; takes NULL; frees nothing where it hangs */

#endif
