/* backup_state.c - see backup_state.h. */
#include "durable/backup_state.h"

#include "base/io.h"

#include <inttypes.h>
#include <stdio.h>

#define MAGIC "quire backup 1"
enum { FIELDS = 6 };

void backup_state_format(const struct backup_state *s, char out[BACKUP_STATE_MAX]) {
    (void)snprintf(out, BACKUP_STATE_MAX,
                   MAGIC "\nsucceeded_at %" PRId64 "\nlsn %" PRIu64 "\nsnapshot_lsn %" PRIu64 "\nobjects %" PRIu64 "\nbytes %" PRIu64 "\nfailures %" PRIu64 "\n", s->succeeded_at, s->lsn,
                   s->snapshot_lsn, s->objects, s->bytes, s->failures);
}

bool backup_state_parse(struct slice text, struct backup_state *ret) {
    char copy[BACKUP_STATE_MAX];
    struct backup_state s = {0};
    int end = 0;
    if (text.len >= sizeof copy) {
        return false;
    }
    (void)snprintf(copy, sizeof copy, "%.*s", (int)text.len, text.len > 0 ? (const char *)text.data : "");
    int count = sscanf(copy, MAGIC " succeeded_at %" SCNd64 " lsn %" SCNu64 " snapshot_lsn %" SCNu64 " objects %" SCNu64 " bytes %" SCNu64 " failures %" SCNu64 " %n", &s.succeeded_at, &s.lsn,
                       &s.snapshot_lsn, &s.objects, &s.bytes, &s.failures, &end);
    if (count != FIELDS || copy[end] != '\0') {
        return false;
    }
    *ret = s;
    return true;
}

bool backup_state_read(int data_dir_fd, struct backup_state *ret) {
    struct buf text = {0};
    struct status ignored;
    bool ok = io_read_file(data_dir_fd, BACKUP_STATE_DIRECTORY "/" BACKUP_STATE_FILE, BACKUP_STATE_MAX, &text, &ignored) && backup_state_parse(buf_slice(&text), ret);
    buf_fini(&text);
    return ok;
}
