/*
 * search_lexical.c - the lexical side: the chunks of one view that BM25 likes best for a text.
 *
 * The text is analysed as the library's language says, which the definition holds; a process keeps one analyzer for each language that it has met.
 *
 * A commit under way may move a list of postings to where this process has mapped nothing yet. Then more is mapped and the search begins again;
 * what it sees at the slots of its view is the same.
 *
 * Many short texts score exactly the same. Which of them are among the best is decided by id (so pages of one result fit together): some more than are
 * wanted are looked for, and where the last of those is still equal to the last that is wanted, LEXICAL_TIES_MAX more. Beyond that the
 * slots decide, which repeats just as well until documents are written anew.
 */
#include "store/search_internal.h"

#include "store/reading_internal.h"
#include "store/texts.h"

#include <stdlib.h>

#define TIES_FIRST 32          /* looked for beyond what is wanted, at once */
#define LANGUAGES_LEAST_ROOM 4 /* analyzers */
#define GROWTH_ATTEMPTS 64     /* each means that a commit moved postings between two lines here */

struct language_analyzer {
    const char *language; /* of texts_language: one address for each */
    struct analyzer *analyzer;
};

struct lexical_side {
    struct language_analyzer *analyzers;
    size_t analyzer_count;
    size_t analyzer_room;
    struct lexical_scratch *scratch;
    struct scored *scored;
    size_t scored_room;
    /* of the search under way */
    struct terms terms;
    struct slice prefix;
    struct lexical_query query;
    const struct reading *rd;
};

struct lexical_side *lexical_side_new(void) {
    struct lexical_side *l = (struct lexical_side *)calloc(1, sizeof *l);
    if (l == NULL) {
        return NULL;
    }
    l->scratch = lexical_scratch_new();
    if (l->scratch == NULL) {
        free(l);
        return NULL;
    }
    return l;
}

void lexical_side_free(struct lexical_side *l) {
    if (l == NULL) {
        return;
    }
    for (size_t i = 0; i < l->analyzer_count; i++) {
        analyzer_free(l->analyzers[i].analyzer);
    }
    free(l->analyzers);
    lexical_scratch_free(l->scratch);
    free(l->scored);
    free(l);
}

/* --- the text --- */

static bool analyzer_of(struct lexical_side *l, const char *language, struct analyzer **ret, struct status *st) {
    for (size_t i = 0; i < l->analyzer_count; i++) {
        if (strcmp(l->analyzers[i].language, language) == 0) {
            *ret = l->analyzers[i].analyzer;
            return true;
        }
    }
    if (l->analyzer_count == l->analyzer_room) {
        size_t room = l->analyzer_room > 0 ? 2 * l->analyzer_room : LANGUAGES_LEAST_ROOM;
        struct language_analyzer *more = (struct language_analyzer *)realloc(l->analyzers, room * sizeof *more);
        if (more == NULL) {
            return status_no_memory(st);
        }
        l->analyzers = more;
        l->analyzer_room = room;
    }
    if (!analyzer_new(language, ret, st)) {
        return false;
    }
    l->analyzers[l->analyzer_count++] = (struct language_analyzer){language, *ret};
    return true;
}

/* In the view, matches, and is within the threshold. */
static bool accepts(const void *ctx, uint32_t slot) {
    const struct search *s = (const struct search *)ctx;
    return search_visible(s, slot) && (!s->request->has_threshold || search_distance(s, slot) <= s->request->distance_threshold);
}

bool lexical_side_begin(struct search *s, struct lexical_side *l, bool *ret_asks, struct status *st) {
    const struct search_request *r = s->request;
    struct library_definition definition;
    struct analyzer *analyzer = NULL;
    *ret_asks = false;
    if (r->text.len == 0) {
        return true;
    }
    if (!reading_definition(s->rd, &definition, st) || !analyzer_of(l, texts_language(definition.language), &analyzer, st) ||
        !analyzer_reserve(analyzer, r->text.len, st)) {
        return false;
    }
    l->prefix = (struct slice){NULL, 0};
    if (r->prefix) {
        analyze_prefix(analyzer, r->text, &l->terms, &l->prefix);
    } else {
        analyze(analyzer, r->text, &l->terms);
    }
    l->rd = s->rd;
    l->query = (struct lexical_query){.terms = &l->terms,
                                      .prefix = l->prefix,
                                      .k1 = r->k1,
                                      .b = r->b,
                                      .documents = s->rd->view.live_chunks,
                                      .tokens = s->rd->view.live_tokens,
                                      .lengths = (const uint8_t *)&s->chunks[0].length,
                                      .lengths_stride = sizeof s->chunks[0],
                                      .slots = s->rd->view.chunk_slots,
                                      .accept = {.accepts = accepts, .ctx = s}};
    *ret_asks = l->terms.count > 0 || l->prefix.len > 0;
    return true;
}

