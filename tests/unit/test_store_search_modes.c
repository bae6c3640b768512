/*
 * test_store_search_modes.c - lexical and hybrid searches: against what a plain computation over the two sides gives, their fallbacks, ties, groups,
 * diversity and filters.
 */
#include "store/search.h"
#include "store/texts.h"

#include "index/distance.h"
#include "index/lexical.h"

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store_fixture.h"

enum { DOCUMENTS = 60, PER_DOCUMENT = 10, CHUNKS = DOCUMENTS * PER_DOCUMENT, WORDS = 40, MAX_HITS = 2000 };

struct searching {
    struct store_reader *reader;
    struct search_scratch *scratch;
    struct reading rd;
    struct search_hit *hits;
    struct search_result result;
};

static void begin(struct searching *s, struct fixture *f, const struct uuid *library) {
    struct status st = {0};
    *s = (struct searching){.scratch = search_scratch_new(1 << 20),
                            .hits = (struct search_hit *)calloc(MAX_HITS, sizeof(struct search_hit))};
    assert_non_null(s->scratch);
    assert_non_null(s->hits);
    assert_true(store_reader_new(f->control, 3, f->dir_fd, &s->reader, &st));
    assert_true(reading_begin(s->reader, library, &s->rd, &st));
    s->result.hits = s->hits;
}

static void end(struct searching *s) {
    reading_end(&s->rd);
    store_reader_free(s->reader);
    search_scratch_free(s->scratch);
    free(s->hits);
}

static struct search_request request_of(enum search_mode mode, const float *query, const char *text, uint32_t k) {
    return (struct search_request){.mode = mode,
                                   .query = query,
                                   .text = slice_str(text),
                                   .k1 = LEXICAL_DEFAULT_K1,
                                   .b = LEXICAL_DEFAULT_B,
                                   .k = k,
                                   .fusion = {FUSION_RECIPROCAL_RANK, FUSION_DEFAULT_CONSTANT, FUSION_DEFAULT_WEIGHT}};
}

static void search(struct searching *s, const struct search_request *request) {
    struct status st = {0};
    if (!search_library(&s->rd, request, s->scratch, &s->result, &st)) {
        fail_msg("%s", st.detail);
    }
    assert_true(s->result.count <= request->k);
}

static void id_of(const struct searching *s, uint32_t slot, char out[ITEM_ID_TEXT_MAX + 1]) {
    struct stored_chunk c;
    struct status st = {0};
    assert_true(reading_chunk(&s->rd, slot, &c, &st));
    (void)item_id_text(c.fields.id, out);
}

static uint32_t document_of(const struct searching *s, uint32_t slot) {
    struct stored_chunk c;
    struct status st = {0};
    assert_true(reading_chunk(&s->rd, slot, &c, &st));
    return c.document;
}

/* A document with these texts and vectors (NULL: none), chunk ids "<document>/<i>", in custom metadata the number. */
static void put(struct fixture *f, const struct uuid *library, const char *document, const char *const *texts, uint32_t count,
                const float *vectors, unsigned number) {
    struct buf op = {0}, id = {0};
    char metadata[64];
    (void)snprintf(metadata, sizeof metadata, "{\"number\":%u}", number);
    struct op_document d = {.mode = PUT_CREATE,
                            .created_at = 5,
                            .id = fixture_id(&id, document),
                            .title = slice_str(document),
                            .document_type = slice_str("text"),
                            .metadata = slice_str(metadata),
                            .num_chunks = count};
    op_encode_document(&op, library, &d);
    for (uint32_t i = 0; i < count; i++) {
        char name[ITEM_ID_TEXT_MAX];
        (void)snprintf(name, sizeof name, "%s/%u", document, i);
        struct op_chunk c = {.id = fixture_id(&id, name), .text = slice_str(texts[i]), .page_number = -1};
        op_encode_chunk(&op, &c);
    }
    op_encode_vectors(&op, vectors, vectors != NULL ? count : 0, vectors != NULL ? FIXTURE_DIMENSION : 0);
    fixture_commit(f, &op);
    buf_fini(&op);
    buf_fini(&id);
}

