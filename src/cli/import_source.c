/* import_source.c - see import_source.h. */
#include "cli/import_source.h"

#include "base/hash.h"
#include "cli/import_pdf.h"

#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

struct import_source {
    const struct import_source_options *options;
    char *const *paths; /* that are still to be opened */
    size_t path_count;
    FTS *tree;       /* NULL: one file or standard input */
    char *root;      /* its real path */
    size_t root_len; /* of the directory as it was named, with its slash */
    FILE *lines;     /* the NDJSON file being read */
    char lines_name[200];
    unsigned long line_number;
    char *line;
    size_t line_cap;
    char *only; /* a single file that is still to be handed out, */
    uint64_t only_bytes;
    bool has_files;
    uint64_t done, total;
    uint64_t order; /* calls of import_source_next */
    struct import_passed passed;
};

/* --- which files --------------------------------------------------------------------------------------------------------- */

static bool excluded(const struct import_source *s, const char *name, const char *below) {
    for (size_t i = 0; i < s->options->exclude_count; i++) {
        const char *glob = s->options->excludes[i];
        if (fnmatch(glob, name, 0) == 0 || fnmatch(glob, below, FNM_PATHNAME | FNM_LEADING_DIR) == 0)
            return true;
    }
    return false;
}

static const char *below_root(const struct import_source *s, const FTSENT *e) {
    return strlen(e->fts_path) >= s->root_len ? e->fts_path + s->root_len : e->fts_name;
}

/* PDF where there is nothing to read it with is another kind. */
static enum import_kind kind_here(const char *name) {
    enum import_kind kind = import_kind_of(name);
    return kind == IMPORT_PDF && !import_pdf_available() ? IMPORT_OTHER : kind;
}

static bool is_hidden(const FTSENT *e) {
    return e->fts_level > 0 && e->fts_name[0] == '.';
}

/* Adds up the sizes first, so that there is a time left to show. */
static uint64_t tree_bytes(const struct import_source *s, char *path) {
    char *paths[] = {path, NULL};
    uint64_t total = 0;
    FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
    if (tree == NULL)
        return 0;
    for (FTSENT *e; (e = fts_read(tree)) != NULL;) {
        bool out = e->fts_level > 0 && (is_hidden(e) || excluded(s, e->fts_name, below_root(s, e)));
        if (e->fts_info == FTS_D && out)
            fts_set(tree, e, FTS_SKIP);
        else if (e->fts_info == FTS_F && !out && kind_here(e->fts_name) != IMPORT_OTHER)
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

/* The path without slashes at its end, freed by the caller; what is below it is known from then on by where that ends. */
static char *take_root(struct import_source *s, const char *path) {
    char *copy = strdup(path);
    size_t len = copy != NULL ? strlen(copy) : 0;
    if (copy == NULL)
        return NULL;
    while (len > 1 && copy[len - 1] == '/')
        copy[--len] = '\0';
    s->root_len = len + (copy[len - 1] == '/' ? 0 : 1);
    return copy;
}

static bool open_tree(struct import_source *s, const char *path, struct status *st) {
    char *copy = take_root(s, path);
    free(s->root);
    s->root = realpath(path, NULL);
    if (copy == NULL || s->root == NULL) {
        free(copy);
        return status_set_errno(st, errno, "%s", path);
    }
    char *paths[] = {copy, NULL};
    s->tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_name);
    bool ok = s->tree != NULL || status_set_errno(st, errno, "%s", path);
    free(copy);
    return ok;
}

static bool is_lines(const char *path, const struct stat *about) {
    return import_kind_of(path) == IMPORT_NDJSON || !S_ISREG(about->st_mode);
}

/* What is known of a path before anything is read: that it is there, and how much it is. */
static bool look_at(struct import_source *s, const char *path, struct status *st) {
    struct stat about;
    if (strcmp(path, "-") == 0)
        return true;
    if (stat(path, &about) != 0)
        return status_set_errno(st, errno, "%s", path);
    if (S_ISDIR(about.st_mode)) {
        char *copy = take_root(s, path);
        if (copy == NULL)
            return status_no_memory(st);
        s->total += tree_bytes(s, copy);
        s->has_files = true;
        free(copy);
        return true;
    }
    s->total += S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    s->has_files = s->has_files || !is_lines(path, &about);
    return true;
}

static bool open_next(struct import_source *s, struct status *st) {
    const char *path = s->paths[0];
    struct stat about;
    s->paths++;
    s->path_count--;
    if (strcmp(path, "-") == 0)
        return open_lines(s, path, st);
    if (stat(path, &about) != 0)
        return status_set_errno(st, errno, "%s", path);
    if (S_ISDIR(about.st_mode))
        return open_tree(s, path, st);
    if (is_lines(path, &about))
        return open_lines(s, path, st);
    /* A file that is named is read, whatever it is called. */
    s->only_bytes = (uint64_t)about.st_size;
    s->only = strdup(path);
    return s->only != NULL || status_no_memory(st);
}

bool import_source_open(char *const *paths, size_t count, const struct import_source_options *options, struct import_source **ret, struct status *st) {
    struct import_source *s = calloc(1, sizeof *s);
    if (s == NULL)
        return status_no_memory(st);
    s->options = options;
    s->paths = paths;
    s->path_count = count;
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        ok = look_at(s, paths[i], st);
    if (!ok || !open_next(s, st)) {
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
    free(s->root);
    free(s);
}

void import_source_progress(const struct import_source *s, uint64_t *ret_done, uint64_t *ret_total) {
    *ret_done = s->done;
    *ret_total = s->total;
}

const struct import_passed *import_source_passed(const struct import_source *s) {
    return &s->passed;
}

bool import_source_has_files(const struct import_source *s) {
    return s->has_files;
}

const char *import_source_root(const struct import_source *s) {
    return s->root;
}

/* --- files --------------------------------------------------------------------------------------------------------------- */

/* The file's own path, whatever it was called by: two folders with a README.md each are two documents, and a folder is the same from within and from outside. */
static int hand_out(struct import_source *s, const char *path, const char *shown, enum import_kind kind, uint64_t bytes, struct import_document *ret, struct status *st) {
    struct import_document d = {.kind = kind == IMPORT_OTHER ? IMPORT_TEXT : kind, .bytes = bytes, .path = realpath(path, NULL), .shown = strdup(shown)};
    if (d.path == NULL || d.shown == NULL) {
        (void)status_set_errno(st, errno, "%s", path);
        import_document_fini(&d);
        s->passed.unreadable++;
        return -1;
    }
    snprintf(d.where, sizeof d.where, "%s", path);
    import_file_id(d.path, d.id);
    struct import_known_file *known = s->options->known != NULL ? import_known_find(s->options->known, d.id) : NULL;
    if (known != NULL) {
        known->seen = true;
        snprintf(d.known_sha256, sizeof d.known_sha256, "%s", known->content_sha256);
    }
    *ret = d;
    return 1;
}

/* --- lines --------------------------------------------------------------------------------------------------------------- */

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
        if (s->line[strspn(s->line, " \t")] != '\0')
            return line_document(s, slice_of(s->line, (size_t)n), ret, st);
    }
}

