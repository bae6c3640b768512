/* gauges.h - figures that nobody else keeps: sums over libraries, and what the system says of this process and of the disks. Main thread. */
#ifndef QUIRE_PROC_GAUGES_H
#define QUIRE_PROC_GAUGES_H

#include "proc/supervisor.h"

struct gauges;
MUST_CHECK bool gauges_new(struct supervisor *s, struct gauges **ret, struct status *st);
void gauges_free(struct gauges *g); /* takes NULL */
/* Looks when it is time to; what cannot be known stays as it was. */
void gauges_look(struct gauges *g, int64_t now_us);
/* Of the file system that the descriptor lies on. Any thread, of one disk one. */
void gauges_disk(struct figures_disk *disk, int fd);

#endif