/* Texts of 3 to 12 words, the first ones of "word0".. far more often than the last; random vectors. */
static void fill(struct fixture *f, const struct uuid *library) {
    uint64_t random = 7;
    float vectors[PER_DOCUMENT * FIXTURE_DIMENSION];
    char bytes[PER_DOCUMENT][256];
    const char *texts[PER_DOCUMENT];
    fixture_create(f, library, INDEX_HNSW, "none");
    for (unsigned n = 0; n < DOCUMENTS; n++) {
        for (unsigned i = 0; i < PER_DOCUMENT; i++) {
            size_t len = 0;
            unsigned words = 3 + (unsigned)(fixture_random(&random) % 10);
            for (unsigned w = 0; w < words; w++) {
                uint64_t draw = fixture_random(&random) % WORDS;
                len += (size_t)snprintf(bytes[i] + len, sizeof bytes[i] - len, "word%u ",
                                        (unsigned)(draw * (fixture_random(&random) % WORDS) / WORDS));
            }
            texts[i] = bytes[i];
            fixture_unit_vector(&random, vectors + (size_t)i * FIXTURE_DIMENSION, FIXTURE_DIMENSION);
        }
        char name[16];
        (void)snprintf(name, sizeof name, "d%02u", n * 37 % DOCUMENTS); /* slots are not in the order of ids */
        put(f, library, name, texts, PER_DOCUMENT, vectors, n);
    }
    fixture_catch_up(f, library);
}

static bool ids_ascend(const struct searching *s, uint32_t a, uint32_t b) {
    char left[ITEM_ID_TEXT_MAX + 1], right[ITEM_ID_TEXT_MAX + 1];
    id_of(s, a, left);
    id_of(s, b, right);
    return strcmp(left, right) < 0;
}

static void assert_ordered(const struct searching *s) {
    for (uint32_t i = 1; i < s->result.count; i++) {
        const struct search_hit *a = &s->hits[i - 1], *b = &s->hits[i];
        assert_true(a->score > b->score || (a->score == b->score && ids_ascend(s, a->slot, b->slot)));
    }
}

static float distance_to(const struct searching *s, const float *query, uint32_t slot) {
    return cosine_distance(dot_product(query, reading_vector(&s->rd, slot), FIXTURE_DIMENSION));
}

/* --- lexical --- */

