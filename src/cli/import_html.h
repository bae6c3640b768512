/* import_html.h - the text of an HTML page, as Markdown, so that the server cuts it by its headings. */
#ifndef QUIRE_CLI_IMPORT_HTML_H
#define QUIRE_CLI_IMPORT_HTML_H

#include "base/buf.h"

/* Appends the page's text: headings with #, items with -, code in fences, paragraphs apart. What is not for readers (scripts, styles, navigation, forms) is left
 * out. ret_title: its <title>, else its first <h1>, or empty. False: no memory, or nothing that could be parsed. */
MUST_CHECK bool import_html_text(struct slice html, struct buf *out, struct buf *ret_title, struct status *st);

#endif
