/*
 * provider.c - the provider process (provider.h): birth, frames in, frames out.
 *
 * Main reads frames and hands them to the threads of their model (provider_model.c); a query that the cache knows is answered at once. Once a second it says
 * how each model is, also when nothing has changed: that is how the supervisor knows that this process lives.
 */
#include "proc/provider.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "proc/config.h"
#include "proc/heritage.h"
#include "proc/provider_internal.h"
#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

enum { US_PER_MS = 1000, MS_PER_SECOND = 1000, BEAT_MS = 1000, CONFIG_MAX_BYTES = 1048576 };

struct provider {
    struct config config;
    struct query_cache *cache;
    struct provider_model model[REMOTE_MODELS_MAX];
    pthread_mutex_t out_mutex; /* one frame at a time */
};

static struct provider self = {.out_mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- out --- */

/* The supervisor is gone when it cannot be sent: this process ends. */
static void send_all(const struct buf *frame) {
    size_t sent = 0;
    if (!buf_ok(frame)) {
        _exit(EX_OSERR);
    }
    (void)pthread_mutex_lock(&self.out_mutex);
    while (sent < frame->len) {
        ssize_t n = send(PROVIDER_CHANNEL, frame->data + sent, frame->len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            _exit(EX_OK);
        }
        sent += n > 0 ? (size_t)n : 0;
    }
    (void)pthread_mutex_unlock(&self.out_mutex);
}

void provider_answer(uint64_t request, const struct provider_answer *a) {
    struct buf frame = {0};
    channel_frame_begin(&frame, CHANNEL_EMBEDDED, request);
    provider_put_answer(&frame, a);
    channel_frame_end(&frame);
    send_all(&frame);
    buf_fini(&frame);
}

static void tell_models(void) {
    for (uint8_t i = 0; i < self.config.model_count; i++) {
        struct figures_provider figures;
        struct buf frame = {0};
        provider_model_figures(&self.model[i], &figures);
        channel_frame_begin(&frame, CHANNEL_MODEL, 0);
        provider_put_model(&frame, i, &figures);
        channel_frame_end(&frame);
        send_all(&frame);
        buf_fini(&frame);
    }
}

/* --- in --- */

/* A query that others ask, too, or have asked. True: it is taken care of. */
static bool ask_cache(struct provider_model *m, struct provider_job *job) {
    struct provider_ask walk = job->ask;
    struct slice text;
    struct buf vector = {0};
    struct remote_identity identity;
    if (job->ask.role != EMBED_QUERY || job->ask.count != 1 || !provider_ask_next(&walk, &text)) {
        return false;
    }
    enum query_found found = query_cache_look(self.cache, m->number, text, job->request, &vector);
    job->cached = found == QUERY_ASK;
    if (found == QUERY_HERE && buf_ok(&vector) && provider_model_known(m, &identity) && vector.len == identity.dimension * sizeof(float)) {
        const struct provider_answer a = {
            .fingerprint = identity.fingerprint, .dimension = identity.dimension, .done = 1, .values = buf_slice(&vector)};
        provider_answer(job->request, &a);
    } else if (found == QUERY_HERE) {
        found = QUERY_ASK; /* the model changed at this moment: it is asked, for this one alone */
    }
    buf_fini(&vector);
    return found != QUERY_ASK;
}

static void take_frame(const struct channel_header *header, uint8_t *payload) {
    struct provider_ask ask;
    struct status st;
    struct provider_job *job = (struct provider_job *)calloc(1, sizeof *job);
    if (job == NULL || header->kind != CHANNEL_EMBED || !provider_get_ask(slice_of(payload, header->payload_bytes), &ask, &st) ||
        ask.model >= self.config.model_count) {
        log_error("a frame from the supervisor is not understood");
        _exit(EX_SOFTWARE);
    }
    *job = (struct provider_job){.request = header->request,
                                 .ask = ask,
                                 .deadline_us = clock_monotonic_us() + (int64_t)ask.patience_ms * US_PER_MS,
                                 .payload = payload};
    struct provider_model *m = &self.model[ask.model];
    if (ask_cache(m, job)) {
        free(job->payload);
        free(job);
    } else {
        provider_model_take(m, job);
    }
}

/* False: the supervisor is gone. */
static bool receive(void *to, size_t len) {
    size_t got = 0;
    while (got < len) {
        ssize_t n = recv(PROVIDER_CHANNEL, (uint8_t *)to + got, len - got, MSG_WAITALL);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return false;
        }
        got += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static bool read_frame(void) {
    uint8_t bytes[CHANNEL_HEADER_BYTES];
    struct channel_header header = {0};
    struct status st;
    if (!receive(bytes, sizeof bytes) || !channel_header_parse(bytes, PROVIDER_FRAME_BYTES, &header, &st)) {
        return false;
    }
    uint8_t *payload = (uint8_t *)malloc((size_t)header.payload_bytes + 1);
    if (payload == NULL || !receive(payload, header.payload_bytes)) {
        free(payload);
        return false;
    }
    take_frame(&header, payload);
    return true;
}

static void serve(void) {
    int64_t told_us = 0;
    for (;;) {
        struct pollfd p = {.fd = PROVIDER_CHANNEL, .events = POLLIN};
        int64_t now_us = clock_monotonic_us();
        if (now_us - told_us >= BEAT_MS * US_PER_MS) {
            tell_models();
            told_us = now_us;
        }
        if (poll(&p, 1, BEAT_MS) > 0 && !read_frame()) {
            return;
        }
    }
}

/* --- birth --- */

static bool read_config(struct status *st) {
    struct buf text = {0};
    off_t size = 0;
    bool ok = io_size(PROVIDER_CONFIG, &size, st);
    if (ok && (size <= 0 || size > CONFIG_MAX_BYTES || !buf_reserve(&text, (size_t)size))) {
        ok = status_set(st, STATUS_CONFIG, "no configuration was inherited");
    }
    if (ok && io_pread_full(PROVIDER_CONFIG, text.data, (size_t)size, 0, st)) {
        text.len = (size_t)size;
        ok = config_read_heritage(&self.config, buf_slice(&text), st);
    }
    buf_fini(&text);
    return ok;
}

/* A model whose key cannot be read has none, and says so to all who ask; the others go on. */
static void make_client(struct provider_model *m) {
    struct buf key = {0};
    struct status st = {0};
    if (!remote_key_read(m->settings, getenv("CREDENTIALS_DIRECTORY"), &key, &st) || !remote_client_new(m->settings, buf_slice(&key), &m->client, &st)) {
        log_status(LOG_LEVEL_ERROR, "a remote model cannot be asked", &st);
        (void)status_set(&m->failure, STATUS_NO_EMBEDDING, "%s", st.detail);
    }
    remote_key_wipe(&key);
}

/* Before a key is read: no core, no debugger, no /proc/<pid>/mem. */
static bool hide(struct status *st) {
    const struct rlimit no_core = {0, 0};
    return (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && setrlimit(RLIMIT_CORE, &no_core) == 0) ||
           status_set_errno(st, errno, "cannot give up rights");
}

/* A sanitizer needs memory and files of its own. */
static bool give_up_rights(struct status *st) {
    const struct rlimit memory = {self.config.provider_memory_bytes, self.config.provider_memory_bytes};
#ifdef UNDER_SANITIZER
    (void)memory;
    (void)st;
    return true;
#else
    const char *files[REMOTE_MODELS_MAX + 1] = {NULL};
    size_t count = 0;
    for (size_t i = 0; i < self.config.model_count; i++) {
        if (self.config.models[i].ca_file[0] != '\0') {
            files[count++] = self.config.models[i].ca_file;
        }
    }
    if (setrlimit(RLIMIT_DATA, &memory) != 0) {
        return status_set_errno(st, errno, "cannot limit memory");
    }
    return sandbox_files(files, st) && sandbox_enter(st);
#endif
}

static bool set_up(struct status *st) {
    bool armed = false;
    if (!hide(st) || !read_config(st) ||
        !log_open("provider", NULL, (enum log_level)self.config.log_level, (enum log_format)self.config.log_format, st) ||
        !io_fault_from_environment(&armed, st) || !clock_shift_from_environment(&armed, st) || !remote_global_init(st) ||
        !query_cache_new(self.config.query_cache_bytes, &self.cache, st)) {
        return false;
    }
    for (uint8_t i = 0; i < self.config.model_count; i++) {
        struct provider_model *m = &self.model[i];
        m->number = i;
        m->settings = &self.config.models[i];
        m->cache = self.cache;
        m->probe_interval_us = (int64_t)self.config.provider_probe_interval * MS_PER_SECOND * US_PER_MS;
        make_client(m);
    }
    if (!give_up_rights(st)) {
        return false;
    }
    for (size_t i = 0; i < self.config.model_count; i++) {
        if (!provider_model_begin(&self.model[i], st)) {
            return false;
        }
    }
    return true;
}

int provider_main(const char *parent) {
    struct status st;
    char *end = NULL;
    long pid = strtol(parent, &end, 10);
    if (*parent == '\0' || *end != '\0' || fcntl(PROVIDER_CONFIG, F_GETFD) < 0) {
        (void)fprintf(stderr, "quired: --provider is for quired itself\n");
        return EX_USAGE;
    }
    if ((long)getppid() != pid) { /* it died before PR_SET_PDEATHSIG was set */
        return EX_TEMPFAIL;
    }
    (void)prctl(PR_SET_NAME, "quired");
    if (!set_up(&st)) {
        log_status(LOG_LEVEL_ERROR, "the provider process cannot start", &st);
        return st.code == STATUS_CONFIG ? EX_CONFIG : EX_OSERR;
    }
    serve();
    _exit(EX_OK); /* threads are at work, and have nothing that would need an end */
}
