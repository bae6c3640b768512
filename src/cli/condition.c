/* condition.c - see condition.h. */
#include "cli/condition.h"

#include "cli/json_text.h"

#include <ctype.h>
#include <string.h>

/* What one value stands for. */
static struct json_object *value_of(const char *text, size_t len) {
    struct json_object *value = NULL;
    return json_text_whole(text, len, &value) ? value : json_object_new_string_len(text, (int)len);
}

/* "3, 4" to [3, 4]; nothing between two commas is nothing. */
static struct json_object *list_of(const char *text) {
    struct json_object *list = json_object_new_array();
    for (const char *at = text; *at != '\0';) {
        size_t len = strcspn(at, ","), end = len, begin = 0;
        while (begin < end && isspace((unsigned char)at[begin]))
            begin++;
        while (end > begin && isspace((unsigned char)at[end - 1]))
            end--;
        if (end > begin)
            json_object_array_add(list, value_of(at + begin, end - begin));
        at += len + (at[len] == ',' ? 1 : 0);
    }
    return list;
}

struct json_object *condition_of(const char *text, struct status *st) {
    size_t field = strcspn(text, " "), at = field + strspn(text + field, " "), operator_len = strcspn(text + at, " ");
    const char *value = text + at + operator_len;
    value += strspn(value, " ");
    if (field == 0 || operator_len == 0 || *value == '\0') {
        (void)status_set(st, STATUS_INVALID, "--where takes a field, an operator (eq ne gt lt gte lte in contains) and a value, as 'author eq Ida', and not '%.200s'", text);
        return NULL;
    }
    struct json_object *condition = json_object_new_object(), *given = value_of(value, strlen(value));
    if (operator_len == 2 && memcmp(text + at, "in", 2) == 0 && !json_object_is_type(given, json_type_array)) {
        json_object_put(given);
        given = list_of(value);
    }
    json_object_object_add(condition, "field", json_object_new_string_len(text, (int)field));
    json_object_object_add(condition, "operator", json_object_new_string_len(text + at, (int)operator_len));
    json_object_object_add(condition, "value", given);
    return condition;
}