static void test_words(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    const char *const texts[] = {"the red foxes run", "a fox and another fox in the night", "whales swim", "the red door",
                                 "red red"};
    fixture_create(f, &library, INDEX_HNSW, "test");
    put(f, &library, "d", texts, 5, NULL, 1);
    fixture_catch_up(f, &library);
    begin(&s, f, &library);
    struct search_request r = request_of(SEARCH_LEXICAL, NULL, "Foxes!", 10);
    search(&s, &r);
    assert_int_equal(s.result.mode, SEARCH_LEXICAL);
    assert_true(s.result.exact);
    assert_int_equal(s.result.count, 2); /* stems: fox is foxes */
    assert_int_equal(s.hits[0].slot, 1); /* twice in four terms */
    assert_true(isnan(s.hits[0].distance));
    assert_int_equal(s.hits[0].lexical_rank, 1);
    assert_int_equal(s.hits[1].lexical_rank, 2);
    assert_int_equal(s.hits[0].dense_rank, RANK_NONE);
    assert_true(s.hits[0].score == s.hits[0].lexical_score && s.hits[0].score > s.hits[1].score && s.hits[1].score > 0);
    /* the formula, by hand: N = 5, two texts have it; lengths 3 and 5 (another and night, too) of 14 in all */
    double average = (double)s.rd.view.live_tokens / 5, idf = log(1 + (5 - 2 + 0.5) / (2 + 0.5));
    double expected = idf * 1 * 2.2 / (1 + 1.2 * (1 - 0.75 + 0.75 * 3 / average));
    assert_float_equal(s.hits[1].score, expected, 1e-5);
    r.k1 = 0; /* how often no longer counts: both score alike, and the smaller id is first */
    search(&s, &r);
    assert_int_equal(s.result.count, 2);
    assert_true(s.hits[0].score == s.hits[1].score);
    assert_int_equal(s.hits[0].slot, 0);
    assert_int_equal(s.hits[1].lexical_rank, 1); /* equal ones share it */
    /* a query vector gives distances */
    float query[FIXTURE_DIMENSION];
    fixture_embed(slice_str("whales swim"), query);
    r = request_of(SEARCH_LEXICAL, query, "whale door", 10);
    search(&s, &r);
    assert_int_equal(s.result.count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        assert_float_equal(s.hits[i].distance, distance_to(&s, query, s.hits[i].slot), 1e-6);
    }
    r.has_threshold = true;
    r.distance_threshold = 0.01F;
    search(&s, &r);
    assert_int_equal(s.result.count, 1);
    assert_int_equal(s.hits[0].slot, 2);
    /* as one types */
    r = request_of(SEARCH_LEXICAL, NULL, "red wha", 10);
    search(&s, &r);
    assert_int_equal(s.result.count, 3);
    r.prefix = true;
    search(&s, &r);
    assert_int_equal(s.result.count, 4);
    end(&s);
}

/* Equal scores: each k gives the smallest ids, so that pages fit. */
static void test_lexical_ties(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    enum { COPIES = 500 };
    const uint32_t sizes[] = {1, 2, 10, 33, 100, 499, 500, 600};
    const char *const same[] = {"the very alike words"}, *const better[] = {"alike alike"};
    fixture_create(f, &library, INDEX_FLAT, "test");
    put(f, &library, "z", better, 1, NULL, 0);
    for (unsigned i = 0; i < COPIES; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "copy-%03u", i * 389 % COPIES);
        put(f, &library, name, same, 1, NULL, i);
    }
    begin(&s, f, &library);
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        struct search_request r = request_of(SEARCH_LEXICAL, NULL, "alike", sizes[n]);
        search(&s, &r);
        assert_int_equal(s.result.count, sizes[n] < COPIES + 1 ? sizes[n] : COPIES + 1);
        for (uint32_t i = 0; i < s.result.count; i++) {
            char id[ITEM_ID_TEXT_MAX + 1], wanted[32] = "z/0";
            id_of(&s, s.hits[i].slot, id);
            if (i > 0) {
                (void)snprintf(wanted, sizeof wanted, "copy-%03u/0", i - 1);
            }
            assert_string_equal(id, wanted);
        }
    }
    end(&s);
}

/* --- hybrid --- */

/* What fusing the two sides' best candidates gives, computed plainly: by slot. */
struct expected {
    float score;
    uint32_t dense_rank, lexical_rank;
    float lexical_score;
};

static float share(float value, float least, float greatest) {
    return greatest > least ? (value - least) / (greatest - least) : 1.0F;
}

/* What no text's BM25 reaches: the sum of (k1 + 1) * idf over the text's terms. In how many chunks a term is, a search for it alone tells. */
static float ceiling_of(struct searching *s, const struct search_request *r) {
    struct analyzer *analyzer = NULL;
    struct status st;
    struct terms terms;
    double sum = 0;
    assert_true(analyzer_new(texts_language(slice_str("")), &analyzer, &st));
    assert_true(analyzer_reserve(analyzer, r->text.len, &st));
    analyze(analyzer, r->text, &terms);
    for (uint32_t i = 0; i < terms.count; i++) {
        struct search_request one = request_of(SEARCH_LEXICAL, NULL, "", CHUNKS);
        one.text = terms.items[i].bytes;
        search(s, &one);
        double n = (double)s->rd.view.live_chunks;
        double df = s->result.count;
        sum += log(1 + (n - df + 0.5) / (df + 0.5)) * ((double)r->k1 + 1) * terms.items[i].count;
    }
    analyzer_free(analyzer);
    return (float)sum;
}

