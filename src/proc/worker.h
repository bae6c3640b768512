/* worker.h - the worker role: answers requests (heritage.h says what it is born with). */
#ifndef QUIRE_PROC_WORKER_H
#define QUIRE_PROC_WORKER_H

/* Returns an exit code. `slot` and `parent` as they stand on the command line. */
int worker_main(const char *slot, const char *parent);

#endif
