/* import_file.c - see import_file.h. */
#include "cli/import_file.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "cli/import_html.h"
#include "cli/import_pdf.h"
#include "text/letters.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define IMPORT_MAX_FILE (16L * 1024 * 1024)
#define IMPORT_MAX_PDF (256L * 1024 * 1024) /* pictures, mostly */
#define IMPORT_TITLE_MAX 200
#define IMPORT_ID_MAX 128
#define IMPORT_URL_MAX 4096

void import_document_fini(struct import_document *d) {
    buf_fini(&d->json);
    free(d->path);
    free(d->shown);
    d->path = d->shown = NULL;
}

enum import_kind import_kind_of(const char *name) {
    static const struct {
        const char *ending;
        enum import_kind kind;
    } kinds[] = {{".ndjson", IMPORT_NDJSON}, {".jsonl", IMPORT_NDJSON}, {".md", IMPORT_MARKDOWN}, {".markdown", IMPORT_MARKDOWN}, {".txt", IMPORT_TEXT},   {".text", IMPORT_TEXT},
                 {".rst", IMPORT_TEXT},      {".html", IMPORT_HTML},    {".htm", IMPORT_HTML},    {".xhtml", IMPORT_HTML},       {".pdf", IMPORT_PDF}};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot != NULL && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcasecmp(dot, kinds[i].ending) == 0)
            return kinds[i].kind;
    }
    return IMPORT_OTHER;
}

void import_file_id(const char *real_path, char ret_id[160]) {
    char hash[65];
    if (strlen(real_path) + 5 <= IMPORT_ID_MAX && utf8_valid(slice_str(real_path)) && !utf8_has_control(slice_str(real_path))) {
        (void)snprintf(ret_id, 160, "file:%s", real_path);
        return;
    }
    sha256_hex(real_path, strlen(real_path), hash);
    (void)snprintf(ret_id, 160, "file:%s", hash);
}

/* "file:///home/ida/a%20note.md", or nothing where it would be too long. */
static void put_url(struct json_object *document, const char *path) {
    struct buf url = {0};
    buf_put_str(&url, "file://");
    for (const unsigned char *c = (const unsigned char *)path; *c != '\0'; c++) {
        bool plain = *c > 0x20 && *c < 0x7f && strchr("\"#%<>?[\\]^`{|}", *c) == NULL;
        buf_printf(&url, plain ? "%c" : "%%%02X", *c);
    }
    if (buf_ok(&url) && url.len <= IMPORT_URL_MAX)
        json_object_object_add(document, "source_url", json_object_new_string_len((const char *)url.data, (int)url.len));
    buf_fini(&url);
}

static bool blank(struct slice text) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] != ' ' && text.data[i] != '\n' && text.data[i] != '\r' && text.data[i] != '\t')
            return false;
    }
    return true;
}

/* "# Title" of the first lines, or empty. */
static struct slice first_heading(struct slice text) {
    for (size_t at = 0; at < text.len && at < 4096;) {
        const uint8_t *end = memchr(text.data + at, '\n', text.len - at);
        size_t stop = end != NULL ? (size_t)(end - text.data) : text.len;
        size_t begin = at;
        while (begin < stop && (text.data[begin] == '#' || text.data[begin] == ' '))
            begin++;
        if (text.data[at] == '#' && begin < stop && begin > at + 1) {
            struct slice title = slice_of(text.data + begin, stop - begin);
            while (title.len > 0 && (title.data[title.len - 1] == '\r' || title.data[title.len - 1] == ' '))
                title.len--;
            if (title.len > 0)
                return title;
        }
        at = stop + 1;
    }
    return slice_of(NULL, 0);
}

/* The file's name without its ending. */
static struct slice bare_name(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path, *dot = strrchr(name, '.');
    return slice_of(name, dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name));
}

static struct json_object *string_of(struct slice s) {
    return json_object_new_string_len((const char *)s.data, (int)s.len);
}

