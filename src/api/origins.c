/* origins.c - see origins.h. */
#include "api/origins.h"

#include <string.h>

/* The next origin of a list, without the blanks round it; false at its end. */
static bool next_origin(const char **at, struct slice *ret) {
    if (**at == '\0') {
        return false;
    }
    const char *begin = *at + strspn(*at, " ");
    const char *end = begin + strcspn(begin, ",");
    *at = *end == ',' ? end + 1 : end;
    while (end > begin && end[-1] == ' ') {
        end--;
    }
    *ret = slice_of(begin, (size_t)(end - begin));
    return true;
}

static bool is_origin(struct slice text) {
    const uint8_t *colon = text.len == 0 ? NULL : (const uint8_t *)memchr(text.data, ':', text.len);
    size_t scheme = colon == NULL ? 0 : (size_t)(colon - text.data);
    if (scheme == 0 || text.len < scheme + 4 || memcmp(colon, "://", 3) != 0) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool separates = i > scheme && i < scheme + 3;
        /* Lower case, as browsers send it: a list in capitals would fit nothing. */
        bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || memchr(".-:[]+", c, 6) != NULL || separates;
        if (!good) {
            return false;
        }
    }
    return true;
}

bool origins_check(const char *origins, struct status *st) {
    struct slice origin;
    if (strcmp(origins, "*") == 0) {
        return true;
    }
    while (next_origin(&origins, &origin)) {
        if (!is_origin(origin)) {
            return status_set(st, STATUS_CONFIG, "cors_origins: '%.*s' is no origin: scheme://host or scheme://host:port, in lower case, or * alone", (int)origin.len,
                              origin.len == 0 ? "" : (const char *)origin.data);
        }
    }
    return true;
}

struct slice origins_find(const char *origins, struct slice came) {
    struct slice origin;
    if (came.len > 0 && strcmp(origins, "*") == 0) {
        return slice_str(origins);
    }
    while (came.len > 0 && next_origin(&origins, &origin)) {
        if (slice_equal(origin, came)) {
            return origin;
        }
    }
    return (struct slice){NULL, 0};
}
