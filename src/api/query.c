/* query.c - the address of a request: percent encoding, and the parameters behind the question mark. */
#include "api/exchange.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdio.h>

static int hex_value(uint8_t c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool percent_decode(struct exchange *x, struct slice text, bool plus_is_space, struct slice *ret, struct status *st) {
    uint8_t *out = (uint8_t *)pool_take(&x->pool, text.len);
    if (out == NULL) {
        return status_no_memory(st);
    }
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            int high = i + 2 < text.len ? hex_value(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_value(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return status_set(st, STATUS_MALFORMED, "the address has a '%%' without two hexadecimal digits behind it");
            }
            c = (uint8_t)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        out[len++] = c;
    }
    if (!utf8_valid(slice_of(out, len))) {
        return status_set(st, STATUS_MALFORMED, "the address is not valid UTF-8");
    }
    *ret = slice_of(out, len);
    return true;
}

void percent_encode(struct slice text, struct buf *out) {
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
                     c == '_' || c == '~';
        if (plain) {
            buf_put_u8(out, c);
        } else {
            buf_printf(out, "%%%02X", c);
        }
    }
}

static void read_limit(struct exchange *x, struct slice name, struct slice value) {
    uint64_t most = x->api->host.limits->max_page_size;
    uint64_t limit = 0;
    bool good = value.len > 0 && value.len <= 9;
    for (size_t i = 0; good && i < value.len; i++) {
        good = value.data[i] >= '0' && value.data[i] <= '9';
        limit = limit * 10 + (uint64_t)(value.data[i] - '0');
    }
    if (!good || limit < 1 || limit > most) {
        char detail[64];
        (void)snprintf(detail, sizeof detail, "must be a number from 1 to %" PRIu64, most);
        problem_add_query(x, name, detail);
        return;
    }
    x->query.limit = (uint32_t)limit;
}

static void read_on_conflict(struct exchange *x, struct slice name, struct slice value) {
    static const char *const words[] = {[CONFLICT_FAIL] = "fail", [CONFLICT_SKIP] = "skip", [CONFLICT_REPLACE] = "replace"};
    for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (slice_is(value, words[i])) {
            x->query.on_conflict = (enum conflict_rule)i;
            return;
        }
    }
    problem_add_query(x, name, "must be fail, skip or replace");
}

/* One parameter that the route knows. */
static void read_known(struct exchange *x, unsigned which, struct slice name, struct slice value) {
    switch (which) {
    case QUERY_LIMIT:
        read_limit(x, name, value);
        break;
    case QUERY_CURSOR:
        x->query.cursor = value;
        break;
    case QUERY_FILTER:
        x->query.filter = value;
        break;
    case QUERY_EMBEDDINGS:
        x->query.include_embeddings = slice_is(value, "true");
        if (!slice_is(value, "true") && !slice_is(value, "false")) {
            problem_add_query(x, name, "must be true or false");
        }
        break;
    case QUERY_AFTER:
        x->query.after = value;
        if (value.len == 0) {
            problem_add_query(x, name, "must be the id of a document");
        }
        break;
    case QUERY_ON_CONFLICT:
        read_on_conflict(x, name, value);
        break;
    case QUERY_RESULTS:
        x->query.only_failed = slice_is(value, "failed");
        if (!slice_is(value, "failed") && !slice_is(value, "all")) {
            problem_add_query(x, name, "must be all or failed");
        }
        break;
    default:
        x->query.base64 = slice_is(value, "base64");
        if (!slice_is(value, "base64") && !slice_is(value, "float")) {
            problem_add_query(x, name, "must be float or base64");
        }
        break;
    }
}

static unsigned parameter_of(struct slice name) {
    static const struct {
        const char *name;
        unsigned which;
    } known[] = {
        {"limit", QUERY_LIMIT},
        {"cursor", QUERY_CURSOR},
        {"filter", QUERY_FILTER},
        {"include_embeddings", QUERY_EMBEDDINGS},
        {"encoding", QUERY_ENCODING},
        {"after", QUERY_AFTER},
        {"on_conflict", QUERY_ON_CONFLICT},
        {"results", QUERY_RESULTS}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (slice_is(name, known[i].name)) {
            return known[i].which;
        }
    }
    return 0;
}

static bool read_pair(struct exchange *x, struct slice pair, unsigned allowed, unsigned *seen, struct status *st) {
    const uint8_t *equals = (const uint8_t *)memchr(pair.data, '=', pair.len);
    size_t name_len = equals == NULL ? pair.len : (size_t)(equals - pair.data);
    struct slice value_text = equals == NULL ? (struct slice){NULL, 0} : slice_of(equals + 1, pair.len - name_len - 1);
    struct slice name, value;
    if (!percent_decode(x, slice_of(pair.data, name_len), true, &name, st) || !percent_decode(x, value_text, true, &value, st)) {
        return false;
    }
    unsigned which = parameter_of(name) & allowed;
    if (which == 0) {
        problem_add_query(x, name, "is no parameter of this call");
    } else if ((*seen & which) != 0) {
        problem_add_query(x, name, "is given twice");
    } else {
        *seen |= which;
        read_known(x, which, name, value);
    }
    return true;
}

bool query_read(struct exchange *x, unsigned allowed, struct status *st) {
    x->query = (struct query_options){.limit = PAGE_DEFAULT};
    struct slice rest = x->request->query;
    unsigned seen = 0;
    while (rest.len > 0) {
        const uint8_t *end = (const uint8_t *)memchr(rest.data, '&', rest.len);
        size_t len = end == NULL ? rest.len : (size_t)(end - rest.data);
        if (len > 0 && !read_pair(x, slice_of(rest.data, len), allowed, &seen, st)) {
            return false;
        }
        size_t skip = end == NULL ? len : len + 1;
        rest = slice_of(rest.data + skip, rest.len - skip);
    }
    uint64_t most = x->api->host.limits->max_page_size;
    if (x->query.limit > most) {
        x->query.limit = (uint32_t)most;
    }
    return problems_none(x, st);
}
