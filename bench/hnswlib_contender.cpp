/* hnswlib_contender.cpp - the library of the paper's first author, to measure ours against in the same run. Built only where it is found.
 * No exception leaves this file. */
#include "contender.h"

#include <hnswlib/hnswlib.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

struct Baseline {
    hnswlib::InnerProductSpace space;
    hnswlib::HierarchicalNSW<float> graph;

    explicit Baseline(const contender_shape &s) : space(s.dimension), graph(&space, s.capacity, s.m, s.ef_construction) {}
    Baseline(const contender_shape &s, const char *path) : space(s.dimension), graph(&space, path, false, s.capacity) {}
};

Baseline *of(void *self) {
    return static_cast<Baseline *>(self);
}

void *create(const contender_shape *shape) {
    try {
        return new Baseline(*shape);
    } catch (...) {
        return nullptr;
    }
}

void destroy(void *self) {
    delete of(self);
}

bool insert_all(void *self, const float *rows, size_t stride, uint32_t count, unsigned threads) {
    std::atomic<uint32_t> next{0};
    std::atomic<bool> good{true};
    auto work = [&] {
        try {
            for (uint32_t i; (i = next.fetch_add(1)) < count;) {
                of(self)->graph.addPoint(rows + static_cast<size_t>(i) * stride, i);
            }
        } catch (...) {
            good = false;
        }
    };
    try {
        std::vector<std::thread> crew;
        for (unsigned i = 0; i < threads; i++) {
            crew.emplace_back(work);
        }
        for (std::thread &t : crew) {
            t.join();
        }
    } catch (...) {
        return false;
    }
    return good;
}

void *searcher_new(void *) {
    return nullptr;
}

void searcher_free(void *) {}

void search_one(hnswlib::HierarchicalNSW<float> &graph, const float *query, uint32_t k, uint32_t *found) {
    auto best = graph.searchKnn(query, k);
    std::fill(found, found + k, CONTENDER_NONE);
    for (size_t i = best.size(); i-- > 0; best.pop()) {
        found[i] = static_cast<uint32_t>(best.top().second);
    }
}

bool search(void *self, void *, const contender_searches *s) {
    try {
        of(self)->graph.setEf(s->ef);
        for (size_t i = 0; i < s->count; i++) {
            search_one(of(self)->graph, s->rows + i * s->stride, s->k, s->found + i * s->k);
        }
        return true;
    } catch (...) {
        return false;
    }
}

/* Of its own allocations: a node with its links, vector and label, the pointer to its upper links, and those. Its locks, the table
 * of labels and the visit tags are left out. */
void bytes(void *self, contender_bytes *ret) {
    const auto &graph = of(self)->graph;
    double sum = 0.0;
    for (size_t i = 0; i < graph.cur_element_count; i++) {
        sum += static_cast<double>(graph.size_links_per_element_) * graph.element_levels_[i];
    }
    ret->all =
        static_cast<double>(graph.size_data_per_element_ + sizeof(char *)) + sum / static_cast<double>(graph.cur_element_count);
    ret->touched = ret->all;
}

bool save(void *self, const char *path) {
    try {
        of(self)->graph.saveIndex(path);
        return true;
    } catch (...) {
        return false;
    }
}

void *load(const contender_shape *shape, const char *path) {
    try {
        return new Baseline(*shape, path);
    } catch (...) {
        return nullptr;
    }
}

} // namespace

extern "C" const struct contender contender_hnswlib = {
    "hnswlib", create, destroy, insert_all, searcher_new, searcher_free, search, bytes, save, load,
};
