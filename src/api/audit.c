/*
 * audit.c - the line of the audit log that a request leaves: who, what, which library, with which outcome.
 *
 * Lines are left by writes, by what needs the scope admin, and by refusals: 401, 403, and 404 for a library where the key is for named ones, whether that library
 * exists or not, so that nothing differs between the two. Reads leave none. With auth = off nobody is known, and there are no lines.
 *
 * Nothing of a line can be forged by what a request carries. A route is named by its name in our table, a method by ours, ids are written from their 16 bytes, an
 * address is written by inet_ntop, the request id has passed request_id_good, and the key's name, the one text, was given by an admin and is escaped as JSON. No
 * header, path, query or body is copied. So a line has at most some 2 KiB, and no line break but its own.
 */
#include "api/exchange.h"

#include <arpa/inet.h>

static bool is_refusal(const struct exchange *x) {
    int status = x->response->status;
    bool hidden = status == 404 && x->problem_subject == SUBJECT_LIBRARY && !x->who.entry.all;
    return status == 401 || status == 403 || hidden;
}

static const char *method_name(enum method method) {
    static const char *const names[] = {[METHOD_GET] = "GET",     [METHOD_POST] = "POST",       [METHOD_PUT] = "PUT",    [METHOD_PATCH] = "PATCH",
                                        [METHOD_DELETE] = "DELETE", [METHOD_OPTIONS] = "OPTIONS", [METHOD_OTHER] = "other"};
    return names[method];
}

static void put_uuid_or_null(struct json_out *j, const char *name, bool there, const struct uuid *id) {
    json_key(j, name);
    if (there) {
        json_uuid(j, id);
    } else {
        json_null(j);
    }
}

/* As an address is written, or null. */
static void put_address(struct json_out *j, struct slice given) {
    char text[INET6_ADDRSTRLEN] = "";
    uint8_t address[sizeof(struct in6_addr)];
    const char *good = NULL;
    if (given.len > 0 && given.len < sizeof text) {
        memcpy(text, given.data, given.len);
        text[given.len] = '\0';
        int family = memchr(given.data, ':', given.len) != NULL ? AF_INET6 : AF_INET;
        good = inet_pton(family, text, address) == 1 ? inet_ntop(family, address, text, sizeof text) : NULL;
    }
    json_member_cstring(j, "remote", good);
}

static void put_line(const struct exchange *x, struct buf *out) {
    const struct key_entry *who = &x->who.entry;
    struct json_out j = json_out_to(out);
    json_begin_object(&j);
    json_member_time(&j, "time", clock_wall_us());
    json_member_cstring(&j, "request_id", x->request_id);
    put_uuid_or_null(&j, "key_id", x->who.has_id, &who->id);
    json_key(&j, "key_name");
    if (who->name_bytes > 0) {
        json_string(&j, slice_of(who->name, who->name_bytes));
    } else {
        json_null(&j);
    }
    json_member_cstring(&j, "method", method_name(method_of(x->request->method)));
    json_member_cstring(&j, "route", api_route_name(x->response->route));
    put_uuid_or_null(&j, "library", x->has_library, &x->library);
    put_uuid_or_null(&j, "about_key", x->has_about_key, &x->about_key);
    json_member_int(&j, "status", x->response->status);
    json_member_cstring(&j, "error_type", x->problem_type);
    put_address(&j, x->request->remote_address);
    if (x->response->cut) {
        json_member_bool(&j, "cut", true);
    }
    json_end_object(&j);
    buf_put_u8(out, '\n');
}

void audit_note(const struct exchange *x) {
    struct api_response *r = x->response;
    const struct route *route = x->route;
    bool changes = route != NULL && !x->open && (route->scope == SCOPE_WRITE || route->scope == SCOPE_ADMIN);
    r->is_refusal = is_refusal(x);
    if (x->api->host.auth_on && x->api->host.audits && (changes || r->is_refusal)) {
        put_line(x, &r->audit);
    }
}
