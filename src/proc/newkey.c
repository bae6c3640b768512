/* newkey.c - see newkey.h. A file that is no key goes as well, and the log says so: it would be looked at for ever. */
#include "proc/newkey.h"

#include "base/log.h"
#include "durable/waiting_key.h"
#include "proc/committer.h"
#include "shm/atomics.h"

struct taking {
    struct supervisor *s;
    const struct op *op;
};

/* Between two batches. */
static bool take(void *ctx, struct status *st) {
    const struct taking *t = (const struct taking *)ctx;
    struct supervisor *s = t->s;
    uint64_t lsn = 0;
    if (!key_table_check(s->keys, t->op, st)) {
        return st->code == STATUS_CONFLICT; /* it was logged already, and the file was left by a crash */
    }
    if (!committer_log(s->committer, t->op->bytes, &lsn, st)) {
        return false;
    }
    (void)key_table_apply(s->keys, t->op, lsn);
    store_relaxed_u64(&s->figures->api_keys, key_table_count(s->keys));
    committer_logged(s->committer, false);
    return true;
}

void newkey_look(struct supervisor *s) {
    struct buf bytes = {0};
    struct op op;
    struct status st = {0};
    if (load_relaxed_u32(&s->control->accepting) == 0 || !waiting_key_is_there(s->data_dir_fd)) {
        return;
    }
    struct taking t = {.s = s, .op = &op};
    bool ok = waiting_key_read(s->data_dir_fd, &bytes, &op, &st) && committer_call(s->committer, take, &t, &st);
    if (ok) {
        log_info("took the API key '%.*s' that was made on this machine", (int)op.as.key.name.len, (const char *)op.as.key.name.data);
    } else {
        log_status(LOG_LEVEL_ERROR, "an API key that was made on this machine is not taken", &st);
    }
    if (!waiting_key_remove(s->data_dir_fd, &st)) {
        log_status(LOG_LEVEL_ERROR, "its file stays in the data directory", &st);
    }
    buf_fini(&bytes);
}
