/*
 * lexical.h - the inverted index of one library and BM25 over it, in memory that somebody else owns: two mapped files.
 *
 *   terms.mmap      head; a hash table from a term to its entry (grown by copying it to a larger one behind; readers may go on in the old one);
 *                   entries: bytes, hash, live document frequency, where its postings begin and end; whatever prefix lookups need
 *   postings.mmap   head; blocks: full ones compressed and never changed, with bounds for skipping (greatest count, least length); the last
 *                   one of a term open, appended to with release stores
 *
 * One writer (the committer), many readers without a lock. Slots are added in ascending order, so postings are sorted as they are written, and a reader
 * ignores what is at or above the slots that its view counts. A deleted chunk keeps its postings (searches ask `accepts`) until the library is
 * compacted; the live document frequency and the caller's totals leave it out at once, so scores are those of the live chunks.
 *
 * BM25: sum over the query's terms of idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * length / average)), idf = ln(1 + (N - df + 0.5) / (df + 0.5)),
 * times how often the term stands in the query. N, df, average: over live chunks.
 *
 * How it is done: lexical_internal.h (the files), lexical_search.c (the search).
 */
#ifndef QUIRE_INDEX_LEXICAL_H
#define QUIRE_INDEX_LEXICAL_H

#include "index/vectors.h"
#include "shm/dirty.h"
#include "text/analyzer.h"

#define LEXICAL_DEFAULT_K1 1.2F
#define LEXICAL_DEFAULT_B 0.75F
/* Bytes of the two files that an empty index needs. */
#define LEXICAL_TERMS_FIRST_BYTES 65536
#define LEXICAL_POSTINGS_FIRST_BYTES 4096

/* As one process sees it. Pointers are valid for this call only (the caller takes them afresh from its maps). */
struct lexical {
    uint8_t *terms; /* readers: mapped read-only */
    uint64_t terms_bytes;
    uint8_t *postings;
    uint64_t postings_bytes;
    /* the writer's: told before each store. NULL: nobody asks which pages change */
    struct dirty_pages *terms_dirty;
    struct dirty_pages *postings_dirty;
};

void lexical_init(const struct lexical *x);
/* Ends what additions do in steps (the next table of terms), so that older versions read the files. The writer's. */
void lexical_settle(const struct lexical *x);
/* Whether the heads are those of a lexical index whose used bytes are within the maps. */
bool lexical_valid(const struct lexical *x);
/* Bytes in use of both files: what must be mapped, synced, checksummed. */
uint64_t lexical_terms_used(const struct lexical *x);
uint64_t lexical_postings_used(const struct lexical *x);

/* Bytes beyond those in use that adding texts takes at most. Begins as zeros; adds up over many calls of lexical_need for chunks to come. */
struct lexical_need {
    uint64_t terms_bytes;
    uint64_t postings_bytes;
    uint64_t new_terms; /* at most; lexical_need counts them, as growing the table depends on their sum */
    uint64_t texts;
    uint64_t postings;
    uint64_t blocks; /* that may become full, at most */
};
void lexical_need(const struct lexical *x, const struct terms *t, struct lexical_need *total);
/* What the maps must hold so that everything counted in `total` fits. */
void lexical_room(const struct lexical *x, const struct lexical_need *total, uint64_t *ret_terms_bytes, uint64_t *ret_postings_bytes);

/* Adds a chunk. Cannot fail: room was reserved. Slots come in ascending order; one that is not above the last is ignored (a replay). */
void lexical_add(const struct lexical *x, uint32_t slot, const struct terms *t);
/* Takes a deleted chunk out of the document frequencies. */
void lexical_remove(const struct lexical *x, const struct terms *t);

struct lexical_query {
    const struct terms *terms;
    struct slice prefix; /* empty: none. Every term that begins so counts as one more term of the query (up to LEXICAL_PREFIX_TERMS, the most frequent) */
    float k1;
    float b;
    uint64_t documents; /* N: live chunks */
    uint64_t tokens;    /* sum of their lengths */
    /* The length of a slot's text: *(const uint32_t *)(lengths + slot * lengths_stride). Not looked at: postings carry their text's length, which
     * saves a missed cache line each. */
    const uint8_t *lengths;
    size_t lengths_stride;
    uint32_t slots; /* of the view */
    struct slot_filter accept;
};
#define LEXICAL_PREFIX_TERMS 64

/* Counts and lengths beyond these are taken for these. */
#define LEXICAL_COUNT_MAX 4095U
#define LEXICAL_LENGTH_MAX 1048575U

struct scored {
    float score;
    uint32_t slot;
};

struct lexical_scratch; /* per thread */
struct lexical_scratch *lexical_scratch_new(void);
void lexical_scratch_free(struct lexical_scratch *s);

#define LEXICAL_NO_MEMORY SIZE_MAX
/* A commit under way has moved postings to where this process has not mapped its files yet. Map what is in use now (lexical_terms_used,
 * lexical_postings_used) and call again. It is not returned when the maps hold that. */
#define LEXICAL_UNMAPPED (SIZE_MAX - 1)
/* The k best by (score descending, slot ascending), exactly; only such as contain a term. out: room for k. Returns how many, or LEXICAL_NO_MEMORY, or
 * LEXICAL_UNMAPPED; *ret_scored: postings scored. */
size_t lexical_search(const struct lexical *x, const struct lexical_query *q, size_t k, struct lexical_scratch *scratch, struct scored *out,
                      uint64_t *ret_scored);
/* The score of one slot, 0 when it has none of the terms; below 0: LEXICAL_UNMAPPED. For explaining hits that the other side found. The same bits as
 * lexical_search gives. */
float lexical_score(const struct lexical *x, const struct lexical_query *q, uint32_t slot);
/* The score of a text that would have all the terms without end, which no text reaches. Terms that no text has count, too. Of those that begin with the
 * prefix only the rarest does (a text that has several may go beyond). 0 when there are no terms; below 0: LEXICAL_UNMAPPED. */
float lexical_ceiling(const struct lexical *x, const struct lexical_query *q);

struct lexical_statistics {
    uint64_t terms;
    uint64_t postings; /* those of deleted chunks included */
    uint64_t bytes;
};
void lexical_statistics(const struct lexical *x, struct lexical_statistics *out);

/* The validator: tables, chains, blocks, bounds, counts. Returns the number of faults (UINT64_MAX: no memory to check); the first is described. For use
 * while no writer is at work. slots: of the library. */
uint64_t lexical_validate(const struct lexical *x, uint32_t slots, char detail[160]);
/* Calls fn with every term and in how many living texts it is said to be; stops where fn says false. */
typedef bool (*lexical_term_fn)(void *ctx, struct slice term, uint64_t hash, uint32_t live);
void lexical_each_term(const struct lexical *x, lexical_term_fn fn, void *ctx);
/* Whether the index holds exactly these terms with these counts for a slot: what `quire check` asks after analysing the text again. */
bool lexical_holds(const struct lexical *x, uint32_t slot, const struct terms *t);

#endif
