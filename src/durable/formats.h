/* formats.h - was anything in a data directory written by a newer program than this one? */
#ifndef QUIRE_DURABLE_FORMATS_H
#define QUIRE_DURABLE_FORMATS_H

#include "base/status.h"

/* Looks at the heads of the log's segments and of the checkpoints, and changes nothing; a server may be at work there. STATUS_CORRUPT names the
 * file, its format and ours, and what to do. What is damaged or missing is not its business. */
MUST_CHECK bool formats_check(int data_dir_fd, struct status *st);

#endif