static void put_title(struct json_object *document, struct slice title, struct slice text, const char *path) {
    struct json_object *given = NULL;
    if (json_object_object_get_ex(document, "title", &given))
        return; /* of the front matter */
    struct slice candidates[] = {title, first_heading(text), bare_name(path)};
    for (size_t i = 0; i < sizeof candidates / sizeof candidates[0]; i++) {
        candidates[i].len = utf8_prefix(candidates[i], IMPORT_TITLE_MAX);
        if (candidates[i].len == 0 || !utf8_valid(candidates[i]) || utf8_has_control(candidates[i]))
            continue;
        json_object_object_add(document, "title", string_of(candidates[i]));
        return;
    }
}

/* The next word of *s, which is moved behind it; empty at the end. */
static struct slice next_word(struct slice *s) {
    static const char blanks[] = " \t\r\n";
    size_t begin = 0, end;
    while (begin < s->len && memchr(blanks, s->data[begin], sizeof blanks - 1) != NULL)
        begin++;
    for (end = begin; end < s->len && memchr(blanks, s->data[end], sizeof blanks - 1) == NULL;)
        end++;
    struct slice word = slice_of(s->data + begin, end - begin);
    *s = slice_of(s->data + end, s->len - end);
    return word;
}

static bool same_word(struct slice a, struct slice b) {
    uint8_t folded_a[FOLDED_BYTES_MAX], folded_b[FOLDED_BYTES_MAX];
    if (a.len == b.len && memcmp(a.data, b.data, a.len) == 0)
        return true;
    size_t len = fold_word(a, folded_a, sizeof folded_a);
    return len > 0 && len == fold_word(b, folded_b, sizeof folded_b) && memcmp(folded_a, folded_b, len) == 0;
}

/* "#" to "######", of a heading. */
static bool is_mark(struct slice word) {
    return word.len > 0 && word.len <= 6 && memcmp(word.data, "######", word.len) == 0;
}

bool import_begins_with_title(struct slice text, struct slice title) {
    struct slice mark = next_word(&text); /* text is behind it, on its line or not */
    if (!is_mark(mark))
        return false;
    const uint8_t *end = memchr(text.data, '\n', text.len);
    struct slice heading = slice_of(text.data, end != NULL ? (size_t)(end - text.data) : text.len), a, b;
    do {
        a = next_word(&heading);
        b = next_word(&title);
        if (b.len == 0 && is_mark(a))
            a = next_word(&heading); /* "# Title #" */
        if (!same_word(a, b))
            return false;
    } while (a.len > 0);
    return true;
}

/* Words are looked for in texts, and not in titles: one that stands only in front matter, or in a page's head, goes in front as a heading. */
static struct json_object *text_with_title(struct slice text, struct json_object *title) {
    struct slice words = title != NULL ? slice_str(json_object_get_string(title)) : slice_of(NULL, 0);
    struct buf both = {0};
    if (words.len == 0 || import_begins_with_title(text, words))
        return string_of(text);
    buf_printf(&both, "# %s\n\n", (const char *)words.data);
    buf_put_slice(&both, text);
    struct json_object *whole = buf_ok(&both) ? string_of(buf_slice(&both)) : string_of(text);
    buf_fini(&both);
    return whole;
}

/* --- reading ------------------------------------------------------------------------------------------------------------- */

static bool read_file(const char *path, size_t most, struct buf *out, struct status *st) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* what has become a pipe since it was looked at is not waited for */
    if (fd < 0)
        return status_set_errno(st, errno, "cannot be read");
    char block[65536];
    ssize_t n = 0;
    while (out->len <= most && ((n = read(fd, block, sizeof block)) > 0 || (n < 0 && errno == EINTR)))
        buf_put(out, block, n > 0 ? (size_t)n : 0);
    int error = errno;
    close(fd);
    if (n < 0)
        return status_set_errno(st, error, "cannot be read");
    if (out->len > most)
        return status_set(st, STATUS_TOO_LARGE, "larger than %zu MiB", most >> 20);
    return buf_check(out, st);
}

static struct slice without_bom(struct slice text) {
    return text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? slice_of(text.data + 3, text.len - 3) : text;
}

