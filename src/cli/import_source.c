/* import_source.c - see import_source.h. */
#include "cli/import_source.h"

#include "base/hash.h"
#include "base/json_out.h"
#include "base/utf8.h"

#include <errno.h>
#include <fts.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define IMPORT_MAX_FILE (16L * 1024 * 1024)
#define IMPORT_TITLE_MAX 200
#define IMPORT_ID_MAX 128

enum file_kind { KIND_OTHER, KIND_NDJSON, KIND_MARKDOWN, KIND_TEXT };

struct import_source {
    FTS *tree;       /* NULL: one file or standard input */
    size_t root_len; /* of the named directory, with its slash */
    FILE *lines;     /* the NDJSON file being read */
    char lines_name[200];
    unsigned long line_number;
    char *line;
    size_t line_cap;
    char *only; /* a single text file that is still to be read */
    uint64_t done, total, skipped;
};

static enum file_kind kind_of(const char *path) {
    const char *dot = strrchr(path, '.');
    if (dot == NULL)
        return KIND_OTHER;
    if (strcasecmp(dot, ".ndjson") == 0 || strcasecmp(dot, ".jsonl") == 0)
        return KIND_NDJSON;
    if (strcasecmp(dot, ".md") == 0 || strcasecmp(dot, ".markdown") == 0)
        return KIND_MARKDOWN;
    if (strcasecmp(dot, ".txt") == 0 || strcasecmp(dot, ".text") == 0 || strcasecmp(dot, ".rst") == 0)
        return KIND_TEXT;
    return KIND_OTHER;
}

void import_document_fini(struct import_document *d) {
    buf_fini(&d->json);
}

/* Adds up the sizes first, so that there is a time left to show. */
static uint64_t tree_bytes(char *path) {
    char *paths[] = {path, NULL};
    uint64_t total = 0;
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (tree == NULL)
        return 0;
    for (FTSENT *e; (e = fts_read(tree)) != NULL;) {
        if (e->fts_info == FTS_D && e->fts_level > 0 && e->fts_name[0] == '.')
            fts_set(tree, e, FTS_SKIP);
        else if (e->fts_info == FTS_F && e->fts_name[0] != '.' && kind_of(e->fts_name) != KIND_OTHER)
            total += (uint64_t)e->fts_statp->st_size;
    }
    fts_close(tree);
    return total;
}

static int by_name(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool open_lines(struct import_source *s, const char *path, struct status *st) {
    s->lines = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    if (s->lines == NULL)
        return status_set_errno(st, errno, "%s", path);
    snprintf(s->lines_name, sizeof s->lines_name, "%s", strcmp(path, "-") == 0 ? "standard input" : path);
    s->line_number = 0;
    return true;
}

static bool open_tree(struct import_source *s, const char *path, struct status *st) {
    char *copy = strdup(path);
    if (copy == NULL)
        return status_no_memory(st);
    size_t len = strlen(copy);
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    s->root_len = len + (copy[len - 1] == '/' ? 0 : 1);
    s->total = tree_bytes(copy);
    char *paths[] = {copy, NULL};
    s->tree = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    bool ok = s->tree != NULL || status_set_errno(st, errno, "%s", path);
    free(copy);
    return ok;
}

bool import_source_open(const char *path, struct import_source **ret, struct status *st) {
    struct import_source *s = calloc(1, sizeof *s);
    struct stat about;
    bool ok = false;
    if (s == NULL)
        return status_no_memory(st);
    if (strcmp(path, "-") == 0) {
        ok = open_lines(s, path, st);
    } else if (stat(path, &about) != 0) {
        ok = status_set_errno(st, errno, "%s", path);
    } else if (S_ISDIR(about.st_mode)) {
        ok = open_tree(s, path, st);
    } else if (kind_of(path) == KIND_NDJSON) {
        s->total = (uint64_t)about.st_size;
        ok = open_lines(s, path, st);
    } else {
        /* A file that is named is read, whatever it is called. */
        s->total = (uint64_t)about.st_size;
        s->only = strdup(path);
        ok = s->only != NULL || status_no_memory(st);
    }
    if (!ok) {
        import_source_close(s);
        return false;
    }
    *ret = s;
    return true;
}

void import_source_close(struct import_source *s) {
    if (s == NULL)
        return;
    if (s->tree != NULL)
        fts_close(s->tree);
    if (s->lines != NULL && s->lines != stdin)
        fclose(s->lines);
    free(s->line);
    free(s->only);
    free(s);
}

void import_source_progress(const struct import_source *s, uint64_t *ret_done, uint64_t *ret_total) {
    *ret_done = s->done;
    *ret_total = s->total;
}

uint64_t import_source_skipped(const struct import_source *s) {
    return s->skipped;
}

/* "# Title" of the first lines, or the name of the file without its ending. */
static struct slice title_of(struct slice text, const char *name) {
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
            title.len = utf8_prefix(title, IMPORT_TITLE_MAX);
            if (title.len > 0 && !utf8_has_control(title))
                return title;
        }
        at = stop + 1;
    }
    const char *dot = strrchr(name, '.');
    return slice_of(name, dot != NULL && dot != name ? (size_t)(dot - name) : strlen(name));
}

