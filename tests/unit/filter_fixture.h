/* filter_fixture.h - what the tests of filters share: documents, and a filter asked of the columns and of the records. */
#ifndef QUIRE_TESTS_FILTER_FIXTURE_H
#define QUIRE_TESTS_FILTER_FIXTURE_H

#include "store/catalog.h"
#include "store/filter_internal.h"
#include "store_fixture.h"

enum { CACHE_BYTES = 1 << 22, MAX_CHUNKS = 4 };

struct chunk_text {
    const char *metadata;
    int64_t page;
};

struct document_text {
    const char *id, *title, *author, *url, *tags, *metadata;
    int64_t created_at;
    uint32_t chunks;
    struct chunk_text chunk[MAX_CHUNKS];
};

/* Commits it. */
void filter_put(struct fixture *f, const struct uuid *library, const struct document_text *t);

struct filter leaf_filter(const char *path, enum filter_operator op, const struct filter_value *values, uint32_t count);

struct asking {
    struct store_reader *reader;
    struct filter_cache *cache;
    struct record_reader *records;
    struct reading rd;
};

/* Takes a view. */
void asking_begin(struct asking *a, struct fixture *f, const struct uuid *library, uint64_t cache_bytes);
/* Takes the view of now. */
void asking_again(struct asking *a, const struct uuid *library);
void asking_end(struct asking *a);
/* By the columns. */
struct slot_set asking_evaluate(struct asking *a, const struct filter *f);
/* The tree asked of one slot, by its record alone. */
bool asking_record(struct asking *a, const struct filter *f, uint32_t slot);
/* Both say the same of every slot. */
void assert_as_records(struct asking *a, const struct filter *f);

#endif
