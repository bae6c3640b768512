/* test_index_lexical_files.c - the bytes of the inverted index: packing, planted faults that the validator finds, damage that no search falls over. */
#include "lexical_fixture.h"

#include "index/lexical_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { TEXTS = 1500, VOCABULARY = 900, LONGEST = 30, ROUNDS = 600, NEW_TERMS = 6000, STOPPED_AT = 5700, CHANGED_MOST = 1024 };

static void check_packing(struct corpus *c, uint32_t slot_bits, uint32_t count_bits, uint32_t length_bits, uint32_t before) {
    struct open_postings p = {.count = BLOCK_POSTINGS};
    uint8_t *packed = malloc(BLOCK_DATA_MAX);
    struct block b;
    uint32_t slots[BLOCK_POSTINGS];
    uint32_t counts[BLOCK_POSTINGS];
    uint32_t lengths[BLOCK_POSTINGS];
    uint32_t slot = before;
    assert_non_null(packed);
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        uint32_t room = (UINT32_MAX - slot) / (BLOCK_POSTINGS - i);
        uint32_t step = (uint32_t)(corpus_random(c) & ((UINT64_C(1) << slot_bits) - 1));
        slot += 1 + (step < room ? step : room - 1);
        p.slots[i] = slot;
        p.counts_lengths[i] = bound_of(1 + (uint32_t)(corpus_random(c) % (1U << count_bits)) % LEXICAL_COUNT_MAX,
                                       (uint32_t)(corpus_random(c) & ((1U << length_bits) - 1)));
    }
    uint32_t bytes = block_pack(&p, before, &b, packed);
    assert_int_equal(bytes, block_bytes(&b));
    assert_true(bytes <= BLOCK_DATA_MAX && block_sound(&b));
    uint8_t *exact = malloc(bytes); /* unpacking reads nothing behind */
    assert_non_null(exact);
    memcpy(exact, packed, bytes);
    block_slots(&b, exact, before, slots);
    block_weights(&b, exact, counts, lengths);
    for (uint32_t i = 0; i < BLOCK_POSTINGS; i++) {
        struct posting one = block_weight(&b, exact, i);
        struct posting put = word_posting(p.counts_lengths[i]);
        assert_int_equal(slots[i], p.slots[i]);
        assert_int_equal(counts[i], put.count);
        assert_int_equal(lengths[i], put.length);
        assert_int_equal(one.count, put.count);
        assert_int_equal(one.length, put.length);
    }
    free(exact);
    free(packed);
}

static void test_packing(void **unused) {
    struct corpus c = {.state = 1};
    (void)unused;
    for (uint32_t slot_bits = 0; slot_bits <= 32; slot_bits++) {
        for (uint32_t other = 0; other <= LENGTH_BITS; other++) {
            check_packing(&c, slot_bits, other < 12 ? other : 12, other, other * 1000);
        }
    }
}

/* --- planted faults --- */

/* The entry of the most frequent word, which has blocks and open postings. */
static struct entry *frequent(const struct corpus *c) {
    uint32_t word = 0;
    uint32_t one = 1;
    struct terms t = corpus_terms(&word, &one, 1, 1);
    const struct entry *e = term_find(&c->x, t.items[0].bytes, t.items[0].hash);
    assert_non_null(e);
    assert_true(state_blocks(e->state) >= 2 && state_open(e->state) >= 2);
    return (struct entry *)(void *)(c->x.terms + ((const uint8_t *)e - c->x.terms));
}

static struct block *blocks_of(const struct corpus *c) {
    return (struct block *)(void *)(c->x.postings + (uint64_t)frequent(c)->blocks * UNIT);
}

static struct terms_head *head_of(const struct corpus *c) {
    return (struct terms_head *)(void *)c->x.terms;
}

static uint32_t *table_word_of(const struct corpus *c, const struct entry *e) {
    uint32_t *table = (uint32_t *)(void *)(c->x.terms + (uint64_t)head_of(c)->tables[head_of(c)->level] * UNIT);
    uint32_t offset = (uint32_t)(((const uint8_t *)e - c->x.terms) / UNIT);
    while (*table != offset) {
        table++;
    }
    return table;
}