static bool blank(struct slice text) {
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] != ' ' && text.data[i] != '\n' && text.data[i] != '\r' && text.data[i] != '\t')
            return false;
    return true;
}

static int file_document(const char *path, const char *shown, const char *name, struct import_document *ret, uint64_t *done,
                         struct status *st) {
    struct import_document d = {0};
    struct buf content;
    int result = -1;
    buf_init(&content);
    buf_init(&d.json);
    FILE *in = fopen(path, "re");
    if (in == NULL) {
        status_set_errno(st, errno, "%s", path);
        goto out;
    }
    char block[65536];
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0 && content.len <= IMPORT_MAX_FILE;)
        buf_put(&content, block, n);
    int broken = ferror(in);
    fclose(in);
    *done += content.len;
    struct slice text = buf_slice(&content);
    if (text.len >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0)
        text = slice_of(text.data + 3, text.len - 3);
    if (broken || !buf_ok(&content)) {
        status_set(st, STATUS_IO, "%s: could not be read", path);
        goto out;
    }
    if (content.len > IMPORT_MAX_FILE) {
        status_set(st, STATUS_TOO_LARGE, "%s: larger than %ld MB", path, IMPORT_MAX_FILE / 1024 / 1024);
        goto out;
    }
    if (!utf8_valid(text) || memchr(text.data != NULL ? (const void *)text.data : "", 0, text.len) != NULL || blank(text)) {
        status_set(st, STATUS_INVALID, "%s: %s", path, blank(text) ? "empty" : "not UTF-8 text");
        goto out;
    }
    /* The file's own path, whatever it was called by: two folders with a README.md each are two documents, and a folder is the same from within and from outside. */
    char *real = realpath(path, NULL);
    if (real == NULL) {
        status_set_errno(st, errno, "%s", path);
        goto out;
    }
    snprintf(d.where, sizeof d.where, "%s", path);
    sha256_hex(text.data, text.len, d.content_sha256);
    if (strlen(real) + 5 <= IMPORT_ID_MAX && utf8_valid(slice_str(real)) && !utf8_has_control(slice_str(real))) {
        snprintf(d.id, sizeof d.id, "file:%s", real);
    } else { /* a path that is too long for an id: its hash */
        char hash[65];
        sha256_hex(real, strlen(real), hash);
        snprintf(d.id, sizeof d.id, "file:%s", hash);
    }
    free(real);
    struct json_out j = json_out_to(&d.json);
    json_begin_object(&j);
    json_member_cstring(&j, "id", d.id);
    json_member_string(&j, "title", title_of(text, name));
    json_member_string(&j, "text", text);
    json_member_cstring(&j, "document_type", kind_of(name) == KIND_MARKDOWN ? "markdown" : "text");
    json_key(&j, "metadata");
    json_begin_object(&j);
    json_member_cstring(&j, "path", shown);
    json_member_cstring(&j, "content_sha256", d.content_sha256);
    json_end_object(&j);
    json_end_object(&j);
    if (!buf_check(&d.json, st) || !utf8_valid(slice_str(shown)) || utf8_has_control(slice_str(shown))) {
        status_set(st, STATUS_INVALID, "a file name is not UTF-8, or has control characters");
        goto out;
    }
    *ret = d;
    d = (struct import_document){0};
    result = 1;
