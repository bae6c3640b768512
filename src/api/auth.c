/*
 * auth.c - who may call, and what. Denied unless allowed.
 *
 * Who: with authentication on, a call without a key that is known and has not expired gets 401 before anything tells whether what it asks for exists; a wrong
 * key, an expired one and none get the same answer. Only hashes of keys are known here. The key that was sent is hashed whole and looked for in a number of
 * steps that depends on nothing but max_keys (store/key_page.c).
 *
 * What: each line of the table of routes names the scope that it needs, and where the library stands that it is about (enum route_reach). A line that names
 * none is for nobody. Scopes are looked at before libraries, so 403 says something of the key only.
 *
 * Which libraries: one that the key is not for is as one that does not exist. Not by a second kind of answer that looks alike, but because its id is
 * exchanged for one that no library ever has (access_narrow), and the call goes on: what follows is the same code for both, in this worker and in the supervisor.
 * So status, body, headers and time are those of a library that does not exist.
 */
#include "api/exchange.h"

#include "base/hash.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#define KEY_MAX_BYTES 1024
#define CONFIGURED_KEY_NAME "admin_key_file"

static const struct uuid nowhere = {{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255}};

static bool ascii_equal_ignoring_case(struct slice a, const char *lower) {
    if (a.len != strlen(lower)) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        uint8_t c = a.data[i];
        if (c >= 'A' && c <= 'Z') {
            c = (uint8_t)(c + ('a' - 'A'));
        }
        if (c != (uint8_t)lower[i]) {
            return false;
        }
    }
    return true;
}

static struct slice trimmed(struct slice s) {
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* The key of "Authorization: Bearer <key>", else of X-API-Key; empty when neither is there. */
struct slice auth_key(const struct api_request *request) {
    static const char scheme[] = "bearer";
    struct slice authorization = trimmed(request->authorization);
    size_t len = sizeof scheme - 1;
    if (authorization.len > len && authorization.data[len] == ' ' &&
        ascii_equal_ignoring_case(slice_of(authorization.data, len), scheme)) {
        return trimmed(slice_of(authorization.data + len, authorization.len - len));
    }
    return trimmed(request->x_api_key);
}

/* --- who ------------------------------------------------------------------------------------------------------------- */

/* All rights, without a key's id. */
static void become_everybody(struct access *who, const char *name) {
    *who = (struct access){.entry = {.scopes = KEY_SCOPES, .all = true, .name_bytes = (uint16_t)strlen(name)}};
    memcpy(who->entry.name, name, strlen(name));
}

static bool refuse(struct status *st) {
    return status_set(st, STATUS_UNAUTHENTICATED, "this call needs a valid key: send it as \"Authorization: Bearer <key>\" or X-API-Key");
}

bool auth_check(struct exchange *x, struct status *st) {
    const struct api_host *host = &x->api->host;
    struct slice key = auth_key(x->request);
    struct key_entry entry = {0};
    uint32_t slot = 0;
    if (!host->auth_on) {
        become_everybody(&x->who, "");
        return true;
    }
    if (key.len == 0 || key.len > KEY_MAX_BYTES) {
        return refuse(st);
    }
    uint8_t digest[KEY_DIGEST_BYTES];
    sha256(key.data, key.len, digest);
    bool configured = CRYPTO_memcmp(digest, host->admin_key_sha256, sizeof digest) == 0 && host->has_admin_key;
    bool found = host->keys != NULL && key_page_find(host->keys, digest, &entry, &slot, NULL);
    int64_t now = clock_wall_us();
    if (configured) {
        become_everybody(&x->who, CONFIGURED_KEY_NAME);
        return true;
    }
    if (!found || key_entry_expired(&entry, now)) {
        return refuse(st);
    }
    x->who = (struct access){.entry = entry, .has_id = true, .slot = slot};
    key_use_note(&host->control->key_use[slot], &entry.id, now);
    return true;
}

static bool is_loopback(struct slice address) {
    char text[INET6_ADDRSTRLEN];
    struct in_addr four;
    struct in6_addr six;
    if (address.len == 0 || address.len >= sizeof text) {
        return false;
    }
    memcpy(text, address.data, address.len);
    text[address.len] = '\0';
    if (inet_pton(AF_INET, text, &four) == 1) {
        return ntohl(four.s_addr) >> 24 == 127;
    }
    return inet_pton(AF_INET6, text, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

bool auth_open(const struct exchange *x, const struct route_match *match) {
    bool metrics = match->route != NULL && (match->route->flags & ROUTE_METRICS) != 0;
    return (match->methods != 0 && match->open) || (metrics && x->api->host.open_metrics && is_loopback(x->request->remote_address));
}

/* --- what ------------------------------------------------------------------------------------------------------------ */

static uint8_t scope_bits(enum route_scope scope) {
    switch (scope) {
    case SCOPE_READ:
        return KEY_READ;
    case SCOPE_WRITE:
        return KEY_WRITE;
    case SCOPE_ADMIN:
        return KEY_ADMIN;
    case SCOPE_NOBODY:
    case SCOPE_OPEN:
    case SCOPE_ANY:
        break;
    }
    return 0;
}

static const char *scope_name(enum route_scope scope) {
    return scope == SCOPE_READ ? "read" : scope == SCOPE_WRITE ? "write" : "admin";
}

static bool has_scope(const struct access *who, enum route_scope scope) {
    if (scope == SCOPE_OPEN || scope == SCOPE_ANY) {
        return true;
    }
    return scope != SCOPE_NOBODY && (who->entry.scopes & (scope_bits(scope) | KEY_ADMIN)) != 0;
}

bool access_check(const struct exchange *x, struct status *st) {
    const struct route *r = x->route;
    if (r->scope == SCOPE_OPEN || x->open) {
        return true;
    }
    if (!has_scope(&x->who, r->scope)) {
        return status_set(st, STATUS_DENIED, "this call needs a key with the scope %s", scope_name(r->scope));
    }
    if (r->reach == REACH_ALL && !x->who.entry.all) {
        return status_set(st, STATUS_DENIED, "this call needs a key that is for all libraries");
    }
    return r->reach != REACH_NOWHERE || status_set(st, STATUS_DENIED, "this call is for nobody");
}

bool access_holds(const struct exchange *x, struct status *st) {
    struct key_entry now;
    if (!x->who.has_id) {
        return true;
    }
    bool there = key_page_entry(x->api->host.keys, x->who.slot, &now) && uuid_equal(&now.id, &x->who.entry.id);
    return (there && !key_entry_expired(&now, clock_wall_us())) || status_set(st, STATUS_UNAUTHENTICATED, "the key was revoked, or has expired");
}

bool access_sees(const struct exchange *x, const struct uuid *library) {
    return key_entry_reaches(&x->who.entry, library);
}

void access_narrow(const struct exchange *x, struct uuid *library) {
    if (!access_sees(x, library)) {
        *library = nowhere;
    }
}
