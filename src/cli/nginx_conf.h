/*
 * nginx_conf.h - reading nginx's configuration: its directives in a row, each with the block that it stands in. Enough to see what a site says; nothing is
 * evaluated, so variables, maps and conditions are words like others.
 */
#ifndef QUIRE_CLI_NGINX_CONF_H
#define QUIRE_CLI_NGINX_CONF_H

#include "base/buf.h"

#define NGINX_NONE SIZE_MAX
enum { NGINX_WORDS_MAX = 4096, NGINX_INCLUDES_MAX = 8, NGINX_DIRECTIVES_MAX = 200000 };

struct nginx_directive {
    size_t block; /* of the directive whose block it stands in; NGINX_NONE: the file's top */
    size_t text;  /* of its words in `words`, each with a NUL behind it */
    unsigned count; /* words, its name included */
};

struct nginx_conf {
    struct nginx_directive *all;
    size_t count, cap;
    struct buf words;
};

/* Reads the file and what it includes; relative names count from `path`'s directory, as nginx has it. STATUS_MALFORMED names file and line, STATUS_IO a file that cannot be
 * read. The caller frees *ret, also after a failure. */
MUST_CHECK bool nginx_conf_read(const char *path, struct nginx_conf *ret, struct status *st);
/* A text in place of a file; includes count from `directory`. */
MUST_CHECK bool nginx_conf_parse(struct nginx_conf *c, struct slice text, const char *name, const char *directory, struct status *st);
void nginx_conf_fini(struct nginx_conf *c); /* takes a zeroed one */

/* The nth word of a directive, 0 its name; "" where it has none. */
const char *nginx_word(const struct nginx_conf *c, size_t at, unsigned n);
/* The next directive of that name from `from` on, anywhere; NGINX_NONE: there is none. */
size_t nginx_next(const struct nginx_conf *c, const char *name, size_t from);
/* That of that name in the block, or in the nearest block around it, as settings are inherited. NGINX_NONE: in none. `block` NGINX_NONE is the top. */
size_t nginx_setting(const struct nginx_conf *c, size_t block, const char *name);
/* Whether a directive stands in the block, at any depth. */
bool nginx_within(const struct nginx_conf *c, size_t at, size_t block);
/* "32m", "70s", "1h 30m", in bytes and milliseconds; false: it is none. A bare number is bytes, or seconds. */
bool nginx_size(const char *word, uint64_t *ret);
bool nginx_time(const char *word, uint64_t *ret_ms);

#endif