struct content {
    struct slice text;
    struct buf made;  /* where text is not the file's own */
    struct buf title; /* of a page */
    struct json_object *document, *metadata;
};

static bool convert(struct import_document *d, struct slice raw, struct content *c, struct status *st) {
    struct slice yaml;
    size_t front = 0;
    c->text = without_bom(raw);
    if (d->kind == IMPORT_HTML) {
        if (!import_html_text(raw, &c->made, &c->title, st))
            return false;
        c->text = buf_slice(&c->made);
    } else if (d->kind == IMPORT_PDF) {
        if (!import_pdf_text(d->path, &c->made, st))
            return false;
        c->text = buf_slice(&c->made);
    } else if (d->kind == IMPORT_MARKDOWN && (front = import_front_matter(c->text, &yaml)) > 0) {
        struct status unread = {0};
        if (import_front_take(yaml, c->document, c->metadata, &unread))
            c->text = slice_of(c->text.data + front, c->text.len - front);
        else
            (void)snprintf(d->warning, sizeof d->warning, "%s", unread.detail);
    }
    return utf8_valid(c->text) || status_set(st, STATUS_INVALID, "not UTF-8 text");
}

static bool write_document(struct import_document *d, struct content *c, struct status *st) {
    static const char *const formats[] = {[IMPORT_HTML] = "html", [IMPORT_PDF] = "pdf"};
    bool marked = d->kind == IMPORT_MARKDOWN || d->kind == IMPORT_HTML;
    if (!utf8_valid(slice_str(d->shown)) || utf8_has_control(slice_str(d->shown)))
        return status_set(st, STATUS_INVALID, "the file's name is not UTF-8, or has control characters");
    struct json_object *title = NULL;
    bool headed = json_object_object_get_ex(c->document, "title", &title) || c->title.len > 0;
    json_object_object_add(c->document, "id", json_object_new_string(d->id));
    put_title(c->document, buf_slice(&c->title), marked ? c->text : slice_of(NULL, 0), d->path);
    put_url(c->document, d->path);
    json_object_object_add(c->document, "document_type", json_object_new_string(marked ? "markdown" : "text"));
    json_object_object_add(c->metadata, "path", json_object_new_string(d->shown));
    json_object_object_add(c->metadata, "content_sha256", json_object_new_string(d->content_sha256));
    if (d->kind == IMPORT_HTML || d->kind == IMPORT_PDF)
        json_object_object_add(c->metadata, "format", json_object_new_string(formats[d->kind]));
    json_object_object_add(c->document, "metadata", json_object_get(c->metadata));
    json_object_object_add(c->document, "text", text_with_title(c->text, headed && json_object_object_get_ex(c->document, "title", &title) ? title : NULL));
    buf_put_str(&d->json, json_object_to_json_string_ext(c->document, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    return buf_check(&d->json, st);
}

enum import_loaded import_file_load(struct import_document *d, bool always, struct status *st) {
    struct buf raw = {0};
    struct content c = {.document = json_object_new_object(), .metadata = json_object_new_object()};
    enum import_loaded result = IMPORT_FAILED;
    if (!read_file(d->path, d->kind == IMPORT_PDF ? IMPORT_MAX_PDF : IMPORT_MAX_FILE, &raw, st))
        goto out;
    sha256_hex(raw.data, raw.len, d->content_sha256);
    if (blank(without_bom(buf_slice(&raw)))) {
        result = IMPORT_EMPTY;
        goto out;
    }
    if (!always && strcmp(d->content_sha256, d->known_sha256) == 0) {
        result = IMPORT_UNCHANGED;
        goto out;
    }
    if (!convert(d, buf_slice(&raw), &c, st))
        goto out;
    if (blank(c.text))
        result = IMPORT_EMPTY;
    else if (write_document(d, &c, st))
        result = IMPORT_LOADED;
out:
    buf_fini(&raw);
    buf_fini(&c.made);
    buf_fini(&c.title);
    json_object_put(c.document);
    json_object_put(c.metadata);
    return result;
}
