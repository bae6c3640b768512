/* hnswlib_baseline.cpp - see hnswlib_baseline.h. No exception leaves this file. */
#include "hnswlib_baseline.h"

#include <hnswlib/hnswlib.h>

struct baseline {
    hnswlib::InnerProductSpace space;
    hnswlib::HierarchicalNSW<float> graph;

    baseline(uint32_t dimension, uint32_t max_elements, uint32_t m, uint32_t ef_construction)
        : space(dimension), graph(&space, max_elements, m, ef_construction) {}
};

struct baseline *baseline_new(uint32_t dimension, uint32_t max_elements, uint32_t m, uint32_t ef_construction) {
    try {
        return new baseline(dimension, max_elements, m, ef_construction);
    } catch (...) {
        return nullptr;
    }
}

void baseline_free(struct baseline *b) {
    delete b;
}

int baseline_insert(struct baseline *b, const float *vector, uint32_t label) {
    try {
        b->graph.addPoint(vector, label);
        return 1;
    } catch (...) {
        return 0;
    }
}

size_t baseline_search(struct baseline *b, const float *query, uint32_t k, uint32_t ef, uint32_t *labels) {
    try {
        b->graph.setEf(ef);
        auto found = b->graph.searchKnn(query, k);
        size_t count = found.size();
        for (size_t i = count; i-- > 0; found.pop()) {
            labels[i] = static_cast<uint32_t>(found.top().second);
        }
        return count;
    } catch (...) {
        return 0;
    }
}
