/* worker.h - the worker role: answers requests (heritage.h says what it is born with). */
#ifndef QUIRE_PROC_WORKER_H
#define QUIRE_PROC_WORKER_H

#include "api/api.h"

/* What the audit log and the counters have to say of a reply that is about to go out. */
void worker_audit(const struct api_response *r, struct control_worker *page);
/* Returns an exit code. `slot` and `parent` as they stand on the command line. */
int worker_main(const char *slot, const char *parent);

#endif
