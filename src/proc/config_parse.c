/*
 * config_parse.c - from text to a struct config.
 *
 * Errors are for the person at the editor: file and line, what stands there, what is allowed, and for an unknown key the one that
 * was probably meant.
 *
 * There are two tables of keys: the server's, and that of a section "[model NAME]". A section is a prefix and nothing more: within it "url" is
 * "model.NAME.url", which may as well stand in the part before the sections, in the workers' copy (config_dump) and behind --set. So a section
 * can be continued, and no key can be given twice however it is written.
 */
#include "proc/config_internal.h"

#include "base/io.h"
#include "base/utf8.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FILE_MAX_BYTES = 1048576,
    SHOWN_MAX = 80, /* bytes of a bad value that an error shows */
    WORD_MAX = 64,  /* longest word that is compared with the keys */
    WHERE_MAX = 160
};

/* Where a value stands, for messages: "quire.conf:12" or "--set". */
struct place {
    char where[WHERE_MAX];
};

static struct slice trim(struct slice s) {
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t' || s.data[0] == '\r')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t' || s.data[s.len - 1] == '\r')) {
        s.len--;
    }
    return s;
}

static int shown_length(struct slice s) {
    return (int)utf8_prefix(s, SHOWN_MAX);
}

static const char *shown(struct slice s) {
    return s.len == 0 ? "" : (const char *)s.data;
}

/* Edits that turn a into b (Levenshtein), for words of up to WORD_MAX bytes. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len) {
    unsigned row[WORD_MAX + 1];
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
            unsigned shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = replaced < shorter ? replaced : shorter;
        }
    }
    return row[b_len];
}

struct key_table {
    const struct config_key *keys;
    size_t count;
};

static struct key_table server_keys(void) {
    struct key_table t;
    t.keys = config_keys(&t.count);
    return t;
}

static struct key_table model_keys(void) {
    struct key_table t;
    t.keys = config_model_keys(&t.count);
    return t;
}

/* The key that was probably meant, or NULL: a third of the letters may be wrong. */
static const struct config_key *nearest_key(struct key_table t, struct slice word) {
    const struct config_key *best = NULL;
    unsigned best_distance = (unsigned)(word.len / 3) + 1;
    if (word.len == 0 || word.len > WORD_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < t.count; i++) {
        size_t len = strlen(t.keys[i].name);
        unsigned distance = len > WORD_MAX ? UINT32_MAX : edit_distance((const char *)word.data, word.len, t.keys[i].name, len);
        if (distance < best_distance) {
            best = &t.keys[i];
            best_distance = distance;
        }
    }
    return best;
}

static const struct config_key *find_key(struct key_table t, struct slice word) {
    for (size_t i = 0; i < t.count; i++) {
        if (slice_is(word, t.keys[i].name)) {
            return &t.keys[i];
        }
    }
    return NULL;
}

static bool unknown_key(struct key_table t, const struct place *at, struct slice word, struct status *st) {
    const struct config_key *near = nearest_key(t, word);
    if (near != NULL) {
        return status_set(st, STATUS_CONFIG, "%s: unknown key '%.*s'; did you mean '%s'?", at->where, shown_length(word), shown(word),
                          near->name);
    }
    if (t.keys == model_keys().keys && find_key(server_keys(), word) != NULL) {
        return status_set(st, STATUS_CONFIG, "%s: '%.*s' is no key of a model; the server's keys stand before the first section", at->where,
                          shown_length(word), shown(word));
    }
    return status_set(st, STATUS_CONFIG, "%s: unknown key '%.*s'", at->where, shown_length(word), shown(word));
}

struct suffix {
    const char *name;
    uint64_t factor;
};
static const struct suffix byte_suffixes[] = {{"K", 1ULL << 10},   {"M", 1ULL << 20},   {"G", 1ULL << 30},
                                              {"T", 1ULL << 40},   {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20},
                                              {"GiB", 1ULL << 30}, {"TiB", 1ULL << 40}, {NULL, 0}};
