/*
 * atomics.h - the memory orders that Quire uses on shared words, under names that can be found with grep.
 *
 * Every release has its acquire, and both carry the same tag in a comment at the place of use, `pairs with: TAG`, with one
 * sentence on what breaks without it. Words in mapped files are plain uint32_t/uint64_t, naturally aligned, and are
 * touched concurrently only through these functions (never `volatile`).
 */
#ifndef QUIRE_SHM_ATOMICS_H
#define QUIRE_SHM_ATOMICS_H

#include <stdbool.h>
#include <stdint.h>

static inline uint32_t load_acquire_u32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline uint64_t load_acquire_u64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void store_release_u32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline void store_release_u64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint32_t load_relaxed_u32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline uint64_t load_relaxed_u64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
static inline void store_relaxed_u32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline void store_relaxed_u64(uint64_t *p, uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
static inline float load_relaxed_f32(const float *p) {
    float v;
    __atomic_load(p, &v, __ATOMIC_RELAXED);
    return v;
}
static inline void store_relaxed_f32(float *p, float v) { __atomic_store(p, &v, __ATOMIC_RELAXED); }
static inline uint64_t add_relaxed_u64(uint64_t *p, uint64_t v) { return __atomic_fetch_add(p, v, __ATOMIC_RELAXED); }
/* For a word that one thread at a time writes: no locked instruction, and readers still see it whole. */
static inline void count_relaxed_u64(uint64_t *p, uint64_t v) { store_relaxed_u64(p, load_relaxed_u64(p) + v); }
static inline uint32_t or_release_u32(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, __ATOMIC_ACQ_REL); }
/* Store `v` where the word is `expected`; true when it was. Strong: false means that the word was another. */
static inline bool swap_acquire_u32(uint32_t *p, uint32_t expected, uint32_t v) {
    return __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}
static inline bool swap_release_u32(uint32_t *p, uint32_t expected, uint32_t v) {
    return __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}
/* Stores v where *p is *expected; else false, and *expected is what stands there. */
static inline bool cas_acq_rel_u64(uint64_t *p, uint64_t *expected, uint64_t v) {
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

#endif
