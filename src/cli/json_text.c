/* json_text.c - see json_text.h. json-c by itself takes the longest begin that is JSON, and more than JSON: NaN, TRUE, 'a', 007. */
#include "cli/json_text.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

static size_t digits(const char *text, size_t len) {
    size_t n = 0;
    while (n < len && isdigit((unsigned char)text[n]))
        n++;
    return n;
}

/* -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][-+]?[0-9]+)? */
static bool is_number(const char *text, size_t len) {
    size_t at = len > 0 && text[0] == '-' ? 1 : 0, n = digits(text + at, len - at);
    if (n == 0 || (n > 1 && text[at] == '0'))
        return false;
    at += n;
    if (at < len && text[at] == '.') {
        if ((n = digits(text + at + 1, len - at - 1)) == 0)
            return false;
        at += 1 + n;
    }
    if (at < len && (text[at] == 'e' || text[at] == 'E')) {
        at += at + 1 < len && (text[at + 1] == '-' || text[at + 1] == '+') ? 2 : 1;
        if ((n = digits(text + at, len - at)) == 0)
            return false;
        at += n;
    }
    return at == len;
}

static bool is_word(const char *text, size_t len) {
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (len == strlen(words[i]) && memcmp(text, words[i], len) == 0)
            return true;
    }
    return false;
}

bool json_text_whole(const char *text, size_t len, struct json_object **ret) {
    while (len > 0 && isspace((unsigned char)text[0])) {
        text++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    bool bracketed = len > 0 && (text[0] == '"' || text[0] == '[' || text[0] == '{');
    if (len >= INT_MAX || (!bracketed && !is_number(text, len) && !is_word(text, len)))
        return false;
    struct json_tokener *tokener = json_tokener_new();
    if (tokener == NULL)
        return false;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    struct json_object *value = json_tokener_parse_ex(tokener, text, (int)len);
    bool whole = json_tokener_get_error(tokener) == json_tokener_success && json_tokener_get_parse_end(tokener) == len;
    if (!bracketed && json_tokener_get_error(tokener) == json_tokener_continue) { /* a number might go on: it is told that here is the end */
        value = json_tokener_parse_ex(tokener, "", 1);
        whole = json_tokener_get_error(tokener) == json_tokener_success;
    }
    json_tokener_free(tokener);
    if (!whole) {
        json_object_put(value);
        return false;
    }
    *ret = value;
    return true;
}