static uint32_t expect_fused(struct searching *s, const struct search_request *r, struct expected *out) {
    struct search_request one = *r;
    uint32_t united = 0;
    const float ceiling = ceiling_of(s, r);
    bool weighted = r->fusion.method == FUSION_WEIGHTED;
    for (one.k = SEARCH_CANDIDATES_LEAST; one.k < r->k;) {
        one.k *= 4;
    }
    memset(out, 0, CHUNKS * sizeof *out);
    for (enum search_mode mode = SEARCH_DENSE; mode <= SEARCH_LEXICAL; mode++) {
        one.mode = mode;
        search(s, &one);
        const struct search_hit *h = s->hits;
        for (uint32_t i = 0; i < s->result.count; i++) {
            struct expected *e = &out[h[i].slot];
            uint32_t rank = 1;
            while (h[rank - 1].score > h[i].score) {
                rank++;
            }
            united += e->dense_rank == 0 && e->lexical_rank == 0 ? 1 : 0;
            float part = mode == SEARCH_DENSE ? r->fusion.weight : 1 - r->fusion.weight;
            e->score += weighted ? part * (mode == SEARCH_LEXICAL ? h[i].score / ceiling : share(h[i].score, h[s->result.count - 1].score, h[0].score))
                                 : 1.0F / (float)(r->fusion.constant + rank);
            if (mode == SEARCH_DENSE) {
                e->dense_rank = rank;
            } else {
                e->lexical_rank = rank;
                e->lexical_score = h[i].score;
            }
        }
    }
    return united;
}

/* Whether more chunks have one of the words than are candidates: which of equal ones are is then not said. */
static bool words_overflow(struct searching *s, const struct search_request *r) {
    struct search_request words = *r;
    words.mode = SEARCH_LEXICAL;
    words.k = CHUNKS;
    search(s, &words);
    return s->result.count > (r->k > SEARCH_CANDIDATES_LEAST ? r->k : SEARCH_CANDIDATES_LEAST);
}

static void assert_fused(struct searching *s, const struct search_request *r) {
    struct expected e[CHUNKS];
    if (words_overflow(s, r)) {
        search(s, r);
        assert_int_equal(s->result.count, r->k);
        assert_ordered(s);
        return;
    }
    uint32_t united = expect_fused(s, r, e);
    search(s, r);
    assert_int_equal(s->result.mode, SEARCH_HYBRID);
    assert_int_equal(s->result.count, united < r->k ? united : r->k);
    assert_ordered(s);
    float least = s->hits[s->result.count - 1].score;
    for (uint32_t i = 0; i < s->result.count; i++) {
        const struct search_hit *h = &s->hits[i];
        assert_float_equal(h->score, e[h->slot].score, 1e-5);
        assert_int_equal(h->dense_rank, e[h->slot].dense_rank);
        assert_int_equal(h->lexical_rank, e[h->slot].lexical_rank);
        assert_float_equal(h->lexical_score, e[h->slot].lexical_score, 1e-5);
        assert_float_equal(h->distance, distance_to(s, r->query, h->slot), 1e-5); /* also where words alone found it */
        e[h->slot].score = 0;
    }
    for (uint32_t slot = 0; slot < CHUNKS; slot++) {
        assert_true(e[slot].score <= least + 1e-5F); /* nothing better was left out */
    }
}