static const struct suffix ms_suffixes[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"min", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct suffix second_suffixes[] = {{"s", 1}, {"m", 60}, {"min", 60}, {"h", 3600}, {"d", 86400}, {NULL, 0}};
static const struct suffix no_suffixes[] = {{NULL, 0}};

static const struct suffix *suffixes_of(const struct config_key *key) {
    if (strcmp(key->unit, "bytes") == 0) {
        return byte_suffixes;
    }
    if (strcmp(key->unit, "ms") == 0) {
        return ms_suffixes;
    }
    return strcmp(key->unit, "seconds") == 0 ? second_suffixes : no_suffixes;
}

static bool suffix_factor(const struct config_key *key, struct slice word, uint64_t *ret) {
    *ret = 1;
    if (word.len == 0) {
        return true;
    }
    for (const struct suffix *s = suffixes_of(key); s->name != NULL; s++) {
        if (slice_is(word, s->name)) {
            *ret = s->factor;
            return true;
        }
    }
    return false;
}

/* False when it is no number of this key's unit. A number too large for 64 bits becomes UINT64_MAX, which no key allows. */
static bool parse_number(const struct config_key *key, struct slice text, uint64_t *ret) {
    uint64_t value = 0;
    uint64_t factor;
    size_t digits = 0;
    for (; digits < text.len && text.data[digits] >= '0' && text.data[digits] <= '9'; digits++) {
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, text.data[digits] - (unsigned)'0', &value)) {
            value = UINT64_MAX;
        }
    }
    if (digits == 0 || !suffix_factor(key, trim(slice_of(text.data + digits, text.len - digits)), &factor)) {
        return false;
    }
    *ret = __builtin_mul_overflow(value, factor, &value) ? UINT64_MAX : value;
    return true;
}

static bool set_number(void *fields, const struct config_key *key, struct slice value, const struct place *at,
                       struct status *st) {
    uint64_t number;
    if (!parse_number(key, value, &number)) {
        return status_set(st, STATUS_CONFIG, "%s: %s takes a number (%s), not '%.*s'", at->where, key->name, key->unit,
                          shown_length(value), shown(value));
    }
    if (number < key->least || number > key->most) {
        return status_set(st, STATUS_CONFIG, "%s: %s must be %llu to %llu %s, not %.*s", at->where, key->name,
                          (unsigned long long)key->least, (unsigned long long)key->most, key->unit, shown_length(value),
                          shown(value));
    }
    config_store_number(fields, key, number);
    return true;
}

static bool set_choice(void *fields, const struct config_key *key, struct slice value, const struct place *at,
                       struct status *st) {
    unsigned number;
    if (!config_choice_number(key->choices, value, &number)) {
        return status_set(st, STATUS_CONFIG, "%s: %s must be one of %s, not '%.*s'", at->where, key->name, key->choices,
                          shown_length(value), shown(value));
    }
    config_store_choice(fields, key, number);
    return true;
}

static bool set_text(void *fields, const struct config_key *key, struct slice value, const struct place *at,
                     struct status *st) {
    if (value.len >= CONFIG_TEXT_MAX) {
        return status_set(st, STATUS_CONFIG, "%s: the value of %s has %zu bytes, at most %d are taken", at->where, key->name,
                          value.len, CONFIG_TEXT_MAX - 1);
    }
    /* What could not be written back as a quoted value is refused, so that the workers' copy says the same. */
    if (!utf8_valid(value) || utf8_has_control(value) || (value.len > 0 && memchr(value.data, '"', value.len) != NULL)) {
        return status_set(st, STATUS_CONFIG, "%s: the value of %s must be UTF-8 without quotes and control characters", at->where,
                          key->name);
    }
    config_store_text(fields, key, value);
    return true;
}

static bool set_value(void *fields, const struct config_key *key, struct slice value, const struct place *at,
                      struct status *st) {
    switch (key->kind) {
    case CONFIG_TEXT:
        return set_text(fields, key, value, at, st);
    case CONFIG_NUMBER:
        return set_number(fields, key, value, at, st);
    case CONFIG_CHOICE:
        return set_choice(fields, key, value, at, st);
    }
    return false;
}

/* Cuts quotes off, or a comment. False: a quote is not closed, or something follows it. */
static bool bare_value(struct slice *value) {
    struct slice v = trim(*value);
    if (v.len > 0 && v.data[0] == '"') {
        const uint8_t *end = (const uint8_t *)memchr(v.data + 1, '"', v.len - 1);
        if (end == NULL) {
            return false;
        }
        struct slice rest = trim(slice_of(end + 1, (size_t)(v.data + v.len - end - 1)));
        *value = slice_of(v.data + 1, (size_t)(end - v.data - 1));
        return rest.len == 0 || rest.data[0] == '#';
    }
    for (size_t i = 0; i < v.len; i++) {
        if (v.data[i] == '#' && (i == 0 || v.data[i - 1] == ' ' || v.data[i - 1] == '\t')) {
            v.len = i;
        }
    }
    *value = trim(v);
    return true;
}