static void plant_magic(const struct corpus *c) {
    head_of(c)->magic++;
}
static void plant_used(const struct corpus *c) {
    head_of(c)->used = c->x.terms_bytes + UNIT;
}
static void plant_level(const struct corpus *c) {
    head_of(c)->level = MAX_LEVEL + 1;
}
static void plant_table(const struct corpus *c) {
    head_of(c)->tables[head_of(c)->level] = UINT32_MAX;
}
static void plant_growth(const struct corpus *c) {
    head_of(c)->growth = 1; /* and no room for it */
}
static void plant_terms(const struct corpus *c) {
    head_of(c)->terms++;
}
static void plant_postings(const struct corpus *c) {
    head_of(c)->postings--;
}
static void plant_slots(const struct corpus *c) {
    head_of(c)->slots = (uint64_t)c->count + 1;
}
static void plant_open_count(const struct corpus *c) {
    ((struct postings_head *)(void *)c->x.postings)->open++;
}
static void plant_lost_word(const struct corpus *c) {
    *table_word_of(c, frequent(c)) = 0;
}
static void plant_hash(const struct corpus *c) {
    frequent(c)->hash ^= 1;
}
static void plant_bytes(const struct corpus *c) {
    struct entry *e = frequent(c);
    ((uint8_t *)&e->next[e->height])[0]++;
}
static void plant_height(const struct corpus *c) {
    frequent(c)->height = 0;
}
static void plant_first_link(const struct corpus *c) {
    head_of(c)->first[0] = UINT32_MAX;
}
static void plant_upper_link(const struct corpus *c) {
    head_of(c)->first[1] = 0;
}
static void plant_circle(const struct corpus *c) {
    struct entry *e = frequent(c);
    e->next[0] = (uint32_t)(((const uint8_t *)e - c->x.terms) / UNIT);
}
static void plant_live(const struct corpus *c) {
    frequent(c)->live = UINT32_MAX;
}
static void plant_state(const struct corpus *c) {
    frequent(c)->state -= 1U << STATE_OPEN_BITS;
}
static void plant_bound(const struct corpus *c) {
    frequent(c)->bound = bound_of(1, bound_length(frequent(c)->bound));
}
static void plant_runs(const struct corpus *c) {
    frequent(c)->runs = UINT32_MAX;
}
static void plant_block_list(const struct corpus *c) {
    frequent(c)->blocks = UINT32_MAX;
}
static void plant_open_slot(const struct corpus *c) {
    frequent(c)->first_open = posting_word((struct posting){c->count, 1, 5});
}
static void plant_open_zero(const struct corpus *c) {
    frequent(c)->first_open &= ~((uint64_t)LEXICAL_COUNT_MAX << LENGTH_BITS);
}
static void plant_block_data(const struct corpus *c) {
    blocks_of(c)[1].data = UINT32_MAX;
}
static void plant_block_last(const struct corpus *c) {
    blocks_of(c)[1].last_slot--;
}
static void plant_block_bits(const struct corpus *c) {
    blocks_of(c)[1].slot_bits = 33;
}
static void plant_block_bound(const struct corpus *c) {
    blocks_of(c)[0].bound -= 1U << LENGTH_BITS;
}
static void plant_block_bytes(const struct corpus *c) {
    c->x.postings[(uint64_t)blocks_of(c)[0].data * UNIT + 20] ^= 1;
}

static const struct {
    const char *name;
    void (*plant)(const struct corpus *c);
} faults[] = {
    {"magic", plant_magic},
    {"used", plant_used},
    {"level", plant_level},
    {"table", plant_table},
    {"growth", plant_growth},
    {"terms", plant_terms},
    {"postings", plant_postings},
    {"slots", plant_slots},
    {"open count", plant_open_count},
    {"lost word", plant_lost_word},
    {"hash", plant_hash},
    {"bytes", plant_bytes},
    {"height", plant_height},
    {"first link", plant_first_link},
    {"upper link", plant_upper_link},
    {"circle", plant_circle},
    {"live", plant_live},
    {"state", plant_state},
    {"bound", plant_bound},
    {"runs", plant_runs},
    {"block list", plant_block_list},
    {"open slot", plant_open_slot},
    {"open zero", plant_open_zero},
    {"block data", plant_block_data},
    {"block last", plant_block_last},
    {"block bits", plant_block_bits},
    {"block bound", plant_block_bound},
    {"block bytes", plant_block_bytes},
};

struct saved {
    uint8_t *terms;
    uint8_t *postings;
};

static struct saved save(const struct corpus *c) {
    struct saved s = {malloc(c->x.terms_bytes), malloc(c->x.postings_bytes)};
    assert_true(s.terms != NULL && s.postings != NULL);
    memcpy(s.terms, c->x.terms, c->x.terms_bytes);
    memcpy(s.postings, c->x.postings, c->x.postings_bytes);
    return s;
}

static void restore(const struct corpus *c, const struct saved *s) {
    memcpy(c->x.terms, s->terms, c->x.terms_bytes);
    memcpy(c->x.postings, s->postings, c->x.postings_bytes);
}

/* Searches, scores, holds, validates: whatever the files hold, each ends and stays within them. */
static void use_all(struct corpus *c, struct lexical_scratch *scratch) {
    struct scored hits[10];
    char detail[160];
    uint64_t scored;
    if (!lexical_valid(&c->x)) {
        return; /* nobody goes on then */
    }
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t ids[CORPUS_WORDS_MAX];
        struct terms terms;
        struct lexical_query q = corpus_query(c, 1 + i, &terms, ids);
        q.prefix = i == 5 ? slice_str("w") : slice_of(NULL, 0);
        size_t found = lexical_search(&c->x, &q, 10, scratch, hits, &scored);
        assert_true(found <= 10 || found == LEXICAL_UNMAPPED);
        for (uint32_t slot = 0; slot < c->count; slot += 97) {
            (void)lexical_score(&c->x, &q, slot);
            (void)lexical_holds(&c->x, slot, &terms);
        }
    }
    (void)lexical_validate(&c->x, c->count, detail);
}