static void test_fusion(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    static const char *const texts[] = {"word0 word7", "word30", "word29 word29 word36", "word33 word32 nothing like it"};
    const uint32_t sizes[] = {1, 10, 50, 150, 600};
    uint64_t random = 3;
    float query[FIXTURE_DIMENSION];
    fill(f, &library);
    begin(&s, f, &library);
    for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
        fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
        for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
            struct search_request r = request_of(SEARCH_HYBRID, query, texts[t], sizes[n]);
            r.exact = true;
            assert_fused(&s, &r);
            r.fusion.constant = 5;
            assert_fused(&s, &r);
            r.fusion.method = FUSION_WEIGHTED;
            assert_fused(&s, &r);
            r.fusion.weight = 0.9F;
            assert_fused(&s, &r);
        }
    }
    /* within a threshold: neither side's candidates go beyond it */
    struct search_request r = request_of(SEARCH_HYBRID, query, "word30 word35", 50);
    r.exact = true;
    r.has_threshold = true;
    r.distance_threshold = 0.9F;
    assert_fused(&s, &r);
    assert_int_equal(s.result.count, 50);
    for (uint32_t i = 0; i < s.result.count; i++) {
        assert_true(s.hits[i].distance <= 0.9F);
    }
    /* explained: the words' score of what they did not rank */
    r = request_of(SEARCH_HYBRID, query, "word0", 200);
    r.explain = true;
    search(&s, &r);
    unsigned unranked = 0;
    for (uint32_t i = 0; i < s.result.count; i++) {
        unranked += s.hits[i].lexical_rank == RANK_NONE && s.hits[i].lexical_score > 0 ? 1 : 0;
    }
    assert_true(unranked > 0);
    end(&s);
}

/* Of a chunk whose vector is still to be made, the words speak for the vectors, too. */
static void test_pending_vectors(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    const char *const one[] = {"a heron"};
    const char *const two[] = {"a heron and a heron"};
    uint64_t random = 5;
    float query[FIXTURE_DIMENSION];
    fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
    fixture_create(f, &library, INDEX_HNSW, "test");
    put(f, &library, "known", one, 1, query, 1);
    f->pending = true;
    put(f, &library, "pending", two, 1, NULL, 2);
    begin(&s, f, &library);
    struct search_request r = request_of(SEARCH_HYBRID, query, "heron", 5);
    search(&s, &r);
    assert_int_equal(s.result.count, 2);
    assert_true(isnan(s.hits[0].distance));
    assert_int_equal(s.hits[0].lexical_rank, 1);
    assert_float_equal(s.hits[0].score, 2.0 / (FUSION_DEFAULT_CONSTANT + 1), 1e-6);
    r.fusion.method = FUSION_WEIGHTED;
    float words = NAN;
    const float weights[] = {0, 0.2F, 0.8F};
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        r.fusion.weight = weights[i];
        search(&s, &r);
        const struct search_hit *h = isnan(s.hits[0].distance) ? &s.hits[0] : &s.hits[1];
        words = i == 0 ? h->score : words;
        assert_true(isnan(h->distance) && h->score > 0);
        assert_float_equal(h->score, words, 1e-6);
    }
    end(&s);
}

