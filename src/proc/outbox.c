/* outbox.c - see outbox.h. What was sent is let go when it is as much as what waits, so each byte is moved once at most. */
#include "proc/outbox.h"

enum { LEAST_SENT = 65536 /* before anything is moved */ };

size_t outbox_waiting(const struct outbox *o) {
    return o->bytes.len - o->at;
}

struct slice outbox_next(const struct outbox *o) {
    return o->bytes.len == 0 ? slice_of(NULL, 0) : slice_of(o->bytes.data + o->at, outbox_waiting(o));
}

bool outbox_put(struct outbox *o, struct slice bytes) {
    size_t before = o->bytes.len;
    buf_put_slice(&o->bytes, bytes);
    if (!buf_ok(&o->bytes)) {
        o->bytes.failed = false;
        o->bytes.len = before;
        return false;
    }
    return true;
}

void outbox_sent(struct outbox *o, size_t n) {
    o->at += n;
    size_t waiting = outbox_waiting(o);
    if (waiting == 0) {
        outbox_clear(o);
    } else if (o->at >= LEAST_SENT && o->at >= waiting) {
        memmove(o->bytes.data, o->bytes.data + o->at, waiting);
        o->bytes.len = waiting;
        o->at = 0;
    }
}

void outbox_clear(struct outbox *o) {
    buf_fini(&o->bytes);
    *o = (struct outbox){0};
}
