/* doctor_report.c - the findings of `quire doctor`: collected, put in order, printed. Texts from files and replies go through cli_print_clean, so that nothing
 * drives the terminal. */
#include "cli/doctor.h"

#include "base/json_out.h"
#include "base/utf8.h"

#include <stdlib.h>

enum { FIRST_CAP = 16, JSON_FORMAT = 1, SHOWN_MAX = 4096 };

#define LEVEL_ERROR DOCTOR_ERROR
#define LEVEL_WARNING DOCTOR_WARNING
#define LEVEL_NOTE DOCTOR_NOTE
static const struct {
    enum doctor_level level;
    const char *name, *what, *advice, *command;
} troubles[TROUBLES] = {
#define TROUBLE(id, level, name, what, advice, command) {LEVEL_##level, name, what, advice, command},
#include "cli/doctor.def"
#undef TROUBLE
};

static const char *const level_words[] = {[DOCTOR_NOTE] = "note", [DOCTOR_WARNING] = "warning", [DOCTOR_ERROR] = "error"};

enum doctor_level doctor_level_of(enum trouble trouble) {
    return troubles[trouble].level;
}

const char *doctor_name_of(enum trouble trouble) {
    return troubles[trouble].name;
}

/* One more element of `size` bytes at the end of an array, zeroed; NULL: no memory, and the report will say so. */
static void *grow(struct doctor *d, void **array, size_t *count, size_t *cap, size_t size) {
    if (*count == *cap) {
        size_t more = *cap == 0 ? FIRST_CAP : *cap * 2;
        void *grown = realloc(*array, more * size);
        if (grown == NULL) {
            d->no_memory = true;
            return NULL;
        }
        *array = grown;
        *cap = more;
    }
    void *element = (uint8_t *)*array + (*count)++ * size;
    memset(element, 0, size);
    return element;
}

void doctor_find(struct doctor *d, enum trouble trouble, const char *where, const char *detail, ...) {
    void *array = d->findings;
    struct doctor_finding *f = grow(d, &array, &d->finding_count, &d->finding_cap, sizeof *f);
    d->findings = array;
    if (f == NULL)
        return;
    va_list args;
    f->trouble = trouble;
    snprintf(f->where, sizeof f->where, "%s", where);
    va_start(args, detail);
    (void)vsnprintf(f->detail, sizeof f->detail, detail, args);
    va_end(args);
}

void doctor_skip(struct doctor *d, const char *what, const char *why, ...) {
    void *array = d->skipped;
    struct doctor_skipped *s = grow(d, &array, &d->skipped_count, &d->skipped_cap, sizeof *s);
    d->skipped = array;
    if (s == NULL)
        return;
    va_list args;
    snprintf(s->what, sizeof s->what, "%s", what);
    va_start(args, why);
    (void)vsnprintf(s->why, sizeof s->why, why, args);
    va_end(args);
}

bool doctor_found(const struct doctor *d, enum trouble trouble) {
    for (size_t i = 0; i < d->finding_count; i++)
        if (d->findings[i].trouble == trouble)
            return true;
    return false;
}

size_t doctor_count(const struct doctor *d, enum doctor_level level) {
    size_t count = 0;
    for (size_t i = 0; i < d->finding_count; i++)
        count += troubles[d->findings[i].trouble].level == level ? 1 : 0;
    return count;
}

void doctor_fini(struct doctor *d) {
    free(d->findings);
    free(d->skipped);
    d->findings = NULL;
    d->skipped = NULL;
    d->finding_count = d->skipped_count = 0;
}

/* --- what the words in braces stand for --- */

static bool is_plain(const char *value) {
    for (const char *c = value; *c != '\0'; c++)
        if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:+,@", *c) == NULL)
            return false;
    return value[0] != '\0';
}

/* As one word of a shell: what is not plain goes between single quotes, which a quote within ends and begins again. */
static void put_word(struct buf *out, const char *value) {
    if (is_plain(value)) {
        buf_put_str(out, value);
        return;
    }
    buf_put_u8(out, '\'');
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\'')
            buf_put_str(out, "'\\''");
        else
            buf_put_u8(out, (uint8_t)*c);
    }
    buf_put_u8(out, '\'');
}

static const char *value_of(const struct doctor *d, struct slice name, const char *where) {
    if (slice_is(name, "where"))
        return where;
    if (slice_is(name, "data"))
        return d->data_dir[0] != '\0' ? d->data_dir : "DATA_DIRECTORY";
    if (slice_is(name, "conf"))
        return d->config_path != NULL ? d->config_path : "quire.conf";
    if (slice_is(name, "nginx"))
        return d->nginx_path != NULL ? d->nginx_path : "nginx.conf";
    if (slice_is(name, "user"))
        return d->user[0] != '\0' ? d->user : "quire";
    return NULL;
}

void doctor_expand(const struct doctor *d, const char *text, const char *where, bool quote, char *out, size_t room) {
    struct buf b = {0};
    while (*text != '\0') {
        const char *close = *text == '{' ? strchr(text, '}') : NULL;
        const char *value = close == NULL ? NULL : value_of(d, slice_of(text + 1, (size_t)(close - text - 1)), where);
        if (value == NULL) {
            buf_put_u8(&b, (uint8_t)*text++);
            continue;
        }
        if (quote)
            put_word(&b, value);
        else
            buf_put_str(&b, value);
        text = close + 1;
    }
    snprintf(out, room, "%.*s", (int)b.len, buf_ok(&b) && b.len > 0 ? (const char *)b.data : "");
    buf_fini(&b);
}

/* --- for people --- */

static void print_line(const char *indent, const char *word, const char *text) {
    if (text[0] == '\0')
        return;
    printf("%s%s", indent, word);
    cli_print_clean(stdout, text, SHOWN_MAX);
    putchar('\n');
}

