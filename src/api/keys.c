/*
 * keys.c - the calls on API keys. Only for keys with the scope admin that are for all libraries.
 *
 * The secret is drawn here, shown in the one reply, and known to nobody else: what is submitted is its SHA-256. So this call takes no Idempotency-Key. A retry
 * would have to be given the same secret again, and what it could be made from would have to be kept, in the log of all places.
 *
 * A worker cannot add or remove a key by itself: it hands on the key that the request came with, and the supervisor looks at that (api_host.change_keys).
 */
#include "api/json_in.h"

#include "base/hash.h"
#include "base/secret.h"
#include "store/model.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct {
    const char *word;
    uint8_t scope;
} scope_words[] = {{"read", KEY_READ}, {"write", KEY_WRITE}, {"admin", KEY_ADMIN}};
enum { SCOPE_WORDS = sizeof scope_words / sizeof scope_words[0] };

/* --- writing a key ---------------------------------------------------------------------------------------------------- */

static void write_scopes(struct json_out *j, uint8_t scopes) {
    json_key(j, "scopes");
    json_begin_array(j);
    for (size_t i = 0; i < SCOPE_WORDS; i++) {
        if ((scopes & scope_words[i].scope) != 0) {
            json_cstring(j, scope_words[i].word);
        }
    }
    json_end_array(j);
}

static void write_time(struct json_out *j, const char *name, int64_t at) {
    json_key(j, name);
    if (at != 0) {
        json_time(j, at);
    } else {
        json_null(j);
    }
}

/* The members of a key, into the object that is open. */
static void write_key(struct json_out *j, const struct key_entry *e) {
    json_key(j, "id");
    json_uuid(j, &e->id);
    json_member_string(j, "name", slice_of(e->name, e->name_bytes));
    write_scopes(j, e->scopes);
    json_key(j, "libraries");
    if (e->all) {
        json_null(j);
    } else {
        json_begin_array(j);
        for (uint32_t i = 0; i < e->library_count; i++) {
            json_uuid(j, &e->libraries[i]);
        }
        json_end_array(j);
    }
    write_time(j, "created_at", e->created_at);
    write_time(j, "expires_at", e->expires_at);
    write_time(j, "last_used_at", e->last_used_at);
}

/* --- reading what is asked for ---------------------------------------------------------------------------------------- */