static void test_planted_faults(void **unused) {
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    char detail[160];
    (void)unused;
    corpus_init(&c, TEXTS, VOCABULARY, 21);
    corpus_add(&c, TEXTS - 1, LONGEST);
    struct saved sound = save(&c);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        assert_int_equal(lexical_validate(&c.x, c.count, detail), 0);
        faults[i].plant(&c);
        if (lexical_validate(&c.x, c.count, detail) == 0) {
            fail_msg("%s: not found", faults[i].name);
        }
        assert_in_range(strlen(detail), 5, sizeof detail - 1);
        use_all(&c, scratch);
        restore(&c, &sound);
    }
    free(sound.terms);
    free(sound.postings);
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

/* --- growing --- */

/* Adds the text that has the word of its number, and nothing else. */
static void add_new_term(struct corpus *c) {
    struct corpus_text *t = &c->texts[c->count];
    corpus_make_texts(c, 1, 0);
    t->words[0] = c->count;
    t->counts[0] = 1;
    t->distinct = t->length = 1;
    corpus_add_made(c, 1);
}

static uint64_t bytes_changed(const struct lexical *x, const struct saved *before, uint64_t bytes_before) {
    uint64_t changed = 0;
    for (uint64_t i = 0; i < x->terms_bytes; i++) {
        changed += x->terms[i] != (i < bytes_before ? before->terms[i] : CORPUS_FILLING);
    }
    return changed;
}

/* However many terms there are, a new one changes little, so that no commit waits for a table. What is made in between is whole for who reads it, and for a restart. */
static void test_growth_in_steps(void **unused) {
    struct corpus c;
    uint32_t tables = 0;
    uint32_t growing = 0;
    char detail[160];
    (void)unused;
    corpus_init(&c, NEW_TERMS, NEW_TERMS, 23);
    while (c.count < NEW_TERMS) {
        struct saved before = save(&c);
        uint64_t bytes_before = c.x.terms_bytes;
        uint32_t level = head_of(&c)->level;
        add_new_term(&c);
        assert_true(bytes_changed(&c.x, &before, bytes_before) < CHANGED_MOST);
        tables += head_of(&c)->level != level;
        growing += head_of(&c)->magic == TERMS_GROWING;
        if (c.count % 61 == 0 && lexical_validate(&c.x, c.count, detail) != 0) {
            fail_msg("%u terms: %s", c.count, detail);
        }
        free(before.terms);
        free(before.postings);
        if (c.count == STOPPED_AT) {
            assert_true(head_of(&c)->growth != 0);
            lexical_settle(&c.x);
            assert_true(head_of(&c)->magic == TERMS_MAGIC && head_of(&c)->growth == 0 && head_of(&c)->level == level + 1);
            assert_int_equal(lexical_validate(&c.x, c.count, detail), 0);
        }
    }
    assert_true(tables >= 3 && growing > tables * 10);
    corpus_fini(&c);
}

static void flip_bytes(struct corpus *c, uint8_t *file, uint64_t bytes, uint64_t times) {
    for (uint64_t i = 0; i < times; i++) {
        file[corpus_random(c) % bytes] = (uint8_t)corpus_random(c);
    }
}

static void test_random_damage(void **unused) {
    struct corpus c;
    struct lexical_scratch *scratch = lexical_scratch_new();
    (void)unused;
    corpus_init(&c, 600, VOCABULARY, 22);
    corpus_add(&c, 600, LONGEST);
    struct saved sound = save(&c);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        /* From a few bytes anywhere to most of the heads, which lead everywhere. */
        flip_bytes(&c, c.x.terms, lexical_terms_used(&c.x), 1 + round % 50 * 20);
        flip_bytes(&c, c.x.postings, lexical_postings_used(&c.x), 1 + round % 50 * 20);
        if (round % 3 == 0) {
            head_of(&c)->magic = TERMS_MAGIC;
            ((struct postings_head *)(void *)c.x.postings)->magic = POSTINGS_MAGIC;
            flip_bytes(&c, c.x.terms + sizeof(uint64_t) * 2, sizeof(struct terms_head) - sizeof(uint64_t) * 2, 4);
            head_of(&c)->level = FIRST_LEVEL + round % 5;
            head_of(&c)->used = c.x.terms_bytes / UNIT * UNIT;
            ((struct postings_head *)(void *)c.x.postings)->used = c.x.postings_bytes / UNIT * UNIT;
        }
        use_all(&c, scratch);
        restore(&c, &sound);
    }
    free(sound.terms);
    free(sound.postings);
    lexical_scratch_free(scratch);
    corpus_fini(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packing),
        cmocka_unit_test(test_planted_faults),
        cmocka_unit_test(test_growth_in_steps),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
