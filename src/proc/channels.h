/*
 * channels.h - the supervisor's ends of the channels, and the two threads that read them and do the committer's work.
 *
 * Memory is bounded: a frame's bytes are taken from the committer's budget (queue_max_bytes) when its length is known and before
 * they are read; where there is none left, the frame is read past and refused with STATUS_BUSY.
 */
#ifndef QUIRE_PROC_CHANNELS_H
#define QUIRE_PROC_CHANNELS_H

#include "proc/channel.h"
#include "proc/supervisor.h"

MUST_CHECK bool channels_new(struct supervisor *s, struct channels **ret, struct status *st);
/* Ends the threads, closes all. Takes NULL. */
void channels_free(struct channels *c);

/* Main thread: the channel of a new worker (non-blocking; taken over, also on failure). */
void channels_adopt(struct channels *c, uint32_t slot, uint64_t generation, int fd);
/* Any thread: a whole frame to that worker. One that is gone, or takes nothing, loses it. */
void channels_send(struct channels *c, uint32_t slot, uint64_t generation, const struct buf *frame);
/* Any thread: does what a command says. *ret_task: the task that was begun, or that is meant. */
MUST_CHECK bool channels_obey(struct supervisor *s, const struct channel_command *command, struct uuid *ret_task, struct status *st);
/* Any thread: one of the threads looks at the committer's work. */
void channels_wake(struct channels *c);
/* Since one of the threads last came round; that is at least once a second. */
int64_t channels_quiet_us(const struct channels *c);

#endif
