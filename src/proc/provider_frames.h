/*
 * provider_frames.h - what is said between a worker, the supervisor and the provider process about texts and their vectors. The frames are channel.h's.
 *
 *   EMBED    worker -> supervisor, supervisor -> provider process: model u8 (which of the configuration's sections), role u8 (enum embed_role), hurry u8 (1:
 *            somebody waits), patience u32 (ms, until nobody wants the answer any more), number of texts varint, then each as varint length + bytes
 *   EMBEDDED its answer: status code u8, permanent u8 (1: asking again cannot help the text at `done`), retry after u64 (ms; 0: not known), fingerprint u64
 *            (0: the model was not reached), dimension varint, done varint, done * dimension float32, detail (varint length + text)
 *   MODEL    provider process -> supervisor, at least every second: model u8, struct figures_provider as it lies in memory: both ends are one program
 *
 * Neither a worker nor the provider process, which talks to the internet, is believed: numbers are bounded by the bytes that are there, floats must be
 * finite, texts UTF-8.
 */
#ifndef QUIRE_PROC_PROVIDER_FRAMES_H
#define QUIRE_PROC_PROVIDER_FRAMES_H

#include "api/figures.h"
#include "proc/channel.h"

enum {
    PROVIDER_TEXTS_MAX = 256,      /* in one EMBED */
    PROVIDER_PATIENCE_MAX_MS = 1205000, /* likewise: no setting makes anybody wait longer, see providers_ask and the configuration's bounds */
    PROVIDER_ASK_BYTES = 8388608,  /* payload of one EMBED: one text of the largest size goes in */
    PROVIDER_FRAME_BYTES = 16777216 /* of any frame to or from the provider process */
};

struct provider_ask {
    uint8_t model;
    uint8_t role;
    bool hurry;
    uint32_t patience_ms;
    uint32_t count;
    struct reader texts; /* walk with provider_ask_next */
};
void provider_put_ask(struct buf *out, const struct provider_ask *ask, const struct slice *texts);
/* All of it is checked. */
MUST_CHECK bool provider_get_ask(struct slice payload, struct provider_ask *ret, struct status *st);
bool provider_ask_next(struct provider_ask *ask, struct slice *ret);

struct provider_answer {
    struct status status; /* STATUS_OK, STATUS_NO_EMBEDDING, STATUS_NO_MEMORY, STATUS_BUSY */
    bool permanent;
    uint64_t retry_after_ms;
    uint64_t fingerprint;
    uint32_t dimension;
    uint32_t done;       /* the first so many texts have their vectors, also where the status says why the others have none */
    struct slice values; /* done * dimension float32, not aligned */
};
void provider_put_answer(struct buf *out, const struct provider_answer *a);
/* values points into the payload. */
MUST_CHECK bool provider_get_answer(struct slice payload, struct provider_answer *ret, struct status *st);

void provider_put_model(struct buf *out, uint8_t model, const struct figures_provider *m);
MUST_CHECK bool provider_get_model(struct slice payload, uint8_t *ret_model, struct figures_provider *ret, struct status *st);

#endif
