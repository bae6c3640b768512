/* nginx_conf.c - see nginx_conf.h. The grammar: words, separated by blanks, up to ';' or '{'; '}' ends a block; '#' begins a comment at a word's start; single and double
 * quotes, and a backslash before a character. */
#include "cli/nginx_conf.h"

#include "base/io.h"

#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

enum { FILE_MAX_BYTES = 4 * 1024 * 1024, BLOCKS_MAX = 32, FIRST_CAP = 64 };

struct reader {
    struct nginx_conf *conf;
    struct slice text;
    size_t at;
    unsigned line;
    const char *name;
    const char *directory; /* of the main file: what names count from */
    unsigned depth;        /* of includes */
    size_t block;          /* what is read now stands in */
};

static bool read_file(struct nginx_conf *c, const char *path, const char *directory, unsigned depth, size_t block, struct status *st);

static bool wrong(const struct reader *r, const char *what, struct status *st) {
    return status_set(st, STATUS_MALFORMED, "%s:%u: %s", r->name, r->line, what);
}

static int peek(const struct reader *r) {
    return r->at < r->text.len ? r->text.data[r->at] : -1;
}

static int take(struct reader *r) {
    int c = peek(r);
    r->at += c < 0 ? 0 : 1;
    r->line += c == '\n' ? 1 : 0;
    return c;
}

static bool is_blank(int c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct reader *r) {
    for (;;) {
        int c = peek(r);
        if (is_blank(c)) {
            (void)take(r);
        } else if (c == '#') {
            while (peek(r) >= 0 && peek(r) != '\n')
                (void)take(r);
        } else {
            return;
        }
    }
}

/* Behind its opening quote. */
static bool take_quoted(struct reader *r, int quote, struct status *st) {
    for (;;) {
        int c = take(r);
        if (c < 0)
            return wrong(r, "a quote is not closed", st);
        if (c == quote)
            return true;
        if (c == '\\' && (peek(r) == quote || peek(r) == '\\'))
            c = take(r);
        buf_put_u8(&r->conf->words, (uint8_t)c);
    }
}

/* ${name} is part of a word, braces and all. */
static bool take_word(struct reader *r, struct status *st) {
    struct buf *words = &r->conf->words;
    int first = peek(r);
    if (first == '"' || first == '\'') {
        (void)take(r);
        if (!take_quoted(r, first, st))
            return false;
        buf_put_u8(words, 0);
        return true;
    }
    while (peek(r) >= 0 && !is_blank(peek(r)) && peek(r) != ';' && peek(r) != '{' && peek(r) != '}') {
        int c = take(r);
        if (c == '\\' && peek(r) >= 0)
            c = take(r);
        buf_put_u8(words, (uint8_t)c);
        if (c == '$' && peek(r) == '{')
            while (peek(r) >= 0 && c != '}')
                buf_put_u8(words, (uint8_t)(c = take(r)));
    }
    buf_put_u8(words, 0);
    return true;
}

static bool add_directive(struct nginx_conf *c, size_t block, struct nginx_directive **ret, struct status *st) {
    if (c->count == NGINX_DIRECTIVES_MAX)
        return status_set(st, STATUS_TOO_LARGE, "nginx's configuration has more than %d directives", NGINX_DIRECTIVES_MAX);
    if (c->count == c->cap) {
        size_t cap = c->cap == 0 ? FIRST_CAP : c->cap * 2;
        struct nginx_directive *grown = realloc(c->all, cap * sizeof *grown);
        if (grown == NULL)
            return status_no_memory(st);
        c->all = grown;
        c->cap = cap;
    }
    *ret = &c->all[c->count++];
    **ret = (struct nginx_directive){.block = block, .text = c->words.len};
    return true;
}

static bool include(const struct reader *r, const char *pattern, struct status *st) {
    char path[PATH_MAX];
    glob_t found = {0};
    int length = snprintf(path, sizeof path, "%s%s%s", pattern[0] == '/' ? "" : r->directory, pattern[0] == '/' ? "" : "/", pattern);
    if (length < 0 || (size_t)length >= sizeof path)
        return wrong(r, "the name of an included file is too long", st);
    if (r->depth == NGINX_INCLUDES_MAX)
        return wrong(r, "includes are nested too deeply", st);
    if (strpbrk(path, "*?[") == NULL)
        return read_file(r->conf, path, r->directory, r->depth + 1, r->block, st);
    int rc = glob(path, 0, NULL, &found);
    bool ok = rc == 0 || rc == GLOB_NOMATCH || wrong(r, "the included files cannot be listed", st);
    for (size_t i = 0; rc == 0 && ok && i < found.gl_pathc; i++)
        ok = read_file(r->conf, found.gl_pathv[i], r->directory, r->depth + 1, r->block, st);
    globfree(&found);
    return ok;
}

/* The included file takes the place of the directive, which stays as one more in the row. */
static bool end_directive(struct reader *r, size_t index, struct status *st) {
    char pattern[PATH_MAX];
    if (strcmp(nginx_word(r->conf, index, 0), "include") != 0)
        return true;
    snprintf(pattern, sizeof pattern, "%s", nginx_word(r->conf, index, 1));
    return include(r, pattern, st);
}

