/* newkey.h - main's look for an API key that was made on the machine itself (durable/waiting_key.h). */
#ifndef QUIRE_PROC_NEWKEY_H
#define QUIRE_PROC_NEWKEY_H

#include "proc/supervisor.h"

/* Logs one that waits, and lets its file go. While serving. */
void newkey_look(struct supervisor *s);

#endif
