/* xapian_baseline.h - Xapian behind an interface of C, for bench/lexical. */
#ifndef QUIRE_BENCH_XAPIAN_BASELINE_H
#define QUIRE_BENCH_XAPIAN_BASELINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct xapian_baseline;

/* A database on disk in the directory, or NULL. */
struct xapian_baseline *xapian_baseline_new(const char *directory);
void xapian_baseline_free(struct xapian_baseline *b); /* takes NULL */
/* A document of `count` words, each with a NUL. Documents are numbered from 0. Returns 0 on failure. */
int xapian_baseline_add(struct xapian_baseline *b, const char *const *words, uint32_t count);
/* Everything written; opened for searching. */
int xapian_baseline_commit(struct xapian_baseline *b);
/* The k best by BM25 (k1, b as given) of any of the words; returns how many, SIZE_MAX on failure. */
size_t xapian_baseline_search(struct xapian_baseline *b, const char *const *words, uint32_t count, uint32_t k, uint32_t *documents);

#ifdef __cplusplus
}
#endif

#endif
