/*
 * xml.h - the little XML that S3 answers with, read as a row of elements: "ListBucketResult/Contents/Key", its text.
 *
 * What a storage answers is not believed. No entity but the five and numbers, no document type, no comment or CDATA, bounded depth and lengths; what is
 * anything else is refused as a whole.
 */
#ifndef QUIRE_S3_XML_H
#define QUIRE_S3_XML_H

#include "base/buf.h"

#define XML_PATH_MAX 256
#define XML_TEXT_MAX 2048

struct xml_item {
    char path[XML_PATH_MAX]; /* names of elements from the root on, without their namespaces, with '/' between */
    bool end;                /* the element ends here: else it has begun */
    char text[XML_TEXT_MAX]; /* at its end, of an element without others in it: what stands in it, unescaped */
};
/* Told of each begin and end, in order. false, with the status set, ends the reading. */
typedef bool (*xml_item_fn)(const struct xml_item *item, void *ctx, struct status *st);
/* STATUS_MALFORMED. */
MUST_CHECK bool xml_read(struct slice xml, xml_item_fn fn, void *ctx, struct status *st);

#endif