static void read_scopes(struct exchange *x, struct json_object *v, uint8_t *ret) {
    static const char *const words[] = {"read", "write", "admin", NULL}; /* in the order of scope_words */
    struct place list = place_member(NULL, "scopes");
    size_t count = 0;
    if (!json_in_array(x, &list, v, 1, SCOPE_WORDS, &count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        struct json_object *word = json_object_array_get_idx(v, i);
        unsigned chosen = 0;
        if (word == NULL) {
            problem_add(x, &at, "must be a string");
        } else if (json_in_choice(x, &at, word, words, &chosen) && (*ret & scope_words[chosen].scope) != 0) {
            problem_add(x, &at, "is in the list already");
        } else {
            *ret |= scope_words[chosen].scope;
        }
    }
}

static bool library_exists(const struct exchange *x, const struct uuid *id) {
    struct reading rd;
    struct status ignored;
    if (!reading_begin(x->api->host.reader, id, &rd, &ignored)) {
        return false;
    }
    reading_end(&rd);
    return true;
}

/* Puts id in its place among the first `count`. False: it is there already. */
static bool insert_sorted(struct uuid *ids, size_t count, const struct uuid *id) {
    size_t at = count;
    while (at > 0 && memcmp(ids[at - 1].b, id->b, UUID_BYTES) > 0) {
        at--;
    }
    if (at > 0 && uuid_equal(&ids[at - 1], id)) {
        return false;
    }
    memmove(ids + at + 1, ids + at, (count - at) * sizeof *ids);
    ids[at] = *id;
    return true;
}

static void read_libraries(struct exchange *x, struct json_object *v, struct key_entry *e) {
    struct place list = place_member(NULL, "libraries");
    size_t count = 0;
    e->all = v == NULL;
    if (e->all || !json_in_array(x, &list, v, 1, KEY_LIBRARIES_MAX, &count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct place at = place_element(&list, i);
        struct json_object *element = json_object_array_get_idx(v, i);
        struct slice text = {NULL, 0};
        struct uuid id;
        if (element == NULL) {
            problem_add(x, &at, "must be a string");
        } else if (!json_in_text(x, &at, element, 0, SIZE_MAX, &text)) {
            continue;
        } else if (!uuid_parse(text, &id) || !library_exists(x, &id)) {
            problem_add(x, &at, "is the id of no library");
        } else if (!insert_sorted(e->libraries, e->library_count, &id)) {
            problem_add(x, &at, "is in the list already");
        } else {
            e->library_count++;
        }
    }
}

static void read_expiry(struct exchange *x, struct json_object *v, struct key_entry *e) {
    struct place at = place_member(NULL, "expires_at");
    int64_t time = 0;
    if (!json_in_time(x, &at, v, &time)) {
        return;
    }
    if (time <= e->created_at) {
        problem_add(x, &at, "must be a time to come");
    } else {
        e->expires_at = time;
    }
}

static bool read_key(struct exchange *x, struct key_entry *e, struct status *st) {
    static const char *const not_null[] = {"scopes", NULL};
    struct json_object *name = NULL, *scopes = NULL, *libraries = NULL, *expires = NULL;
    const struct member members[] = {{"name", &name}, {"scopes", &scopes}, {"libraries", &libraries}, {"expires_at", &expires}};
    struct place name_at = place_member(NULL, "name");
    struct slice text = {NULL, 0};
    if (!json_in_body(x, st)) {
        return false;
    }
    *e = (struct key_entry){.created_at = clock_wall_us()};
    uuid_make(&e->id);
    (void)json_in_members(x, NULL, x->document.root, members, sizeof members / sizeof members[0]);
    json_in_no_nulls(x, NULL, x->document.root, not_null);
    if (json_in_require(x, NULL, "name", name) && json_in_name(x, &name_at, name, 1, KEY_NAME_MAX, &text)) {
        memcpy(e->name, text.data, text.len);
        e->name_bytes = (uint16_t)text.len;
    }
    if (json_in_require(x, NULL, "scopes", scopes)) {
        read_scopes(x, scopes, &e->scopes);
    }
    read_libraries(x, libraries, e);
    read_expiry(x, expires, e);
    return problems_none(x, st);
}

/* --- calls ------------------------------------------------------------------------------------------------------------ */

static bool submit_key(struct exchange *x, const struct key_entry *e, const char *secret, uint64_t *ret_lsn, struct status *st) {
    struct buf op = {0};
    struct op_key key = {.id = e->id,
                         .created_at = e->created_at,
                         .expires_at = e->expires_at,
                         .scopes = e->scopes,
                         .all = e->all,
                         .name = slice_of(e->name, e->name_bytes),
                         .library_count = e->library_count,
                         .libraries = slice_of(e->libraries, e->library_count * sizeof(struct uuid))};
    sha256(secret, SECRET_TEXT, key.digest);
    op_encode_key_add(&op, &key);
    bool good = buf_check(&op, st) && x->api->host.change_keys(x->api->host.ctx, auth_key(x->request), buf_slice(&op), ret_lsn, st);
    buf_fini(&op);
    return good;
}

bool handle_key_create(struct exchange *x, struct status *st) {
    struct key_entry e;
    char secret[SECRET_TEXT + 1];
    uint64_t lsn = 0;
    if (x->request->idempotency_key.len > 0) {
        return status_set(st, STATUS_INVALID, "this call takes no Idempotency-Key: a key's secret is shown once, and is kept nowhere to be shown again");
    }
    if (!read_key(x, &e, st) || !secret_make(secret, st)) {
        return false;
    }
    x->has_about_key = true;
    x->about_key = e.id;
    bool good = submit_key(x, &e, secret, &lsn, st);
    if (good) {
        struct json_out j = reply_json(x, 201);
        json_begin_object(&j);
        write_key(&j, &e);
        json_member_cstring(&j, "secret", secret);
        json_end_object(&j);
        char id[UUID_TEXT + 1];
        uuid_format(&e.id, id);
        buf_printf(&x->response->headers, "Location: /v1/keys/%s\r\nCache-Control: no-store\r\n", id);
        reply_lsn(x, lsn);
    }
    secret_wipe(secret, sizeof secret);
    return good;
}

static int by_id(const void *a, const void *b) {
    return memcmp(((const struct key_entry *)a)->id.b, ((const struct key_entry *)b)->id.b, UUID_BYTES);
}

bool handle_key_list(struct exchange *x, struct status *st) {
    const struct api_host *host = &x->api->host;
    uint32_t slots = host->keys != NULL ? key_page_slots(host->keys) : 0;
    struct key_entry *keys = (struct key_entry *)calloc((size_t)slots + 1, sizeof *keys);
    size_t count = 0;
    if (keys == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < slots; i++) {
        if (key_page_entry(host->keys, i, &keys[count])) {
            int64_t used = key_use_read(&host->control->key_use[i], &keys[count].id);
            keys[count].last_used_at = used > keys[count].last_used_at ? used : keys[count].last_used_at;
            count++;
        }
    }
    qsort(keys, count, sizeof *keys, by_id);
    struct json_out j = reply_json(x, 200);
    json_begin_array(&j);
    for (size_t i = 0; i < count; i++) {
        json_begin_object(&j);
        write_key(&j, &keys[i]);
        json_end_object(&j);
    }
    json_end_array(&j);
    free(keys);
    return true;
}

bool handle_key_delete(struct exchange *x, struct status *st) {
    struct uuid id;
    struct buf op = {0};
    uint64_t lsn = 0;
    if (!uuid_parse(x->param[0], &id)) {
        return status_set_subject(st, STATUS_NOT_FOUND, SUBJECT_KEY, "there is no key with this id");
    }
    x->has_about_key = true;
    x->about_key = id;
    op_encode_key_remove(&op, &id);
    bool good = buf_check(&op, st) && x->api->host.change_keys(x->api->host.ctx, auth_key(x->request), buf_slice(&op), &lsn, st);
    buf_fini(&op);
    if (good) {
        reply_empty(x, 204);
        reply_lsn(x, lsn);
    }
    return good;
}
