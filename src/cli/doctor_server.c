/*
 * doctor_server.c - what a running server says of itself, asked through nginx as any client does: /readiness, which needs no key, and with a key that may
 * /health/detailed, /metrics, the models, libraries, tasks and keys.
 */
#include "cli/doctor.h"

#include "base/clock.h"

#include <curl/curl.h>
#include <stdlib.h>

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

enum { ASK_MS = 5000, PAGES_MOST = 100 };
#define US_PER_SECOND INT64_C(1000000)
#define DAY_US (INT64_C(86400) * US_PER_SECOND)
#define PENDING_MS 2000 /* in which some of the vectors that wait are made, where any are */

static int64_t time_of(struct json_object *object, const char *key) {
    int64_t us = 0;
    return rfc3339_parse(slice_str(member_text(object, key)), &us) ? us : 0;
}

static size_t length_of(struct json_object *array) {
    return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

/* --- judgements --- */

static double figure(const struct metrics_text *m, const char *name) {
    double value = 0;
    (void)metrics_value(m, name, &value);
    return value;
}

static void judge_saving(struct doctor *d, const struct metrics_text *m) {
    if (figure(m, "quire_snapshot_failures_total") > 0 && figure(m, "quire_snapshots_taken_total") < 1)
        doctor_find(d, TROUBLE_SNAPSHOT_FAILED, "quire_snapshot_failures_total", "%.0f failed since the start, none was taken", figure(m, "quire_snapshot_failures_total"));
    if (figure(m, "quire_snapshot_verification_failures_total") > 0 && figure(m, "quire_snapshot_verified_good") < 1 && !doctor_found(d, TROUBLE_VERIFY_FAILED))
        doctor_find(d, TROUBLE_VERIFY_FAILED, "quire_snapshot_verified_good", "%s", "");
    if (figure(m, "quire_checkpoint_failures_total") > 0 && figure(m, "quire_checkpoints_taken_total") < 1)
        doctor_find(d, TROUBLE_CHECKPOINT_FAILED, "quire_checkpoint_failures_total", "%.0f failed since the start, none was taken",
                    figure(m, "quire_checkpoint_failures_total"));
    if (figure(m, "quire_wal_archive_failures_total") > 0 && figure(m, "quire_wal_archive_lag_segments") > 0)
        doctor_find(d, TROUBLE_ARCHIVE_LAG, d->config.archive_dir, "segments that wait: %.0f; failures of copying: %.0f", figure(m, "quire_wal_archive_lag_segments"),
                    figure(m, "quire_wal_archive_failures_total"));
}

void doctor_judge_metrics(struct doctor *d, const struct metrics_text *m) {
    double keys;
    if (figure(m, "quire_write_path_failed") > 0)
        doctor_find(d, TROUBLE_WRITES_FAILED, "quire_write_path_failed", "%s", "");
    if (figure(m, "quire_disk_full") > 0 && !doctor_found(d, TROUBLE_DISK_FULL))
        doctor_find(d, TROUBLE_DISK_FULL, d->data_dir, "the last write met it");
    if (figure(m, "quire_watchdog_kills_total") > 0)
        doctor_find(d, TROUBLE_WORKERS_KILLED, "quire_watchdog_kills_total", "%.0f", figure(m, "quire_watchdog_kills_total"));
    /* Without a configuration nobody knows of admin_key_file. */
    if (d->has_config && figure(m, "quire_authentication_on") > 0 && metrics_value(m, "quire_api_keys", &keys) && keys < 1 && d->config.admin_key_file[0] == '\0')
        doctor_find(d, TROUBLE_NO_KEY, "quire_api_keys", "%s", "");
    judge_saving(d, m);
}

void doctor_judge_pending(struct doctor *d, const struct metrics_text *before, const struct metrics_text *now) {
    double waited = figure(before, "quire_pending_vectors"), wait = figure(now, "quire_pending_vectors");
    if (waited > 0 && wait >= waited)
        doctor_find(d, TROUBLE_VECTORS_PENDING, "quire_pending_vectors", "%.0f chunks wait", wait);
}

void doctor_judge_health(struct doctor *d, struct json_object *health) {
    struct json_object *workers = member(health, "workers");
    const char *version = member_text(health, "version");
    int64_t wanted = member_int(workers, "wanted"), ready = member_int(workers, "ready");
    if (ready < wanted)
        doctor_find(d, TROUBLE_WORKERS_MISSING, "workers", "%lld of %lld are ready", (long long)ready, (long long)wanted);
    if (version[0] != '\0' && strcmp(version, PACKAGE_VERSION) != 0)
        doctor_find(d, TROUBLE_VERSION_DIFFERS, "quire", "the server has %s, this command %s", version, PACKAGE_VERSION);
    struct json_object *libraries = member(health, "libraries");
    for (size_t i = 0; i < length_of(libraries); i++) {
        struct json_object *library = json_object_array_get_idx(libraries, i);
        struct json_object *embedding = member(library, "embedding");
        if (strcmp(member_text(embedding, "state"), "model_changed") == 0)
            doctor_find(d, TROUBLE_MODEL_CHANGED, member_text(library, "name"), "%s", member_text(embedding, "error"));
    }
}

static bool is_model(struct json_object *models, const char *name) {
    for (size_t i = 0; i < length_of(models); i++)
        if (strcmp(member_text(json_object_array_get_idx(models, i), "name"), name) == 0)
            return true;
    return false;
}

void doctor_judge_libraries(struct doctor *d, struct json_object *libraries, struct json_object *models) {
    for (size_t i = 0; i < length_of(libraries); i++) {
        struct json_object *library = json_object_array_get_idx(libraries, i);
        const char *model = member_text(member(library, "metadata"), "embedding_model");
        if (model[0] != '\0' && strcmp(model, "none") != 0 && !is_model(models, model))
            doctor_find(d, TROUBLE_LIBRARY_MODEL, member_text(library, "name"), "its model is %s", model);
    }
}

void doctor_judge_models(struct doctor *d, struct json_object *models) {
    for (size_t i = 0; i < length_of(models); i++) {
        struct json_object *model = json_object_array_get_idx(models, i);
        if (strcmp(member_text(model, "state"), "away") == 0)
            doctor_find(d, TROUBLE_PROVIDER_DOWN, member_text(model, "name"), "%s: %s", member_text(model, "where"), member_text(model, "error"));
    }
}

void doctor_judge_tasks(struct doctor *d, struct json_object *tasks) {
    for (size_t i = 0; i < length_of(tasks); i++) {
        struct json_object *task = json_object_array_get_idx(tasks, i);
        if (strcmp(member_text(task, "state"), "failed") == 0 && d->now_us - time_of(task, "finished_at") < DAY_US)
            doctor_find(d, TROUBLE_TASK_FAILED, member_text(task, "id"), "%s: %s", member_text(task, "kind"), member_text(task, "error"));
    }
}

void doctor_judge_keys(struct doctor *d, struct json_object *keys) {
    for (size_t i = 0; i < length_of(keys); i++) {
        struct json_object *key = json_object_array_get_idx(keys, i);
        int64_t expires = time_of(key, "expires_at");
        if (expires != 0 && expires < d->now_us)
            doctor_find(d, TROUBLE_KEY_EXPIRED, member_text(key, "id"), "%s expired on %s", member_text(key, "name"), member_text(key, "expires_at"));
    }
}

/* --- asking --- */

/* False: there is no reply of 200; said already. */
static bool ask(struct doctor *d, struct client *c, const char *path, struct client_reply *ret) {
    struct status st = {0};
    if (!client_request(c, "GET", path, slice_of(NULL, 0), ret, &st)) {
        doctor_find(d, TROUBLE_UNREACHABLE, d->url, "%s: %s", path, st.detail);
        return false;
    }
    if (ret->status == 200)
        return true;
    const char *key = d->cli->server.key != NULL ? d->cli->server.key : getenv("QUIRE_KEY");
    if (ret->status == 401 && key != NULL && key[0] != '\0')
        doctor_skip(d, path, "the key is refused: it is unknown, revoked or expired");
    else if (ret->status == 401)
        doctor_skip(d, path, "it needs an admin's key: set QUIRE_KEY");
    else if (ret->status == 403)
        doctor_skip(d, path, "the key may not; an admin's may");
    else
        doctor_skip(d, path, "the server answered %ld", ret->status);
    client_reply_fini(ret);
    return false;
}

static bool read_metrics(struct doctor *d, struct client *c, struct metrics_text *ret) {
    struct client_reply reply;
    struct status st;
    if (!ask(d, c, "/metrics", &reply))
        return false;
    bool ok = metrics_parse(buf_slice(&reply.body), ret, &st);
    d->no_memory = d->no_memory || !ok;
    client_reply_fini(&reply);
    return ok;
}

/* Vectors that wait are nothing unusual; that they do not become fewer is seen by looking twice. */
static void ask_metrics(struct doctor *d, struct client *c) {
    struct metrics_text first, second;
    if (!read_metrics(d, c, &first))
        return;
    doctor_judge_metrics(d, &first);
    if (figure(&first, "quire_pending_vectors") > 0) {
        client_pause_ms(PENDING_MS);
        if (read_metrics(d, c, &second)) {
            doctor_judge_pending(d, &first, &second);
            metrics_fini(&second);
        }
    }
    metrics_fini(&first);
}

static void ask_json(struct doctor *d, struct client *c, const char *path, void (*judge)(struct doctor *d, struct json_object *json)) {
    struct client_reply reply;
    if (!ask(d, c, path, &reply))
        return;
    judge(d, reply.json);
    client_reply_fini(&reply);
}

static void ask_libraries(struct doctor *d, struct client *c) {
    char path[640] = "/v1/libraries?limit=1000";
    struct client_reply models, page;
    if (!ask(d, c, "/v1/models", &models))
        return;
    doctor_judge_models(d, models.json);
    for (int pages = 0; path[0] != '\0' && pages < PAGES_MOST && ask(d, c, path, &page); pages++) {
        doctor_judge_libraries(d, page.json, models.json);
        snprintf(path, sizeof path, "%s", page.next);
        client_reply_fini(&page);
    }
    client_reply_fini(&models);
}

/* Whether it answers at all: then the rest can be asked. */
static bool ask_readiness(struct doctor *d, struct client *c) {
    struct client_reply reply;
    struct status st = {0};
    if (!client_request(c, "GET", "/readiness", slice_of(NULL, 0), &reply, &st)) {
        if (d->certificate_unseen && strstr(st.detail, "certificate") != NULL)
            doctor_skip(d, "what the server says", "%s", st.detail);
        else
            doctor_find(d, TROUBLE_UNREACHABLE, d->url, "%s", st.detail);
        return false;
    }
    bool answered = reply.status == 200 || reply.status == 503;
    const char *write_path = member_text(member(reply.json, "checks"), "write_path");
    const char *message = member_text(reply.json, "message");
    if (!answered)
        doctor_find(d, TROUBLE_UNREACHABLE, d->url, "/readiness answered %ld", reply.status);
    else if (strcmp(write_path, "failed") == 0)
        doctor_find(d, TROUBLE_WRITES_FAILED, d->url, "%s", message);
    else if (reply.status == 503)
        doctor_find(d, TROUBLE_NOT_READY, d->url, "%s", message[0] != '\0' ? message : member_text(reply.json, "detail"));
    bool good = reply.status == 200;
    client_reply_fini(&reply);
    return good;
}

void doctor_ask_server(struct doctor *d) {
    struct client_options options = d->cli->server;
    struct client *c = NULL;
    struct status st = {0};
    bool told = options.url != NULL || getenv("QUIRE_URL") != NULL;
    if (!told && d->url[0] == '\0') {
        doctor_skip(d, "what the server says", "its address is not known; set QUIRE_URL");
        return;
    }
    if (!told && d->pid == 0 && d->has_config)
        return; /* it does not run */
    if (!told) {
        options.url = d->url;
        options.connect_to = d->connect_to;
        options.cacert = options.cacert == NULL && getenv("QUIRE_CACERT") == NULL && d->cacert[0] != '\0' ? d->cacert : options.cacert;
    }
    options.timeout_ms = ASK_MS;
    client_options_from_environment(&options);
    if (options.url != d->url)
        snprintf(d->url, sizeof d->url, "%s", options.url);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!client_new(&options, &c, &st)) {
        doctor_skip(d, d->url, "%s", st.detail);
    } else if (ask_readiness(d, c)) {
        ask_json(d, c, "/health/detailed", doctor_judge_health);
        ask_metrics(d, c);
        ask_libraries(d, c);
        ask_json(d, c, "/v1/tasks", doctor_judge_tasks);
        ask_json(d, c, "/v1/keys", doctor_judge_keys);
    }
    client_free(c);
    curl_global_cleanup();
}