static void test_one_side(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct uuid bare = fixture_library_id(2);
    struct searching s;
    const char *const texts[] = {"some words"};
    uint64_t random = 5;
    float query[FIXTURE_DIMENSION], zero[FIXTURE_DIMENSION] = {0};
    fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
    fill(f, &library);
    begin(&s, f, &library);
    struct search_request r = request_of(SEARCH_HYBRID, query, "the of and", 5); /* stop words */
    search(&s, &r);
    assert_int_equal(s.result.mode, SEARCH_DENSE);
    assert_int_equal(s.result.count, 5);
    assert_float_equal(s.hits[0].score, 1 - s.hits[0].distance, 1e-6);
    r = request_of(SEARCH_HYBRID, zero, "word3", 5);
    search(&s, &r);
    assert_int_equal(s.result.mode, SEARCH_LEXICAL);
    assert_int_equal(s.result.count, 5);
    r = request_of(SEARCH_HYBRID, NULL, "word3", 5);
    search(&s, &r);
    assert_int_equal(s.result.mode, SEARCH_LEXICAL);
    r = request_of(SEARCH_HYBRID, NULL, "the of", 5); /* nothing to go by at all */
    search(&s, &r);
    assert_int_equal(s.result.count, 0);
    r = request_of(SEARCH_LEXICAL, NULL, "", 5);
    search(&s, &r);
    assert_int_equal(s.result.count, 0);
    r = request_of(SEARCH_HYBRID, query, "unheardof", 5); /* a term that no text has: the words were asked, and had no answer */
    search(&s, &r);
    assert_int_equal(s.result.mode, SEARCH_HYBRID);
    assert_int_equal(s.result.count, 5);
    assert_int_equal(s.hits[0].dense_rank, 1);
    end(&s);
    /* vectors are still to be made */
    fixture_create(f, &bare, INDEX_HNSW, "test");
    f->pending = true;
    put(f, &bare, "d", texts, 1, NULL, 1);
    begin(&s, f, &bare);
    r = request_of(SEARCH_HYBRID, query, "word", 5);
    search(&s, &r);
    assert_int_equal(s.result.count, 1);
    assert_true(isnan(s.hits[0].distance));
    r = request_of(SEARCH_DENSE, query, "", 5);
    search(&s, &r);
    assert_int_equal(s.result.count, 0);
    end(&s);
}

/* --- groups --- */

/* The best chunk of each document, in the order of all chunks. */
static void assert_grouped(struct searching *s, const struct search_request *r) {
    struct search_request all = *r;
    uint32_t documents[CHUNKS], count = 0;
    uint32_t slots[CHUNKS];
    all.group_by_document = false;
    all.k = CHUNKS;
    search(s, &all);
    for (uint32_t i = 0; i < s->result.count; i++) {
        uint32_t document = document_of(s, s->hits[i].slot), seen = 0;
        while (seen < count && documents[seen] != document) {
            seen++;
        }
        if (seen == count) {
            slots[count] = s->hits[i].slot;
            documents[count++] = document;
        }
    }
    search(s, r);
    assert_int_equal(s->result.count, count < r->k ? count : r->k);
    for (uint32_t i = 0; i < s->result.count; i++) {
        assert_int_equal(s->hits[i].slot, slots[i]);
    }
}

static void test_groups(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    uint64_t random = 11;
    float query[FIXTURE_DIMENSION];
    fill(f, &library);
    begin(&s, f, &library);
    const uint32_t sizes[] = {1, 5, 30, DOCUMENTS, 100};
    for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) {
        fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
        struct search_request r = request_of(SEARCH_DENSE, query, "", sizes[n]);
        r.exact = true;
        r.group_by_document = true;
        assert_grouped(&s, &r);
        r = request_of(SEARCH_LEXICAL, NULL, "word0 word1", sizes[n]);
        r.group_by_document = true;
        assert_grouped(&s, &r);
        r = request_of(SEARCH_HYBRID, query, "word0 word1", sizes[n]);
        r.group_by_document = true;
        search(&s, &r);
        assert_int_equal(s.result.count, sizes[n] < DOCUMENTS ? sizes[n] : DOCUMENTS);
        assert_ordered(&s);
        for (uint32_t i = 1; i < s.result.count; i++) {
            for (uint32_t j = 0; j < i; j++) {
                assert_int_not_equal(document_of(&s, s.hits[i].slot), document_of(&s, s.hits[j].slot));
            }
        }
    }
    end(&s);
}

