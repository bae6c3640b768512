/* vectors.h - a matrix of vectors in somebody's memory, and which of its rows count. */
#ifndef QUIRE_INDEX_VECTORS_H
#define QUIRE_INDEX_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Row s begins at base + s * stride; stride in floats. Values are unit length or zero. */
struct vector_rows {
    const float *base;
    size_t stride;
    uint32_t dimension;
};

static inline const float *vector_row(const struct vector_rows *rows, uint32_t slot) {
    return rows->base + (size_t)slot * rows->stride;
}

/* Whether a slot may be among the results (it belongs to the view, has a vector, passes the filter). Called once per candidate;
 * must not block, allocate or make a system call. */
struct slot_filter {
    bool (*accepts)(const void *ctx, uint32_t slot);
    const void *ctx;
};

#endif
