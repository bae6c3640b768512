/* import_message.c - see import_message.h. */
#include "cli/import_message.h"

#include "cli/cli.h"

#include <ctype.h>

static bool ends_with(const char *text, size_t len, const char *end) {
    size_t n = strlen(end);
    return len >= n && memcmp(text + len - n, end, n) == 0;
}

/* One of "pointer: what is wrong". */
static void put_reason(struct buf *out, const char *text, size_t len) {
    static const char batch[] = "/documents/", metadata[] = "/metadata/";
    if (len >= sizeof batch && memcmp(text, batch, sizeof batch - 1) == 0 && isdigit((unsigned char)text[sizeof batch - 1])) {
        size_t skip = sizeof batch - 1;
        while (skip < len && isdigit((unsigned char)text[skip]))
            skip++;
        skip += len - skip >= 2 && text[skip] == ':' ? 2 : 0; /* the document itself */
        text += skip;
        len -= skip;
    }
    buf_put(out, text, len);
    size_t name = 1;
    while (name < len && text[name] != '/' && text[name] != ':')
        name++;
    if (len > 1 && text[0] == '/' && text[name] == ':' && ends_with(text, len, ": is no member that is known here"))
        buf_put_str(out, ": put it under metadata");
    size_t below = sizeof metadata - 1, end = below;
    while (end < len && text[end] != '/' && text[end] != ':')
        end++;
    if (end < len && text[end] == ':' && memcmp(text, metadata, below) == 0 && ends_with(text, len, " cannot be custom metadata"))
        buf_printf(out, ": put %.*s at the top level", (int)(end - below), text + below);
}

void import_message_reason(const char *detail, struct buf *out) {
    for (const char *at = detail; *at != '\0';) {
        const char *next = strstr(at, "; /");
        size_t len = next != NULL ? (size_t)(next - at) : strlen(at);
        put_reason(out, at, len);
        if (next != NULL)
            buf_put_str(out, "; ");
        at += len + (next != NULL ? 2 : 0);
    }
}

void import_messages_add(struct import_messages *m, uint64_t order, const char *where, const char *detail) {
    size_t kept = m->count < IMPORT_MESSAGES_SHOWN ? (size_t)m->count : IMPORT_MESSAGES_SHOWN, at = kept;
    struct buf reason = {0};
    m->count++;
    while (at > 0 && m->first[at - 1].order > order)
        at--;
    if (at == IMPORT_MESSAGES_SHOWN)
        return;
    size_t moved = kept < IMPORT_MESSAGES_SHOWN ? kept - at : kept - at - 1;
    memmove(&m->first[at + 1], &m->first[at], moved * sizeof m->first[0]);
    import_message_reason(detail, &reason);
    buf_put_u8(&reason, 0);
    m->first[at].order = order;
    (void)snprintf(m->first[at].text, sizeof m->first[at].text, "%s%s%s", where, where[0] != '\0' ? ": " : "", buf_ok(&reason) ? (const char *)reason.data : "");
    buf_fini(&reason);
}

void import_messages_print(struct import_messages *m, FILE *out) {
    for (size_t i = 0; i < IMPORT_MESSAGES_SHOWN && i < m->count; i++) {
        fputs("quire: ", out);
        cli_print_clean(out, m->first[i].text, sizeof m->first[i].text);
        fputc('\n', out);
    }
    if (m->count > IMPORT_MESSAGES_SHOWN)
        fprintf(out, "quire: and %llu more of this kind\n", (unsigned long long)(m->count - IMPORT_MESSAGES_SHOWN));
    m->count = 0;
}
