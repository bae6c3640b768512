/* init.h - `quired --init`: a new data directory, and the first key. */
#ifndef QUIRE_PROC_INIT_H
#define QUIRE_PROC_INIT_H

#include "proc/config.h"

#define INIT_KEY_NAME "first"

/*
 * Makes data_dir where it is missing (not what is above it), and leaves a key in it that may do everything, which the server takes at its first start
 * (durable/waiting_key.h). Its secret goes to standard output, all else to standard error. STATUS_CONFLICT: there is a key already, or something that is not ours to begin in.
 */
MUST_CHECK bool init_data(const struct config *config, struct status *st);

#endif
