/* faiss_contender.cpp - the graphs of faiss, over float32 and over its scalar quantizer, to measure ours against in the same run. Built only
 * where it is found. Searches run on the calling thread. No exception leaves this file. */
#include "contender.h"

#include <faiss/IndexHNSW.h>
#include <faiss/index_io.h>

#include <memory>
#include <omp.h>
#include <vector>

namespace {

void *create_with(faiss::IndexHNSW *index, const contender_shape &shape) {
    index->hnsw.efConstruction = static_cast<int>(shape.ef_construction);
    return index;
}

void *create_flat(const contender_shape *s) {
    try {
        return create_with(
            new faiss::IndexHNSWFlat(static_cast<int>(s->dimension), static_cast<int>(s->m), faiss::METRIC_INNER_PRODUCT), *s);
    } catch (...) {
        return nullptr;
    }
}

void *create_sq8(const contender_shape *s) {
    try {
        return create_with(new faiss::IndexHNSWSQ(static_cast<int>(s->dimension), faiss::ScalarQuantizer::QT_8bit,
                                                  static_cast<int>(s->m), faiss::METRIC_INNER_PRODUCT),
                           *s);
    } catch (...) {
        return nullptr;
    }
}

faiss::IndexHNSW *of(void *self) {
    return static_cast<faiss::IndexHNSW *>(self);
}

void destroy(void *self) {
    delete of(self);
}

/* Rows without the padding between them; the given ones where there is none. */
const float *packed(const float *rows, size_t stride, size_t count, size_t dimension, std::vector<float> &storage) {
    if (stride == dimension) {
        return rows;
    }
    storage.resize(count * dimension);
    for (size_t i = 0; i < count; i++) {
        std::copy(rows + i * stride, rows + i * stride + dimension, storage.begin() + static_cast<std::ptrdiff_t>(i * dimension));
    }
    return storage.data();
}

bool insert_all(void *self, const float *rows, size_t stride, uint32_t count, unsigned threads) {
    try {
        std::vector<float> storage;
        const float *x = packed(rows, stride, count, static_cast<size_t>(of(self)->d), storage);
        omp_set_num_threads(static_cast<int>(threads));
        of(self)->train(count, x);
        of(self)->add(count, x);
        omp_set_num_threads(1);
        return true;
    } catch (...) {
        return false;
    }
}

void *searcher_new(void *) {
    return nullptr;
}

void searcher_free(void *) {}

/* One call for all of them: each call of faiss makes its visit tags anew. */
bool search(void *self, void *, const contender_searches *s) {
    try {
        size_t total = static_cast<size_t>(s->count) * s->k;
        std::vector<float> storage, distances(total);
        std::vector<faiss::Index::idx_t> labels(total);
        omp_set_num_threads(1);
        of(self)->hnsw.efSearch = static_cast<int>(s->ef);
        of(self)->search(s->count, packed(s->rows, s->stride, s->count, static_cast<size_t>(of(self)->d), storage), s->k,
                         distances.data(), labels.data());
        for (size_t i = 0; i < total; i++) {
            s->found[i] = labels[i] < 0 ? CONTENDER_NONE : static_cast<uint32_t>(labels[i]);
        }
        return true;
    } catch (...) {
        return false;
    }
}

/* Codes or vectors, and the links of all levels with what finds them. */
void bytes(void *self, contender_bytes *ret) {
    const faiss::IndexHNSW *index = of(self);
    const auto *codes = dynamic_cast<const faiss::IndexFlatCodes *>(index->storage);
    double rows = static_cast<double>(index->ntotal);
    double links = static_cast<double>(index->hnsw.neighbors.size() * sizeof index->hnsw.neighbors[0]) / rows;
    ret->touched = links + sizeof index->hnsw.offsets[0] + sizeof index->hnsw.levels[0] +
                   (codes == nullptr ? 0.0 : static_cast<double>(codes->code_size));
    ret->all = ret->touched;
}

bool save(void *self, const char *path) {
    try {
        faiss::write_index(of(self), path);
        return true;
    } catch (...) {
        return false;
    }
}

void *load(const contender_shape *, const char *path) {
    try {
        std::unique_ptr<faiss::Index> index(faiss::read_index(path));
        auto *graph = dynamic_cast<faiss::IndexHNSW *>(index.get());
        if (graph != nullptr) {
            (void)index.release();
        }
        return graph;
    } catch (...) {
        return nullptr;
    }
}

} // namespace

extern "C" const struct contender contender_faiss = {
    "faiss", create_flat, destroy, insert_all, searcher_new, searcher_free, search, bytes, save, load,
};
extern "C" const struct contender contender_faiss_sq8 = {
    "faiss sq8", create_sq8, destroy, insert_all, searcher_new, searcher_free, search, bytes, save, load,
};