static void print_finding(const struct doctor *d, const struct doctor_finding *f) {
    char text[DOCTOR_TEXT_MAX];
    printf("%-8s %s  ", level_words[troubles[f->trouble].level], troubles[f->trouble].name);
    cli_print_clean(stdout, f->where, sizeof f->where);
    putchar('\n');
    print_line("         ", "", troubles[f->trouble].what);
    print_line("         ", "seen: ", f->detail);
    doctor_expand(d, troubles[f->trouble].advice, f->where, false, text, sizeof text);
    print_line("         ", "do:   ", text);
    doctor_expand(d, troubles[f->trouble].command, f->where, true, text, sizeof text);
    print_line("           ", "    ", text);
}

static const char *plural(size_t count) {
    return count == 1 ? "" : "s";
}

/* "healthy" is worth what was looked at. */
static void print_scope(const struct doctor *d) {
    printf("looked at ");
    if (d->config_path != NULL) {
        cli_print_clean(stdout, d->config_path, SHOWN_MAX);
        puts(d->has_config ? " and what it names, data, nginx, this machine, and the server where it answers" : d->data_dir[0] != '\0' ? " and the data" : " alone");
    } else if (d->data_dir[0] != '\0') {
        cli_print_clean(stdout, d->data_dir, SHOWN_MAX);
        puts(" alone; `quire doctor -c DIR/quire.conf` looks at a configuration, nginx and the server, too");
    } else {
        puts("what the server says alone; `quire doctor -c DIR/quire.conf`, on its machine, looks at configuration, data and nginx, too");
    }
}

void doctor_print(const struct doctor *d) {
    for (int level = DOCTOR_ERROR; level >= DOCTOR_NOTE; level--)
        for (size_t i = 0; i < d->finding_count; i++)
            if (troubles[d->findings[i].trouble].level == (enum doctor_level)level)
                print_finding(d, &d->findings[i]);
    for (size_t i = 0; i < d->skipped_count; i++) {
        printf("not seen ");
        cli_print_clean(stdout, d->skipped[i].what, sizeof d->skipped[i].what);
        printf(": ");
        cli_print_clean(stdout, d->skipped[i].why, sizeof d->skipped[i].why);
        putchar('\n');
    }
    print_scope(d);
    size_t errors = doctor_count(d, DOCTOR_ERROR), warnings = doctor_count(d, DOCTOR_WARNING), notes = doctor_count(d, DOCTOR_NOTE);
    printf("%s%zu error%s, %zu warning%s, %zu note%s%s\n", errors + warnings == 0 ? "healthy: " : "", errors, plural(errors), warnings, plural(warnings), notes,
           plural(notes), d->skipped_count > 0 ? "; not everything could be looked at" : "");
}

/* --- for machines --- */

/* JSON has to be UTF-8, and a path need not be: then what is not ASCII becomes '?'. */
static void member_clean(struct json_out *j, const char *key, const char *text) {
    char clean[DOCTOR_TEXT_MAX];
    size_t n = 0;
    if (utf8_valid(slice_str(text))) {
        json_member_cstring(j, key, text);
        return;
    }
    for (; text[n] != '\0' && n < sizeof clean - 1; n++)
        clean[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    clean[n] = '\0';
    json_member_cstring(j, key, clean);
}

static void json_finding(struct json_out *j, const struct doctor *d, const struct doctor_finding *f) {
    char text[DOCTOR_TEXT_MAX];
    json_begin_object(j);
    json_member_cstring(j, "trouble", troubles[f->trouble].name);
    json_member_cstring(j, "level", level_words[troubles[f->trouble].level]);
    member_clean(j, "where", f->where);
    json_member_cstring(j, "what", troubles[f->trouble].what);
    member_clean(j, "seen", f->detail);
    doctor_expand(d, troubles[f->trouble].advice, f->where, false, text, sizeof text);
    member_clean(j, "do", text);
    doctor_expand(d, troubles[f->trouble].command, f->where, true, text, sizeof text);
    member_clean(j, "command", text);
    json_end_object(j);
}

bool doctor_print_json(const struct doctor *d, struct status *st) {
    struct buf text = {0};
    struct json_out j = json_out_to(&text);
    json_begin_object(&j);
    json_member_uint(&j, "format", JSON_FORMAT);
    json_member_bool(&j, "healthy", doctor_count(d, DOCTOR_ERROR) + doctor_count(d, DOCTOR_WARNING) == 0);
    json_member_uint(&j, "errors", doctor_count(d, DOCTOR_ERROR));
    json_member_uint(&j, "warnings", doctor_count(d, DOCTOR_WARNING));
    json_member_uint(&j, "notes", doctor_count(d, DOCTOR_NOTE));
    json_key(&j, "findings");
    json_begin_array(&j);
    for (int level = DOCTOR_ERROR; level >= DOCTOR_NOTE; level--)
        for (size_t i = 0; i < d->finding_count; i++)
            if (troubles[d->findings[i].trouble].level == (enum doctor_level)level)
                json_finding(&j, d, &d->findings[i]);
    json_end_array(&j);
    json_key(&j, "not_seen");
    json_begin_array(&j);
    for (size_t i = 0; i < d->skipped_count; i++) {
        json_begin_object(&j);
        member_clean(&j, "what", d->skipped[i].what);
        member_clean(&j, "why", d->skipped[i].why);
        json_end_object(&j);
    }
    json_end_array(&j);
    json_end_object(&j);
    bool ok = buf_check(&text, st);
    if (ok)
        printf("%.*s\n", (int)text.len, (const char *)text.data);
    buf_fini(&text);
    return ok;
}