/* Cuts "key = value" in two. */
static bool split_assignment(struct slice line, struct slice *ret_key, struct slice *ret_value) {
    const uint8_t *equals = line.len == 0 ? NULL : (const uint8_t *)memchr(line.data, '=', line.len);
    if (equals == NULL) {
        return false;
    }
    *ret_key = trim(slice_of(line.data, (size_t)(equals - line.data)));
    *ret_value = slice_of(equals + 1, (size_t)(line.data + line.len - equals - 1));
    return ret_key->len > 0;
}

struct parse {
    struct config *config;
    const char *origin;
    bool heritage;             /* the workers' copy */
    struct slice section;      /* the name of the model that lines belong to; empty: the server's own */
    unsigned line_of[CONFIG_MAX_KEYS]; /* where a key was set; 0: not yet */
    unsigned model_line_of[REMOTE_MODELS_MAX][CONFIG_MAX_KEYS];
};

/* A key where it is: of the server, or of a model. */
struct target {
    const struct config_key *key;
    void *fields;
    unsigned *line; /* in the parse; NULL on the command line */
};

static bool find_model(struct config *c, struct slice name, const struct place *at, struct remote_settings **ret, struct status *st) {
    if (!remote_name_valid(name)) {
        return status_set(st, STATUS_CONFIG,
                          "%s: '%.*s' is no name for a model: it takes up to %d letters, digits, '.', '_' and '-', begins with one of the first two, and "
                          "is not 'none'",
                          at->where, shown_length(name), shown(name), EMBED_NAME_MAX - 1);
    }
    *ret = config_model(c, name);
    return *ret != NULL || status_set(st, STATUS_CONFIG, "%s: there are more than %d remote models", at->where, REMOTE_MODELS_MAX);
}

static bool find_model_key(struct config *c, struct parse *p, struct slice name, struct slice word, const struct place *at, struct target *ret,
                           struct status *st) {
    struct key_table t = model_keys();
    struct remote_settings *model;
    const struct config_key *key = find_key(t, word);
    if (key == NULL) {
        return unknown_key(t, at, word, st);
    }
    if (!find_model(c, name, at, &model, st)) {
        return false;
    }
    *ret = (struct target){.key = key, .fields = model, .line = p == NULL ? NULL : &p->model_line_of[model - c->models][key - t.keys]};
    return true;
}

/* Cuts "model.NAME.key" in two; the name may have dots. */
static bool split_model_key(struct slice word, struct slice *ret_name, struct slice *ret_key) {
    size_t prefix = strlen(CONFIG_MODEL_PREFIX);
    if (word.len <= prefix || memcmp(word.data, CONFIG_MODEL_PREFIX, prefix) != 0) {
        return false;
    }
    const uint8_t *dot = (const uint8_t *)memrchr(word.data + prefix, '.', word.len - prefix);
    if (dot == NULL) {
        return false;
    }
    *ret_name = slice_of(word.data + prefix, (size_t)(dot - word.data) - prefix);
    *ret_key = slice_of(dot + 1, (size_t)(word.data + word.len - dot - 1));
    return true;
}

/* p NULL: the command line. */
static bool find_target(struct config *c, struct parse *p, struct slice word, const struct place *at, struct target *ret, struct status *st) {
    struct slice name;
    struct slice inner;
    if (p != NULL && p->section.len > 0) {
        return find_model_key(c, p, p->section, word, at, ret, st);
    }
    if (split_model_key(word, &name, &inner)) {
        return find_model_key(c, p, name, inner, at, ret, st);
    }
    struct key_table t = server_keys();
    const struct config_key *key = find_key(t, word);
    if (key == NULL) {
        return unknown_key(t, at, word, st);
    }
    *ret = (struct target){.key = key, .fields = c, .line = p == NULL ? NULL : &p->line_of[key - t.keys]};
    return true;
}

static bool read_heritage_key(struct parse *p, struct slice value, const struct place *at, struct status *st) {
    if (!config_parse_sha256(value, p->config->admin_key_sha256)) {
        return status_set(st, STATUS_CONFIG, "%s: not a SHA-256", at->where);
    }
    p->config->has_admin_key = true;
    return true;
}

