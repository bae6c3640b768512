/*
 * snapshot_trial.c - restoring a snapshot on trial: everything but keeping what comes out.
 *
 * The chain is read and verified whole, each document is parsed, each op decoded and held against those before it (restore_state.c, which a restore asks, too),
 * and what came out is counted against what the manifest says. What sums cannot show, a document that was never written, a line that does not parse, shows here.
 * An archive that somebody edited must say in its manifest what is in it now to pass, although it can be restored without.
 *
 * The ids of all chunks cost 36 bytes each, in the supervisor: of a state of more than CHUNKS_MAX only libraries are held against one another, and documents
 * and chunks are counted.
 */
#include "durable/restore_internal.h"
#include "durable/snapshot_read.h"

#include <inttypes.h>

enum { CHUNKS_MAX = 4000000, TELL_EVERY = 256 };

struct trial {
    const struct snapshot_trial_options *options;
    struct restore_state *state;
    uint64_t libraries, documents, chunks, expected;
};

static bool try_op(const struct snapshot_op *item, void *ctx, struct status *st) {
    struct trial *t = (struct trial *)ctx;
    if (t->options->cancel != NULL && __atomic_load_n(t->options->cancel, __ATOMIC_RELAXED)) {
        return status_set(st, STATUS_BUSY, "the verification was called off");
    }
    t->libraries += item->op->type == OP_LIBRARY_CREATE ? 1 : 0;
    if (item->op->type == OP_DOCUMENT_PUT) {
        t->chunks += item->op->as.document.num_chunks;
        if (++t->documents % TELL_EVERY == 0 && t->options->tell != NULL) {
            t->options->tell(t->options->ctx, t->documents, t->expected);
        }
    }
    return restore_state_apply(t->state, item->op, st);
}

static bool counts_hold(const struct trial *t, const struct snapshot_info *info, struct status *st) {
    if (t->libraries != info->libraries || t->documents != info->documents || t->chunks != info->chunks) {
        return status_set(st, STATUS_CORRUPT,
                          "snapshot %s says that it has %u libraries, %" PRIu64 " documents and %" PRIu64 " chunks, and %" PRIu64 ", %" PRIu64
                          " and %" PRIu64 " came out",
                          info->name, info->libraries, info->documents, info->chunks, t->libraries, t->documents, t->chunks);
    }
    return true;
}

bool snapshot_trial(int snapshots_dir_fd, const char *name, const struct snapshot_trial_options *options, struct snapshot_info *ret, struct status *st) {
    struct snapshot_chain *chain = NULL;
    struct trial t = {.options = options};
    if (!snapshot_open_until(snapshots_dir_fd, name, NULL, options->cancel, &chain, st)) {
        return false;
    }
    const struct snapshot_info *info = snapshot_chain_info(chain);
    t.expected = info->documents;
    t.state = restore_state_new(info->chunks > CHUNKS_MAX);
    bool ok = t.state != NULL ? snapshot_load_verified(chain, NULL, try_op, &t, st) && counts_hold(&t, info, st) : status_no_memory(st);
    if (ok) {
        *ret = *info;
    }
    restore_state_free(t.state);
    snapshot_chain_free(chain);
    return ok;
}
