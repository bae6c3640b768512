/* xml.c - see xml.h. */
#include "s3/xml.h"

#include <stdlib.h>

enum { DEPTH_MAX = 8, NAME_MAX_BYTES = 64, ENTITY_MAX = 12, HEX = 16, DECIMAL = 10, ASCII_END = 0x80 };

struct reading {
    struct slice left;
    struct xml_item item;
    size_t begins[DEPTH_MAX]; /* where in the path each open element's name begins */
    size_t depth;
    bool leaf; /* nothing has begun in the element that is open */
    size_t text_len;
    xml_item_fn fn;
    void *ctx;
};

static bool malformed(struct status *st) {
    return status_set(st, STATUS_MALFORMED, "the storage's answer is not the XML that S3 answers with");
}

static void skip(struct reading *r, size_t len) {
    r->left = slice_of(r->left.data + len, r->left.len - len);
}

static bool begins_with(const struct reading *r, const char *text) {
    size_t len = strlen(text);
    return r->left.len >= len && memcmp(r->left.data, text, len) == 0;
}

static bool is_space(uint8_t c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* A tag's name, without its namespace. *left is put behind it. */
static bool read_name(struct reading *r, char out[NAME_MAX_BYTES]) {
    size_t len = 0;
    while (r->left.len > 0) {
        uint8_t c = r->left.data[0];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
        if (c == ':') {
            len = 0;
        } else if (!letter) {
            break;
        } else if (len == NAME_MAX_BYTES - 1) {
            return false;
        } else {
            out[len++] = (char)c;
        }
        skip(r, 1);
    }
    out[len] = '\0';
    return len > 0;
}

static bool tell(struct reading *r, bool end, struct status *st) {
    r->item.end = end;
    if (!end || !r->leaf) {
        r->text_len = 0;
    }
    r->item.text[r->text_len] = '\0';
    return r->fn(&r->item, r->ctx, st);
}

static bool begin_element(struct reading *r, const char *name, struct status *st) {
    size_t at = strlen(r->item.path);
    size_t len = strlen(name);
    if (r->depth == DEPTH_MAX || at + len + 2 > sizeof r->item.path) {
        return malformed(st);
    }
    r->begins[r->depth++] = at;
    if (at > 0) {
        r->item.path[at++] = '/';
    }
    memcpy(r->item.path + at, name, len + 1);
    r->leaf = true;
    r->text_len = 0;
    return tell(r, false, st);
}

static bool end_element(struct reading *r, const char *name, struct status *st) {
    if (r->depth == 0) {
        return malformed(st);
    }
    size_t begin = r->begins[r->depth - 1];
    const char *open = r->item.path + begin + (begin > 0 ? 1 : 0);
    if (strcmp(open, name) != 0) {
        return malformed(st);
    }
    if (!tell(r, true, st)) {
        return false;
    }
    r->item.path[begin] = '\0';
    r->depth--;
    r->leaf = false;
    r->text_len = 0;
    return true;
}

/* Attributes are passed over; a '>' may stand in quotes. *ret_empty: "/>". */
static bool skip_attributes(struct reading *r, bool *ret_empty) {
    uint8_t quote = 0;
    uint8_t before = 0;
    while (r->left.len > 0) {
        uint8_t c = r->left.data[0];
        skip(r, 1);
        if (quote != 0) {
            quote = c == quote ? 0 : quote;
        } else if (c == '"' || c == '\'') {
            quote = c;
        } else if (c == '<') {
            return false;
        } else if (c == '>') {
            *ret_empty = before == '/';
            return true;
        }
        before = c;
    }
    return false;
}

static bool read_tag(struct reading *r, struct status *st) {
    char name[NAME_MAX_BYTES];
    bool empty = false;
    skip(r, 1);
    bool closing = begins_with(r, "/");
    if (closing) {
        skip(r, 1);
    }
    if (!read_name(r, name) || !skip_attributes(r, &empty) || (closing && empty)) {
        return malformed(st);
    }
    if (closing) {
        return end_element(r, name, st);
    }
    return begin_element(r, name, st) && (!empty || end_element(r, name, st));
}

/* "&amp;" and the like, and numbers of ASCII. */
static bool read_entity(struct reading *r, char *ret) {
    static const struct {
        const char *name;
        char c;
    } known[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    char text[ENTITY_MAX] = "";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (begins_with(r, known[i].name)) {
            *ret = known[i].c;
            skip(r, strlen(known[i].name));
            return true;
        }
    }
    const uint8_t *end = (const uint8_t *)memchr(r->left.data, ';', r->left.len);
    size_t len = end == NULL ? ENTITY_MAX : (size_t)(end - r->left.data);
    if (len < 3 || len >= sizeof text || r->left.data[1] != '#') {
        return false;
    }
    memcpy(text, r->left.data + 2, len - 2);
    bool hex = text[0] == 'x';
    char *stop = NULL;
    unsigned long code = strtoul(text + (hex ? 1 : 0), &stop, hex ? HEX : DECIMAL);
    *ret = (char)code;
    skip(r, len + 1);
    return *stop == '\0' && code > 0 && code < ASCII_END;
}

static bool read_text(struct reading *r, struct status *st) {
    char c = (char)r->left.data[0];
    if (c == '&') {
        if (!read_entity(r, &c)) {
            return malformed(st);
        }
    } else {
        skip(r, 1);
    }
    if (r->depth == 0) {
        return is_space((uint8_t)c) || malformed(st);
    }
    if (r->text_len == XML_TEXT_MAX - 1 || c == '\0') {
        return malformed(st);
    }
    r->item.text[r->text_len++] = c;
    return true;
}

static bool read_declaration(struct reading *r, struct status *st) {
    static const char end[] = "?>";
    const uint8_t *at = (const uint8_t *)memmem(r->left.data, r->left.len, end, sizeof end - 1);
    if (at == NULL || r->depth > 0) {
        return malformed(st);
    }
    skip(r, (size_t)(at - r->left.data) + sizeof end - 1);
    return true;
}

bool xml_read(struct slice xml, xml_item_fn fn, void *ctx, struct status *st) {
    struct reading *r = (struct reading *)calloc(1, sizeof *r);
    if (r == NULL) {
        return status_no_memory(st);
    }
    r->left = xml;
    r->fn = fn;
    r->ctx = ctx;
    bool any = false;
    bool ok = true;
    while (ok && r->left.len > 0) {
        if (begins_with(r, "<?")) {
            ok = read_declaration(r, st);
        } else if (r->left.data[0] == '<') {
            any = true;
            ok = read_tag(r, st);
        } else {
            ok = read_text(r, st);
        }
    }
    if (ok && (!any || r->depth > 0)) {
        ok = malformed(st);
    }
    free(r);
    return ok;
}
