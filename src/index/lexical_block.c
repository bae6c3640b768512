/*
 * lexical_block.c - 128 postings in few bytes, and back.
 *
 * Three arrays one behind the other, each of 128 numbers of the least number of bits that holds its greatest: the difference of a slot from the fourth
 * before it (of the first four: from the last slot of the block before), count - 1, length - least length. The numbers lie in four lanes: number
 * i in lane i % 4, as number i / 4 of that lane's bits, and the words of the lanes take turns. So four numbers are unpacked by one shift and mask of a
 * vector, and the sum over the differences needs no step across lanes; that is why the difference is to the fourth before, at about one bit more a
 * posting than to the one before. Vectors are the compiler's: SSE2 on x86-64, NEON on ARM; there is one code for all.
 */
#include "index/lexical_internal.h"

#define LANES 4U
#define ROWS (BLOCK_POSTINGS / LANES)
#define WORD_BITS 32U

typedef uint32_t lanes __attribute__((vector_size(LANES * sizeof(uint32_t))));

static inline lanes load_lanes(const void *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

static uint32_t bits_of(uint32_t greatest) {
    return greatest == 0 ? 0 : WORD_BITS - (uint32_t)__builtin_clz(greatest);
}

static uint32_t mask_of(uint32_t bits) {
    return bits == 0 ? 0 : UINT32_MAX >> (WORD_BITS - bits);
}

static uint32_t pack(const uint32_t values[BLOCK_POSTINGS], uint32_t bits, uint8_t *out) {
    uint32_t words[BLOCK_POSTINGS] = {0};
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        uint32_t at = i / LANES * bits;
        uint32_t word = at / WORD_BITS * LANES + i % LANES;
        uint32_t shift = at % WORD_BITS;
        if (bits == 0) {
            break;
        }
        words[word] |= values[i] << shift;
        if (shift + bits > WORD_BITS) {
            words[word + LANES] |= values[i] >> (WORD_BITS - shift);
        }
    }
    memcpy(out, words, bits * LANES * sizeof(uint32_t));
    return bits * LANES * (uint32_t)sizeof(uint32_t);
}

/* Row `row` of an array of `bits` bits (1 to 32). Where a number does not reach into the next word, this one is read twice: what comes in above is masked. */
static inline lanes unpack_row(const uint8_t *data, uint32_t row, uint32_t bits, uint32_t mask) {
    uint32_t at = row * bits;
    uint32_t shift = at % WORD_BITS;
    uint32_t word = at / WORD_BITS;
    uint32_t next = word + (shift + bits > WORD_BITS ? 1 : 0);
    lanes low = load_lanes(data + word * sizeof(lanes)) >> shift;
    lanes high = load_lanes(data + next * sizeof(lanes)) << 1U << (WORD_BITS - 1 - shift); /* a shift by 32 is undefined */
    return (low | high) & mask;
}

static uint32_t unpack_one(const uint8_t *data, uint32_t i, uint32_t bits) {
    if (bits == 0) {
        return 0;
    }
    lanes row = unpack_row(data, i / LANES, bits, mask_of(bits));
    return row[i % LANES];
}

uint32_t block_pack(const struct open_postings *p, uint32_t before, struct block *b, uint8_t out[BLOCK_DATA_MAX]) {
    uint32_t slots[BLOCK_POSTINGS];
    uint32_t counts[BLOCK_POSTINGS];
    uint32_t lengths[BLOCK_POSTINGS];
    uint32_t all_slots = 0;
    uint32_t all_counts = 0;
    uint32_t all_lengths = 0;
    uint32_t bound = bound_of(0, LEXICAL_LENGTH_MAX);

    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        struct posting w = word_posting(p->counts_lengths[i]);
        bound = bound_with(bound, w.count, w.length);
    }
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        struct posting w = word_posting(p->counts_lengths[i]);
        slots[i] = p->slots[i] - (i < LANES ? before : p->slots[i - LANES]);
        counts[i] = w.count - 1;
        lengths[i] = w.length - bound_length(bound);
        all_slots |= slots[i];
        all_counts |= counts[i];
        all_lengths |= lengths[i];
    }
    *b = (struct block){.last_slot = p->slots[BLOCK_POSTINGS - 1],
                        .bound = bound,
                        .slot_bits = (uint8_t)bits_of(all_slots),
                        .count_bits = (uint8_t)bits_of(all_counts),
                        .length_bits = (uint8_t)bits_of(all_lengths)};
    uint32_t bytes = pack(slots, b->slot_bits, out);
    bytes += pack(counts, b->count_bits, out + bytes);
    bytes += pack(lengths, b->length_bits, out + bytes);
    return bytes;
}

void block_slots(const struct block *b, const uint8_t *data, uint32_t before, uint32_t slots[BLOCK_POSTINGS]) {
    uint32_t bits = b->slot_bits;
    uint32_t mask = mask_of(bits);
    lanes sum = {before, before, before, before};
    for (uint32_t row = 0; row < ROWS; row++) {
        if (bits != 0) {
            sum += unpack_row(data, row, bits, mask);
        }
        memcpy(slots + row * LANES, &sum, sizeof sum);
    }
}

static void unpack_from(const uint8_t *data, uint32_t bits, uint32_t least, uint32_t values[BLOCK_POSTINGS]) {
    lanes base = {least, least, least, least};
    uint32_t mask = mask_of(bits);
    for (uint32_t row = 0; row < ROWS; row++) {
        lanes v = bits == 0 ? base : unpack_row(data, row, bits, mask) + base;
        memcpy(values + row * LANES, &v, sizeof v);
    }
}

static uint32_t array_bytes(uint32_t bits) {
    return bits * (BLOCK_POSTINGS / 8U);
}

void block_weights(const struct block *b, const uint8_t *data, uint32_t counts[BLOCK_POSTINGS],
                   uint32_t lengths[BLOCK_POSTINGS]) {
    data += array_bytes(b->slot_bits);
    unpack_from(data, b->count_bits, 1, counts);
    unpack_from(data + array_bytes(b->count_bits), b->length_bits, bound_length(b->bound), lengths);
}

struct posting block_weight(const struct block *b, const uint8_t *data, uint32_t i) {
    data += array_bytes(b->slot_bits);
    return (struct posting){.count = 1 + unpack_one(data, i, b->count_bits),
                            .length = bound_length(b->bound) + unpack_one(data + array_bytes(b->count_bits), i, b->length_bits)};
}
