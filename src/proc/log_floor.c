/* log_floor.c - see log_floor.h. */
#include "proc/log_floor.h"

#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

struct log_floor {
    struct supervisor *s;
    pthread_mutex_t mutex; /* alone: nothing is taken inside it */
    uint64_t covered[LOG_NEEDS];
};

bool log_floor_new(struct supervisor *s, struct log_floor **ret, struct status *st) {
    struct log_floor *f = (struct log_floor *)calloc(1, sizeof *f);
    if (f == NULL) {
        return status_no_memory(st);
    }
    f->s = s;
    f->covered[LOG_NEED_CHECKPOINT] = UINT64_MAX;
    f->covered[LOG_NEED_ARCHIVE] = UINT64_MAX;
    (void)pthread_mutex_init(&f->mutex, NULL);
    *ret = f;
    return true;
}

void log_floor_free(struct log_floor *f) {
    if (f != NULL) {
        (void)pthread_mutex_destroy(&f->mutex);
        free(f);
    }
}

void log_floor_set(struct log_floor *f, enum log_need need, uint64_t lsn) {
    struct status st = {0};
    uint64_t least = UINT64_MAX;
    (void)pthread_mutex_lock(&f->mutex);
    f->covered[need] = lsn;
    for (int i = 0; i < LOG_NEEDS; i++) {
        least = f->covered[i] < least ? f->covered[i] : least;
    }
    (void)pthread_mutex_unlock(&f->mutex);
    if (least > 0 && !oplog_publish_snapshot(f->s->log, least, &st)) {
        log_status(LOG_LEVEL_WARN, "old log segments stay", &st);
    }
}
