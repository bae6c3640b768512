/* remote_batch.c - see remote_batch.h. */
#include "embed/remote_batch.h"

#include "base/utf8.h"

#include <stdlib.h>

enum { BYTES_PER_TOKEN = 3 };

uint64_t remote_tokens(size_t bytes) {
    return 1 + ((uint64_t)bytes + BYTES_PER_TOKEN - 1) / BYTES_PER_TOKEN;
}

bool remote_batch_new(size_t room, struct remote_batch *ret, struct status *st) {
    struct remote_batch b = {.room = room};
    b.texts = (struct slice *)calloc(room, sizeof *b.texts);
    b.rows = (size_t *)calloc(room, sizeof *b.rows);
    if (b.texts == NULL || b.rows == NULL) {
        remote_batch_free(&b);
        return status_no_memory(st);
    }
    *ret = b;
    return true;
}

void remote_batch_free(struct remote_batch *b) {
    free(b->texts);
    free(b->rows);
    *b = (struct remote_batch){0};
}

struct remote_bounds remote_bounds_of(const struct remote_settings *s, enum embed_role role) {
    size_t prefix = strlen(role == EMBED_QUERY ? s->query_prefix : s->document_prefix);
    size_t most = (size_t)s->max_text_tokens * BYTES_PER_TOKEN;
    return (struct remote_bounds){.texts = (size_t)s->max_batch, .tokens = s->max_batch_tokens, .text_bytes = most, .prefix_bytes = prefix};
}

static bool blank(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (memchr(" \t\r\n\f\v", text.data[i], sizeof " \t\r\n\f\v" - 1) == NULL) {
            return false;
        }
    }
    return true;
}

size_t remote_batch_fill(struct remote_batch *b, const struct remote_bounds *bounds, const struct slice *texts, size_t count, size_t from) {
    size_t most = bounds->texts < b->room ? bounds->texts : b->room;
    size_t at = from;
    b->count = 0;
    b->tokens = 0;
    for (; at < count; at++) {
        struct slice text = slice_of(texts[at].data, utf8_prefix(texts[at], bounds->text_bytes));
        uint64_t tokens = remote_tokens(bounds->prefix_bytes + text.len);
        if (blank(text)) {
            continue;
        }
        if (b->count > 0 && (b->count >= most || b->tokens + tokens > bounds->tokens)) {
            break;
        }
        b->texts[b->count] = text;
        b->rows[b->count++] = at;
        b->tokens += tokens;
    }
    return at;
}
