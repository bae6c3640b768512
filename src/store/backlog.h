/*
 * backlog.h - the work that follows a commit, done by background threads of the supervisor: making missing vectors, linking chunks into the graph.
 *
 * Threads claim small batches of slots, oldest first, work without any lock that a commit or search could wait for, and report them done. A
 * library's chunks without a vector are skipped by the linker until they have one. `linked` in the graph's head is a watermark: below it every slot
 * is linked or dead; the searches scan what is above.
 */
#ifndef QUIRE_STORE_BACKLOG_H
#define QUIRE_STORE_BACKLOG_H

#include "store/catalog.h"

/* --- vectors --- */
/* Live chunks of the published state without a vector, whose library has a model that runs here or at a provider that is configured. */
uint64_t backlog_pending_vectors(struct library *lib);
/* Embeds up to `batch` of them (claimed, so several threads can call it at once), writes the vectors and sets their state. Returns how many, 0: nothing
 * to claim. A failing model is an error and leaves them pending. *ret_done counts chunks. */
MUST_CHECK bool backlog_embed_some(struct library *lib, const struct embed_registry *models, size_t batch, size_t *ret_done, struct status *st);

/* A vector for a chunk of the published state that has none and that nobody is embedding: in a recovery. */
void backlog_give_vector(struct library *lib, uint32_t dimension, uint32_t slot, const float *vector);

/* --- vectors that a provider makes --- */
/* The library's model, where a provider is to make its vectors and is configured; else NULL. */
const struct embedder *library_remote_model(struct library *lib);
/* Chunks that wait for their vectors. Slices point into the library's arena, which must stay acquired. */
struct wanted {
    size_t room, count;
    uint32_t *slots;
    struct slice *texts;
    struct op_vector_of *of; /* ids and hashes; the values are the caller's to fill in */
};
MUST_CHECK bool wanted_new(struct wanted *w, size_t room, struct status *st);
void wanted_free(struct wanted *w);
/* Claims up to w->room of the published ones, the oldest first, their texts together at most most_bytes (or one). count 0: there is none. */
MUST_CHECK bool backlog_claim_wanted(struct library *lib, size_t most_bytes, struct wanted *w, struct status *st);
/* The provider will never take this one: it stays claimed. STATUS_NO_MEMORY */
MUST_CHECK bool backlog_refuse_wanted(struct library *lib, const struct wanted *w, size_t which, struct status *st);
/* Whether it is the side of an exchange: its vectors are committed as such of the other model. */
bool backlog_is_side(const struct library *lib);
/* The first slot from `from` on that waits for a provider's vector, not to be refused for good; the number of slots: there is none. */
uint32_t backlog_next_wanted(struct library *lib, uint32_t from);
/* Nothing came for those from `from` on: they can be claimed again. */
void backlog_release_wanted(struct library *lib, struct wanted *w, size_t from);

/* --- graph --- */
struct backlog_linker; /* per thread */
struct backlog_linker *backlog_linker_new(void);
void backlog_linker_free(struct backlog_linker *l);
/* Links up to `batch` chunks; several threads may work on one library. Also carries a rebuild that was begun. Returns how many were linked (or passed over as dead). */
MUST_CHECK bool backlog_link_some(struct library *lib, struct backlog_linker *l, size_t batch, size_t *ret_done, struct status *st);
/* Nothing is being built anew, and at most so many slots wait to be linked: searches do well for a while without. */
bool backlog_can_wait(struct library *lib, uint32_t most);
uint64_t backlog_tail(struct library *lib); /* live slots with a vector, not linked yet */

/* --- rebuild: a new graph generation beside the one that serves --- */
/* Begins to build generation + 1 with these settings (type flat: none is built). The switch is made by backlog_rebuild_switch, called by the
 * committer's thread when backlog_rebuild_ready: it changes the view, to be published. STATUS_CONFLICT when one is under way. */
MUST_CHECK bool backlog_rebuild_begin(struct library *lib, const struct index_settings *settings, struct status *st);
void backlog_rebuild_progress(struct library *lib, uint64_t *ret_done, uint64_t *ret_total, bool *ret_ready);
MUST_CHECK bool backlog_rebuild_switch(struct catalog *c, struct library *lib, struct status *st);
void backlog_rebuild_cancel(struct library *lib);
/* Whether the graph was built with other settings than the definition asks for (a rebuild was cut off by a restart): then begin one with *ret. */
bool backlog_rebuild_wanted(struct library *lib, struct index_settings *ret);

/* Blocks until nobody works on this library (used before the arenas are checkpointed; the callers were told to stop). */
void backlog_quiesce(struct library *lib);
/* Blocks until nobody links in this library, and until backlog_go_on nobody begins: backlog_link_some finds nothing to do. One thread at a time; whoever looked for work meanwhile is to
 * be woken behind it. Embedding goes on: the committer may wait for that. */
void backlog_hold(struct library *lib);
void backlog_go_on(struct library *lib);

#endif
