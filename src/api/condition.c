/* condition.c - see condition.h. The tags of a request are compared as text, so a tag that was never ours matches nothing. */
#include "api/condition.h"

#include <inttypes.h>
#include <stdio.h>

#define TAG_BYTES 18         /* 16 digits in quotes */
#define LIBRARY_TAG_BYTES 50 /* three times 16 */

static void tag_format(uint64_t version, char out[TAG_BYTES + 1]) {
    (void)snprintf(out, TAG_BYTES + 1, "\"%016" PRIx64 "\"", version);
}

static void library_tag_format(const struct library_state *state, char out[LIBRARY_TAG_BYTES + 1]) {
    (void)snprintf(out, LIBRARY_TAG_BYTES + 1, "\"%016" PRIx64 "%016" PRIx64 "%016" PRIx64 "\"", state->definition, state->content, state->shown);
}

static struct slice trimmed(struct slice s) {
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

static bool is_any(struct slice header) {
    return slice_is(trimmed(header), "*");
}

/* Whether one of the tags of a list is this one, or is one of the same length that begins alike. Our own tags hold no comma, so cutting at commas finds each of them. */
static bool lists(struct slice header, const char *tag, size_t alike) {
    while (header.len > 0) {
        const uint8_t *comma = (const uint8_t *)memchr(header.data, ',', header.len);
        size_t len = comma == NULL ? header.len : (size_t)(comma - header.data);
        struct slice each = trimmed(slice_of(header.data, len));
        if (each.len > 2 && each.data[0] == 'W' && each.data[1] == '/') {
            each = slice_of(each.data + 2, each.len - 2);
        }
        if (each.len == strlen(tag) && memcmp(each.data, tag, alike) == 0) {
            return true;
        }
        size_t skip = comma == NULL ? len : len + 1;
        header = slice_of(header.data + skip, header.len - skip);
    }
    return false;
}

static bool lists_version(struct slice header, uint64_t version) {
    char tag[TAG_BYTES + 1];
    tag_format(version, tag);
    return lists(header, tag, TAG_BYTES);
}

static bool does_not_hold(uint16_t subject, struct status *st) {
    return status_set_subject(st, STATUS_PRECONDITION, subject, "If-Match does not name the %s as it is; get it again, and decide on what is there now",
                              subject == SUBJECT_LIBRARY ? "library" : subject == SUBJECT_CHUNK ? "chunk" : "document");
}

uint64_t condition_version(const struct reading *rd, const struct stored_document *d) {
    const struct document_row *row = arena_document(rd->arena, d->row);
    return document_version(arena_record(rd->arena, row->record, row->record_length), reading_live_chunks_of(rd, d));
}

void condition_reply(struct exchange *x, uint64_t version) {
    char tag[TAG_BYTES + 1];
    tag_format(version, tag);
    buf_printf(&x->response->headers, "ETag: %s\r\n", tag);
}

bool condition_of_read(const struct exchange *x, uint64_t version, uint16_t subject, bool *ret_unchanged, struct status *st) {
    struct slice match = x->request->if_match;
    struct slice none = x->request->if_none_match;
    if (match.len > 0 && !is_any(match) && !lists_version(match, version)) {
        return does_not_hold(subject, st);
    }
    *ret_unchanged = none.len > 0 && (is_any(none) || lists_version(none, version));
    return true;
}

/* The version that the document has now, if it is among those of If-Match. */
static bool present_version(struct exchange *x, const struct uuid *library, struct slice id, uint64_t *ret, struct status *st) {
    struct reading rd;
    struct stored_document d;
    if (!reading_begin(x->api->host.reader, library, &rd, st)) {
        return false;
    }
    bool found = reading_find_document(&rd, id, &d, st);
    uint64_t version = found ? condition_version(&rd, &d) : DOCUMENT_VERSION_NONE;
    reading_end(&rd);
    if (!found && st->code != STATUS_NOT_FOUND) {
        return false;
    }
    if (!found || !lists_version(x->request->if_match, version)) {
        return does_not_hold(SUBJECT_DOCUMENT, st);
    }
    *ret = version;
    return true;
}

bool condition_of_write(struct exchange *x, const struct uuid *library, struct slice id, uint64_t *ret_version, bool *ret_absent,
                        struct status *st) {
    struct slice match = x->request->if_match;
    struct slice none = x->request->if_none_match;
    *ret_version = DOCUMENT_VERSION_NONE;
    *ret_absent = false;
    if (none.len > 0) {
        if (x->route->method != METHOD_PUT || !is_any(none) || match.len > 0) {
            return status_set(st, STATUS_INVALID, "of a write, If-None-Match takes \"*\" alone, with PUT: create, and do not replace");
        }
        *ret_absent = true;
    } else if (match.len > 0 && is_any(match)) {
        *ret_version = DOCUMENT_VERSION_ANY;
    } else if (match.len > 0) {
        return present_version(x, library, id, ret_version, st);
    }
    return true;
}

/* --- libraries --- */

void condition_reply_library(struct exchange *x, const struct library_state *state) {
    char tag[LIBRARY_TAG_BYTES + 1];
    library_tag_format(state, tag);
    buf_printf(&x->response->headers, "ETag: %s\r\n", tag);
}

bool condition_of_library_read(const struct exchange *x, const struct library_state *state, bool *ret_unchanged, struct status *st) {
    char tag[LIBRARY_TAG_BYTES + 1];
    struct slice match = x->request->if_match;
    struct slice none = x->request->if_none_match;
    library_tag_format(state, tag);
    if (match.len > 0 && !is_any(match) && !lists(match, tag, LIBRARY_TAG_BYTES)) {
        return does_not_hold(SUBJECT_LIBRARY, st);
    }
    *ret_unchanged = none.len > 0 && (is_any(none) || lists(none, tag, LIBRARY_TAG_BYTES));
    return true;
}

bool condition_of_library_write(const struct exchange *x, const struct library_state *state, enum library_part part, bool *ret_named, struct status *st) {
    enum { DIGITS = 16 };
    char tag[LIBRARY_TAG_BYTES + 1];
    struct slice match = x->request->if_match;
    if (x->request->if_none_match.len > 0) {
        return status_set(st, STATUS_INVALID, "a change of a library takes no If-None-Match");
    }
    *ret_named = match.len > 0 && !is_any(match);
    library_tag_format(state, tag);
    return !*ret_named || lists(match, tag, 1 + (part == LIBRARY_DEFINITION ? DIGITS : 2 * DIGITS)) || does_not_hold(SUBJECT_LIBRARY, st);
}
