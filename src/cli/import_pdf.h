/* import_pdf.h - the text of a PDF file, by the program pdftotext. */
#ifndef QUIRE_CLI_IMPORT_PDF_H
#define QUIRE_CLI_IMPORT_PDF_H

#include "base/buf.h"

/* Whether there is a pdftotext on the PATH. */
bool import_pdf_available(void);
/* Appends its text. path is absolute. */
MUST_CHECK bool import_pdf_text(const char *path, struct buf *out, struct status *st);

#endif