/* Words up to ';' or '{'; *ret_opened: a block begins. */
static bool take_directive(struct reader *r, size_t *ret_index, bool *ret_opened, struct status *st) {
    struct nginx_directive *made;
    size_t index = r->conf->count;
    if (!add_directive(r->conf, r->block, &made, st))
        return false;
    for (;;) {
        skip_blanks(r);
        int c = peek(r);
        if (c == ';' || c == '{') {
            (void)take(r);
            *ret_opened = c == '{';
            *ret_index = index;
            return buf_check(&r->conf->words, st);
        }
        if (c < 0 || c == '}')
            return wrong(r, "a directive has no end", st);
        if (!take_word(r, st))
            return false;
        if (++r->conf->all[index].count > NGINX_WORDS_MAX)
            return wrong(r, "a directive has too many words", st);
    }
}

/* Blocks that were opened within the text, innermost last: what each stood in. */
struct nesting {
    size_t around[BLOCKS_MAX];
    size_t open;
};

static bool close_block(struct reader *r, struct nesting *n, struct status *st) {
    (void)take(r);
    if (n->open == 0)
        return wrong(r, "'}' closes nothing", st);
    r->block = n->around[--n->open];
    return true;
}

static bool open_block(struct reader *r, struct nesting *n, size_t index, struct status *st) {
    if (n->open == BLOCKS_MAX)
        return wrong(r, "blocks are nested too deeply", st);
    n->around[n->open++] = r->block;
    r->block = index;
    return true;
}

static bool read_text(struct reader *r, struct status *st) {
    struct nesting nesting = {.open = 0};
    for (;;) {
        size_t index = 0;
        bool opened = false;
        skip_blanks(r);
        int next = peek(r);
        if (next < 0)
            return nesting.open == 0 || wrong(r, "a block is not closed", st);
        if (next == '}') {
            if (!close_block(r, &nesting, st))
                return false;
            continue;
        }
        if (!take_directive(r, &index, &opened, st) || !(opened ? open_block(r, &nesting, index, st) : end_directive(r, index, st)))
            return false;
    }
}

static bool read_file(struct nginx_conf *c, const char *path, const char *directory, unsigned depth, size_t block, struct status *st) {
    struct buf text = {0};
    struct reader r = {.conf = c, .line = 1, .name = path, .directory = directory, .depth = depth, .block = block};
    bool ok = io_read_file(AT_FDCWD, path, FILE_MAX_BYTES, &text, st);
    r.text = buf_slice(&text);
    ok = ok && read_text(&r, st);
    buf_fini(&text);
    return ok;
}

bool nginx_conf_parse(struct nginx_conf *c, struct slice text, const char *name, const char *directory, struct status *st) {
    struct reader r = {.conf = c, .text = text, .line = 1, .name = name, .directory = directory, .block = NGINX_NONE};
    return read_text(&r, st);
}

bool nginx_conf_read(const char *path, struct nginx_conf *ret, struct status *st) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    return read_file(ret, path, dirname(copy), 0, NGINX_NONE, st);
}

void nginx_conf_fini(struct nginx_conf *c) {
    free(c->all);
    buf_fini(&c->words);
    *c = (struct nginx_conf){0};
}

const char *nginx_word(const struct nginx_conf *c, size_t at, unsigned n) {
    if (at >= c->count || n >= c->all[at].count)
        return "";
    const char *word = (const char *)c->words.data + c->all[at].text;
    while (n-- > 0)
        word += strlen(word) + 1;
    return word;
}

size_t nginx_next(const struct nginx_conf *c, const char *name, size_t from) {
    for (size_t i = from; i < c->count; i++)
        if (strcmp(nginx_word(c, i, 0), name) == 0)
            return i;
    return NGINX_NONE;
}

size_t nginx_setting(const struct nginx_conf *c, size_t block, const char *name) {
    for (;;) {
        for (size_t i = nginx_next(c, name, 0); i != NGINX_NONE; i = nginx_next(c, name, i + 1))
            if (c->all[i].block == block)
                return i;
        if (block == NGINX_NONE)
            return NGINX_NONE;
        block = c->all[block].block;
    }
}

bool nginx_within(const struct nginx_conf *c, size_t at, size_t block) {
    while (at != NGINX_NONE && c->all[at].block != block)
        at = c->all[at].block;
    return at != NGINX_NONE;
}

static bool take_number(const char **at, uint64_t *ret) {
    const char *digit = *at;
    *ret = 0;
    for (; *digit >= '0' && *digit <= '9'; digit++)
        if (__builtin_mul_overflow(*ret, 10U, ret) || __builtin_add_overflow(*ret, (uint64_t)(*digit - '0'), ret))
            return false;
    bool any = digit > *at;
    *at = digit;
    return any;
}

bool nginx_size(const char *word, uint64_t *ret) {
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0}, {"k", 10}, {"K", 10}, {"m", 20}, {"M", 20}, {"g", 30}, {"G", 30}};
    uint64_t number;
    if (!take_number(&word, &number))
        return false;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(word, units[i].name) == 0) {
            *ret = number > UINT64_MAX >> units[i].shift ? UINT64_MAX : number << units[i].shift;
            return true;
        }
    return false;
}

bool nginx_time(const char *word, uint64_t *ret_ms) {
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"w", 604800000}, {"M", 2592000000}, {"y", 31536000000}};
    uint64_t sum = 0, number;
    do {
        uint64_t ms = 1000;
        if (!take_number(&word, &number))
            return false;
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
            size_t length = strlen(units[i].name);
            if (strncmp(word, units[i].name, length) == 0) {
                ms = units[i].ms;
                word += length;
                break;
            }
        }
        if (__builtin_mul_overflow(number, ms, &number) || __builtin_add_overflow(sum, number, &sum))
            return false;
        word += *word == ' ' ? 1 : 0;
    } while (*word != '\0');
    *ret_ms = sum;
    return true;
}
