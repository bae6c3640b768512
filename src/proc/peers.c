/* peers.c - see peers.h. */
#include "proc/peers.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 64, DIGITS_MAX = 16 };

static bool resolve(const char *name, uid_t *ret, struct status *st) {
    char *end = NULL;
    unsigned long number = strtoul(name, &end, 10);
    if (name[0] >= '0' && name[0] <= '9' && *end == '\0' && number < UINT32_MAX) {
        *ret = (uid_t)number;
        return true;
    }
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL) {
        return status_set(st, STATUS_CONFIG, "socket_peers: there is no user '%s'", name);
    }
    *ret = entry->pw_uid;
    return true;
}

bool peers_parse(const char *text, struct peers *ret, struct status *st) {
    static const char separators[] = ", \t";
    struct peers p = {0};
    const char *at = text + strspn(text, separators);
    for (; *at != '\0'; at += strspn(at, separators)) {
        char name[NAME_MAX_BYTES];
        size_t len = strcspn(at, separators);
        if (len >= sizeof name || p.count == PEERS_MAX) {
            return status_set(st, STATUS_CONFIG, "socket_peers: at most %d users, of at most %d bytes each", PEERS_MAX,
                              NAME_MAX_BYTES - 1);
        }
        memcpy(name, at, len);
        name[len] = '\0';
        if (!resolve(name, &p.user[p.count], st)) {
            return false;
        }
        p.count++;
        at += len;
    }
    p.anyone = p.count == 0;
    *ret = p;
    return true;
}

void peers_format(const struct peers *p, char *out, size_t size) {
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < p->count && len + DIGITS_MAX < size; i++) {
        int n = snprintf(out + len, size - len, "%s%lu", i == 0 ? "" : ",", (unsigned long)p->user[i]);
        len += n > 0 ? (size_t)n : 0;
    }
}

bool peers_allow(const struct peers *p, uid_t user) {
    if (p->anyone || user == 0 || user == geteuid()) {
        return true;
    }
    for (size_t i = 0; i < p->count; i++) {
        if (p->user[i] == user) {
            return true;
        }
    }
    return false;
}