out:
    buf_fini(&content);
    import_document_fini(&d);
    return result;
}

static bool line_has_own_id(struct json_object *object, char id[160]) {
    struct json_object *value;
    if (!json_object_object_get_ex(object, "id", &value) || !json_object_is_type(value, json_type_string))
        return false;
    snprintf(id, 160, "%s", json_object_get_string(value));
    return true;
}

static int line_document(struct import_source *s, struct slice line, struct import_document *ret, struct status *st) {
    struct import_document d = {0};
    int result = -1;
    buf_init(&d.json);
    snprintf(d.where, sizeof d.where, "%s:%lu", s->lines_name, s->line_number);
    struct json_object *object = json_tokener_parse((const char *)line.data);
    if (!json_object_is_type(object, json_type_object)) {
        status_set(st, STATUS_MALFORMED, "%s: not a JSON object on one line", d.where);
        goto out;
    }
    if (line_has_own_id(object, d.id)) {
        buf_put_slice(&d.json, line);
    } else {
        char hash[65];
        sha256_hex(line.data, line.len, hash);
        hash[32] = '\0';
        snprintf(d.id, sizeof d.id, "ndjson:%s", hash);
        json_object_object_add(object, "id", json_object_new_string(d.id));
        buf_put_str(&d.json, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    }
    if (!buf_check(&d.json, st))
        goto out;
    *ret = d;
    d = (struct import_document){0};
    result = 1;
out:
    json_object_put(object);
    import_document_fini(&d);
    return result;
}

static int next_line(struct import_source *s, struct import_document *ret, struct status *st) {
    for (;;) {
        ssize_t n = getline(&s->line, &s->line_cap, s->lines);
        if (n < 0) {
            bool broken = ferror(s->lines) != 0;
            if (s->lines != stdin)
                fclose(s->lines);
            s->lines = NULL;
            if (broken) {
                status_set(st, STATUS_IO, "%s: could not be read", s->lines_name);
                return -2;
            }
            return 0;
        }
        s->line_number++;
        s->done += (uint64_t)n;
        while (n > 0 && (s->line[n - 1] == '\n' || s->line[n - 1] == '\r'))
            s->line[--n] = '\0';
        if (!blank(slice_of(s->line, (size_t)n)))
            return line_document(s, slice_of(s->line, (size_t)n), ret, st);
    }
}

/* The next file of the tree that is one for us. 0: no more; 1: a document; 2: an NDJSON file was opened. */
static int next_file(struct import_source *s, struct import_document *ret, struct status *st) {
    for (FTSENT *e; (e = fts_read(s->tree)) != NULL;) {
        if (e->fts_info == FTS_D && e->fts_level > 0 && e->fts_name[0] == '.') {
            fts_set(s->tree, e, FTS_SKIP);
            continue;
        }
        if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
            status_set_errno(st, e->fts_errno, "%s", e->fts_path);
            return -1;
        }
        if (e->fts_info != FTS_F || e->fts_name[0] == '.')
            continue;
        enum file_kind kind = kind_of(e->fts_name);
        if (kind == KIND_OTHER) {
            s->skipped++;
            continue;
        }
        if (kind == KIND_NDJSON)
            return open_lines(s, e->fts_path, st) ? 2 : -1;
        return file_document(e->fts_path, e->fts_path + s->root_len, e->fts_name, ret, &s->done, st);
    }
    return 0;
}

int import_source_next(struct import_source *s, struct import_document *ret, struct status *st) {
    for (;;) {
        if (s->lines != NULL) {
            int n = next_line(s, ret, st);
            if (n != 0)
                return n;
        }
        if (s->only != NULL) {
            char *path = s->only;
            s->only = NULL;
            const char *slash = strrchr(path, '/');
            int n = file_document(path, slash != NULL ? slash + 1 : path, slash != NULL ? slash + 1 : path, ret, &s->done, st);
            free(path);
            return n;
        }
        if (s->tree == NULL)
            return 0;
        int n = next_file(s, ret, st);
        if (n != 2)
            return n;
    }
}
