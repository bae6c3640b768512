/* xapian_baseline.cpp - see xapian_baseline.h. No exception leaves this file. */
#include "xapian_baseline.h"

#include <xapian.h>

struct xapian_baseline {
    std::string directory;
    Xapian::WritableDatabase writable;
    Xapian::Database database;
};

struct xapian_baseline *xapian_baseline_new(const char *directory) {
    try {
        auto *b = new xapian_baseline;
        b->directory = directory;
        b->writable = Xapian::WritableDatabase(directory, Xapian::DB_CREATE_OR_OVERWRITE | Xapian::DB_NO_SYNC);
        return b;
    } catch (...) {
        return nullptr;
    }
}

void xapian_baseline_free(struct xapian_baseline *b) {
    delete b;
}

int xapian_baseline_add(struct xapian_baseline *b, const char *const *words, uint32_t count) {
    try {
        Xapian::Document document;
        for (uint32_t i = 0; i < count; i++) {
            document.add_term(words[i]);
        }
        b->writable.add_document(document);
        return 1;
    } catch (...) {
        return 0;
    }
}

int xapian_baseline_commit(struct xapian_baseline *b) {
    try {
        b->writable.commit();
        b->writable.close();
        b->database = Xapian::Database(b->directory);
        return 1;
    } catch (...) {
        return 0;
    }
}

size_t xapian_baseline_search(struct xapian_baseline *b, const char *const *words, uint32_t count, uint32_t k, uint32_t *documents) {
    try {
        Xapian::Enquire enquire(b->database);
        enquire.set_query(Xapian::Query(Xapian::Query::OP_OR, words, words + count));
        /* k1 and b as ours, no weight of the query's own length, no bound on how short a document counts. */
        enquire.set_weighting_scheme(Xapian::BM25Weight(1.2, 0, 1, 0.75, 0));
        Xapian::MSet found = enquire.get_mset(0, k);
        size_t n = 0;
        for (auto i = found.begin(); i != found.end(); ++i) {
            documents[n++] = *i - 1;
        }
        return n;
    } catch (...) {
        return SIZE_MAX;
    }
}