void lexical_side_end(struct lexical_side *l, size_t keep) {
    if (l->scored_room * sizeof l->scored[0] > keep) {
        free(l->scored);
        l->scored = NULL;
        l->scored_room = 0;
    }
}

/* --- the search --- */

static bool scored_room(struct lexical_side *l, size_t room, struct status *st) {
    if (room <= l->scored_room) {
        return true;
    }
    struct scored *more = (struct scored *)realloc(l->scored, room * sizeof *more);
    if (more == NULL) {
        return status_no_memory(st);
    }
    l->scored = more;
    l->scored_room = room;
    return true;
}

static bool look_for(struct search *s, struct lexical_side *l, size_t want, size_t *ret_found, struct status *st) {
    if (!scored_room(l, want, st)) {
        return false;
    }
    for (unsigned attempt = 0; attempt < GROWTH_ATTEMPTS; attempt++) {
        const struct lexical index = arena_lexical(s->rd->arena);
        uint64_t scored = 0;
        size_t found = lexical_search(&index, &l->query, want, l->scratch, l->scored, &scored);
        if (found == LEXICAL_NO_MEMORY) {
            return status_no_memory(st);
        }
        if (found != LEXICAL_UNMAPPED) {
            s->candidates += scored;
            *ret_found = found;
            return true;
        }
        if (s->rd->reader == NULL) {
            break;
        }
        if (!store_reader_follow_growth(s->rd->reader, st)) {
            return false;
        }
        s->chunks = arena_chunk(s->rd->arena, 0);
    }
    return status_set(st, STATUS_CORRUPT, "the inverted index points beyond its files");
}

static int compare_scored_by_id(const void *a, const void *b, void *ctx) {
    return search_compare_ids((const struct search *)ctx, ((const struct scored *)a)->slot, ((const struct scored *)b)->slot);
}

/* Puts each run of equal scores that begins among the first `want` in the order of ids. */
static void order_ties(const struct search *s, struct scored *scored, size_t found, size_t want) {
    for (size_t begin = 0, end = 0; begin < found && begin < want; begin = end) {
        for (end = begin + 1; end < found && scored[end].score == scored[begin].score; end++) {
        }
        if (end - begin > 1) {
            qsort_r(&scored[begin], end - begin, sizeof scored[0], compare_scored_by_id, (void *)(uintptr_t)s);
        }
    }
}

bool search_lexical(struct search *s, struct lexical_side *l, uint32_t want, bool ties_by_id, const struct scored **ret,
                    uint32_t *ret_count, struct status *st) {
    size_t asked = (size_t)want + (ties_by_id ? TIES_FIRST : 0);
    size_t found = 0;
    if (!look_for(s, l, asked, &found, st)) {
        return false;
    }
    if (ties_by_id && found == asked && l->scored[found - 1].score == l->scored[want - 1].score) {
        asked = (size_t)want + LEXICAL_TIES_MAX;
        if (!look_for(s, l, asked, &found, st)) {
            return false;
        }
    }
    if (ties_by_id) {
        order_ties(s, l->scored, found, want);
    }
    *ret = l->scored;
    *ret_count = found < want ? (uint32_t)found : want;
    return true;
}

float search_lexical_ceiling(const struct lexical_side *l) {
    const struct lexical index = arena_lexical(l->rd->arena);
    return lexical_ceiling(&index, &l->query);
}

float search_lexical_score(const struct lexical_side *l, uint32_t slot) {
    const struct lexical index = arena_lexical(l->rd->arena);
    float score = lexical_score(&index, &l->query, slot);
    return score > 0 ? score : 0;
}