/* One document holds all that is near: the others are found all the same. */
static void test_group_behind_a_crowd(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    enum { CROWD = 1500 };
    float query[FIXTURE_DIMENSION] = {1}, away[FIXTURE_DIMENSION] = {0, 1};
    float *vectors = (float *)calloc((size_t)CROWD * FIXTURE_DIMENSION, sizeof *vectors);
    const char **texts = (const char **)calloc(CROWD, sizeof *texts);
    const char *const other[] = {"near and other words"};
    assert_non_null(vectors);
    assert_non_null(texts);
    for (uint32_t i = 0; i < CROWD; i++) {
        vectors[(size_t)i * FIXTURE_DIMENSION] = 1;
        texts[i] = "near";
    }
    fixture_create(f, &library, INDEX_HNSW, "none");
    put(f, &library, "crowd", texts, CROWD, vectors, 1);
    put(f, &library, "one", other, 1, away, 2);
    put(f, &library, "two", other, 1, away, 3);
    fixture_catch_up(f, &library);
    begin(&s, f, &library);
    for (enum search_mode mode = SEARCH_DENSE; mode <= SEARCH_HYBRID; mode++) {
        struct search_request r = request_of(mode, query, "near", 3);
        r.group_by_document = true;
        search(&s, &r);
        assert_int_equal(s.result.count, 3);
        assert_int_equal(document_of(&s, s.hits[0].slot), 0);
        r.k = 2;
        search(&s, &r);
        assert_int_equal(s.result.count, 2);
        assert_int_equal(document_of(&s, s.hits[1].slot), 1); /* "one" before "two": equal, by id */
    }
    end(&s);
    free(vectors);
    free(texts);
}

/* --- diversity --- */

static void test_diversity(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    uint64_t random = 13;
    float query[FIXTURE_DIMENSION];
    fill(f, &library);
    begin(&s, f, &library);
    fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
    enum { POOL = SEARCH_CANDIDATES_LEAST, WANT = 20 };
    struct search_hit pool[POOL];
    struct search_request r = request_of(SEARCH_DENSE, query, "", POOL);
    r.exact = true;
    search(&s, &r);
    assert_int_equal(s.result.count, POOL);
    memcpy(pool, s.hits, sizeof pool);
    r.k = WANT;
    r.diverse = true;
    r.lambda = 1; /* relevance alone: the plain order */
    search(&s, &r);
    for (uint32_t i = 0; i < WANT; i++) {
        assert_int_equal(s.hits[i].slot, pool[i].slot);
        assert_float_equal(s.hits[i].diversity, s.hits[i].score, 1e-6);
    }
    r.lambda = 0.4F;
    search(&s, &r);
    assert_int_equal(s.result.count, WANT);
    bool differs = false;
    for (uint32_t i = 0; i < WANT; i++) { /* each is the best of those left, by the definition */
        differs = differs || s.hits[i].slot != pool[i].slot;
        float best = -INFINITY, own = -INFINITY;
        for (uint32_t c = 0; c < POOL; c++) {
            float likeness = 0;
            bool chosen = false;
            for (uint32_t j = 0; j < i; j++) {
                const float *vector = reading_vector(&s.rd, s.hits[j].slot);
                float cosine = dot_product(vector, reading_vector(&s.rd, pool[c].slot), FIXTURE_DIMENSION);
                likeness = cosine > likeness ? cosine : likeness;
                chosen = chosen || s.hits[j].slot == pool[c].slot;
            }
            float value = 0.4F * pool[c].score - 0.6F * likeness;
            best = !chosen && value > best ? value : best;
            own = pool[c].slot == s.hits[i].slot ? value : own;
        }
        assert_float_equal(own, best, 1e-5);
        assert_float_equal(s.hits[i].diversity, own, 1e-5);
        assert_true(i == 0 || s.hits[i].diversity <= s.hits[i - 1].diversity);
    }
    assert_true(differs);
    r = request_of(SEARCH_HYBRID, query, "word0 word4", WANT);
    r.diverse = true;
    r.lambda = 0.5F;
    r.group_by_document = true;
    search(&s, &r);
    assert_int_equal(s.result.count, WANT);
    for (uint32_t i = 1; i < WANT; i++) {
        assert_true(s.hits[i].diversity <= s.hits[i - 1].diversity);
    }
    end(&s);
}