/* --- directories --------------------------------------------------------------------------------------------------------- */

static void note_link(struct import_source *s, const FTSENT *e) {
    struct stat about;
    s->passed.links++;
    if (stat(e->fts_path, &about) == 0)
        return;
    if (s->passed.dangling_count++ == 0)
        snprintf(s->passed.dangling, sizeof s->passed.dangling, "%s", e->fts_path);
}

/* Whether it is passed over; then that is counted. */
static bool pass_over(struct import_source *s, FTSENT *e) {
    bool folder = e->fts_info == FTS_D;
    if (e->fts_level == 0 && folder)
        return true;
    if (e->fts_info != FTS_D && e->fts_info != FTS_F && e->fts_info != FTS_SL && e->fts_info != FTS_SLNONE)
        return true;
    if (is_hidden(e) || excluded(s, e->fts_name, below_root(s, e))) {
        *(is_hidden(e) ? &s->passed.hidden : &s->passed.excluded) += 1;
        if (folder)
            fts_set(s->tree, e, FTS_SKIP);
        return true;
    }
    if (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)
        note_link(s, e);
    return e->fts_info != FTS_F;
}

/* A file that cannot be read with what is here is not gone: what was made of it where it could be stays (import_sync.c). */
static void note_there(struct import_source *s, const char *path) {
    char id[160];
    char *real = realpath(path, NULL);
    if (real == NULL) {
        s->passed.unreadable++;
        return;
    }
    import_file_id(real, id);
    struct import_known_file *known = s->options->known != NULL ? import_known_find(s->options->known, id) : NULL;
    if (known != NULL)
        known->seen = true;
    free(real);
}

/* The next file of the tree that is one for us. 0: no more; 1: a document; 2: an NDJSON file was opened. */
static int next_file(struct import_source *s, struct import_document *ret, struct status *st) {
    for (FTSENT *e; (e = fts_read(s->tree)) != NULL;) {
        if (e->fts_info == FTS_DNR || e->fts_info == FTS_ERR || e->fts_info == FTS_NS) {
            status_set_errno(st, e->fts_errno, "%s", e->fts_path);
            s->passed.unreadable++;
            return -1;
        }
        if (pass_over(s, e))
            continue;
        enum import_kind kind = kind_here(e->fts_name);
        if (kind == IMPORT_OTHER) {
            bool pdf = import_kind_of(e->fts_name) == IMPORT_PDF;
            *(pdf ? &s->passed.pdf : &s->passed.other_kinds) += 1;
            if (pdf)
                note_there(s, e->fts_path);
            continue;
        }
        if (kind == IMPORT_NDJSON) {
            if (open_lines(s, e->fts_path, st))
                return 2;
            s->passed.unreadable++;
            return -1;
        }
        return hand_out(s, e->fts_path, below_root(s, e), kind, (uint64_t)e->fts_statp->st_size, ret, st);
    }
    return 0;
}

static int take_next(struct import_source *s, struct import_document *ret, struct status *st) {
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
            int n = hand_out(s, path, slash != NULL ? slash + 1 : path, import_kind_of(path), s->only_bytes, ret, st);
            free(path);
            return n;
        }
        int n = s->tree != NULL ? next_file(s, ret, st) : 0;
        if (n == 2)
            continue;
        if (n != 0 || s->path_count == 0)
            return n;
        if (s->tree != NULL)
            fts_close(s->tree);
        s->tree = NULL;
        if (!open_next(s, st)) {
            s->passed.unreadable++;
            return -1;
        }
    }
}

int import_source_next(struct import_source *s, struct import_document *ret, struct status *st) {
    int n = take_next(s, ret, st);
    s->order++;
    if (n == 1)
        ret->order = s->order;
    return n;
}

uint64_t import_source_order(const struct import_source *s) {
    return s->order;
}