/* "[model NAME]", which a comment may follow. A model without a key of its own is one, too: the check says what it lacks. */
static bool read_section(struct parse *p, struct slice line, const struct place *at, struct status *st) {
    static const char kind[] = "model";
    const uint8_t *end = (const uint8_t *)memchr(line.data, ']', line.len);
    struct slice rest = end == NULL ? line : trim(slice_of(end + 1, (size_t)(line.data + line.len - end - 1)));
    struct slice inner = end == NULL ? slice_of(NULL, 0) : trim(slice_of(line.data + 1, (size_t)(end - line.data - 1)));
    size_t word = sizeof kind - 1;
    struct remote_settings *model;
    if (end == NULL || (rest.len > 0 && rest.data[0] != '#') || inner.len <= word || memcmp(inner.data, kind, word) != 0 ||
        (inner.data[word] != ' ' && inner.data[word] != '\t')) {
        return status_set(st, STATUS_CONFIG, "%s: a section begins with '[model NAME]', not '%.*s'", at->where, shown_length(line), shown(line));
    }
    p->section = trim(slice_of(inner.data + word, inner.len - word));
    return find_model(p->config, p->section, at, &model, st);
}

static bool read_assignment(struct parse *p, struct slice line, unsigned number, const struct place *at, struct status *st) {
    struct slice word;
    struct slice value;
    struct target target;
    if (!split_assignment(line, &word, &value)) {
        return status_set(st, STATUS_CONFIG, "%s: expected 'key = value', found '%.*s'", at->where, shown_length(line), shown(line));
    }
    if (!bare_value(&value)) {
        return status_set(st, STATUS_CONFIG, "%s: the quotes around the value do not match", at->where);
    }
    if (p->heritage && slice_is(word, CONFIG_HERITAGE_KEY)) {
        return read_heritage_key(p, value, at, st);
    }
    if (!find_target(p->config, p, word, at, &target, st)) {
        return false;
    }
    if (*target.line != 0) {
        return status_set(st, STATUS_CONFIG, "%s: %s stands in line %u already", at->where, target.key->name, *target.line);
    }
    *target.line = number;
    return set_value(target.fields, target.key, value, at, st);
}

static bool read_line(struct parse *p, struct slice line, unsigned number, struct status *st) {
    struct place at;
    line = trim(line);
    if (line.len == 0 || line.data[0] == '#') {
        return true;
    }
    (void)snprintf(at.where, sizeof at.where, "%s:%u", p->origin, number);
    return line.data[0] == '[' ? read_section(p, line, &at, st) : read_assignment(p, line, number, &at, st);
}

static bool read_lines(struct parse *p, struct slice text, struct status *st) {
    unsigned number = 0;
    while (text.len > 0) {
        const uint8_t *newline = (const uint8_t *)memchr(text.data, '\n', text.len);
        size_t len = newline == NULL ? text.len : (size_t)(newline - text.data);
        number++;
        if (!read_line(p, slice_of(text.data, len), number, st)) {
            return false;
        }
        len += newline == NULL ? 0 : 1;
        text.data += len;
        text.len -= len;
    }
    return true;
}

bool config_read_text(struct config *c, const char *origin, struct slice text, struct status *st) {
    struct parse p = {.config = c, .origin = origin};
    return read_lines(&p, text, st);
}

bool config_read_heritage(struct config *c, struct slice text, struct status *st) {
    struct parse p = {.config = c, .origin = "configuration from the supervisor", .heritage = true};
    config_default(c);
    return read_lines(&p, text, st);
}

bool config_read_file(struct config *c, const char *path, struct status *st) {
    struct buf text = {0};
    bool ok = io_read_file(AT_FDCWD, path, FILE_MAX_BYTES, &text, st) && config_read_text(c, path, buf_slice(&text), st);
    buf_fini(&text);
    return ok;
}

bool config_set(struct config *c, const char *assignment, struct status *st) {
    struct place at = {"--set"};
    struct slice word;
    struct slice value;
    struct target target;
    if (!split_assignment(slice_str(assignment), &word, &value)) {
        return status_set(st, STATUS_CONFIG, "--set takes key=value, not '%.*s'", shown_length(slice_str(assignment)),
                          assignment);
    }
    return find_target(c, NULL, word, &at, &target, st) && set_value(target.fields, target.key, trim(value), &at, st);
}