/* --- filters --- */

static unsigned number_of(const struct searching *s, uint32_t slot) {
    struct stored_document d;
    struct status st = {0};
    unsigned number = 0;
    assert_true(reading_document(&s->rd, document_of(s, slot), &d, &st));
    assert_int_equal(sscanf((const char *)d.fields.metadata.data, "{\"number\":%u}", &number), 1);
    return number;
}

static void test_filters(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    uint64_t random = 17;
    float query[FIXTURE_DIMENSION];
    const struct filter_value five = {.type = FILTER_NUMBER, .number = 5};
    const struct filter below = {
        .kind = FILTER_LEAF, .path = slice_str("number"), .op = OPERATOR_LT, .values = &five, .value_count = 1};
    const struct filter none = {.kind = FILTER_OR};
    fill(f, &library);
    begin(&s, f, &library);
    fixture_unit_vector(&random, query, FIXTURE_DIMENSION);
    for (enum search_mode mode = SEARCH_DENSE; mode <= SEARCH_HYBRID; mode++) {
        struct search_request all = request_of(mode, query, "word0 word1 word2 word3", CHUNKS), r = all;
        uint32_t expected[CHUNKS], count = 0;
        all.exact = true;
        search(&s, &all);
        for (uint32_t i = 0; i < s.result.count; i++) {
            if (number_of(&s, s.hits[i].slot) < 5) {
                expected[count++] = s.hits[i].slot;
            }
        }
        r.filter = &below;
        search(&s, &r);
        assert_int_equal(s.result.count, count); /* never fewer than match */
        assert_true(mode == SEARCH_LEXICAL || count == 5 * PER_DOCUMENT);
        for (uint32_t i = 0; i < count; i++) {
            assert_true(number_of(&s, s.hits[i].slot) < 5);
            assert_true(mode == SEARCH_HYBRID || s.hits[i].slot == expected[i]);
        }
        r.filter = &none;
        search(&s, &r);
        assert_int_equal(s.result.count, 0);
    }
    end(&s);
}

static void test_batch(void **state) {
    struct fixture *f = (struct fixture *)*state;
    struct uuid library = fixture_library_id(1);
    struct searching s;
    enum { SEARCHES = 6, K = 7 };
    struct search_hit hits[SEARCHES][K];
    struct search_result results[SEARCHES];
    struct search_request requests[SEARCHES];
    float queries[SEARCHES][FIXTURE_DIMENSION];
    struct status st = {0};
    uint64_t random = 19;
    fill(f, &library);
    begin(&s, f, &library);
    for (uint32_t i = 0; i < SEARCHES; i++) {
        fixture_unit_vector(&random, queries[i], FIXTURE_DIMENSION);
        requests[i] = request_of((enum search_mode)(1 + i % 3), queries[i], i % 2 == 0 ? "word5" : "word1 word8", K);
        requests[i].exact = i >= 3;
        results[i] = (struct search_result){.hits = hits[i]};
    }
    assert_true(search_library_batch(&s.rd, requests, SEARCHES, s.scratch, results, &st));
    for (uint32_t i = 0; i < SEARCHES; i++) {
        search(&s, &requests[i]);
        assert_int_equal(results[i].count, s.result.count);
        assert_int_equal(results[i].mode, s.result.mode);
        for (uint32_t h = 0; h < s.result.count; h++) {
            assert_int_equal(hits[i][h].slot, s.hits[h].slot);
            assert_true(hits[i][h].score == s.hits[h].score);
        }
    }
    end(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_words, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_lexical_ties, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_fusion, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_pending_vectors, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_one_side, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_groups, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_group_behind_a_crowd, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_diversity, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_filters, fixture_set_up, fixture_tear_down),
        cmocka_unit_test_setup_teardown(test_batch, fixture_set_up, fixture_tear_down),
    };
    return cmocka_run_group_tests_name("store search modes", tests, NULL, NULL);
}
