/* document_json.c - documents, chunks and vectors in replies. */
#include "api/document.h"

#include "store/model.h"

void item_id_write(struct json_out *j, struct slice encoded) {
    char text[ITEM_ID_TEXT_MAX + 1];
    size_t len = item_id_text(encoded, text);
    json_string(j, slice_of(text, len));
}

static void write_text_or_null(struct json_out *j, const char *key, struct slice text) {
    json_key(j, key);
    if (text.len > 0) {
        json_string(j, text);
    } else {
        json_null(j);
    }
}

void vector_write(struct json_out *j, const float *values, uint32_t dimension, bool base64) {
    if (values == NULL) {
        json_null(j);
    } else if (base64) {
        struct buf text;
        buf_init(&text);
        base64_encode(slice_of(values, dimension * sizeof *values), &text);
        if (!buf_ok(&text)) {
            j->buf->failed = true; /* a reply without its vector must not go out */
        }
        json_string(j, buf_slice(&text));
        buf_fini(&text);
    } else {
        json_begin_array(j);
        for (uint32_t i = 0; i < dimension; i++) {
            json_float(j, values[i]);
        }
        json_end_array(j);
    }
}

void chunk_write(struct json_out *j, const struct op_chunk *c, uint32_t index, const float *vector,
                 const struct chunk_frame *frame) {
    json_begin_object(j);
    json_key(j, "id");
    item_id_write(j, c->id);
    json_member_string(j, "text", c->text);
    json_key(j, "metadata");
    json_begin_object(j);
    json_member_time(j, "created_at", frame->created_at);
    json_key(j, "page_number");
    if (c->page_number >= 0) {
        json_int(j, c->page_number);
    } else {
        json_null(j);
    }
    json_member_uint(j, "chunk_index", index);
    json_key(j, "source_document_id");
    item_id_write(j, frame->document_id);
    json_splice_members(j, c->metadata);
    json_end_object(j);
    if (frame->form.include) {
        json_key(j, "embedding");
        vector_write(j, vector, frame->dimension, frame->form.base64);
    }
    json_end_object(j);
}

static void write_metadata(struct json_out *j, const struct op_document *d) {
    json_key(j, "metadata");
    json_begin_object(j);
    json_member_string(j, "title", d->title);
    write_text_or_null(j, "author", d->author);
    json_member_time(j, "created_at", d->created_at);
    json_member_string(j, "document_type", d->document_type);
    write_text_or_null(j, "source_url", d->source_url);
    json_key(j, "tags");
    json_raw(j, d->tags.len > 0 ? d->tags : slice_str("[]"));
    json_splice_members(j, d->metadata);
    json_end_object(j);
}

void document_write_summary(struct json_out *j, const struct reading *rd, const struct stored_document *d) {
    json_begin_object(j);
    json_key(j, "id");
    item_id_write(j, d->fields.id);
    json_member_uint(j, "num_chunks", reading_live_chunks_of(rd, d));
    write_metadata(j, &d->fields);
    json_end_object(j);
}

void document_write_stored(struct json_out *j, const struct reading *rd, const struct stored_document *d,
                           struct vector_form form) {
    const struct chunk_frame frame = {d->created_at, d->fields.id, rd->view.dimension, form};
    json_begin_object(j);
    json_key(j, "id");
    item_id_write(j, d->fields.id);
    json_key(j, "chunks");
    json_begin_array(j);
    struct chunk_walk walk = {.bytes = d->fields.chunks};
    struct op_chunk chunk;
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        uint32_t slot = d->first_chunk + i;
        if (reading_chunk_visible(rd, slot)) {
            chunk_write(j, &chunk, i, form.include ? reading_vector(rd, slot) : NULL, &frame);
        }
    }
    json_end_array(j);
    write_metadata(j, &d->fields);
    json_end_object(j);
}

void document_write_new(struct json_out *j, const struct op_document *d, const float *vectors, uint32_t dimension,
                        struct vector_form form) {
    const struct chunk_frame frame = {d->created_at, d->id, dimension, form};
    json_begin_object(j);
    json_key(j, "id");
    item_id_write(j, d->id);
    json_key(j, "chunks");
    json_begin_array(j);
    struct chunk_walk walk = {.bytes = d->chunks};
    struct op_chunk chunk;
    for (uint32_t i = 0; i < d->num_chunks && chunk_walk_next(&walk, &chunk); i++) {
        chunk_write(j, &chunk, i, vectors == NULL ? NULL : vectors + (size_t)i * dimension, &frame);
    }
    json_end_array(j);
    write_metadata(j, d);
    json_end_object(j);
}
