/*
 * import_html.c - see import_html.h.
 *
 * libxml2 makes the tree: it takes what browsers take, knows character sets and entities, and follows no link (XML_PARSE_NONET; HTML has no external entities). The walk
 * goes by its own stack of parents, not by recursion: depth is the page's to choose.
 */
#include "cli/import_html.h"

#include <ctype.h>
#include <libxml/HTMLparser.h>
#include <limits.h>

enum { DEPTH_MAX = 250 };

struct writer {
    struct buf *out;
    unsigned newlines; /* owed before the next word */
    bool blank;        /* a blank is owed */
    bool begun;        /* something was written */
    unsigned code;     /* within so many <pre> */
    unsigned lists;
};

static bool named(const xmlNode *node, const char *const *names) {
    for (; *names != NULL; names++) {
        if (xmlStrcasecmp(node->name, (const xmlChar *)*names) == 0)
            return true;
    }
    return false;
}

static const char *const unread[] = {"script", "style", "noscript", "template", "nav", "form", "button", "select", "svg", "iframe", "object", "head", "title", NULL};
static const char *const blocks[] = {"p",     "div",     "section", "article", "main",  "header", "footer", "aside",  "blockquote", "ul",         "ol",   "dl",   "table", "figure",
                                     "h1",    "h2",      "h3",      "h4",      "h5",    "h6",     "pre",    "hr",     "address",    "figcaption", "body", NULL};
static const char *const rows[] = {"li", "dt", "dd", "tr", "br", "caption", NULL};
static const char *const cells[] = {"td", "th", NULL};
static const char *const lists[] = {"ul", "ol", NULL};
static const char *const pre[] = {"pre", NULL};
static const char *const item[] = {"li", NULL};

static void owe(struct writer *w, unsigned newlines) {
    if (w->begun && w->newlines < newlines)
        w->newlines = newlines;
}

static void settle(struct writer *w) {
    for (; w->newlines > 0; w->newlines--) {
        buf_put_u8(w->out, '\n');
        w->blank = false;
    }
    if (w->blank && w->begun)
        buf_put_u8(w->out, ' ');
    w->blank = false;
    w->begun = true;
}

static void put_mark(struct writer *w, const char *mark) {
    settle(w);
    buf_put_str(w->out, mark);
}

static void put_text(struct writer *w, const char *text) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (w->code > 0 && c == '\n') {
            settle(w);
            w->newlines = 1;
        } else if (isspace(c) && w->code == 0) {
            w->blank = w->newlines == 0;
        } else if (c >= 0x20 || c == '\t') {
            settle(w);
            buf_put_u8(w->out, c);
        }
    }
}

/* 1 to 6, or 0. */
static unsigned heading(const xmlNode *node) {
    const xmlChar *n = node->name;
    return (n[0] == 'h' || n[0] == 'H') && n[1] >= '1' && n[1] <= '6' && n[2] == '\0' ? (unsigned)(n[1] - '0') : 0;
}

static void enter(struct writer *w, const xmlNode *node) {
    if (named(node, blocks))
        owe(w, w->lists > 0 && named(node, lists) ? 1 : 2);
    else if (named(node, rows))
        owe(w, 1);
    else if (named(node, cells) && w->newlines == 0)
        w->blank = true;
    if (named(node, lists))
        w->lists++;
    unsigned level = heading(node);
    if (level > 0)
        put_mark(w, &"###### "[6 - level]);
    else if (named(node, item))
        put_mark(w, "- ");
    else if (named(node, pre)) {
        put_mark(w, "```");
        w->newlines = 1;
        w->code++;
    }
}

static void leave(struct writer *w, const xmlNode *node) {
    if (named(node, pre) && w->code > 0) {
        w->code--;
        w->newlines = 1;
        put_mark(w, "```");
    }
    if (named(node, lists) && w->lists > 0)
        w->lists--;
    if (named(node, blocks))
        owe(w, w->lists > 0 && named(node, lists) ? 1 : 2);
    else if (named(node, rows))
        owe(w, 1);
}

/* The text below a node, its blanks as one. */
static void put_plain(const xmlNode *node, struct buf *out) {
    struct writer w = {.out = out};
    xmlChar *text = xmlNodeGetContent(node);
    if (text != NULL)
        put_text(&w, (const char *)text);
    xmlFree(text);
}

static void take_title(const xmlNode *node, struct buf *title, bool *from_title) {
    static const char *const title_names[] = {"title", NULL};
    static const char *const first[] = {"h1", NULL};
    bool is_title = named(node, title_names) && node->parent != NULL && xmlStrcasecmp(node->parent->name, (const xmlChar *)"svg") != 0;
    if (*from_title || (!is_title && (title->len > 0 || !named(node, first))))
        return;
    if (is_title)
        buf_reset(title);
    put_plain(node, title);
    *from_title = is_title && title->len > 0;
}

/* In the order of the page. Below a node that is not read, and too deep, only titles are looked for. */
static void walk(const xmlNode *root, struct writer *w, struct buf *title) {
    const xmlNode *node = root;
    unsigned depth = 0, unread_depth = UINT_MAX;
    bool from_title = false;
    while (node != NULL) {
        bool element = node->type == XML_ELEMENT_NODE, silent = depth >= unread_depth;
        if (element) {
            take_title(node, title, &from_title);
            if (!silent && (named(node, unread) || depth > DEPTH_MAX)) {
                unread_depth = depth;
                silent = true;
            }
            if (!silent)
                enter(w, node);
        } else if ((node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) && !silent && node->content != NULL) {
            put_text(w, (const char *)node->content);
        }
        if (element && node->children != NULL) {
            node = node->children;
            depth++;
            continue;
        }
        for (;;) {
            if (node->type == XML_ELEMENT_NODE) {
                if (depth < unread_depth)
                    leave(w, node);
                else if (depth == unread_depth)
                    unread_depth = UINT_MAX;
            }
            if (node == root || node->next != NULL)
                break;
            node = node->parent;
            depth--;
        }
        node = node == root ? NULL : node->next;
    }
}

bool import_html_text(struct slice html, struct buf *out, struct buf *ret_title, struct status *st) {
    const int options = HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET;
    struct writer w = {.out = out};
    if (html.len > INT_MAX)
        return status_set(st, STATUS_TOO_LARGE, "larger than a page can be");
    htmlDocPtr page = htmlReadMemory((const char *)html.data, (int)html.len, NULL, NULL, options);
    if (page == NULL)
        return status_set(st, STATUS_MALFORMED, "no HTML");
    for (const xmlNode *node = page->children; node != NULL; node = node->next) {
        if (node->type == XML_ELEMENT_NODE)
            walk(node, &w, ret_title);
    }
    xmlFreeDoc(page);
    if (w.begun)
        buf_put_u8(out, '\n');
    return buf_check(out, st) && buf_check(ret_title, st);
}
