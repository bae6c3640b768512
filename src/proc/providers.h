/*
 * providers.h - the supervisor's side of the provider process (provider.h): it lives, it is asked, it answers or is given up.
 *
 * Workers ask through their channel (providers_relay), and are answered there; threads of the supervisor ask and wait (providers_ask). Everybody's request has a
 * deadline and ends by it, whatever the process does: it may die, hang, be stopped or talk nonsense. One that is silent for some seconds, though it
 * should say each second how its models are, is killed; one that died is followed by another, after a pause that doubles as long as they die young.
 */
#ifndef QUIRE_PROC_PROVIDERS_H
#define QUIRE_PROC_PROVIDERS_H

#include "proc/provider_frames.h"
#include "proc/supervisor.h"

struct providers;

/* Where no remote model is configured there is no process, and whoever asks is refused. */
MUST_CHECK bool providers_new(struct supervisor *s, struct providers **ret, struct status *st);
/* Ends thread and process; nobody is answered any more. Before channels_free, through which workers are; takes NULL. */
void providers_quit(struct providers *p);
void providers_free(struct providers *p); /* quits first; takes NULL */

/* --- main thread --- */
/* Spawns, reaps, kills. */
void providers_tend(struct providers *p, int64_t now_us);
/* Another process is to take its place, with the configuration and keys as they are now; what is under way fails, and may be asked again. */
void providers_renew(struct providers *p);
/* From now on nobody is spawned. */
void providers_stop(struct providers *p);

/* Threads of ours that wait are answered within a moment, and no longer listened to: the server stops. Workers still are. Any thread. */
void providers_hush(struct providers *p);

/* --- any thread --- */
/* A worker's EMBED. False: the worker is broken. In any other case it gets an EMBEDDED. */
MUST_CHECK bool providers_relay(struct providers *p, uint32_t slot, uint64_t generation, uint64_t request, struct slice payload, struct status *st);
/* Asks and waits, until deadline_us at most. *payload: where ret->values lies, cleared first. */
void providers_ask(struct providers *p, uint8_t model, const struct slice *texts, uint32_t count, int64_t deadline_us, struct buf *payload,
                   struct provider_answer *ret);
/* What the provider last said of its model. dimension 0: nothing yet. */
void providers_model(struct providers *p, uint8_t model, struct figures_provider *ret);

#endif
