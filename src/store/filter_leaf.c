/*
 * filter_leaf.c - the slots that a leaf accepts, from the columns.
 *
 * Each value of the leaf is a question to the columns of its path, one for each type; what they answer is the union. Keywords are asked by the sets that hold the
 * string when these are few, else set by set, each once. Then what columns do not know is put right from the records: slots whose strings were too
 * long, and slots behind the point from which on the head of the columns says that something was left out. At the end ne turns the bits around.
 *
 * Ids are looked up in the id table; title and text have no columns, and all their slots are read.
 */
#include "store/filter_internal.h"

#include <math.h>
#include <stdlib.h>

#define MEMO_LEAST 256
#define COLUMN_TYPES 4
#define WIDE_FEW 8
#define SETS_LISTED 4096         /* sets with a string that are listed; more are asked one by one */
#define SETS_SPAN_MAX (1U << 25) /* of their numbers: 4 MiB of bits */

/* The path's columns, by type less one. */
struct leaf_columns {
    struct column column[COLUMN_TYPES];
    bool has[COLUMN_TYPES];
};

static const struct column *column_of(const struct leaf_columns *k, enum column_type type) {
    return k->has[type - 1] ? &k->column[type - 1] : NULL;
}

/* A range of the question under way. */
struct span {
    uint32_t from;
    uint32_t to;
    uint64_t *words;
};

static void clear_words(uint64_t *words, uint32_t from, uint32_t slots) {
    uint32_t first = from / WORD_SLOTS;
    memset(words + first, 0, (words_for(slots) - first) * sizeof *words);
}

/* --- keywords, set by set --- */

/* What was said of each set, open addressing. */
struct memo {
    uint32_t *sets;
    bool *answers;
    uint32_t size; /* a power of two */
    uint32_t used;
};

struct keyword_question {
    const struct columns *c;
    const struct leaf *l;
    struct slice value;      /* gt .. lte, contains */
    const uint32_t *strings; /* eq, in: ascending */
    uint32_t string_count;
    struct memo memo;
    bool failed;
};

static uint32_t memo_place(const struct memo *m, uint32_t set) {
    uint32_t at = (set * 0x9e3779b1U) >> 7;
    while (m->sets[at & (m->size - 1)] != 0 && m->sets[at & (m->size - 1)] != set) {
        at++;
    }
    return at & (m->size - 1);
}

static bool memo_grow(struct memo *m) {
    struct memo more = {.size = m->size == 0 ? MEMO_LEAST : m->size * 2, .used = m->used};
    more.sets = (uint32_t *)calloc(more.size, sizeof *more.sets);
    more.answers = (bool *)calloc(more.size, sizeof *more.answers);
    if (more.sets == NULL || more.answers == NULL) {
        free(more.sets);
        free(more.answers);
        return false;
    }
    for (uint32_t i = 0; i < m->size; i++) {
        if (m->sets[i] != 0) {
            uint32_t at = memo_place(&more, m->sets[i]);
            more.sets[at] = m->sets[i];
            more.answers[at] = m->answers[i];
        }
    }
    free(m->sets);
    free(m->answers);
    *m = more;
    return true;
}

static bool is_one_of(const uint32_t *sorted, uint32_t count, uint32_t wanted) {
    uint32_t low = 0;
    while (low < count) {
        uint32_t middle = low + (count - low) / 2;
        if (sorted[middle] == wanted) {
            return true;
        }
        if (sorted[middle] < wanted) {
            low = middle + 1;
        } else {
            count = middle;
        }
    }
    return false;
}

static bool set_matches(const struct keyword_question *q, uint32_t set) {
    struct keyword_set s = columns_set(q->c, set);
    for (uint32_t i = 0; i < s.count; i++) {
        uint32_t string = keyword_set_string(&s, i);
        bool yes;
        if (q->strings != NULL) {
            yes = is_one_of(q->strings, q->string_count, string);
        } else if (q->l->op == OPERATOR_CONTAINS) {
            struct slice text = columns_string(q->c, string);
            yes = s.array ? slice_equal(text, q->value) : text_contains(text, q->value);
        } else {
            yes = order_matches(q->l->op, slice_compare(columns_string(q->c, string), q->value));
        }
        if (yes) {
            return true;
        }
    }
    return false;
}

static bool ask_set(void *ctx, uint32_t set) {
    struct keyword_question *q = (struct keyword_question *)ctx;
    struct memo *m = &q->memo;
    if (set == 0 || q->failed) {
        return false;
    }
    if (m->used * 2 >= m->size && !memo_grow(m)) {
        q->failed = true;
        return false;
    }
    uint32_t at = memo_place(m, set);
    if (m->sets[at] == 0) {
        m->sets[at] = set;
        m->answers[at] = set_matches(q, set);
        m->used++;
    }
    return m->answers[at];
}

static bool ask_sets(struct keyword_question *q, const struct column *col, const uint64_t *among, const struct span *s,
                     struct status *st) {
    column_match_keywords(col, ask_set, q, among, s->from, s->to, s->words);
    free(q->memo.sets);
    free(q->memo.answers);
    return !q->failed || status_no_memory(st);
}

/* --- eq, in --- */

static int compare_u32(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Sets that hold one of the strings, each once, ascending; UINT32_MAX: they are more than `room`. */
static uint32_t list_sets(const struct columns *c, const uint32_t *strings, uint32_t count, uint32_t *sets, uint32_t room) {
    uint32_t found = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool more = false;
        found += columns_sets_of(c, strings[i], sets + found, room - found, &more);
        if (more) {
            return UINT32_MAX;
        }
    }
    qsort(sets, found, sizeof *sets, compare_u32);
    for (uint32_t i = 0; i < found; i++) {
        if (kept == 0 || sets[kept - 1] != sets[i]) {
            sets[kept++] = sets[i];
        }
    }
    return kept;
}

/* Many sets, as bits. */
static bool match_listed(const struct column *col, const uint32_t *sets, uint32_t count, const struct span *s,
                         struct status *st) {
    uint32_t first = sets[0];
    uint32_t span = sets[count - 1] - first + 1;
    uint64_t *bits = (uint64_t *)calloc(words_for(span), sizeof *bits);
    if (bits == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < count; i++) {
        bits[(sets[i] - first) / WORD_SLOTS] |= UINT64_C(1) << ((sets[i] - first) % WORD_SLOTS);
    }
    struct set_list list = {.first = first, .span = span, .bits = bits};
    column_match_listed(col, &list, s->from, s->to, s->words);
    free(bits);
    return true;
}

static bool match_strings(const struct evaluation *e, const struct leaf *l, const struct column *col, uint32_t *strings,
                          uint32_t count, const struct span *s, struct status *st) {
    uint32_t sets[SETS_LISTED];
    if (count == 0) {
        return true;
    }
    uint32_t set_count = list_sets(&e->columns, strings, count, sets, SETS_LISTED);
    if (set_count <= COLUMN_SETS_MAX) {
        column_match_sets(col, sets, set_count, s->from, s->to, s->words);
        return true;
    }
    if (set_count != UINT32_MAX && sets[set_count - 1] - sets[0] < SETS_SPAN_MAX) {
        return match_listed(col, sets, set_count, s, st);
    }
    qsort(strings, count, sizeof *strings, compare_u32);
    struct keyword_question q = {.c = &e->columns, .l = l, .strings = strings, .string_count = count};
    return ask_sets(&q, col, NULL, s, st);
}

static bool match_texts(const struct evaluation *e, const struct leaf *l, const struct leaf_columns *k, const struct span *s,
                        struct status *st) {
    const struct column *col = column_of(k, COLUMN_KEYWORD);
    if (col == NULL || l->value_count == 0) {
        return true;
    }
    uint32_t *strings = (uint32_t *)malloc(l->value_count * sizeof *strings);
    uint32_t count = 0;
    if (strings == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < l->value_count; i++) {
        uint32_t string = l->values[i].type == FILTER_TEXT ? columns_find_string(&e->columns, l->values[i].text) : 0;
        if (string != 0) {
            strings[count++] = string;
        }
    }
    bool ok = match_strings(e, l, col, strings, count, s, st);
    free(strings);
    return ok;
}

static void match_any(const struct leaf_columns *k, const struct span *s) {
    for (unsigned i = 0; i < COLUMN_TYPES; i++) {
        if (k->has[i]) {
            column_match_any(&k->column[i], s->from, s->to, s->words);
        }
    }
}

static void match_absent(const struct evaluation *e, const struct leaf_columns *k, const struct span *s) {
    struct span any = {.from = s->from, .to = s->to, .words = e->spare};
    clear_words(any.words, s->from, s->to);
    match_any(k, &any);
    for (uint32_t i = s->from / WORD_SLOTS; i < words_for(s->to); i++) {
        s->words[i] |= ~any.words[i];
    }
}

/* --- many numbers or times --- */

/* Values as numbers without sign, in the same order. */
struct wide_list {
    enum column_type type;
    uint64_t *keys;
    uint32_t count;
};

static uint64_t wide_key(enum column_type type, uint64_t bits) {
    const uint64_t sign = UINT64_C(1) << 63;
    return type == COLUMN_TIME || (bits & sign) == 0 ? bits ^ sign : ~bits;
}

static int compare_u64(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static bool is_listed(void *ctx, uint64_t bits) {
    const struct wide_list *list = (const struct wide_list *)ctx;
    uint64_t key = wide_key(list->type, bits);
    return bsearch(&key, list->keys, list->count, sizeof key, compare_u64) != NULL;
}

/* The bits of a value of the leaf in a column of this type; false: it is of another. */
static bool wide_bits(enum column_type type, const struct filter_value *v, uint64_t *ret) {
    double number = v->number + 0.0; /* no negative zero */
    int64_t time_us = 0;
    if (type == COLUMN_NUMBER) {
        memcpy(ret, &number, sizeof number);
        return v->type == FILTER_NUMBER;
    }
    if (v->type != FILTER_TEXT || !field_time_parse(v->text, &time_us)) {
        return false;
    }
    *ret = (uint64_t)time_us;
    return true;
}

static void match_few(const struct column *col, const struct wide_list *list, const struct span *s) {
    for (uint32_t i = 0; i < list->count; i++) {
        uint64_t bits = list->keys[i];
        double number;
        memcpy(&number, &bits, sizeof number);
        if (list->type == COLUMN_NUMBER) {
            column_match_numbers(col, number, number, s->from, s->to, s->words);
        } else {
            column_match_times(col, (int64_t)bits, (int64_t)bits, s->from, s->to, s->words);
        }
    }
}

/* A few are asked for one after the other, as ranges; of many each slot's value is looked for among them. */
static bool match_wide(const struct leaf *l, const struct column *col, const struct span *s, struct status *st) {
    if (col == NULL || l->value_count == 0) {
        return true;
    }
    struct wide_list list = {.type = col->type, .keys = (uint64_t *)malloc(l->value_count * sizeof(uint64_t))};
    if (list.keys == NULL) {
        return status_no_memory(st);
    }
    for (uint32_t i = 0; i < l->value_count; i++) {
        list.count += wide_bits(col->type, &l->values[i], &list.keys[list.count]) ? 1 : 0;
    }
    if (list.count <= WIDE_FEW) {
        match_few(col, &list, s);
    } else {
        for (uint32_t i = 0; i < list.count; i++) {
            list.keys[i] = wide_key(list.type, list.keys[i]);
        }
        qsort(list.keys, list.count, sizeof *list.keys, compare_u64);
        column_match_wide(col, is_listed, &list, s->from, s->to, s->words);
    }
    free(list.keys);
    return true;
}

static bool match_equal(const struct evaluation *e, const struct leaf *l, const struct leaf_columns *k, const struct span *s,
                        struct status *st) {
    const struct column *bools = column_of(k, COLUMN_BOOL);
    bool asked[3] = {false}; /* null, false, true: each once */
    for (uint32_t i = 0; i < l->value_count; i++) {
        const struct filter_value *v = &l->values[i];
        bool *done = &asked[v->type == FILTER_NULL ? 0 : v->boolean ? 2 : 1];
        if ((v->type != FILTER_NULL && v->type != FILTER_BOOL) || *done) {
            continue;
        }
        *done = true;
        if (v->type == FILTER_NULL) {
            match_absent(e, k, s);
        } else if (bools != NULL) {
            column_match_bool(bools, v->boolean, s->from, s->to, s->words);
        }
    }
    return match_wide(l, column_of(k, COLUMN_NUMBER), s, st) && match_wide(l, column_of(k, COLUMN_TIME), s, st) &&
           match_texts(e, l, k, s, st);
}

/* --- gt .. lte --- */

static void match_number_range(const struct column *col, enum filter_operator op, double value, const struct span *s) {
    double least = op == OPERATOR_GT ? nextafter(value, (double)INFINITY) : op == OPERATOR_GTE ? value : -(double)INFINITY;
    double greatest = op == OPERATOR_LT ? nextafter(value, -(double)INFINITY) : op == OPERATOR_LTE ? value : (double)INFINITY;
    column_match_numbers(col, least, greatest, s->from, s->to, s->words);
}

/* Times are of years with four digits, so one more or less fits. */
static void match_time_range(const struct column *col, enum filter_operator op, int64_t value, const struct span *s) {
    int64_t least = op == OPERATOR_GT ? value + 1 : op == OPERATOR_GTE ? value : INT64_MIN;
    int64_t greatest = op == OPERATOR_LT ? value - 1 : op == OPERATOR_LTE ? value : INT64_MAX;
    column_match_times(col, least, greatest, s->from, s->to, s->words);
}

/* Strings byte by byte, but for those that are times when the value is one. */
static bool match_text_range(const struct evaluation *e, const struct leaf *l, const struct leaf_columns *k, struct slice value,
                             const struct span *s, struct status *st) {
    const struct column *keywords = column_of(k, COLUMN_KEYWORD);
    const struct column *times = column_of(k, COLUMN_TIME);
    struct keyword_question q = {.c = &e->columns, .l = l, .value = value};
    const uint64_t *among = NULL;
    int64_t time_us = 0;
    if (times != NULL && l->op != OPERATOR_CONTAINS && field_time_parse(value, &time_us)) {
        match_time_range(times, l->op, time_us, s);
        clear_words(e->spare, s->from, s->to);
        column_match_any(times, s->from, s->to, e->spare);
        for (uint32_t i = s->from / WORD_SLOTS; i < words_for(s->to); i++) {
            e->spare[i] = ~e->spare[i];
        }
        among = e->spare;
    }
    return keywords == NULL || ask_sets(&q, keywords, among, s, st);
}

static bool match_order(const struct evaluation *e, const struct leaf *l, const struct leaf_columns *k, const struct span *s,
                        struct status *st) {
    const struct column *numbers = column_of(k, COLUMN_NUMBER);
    for (uint32_t i = 0; i < l->value_count; i++) {
        const struct filter_value *v = &l->values[i];
        if (v->type == FILTER_TEXT && !match_text_range(e, l, k, v->text, s, st)) {
            return false;
        }
        if (v->type == FILTER_NUMBER && numbers != NULL && l->op != OPERATOR_CONTAINS) {
            match_number_range(numbers, l->op, v->number, s);
        }
    }
    return true;
}

/* --- what columns do not know --- */

static bool read_slot(const struct evaluation *e, const struct leaf *l, uint32_t slot, uint64_t *words, struct status *st) {
    bool yes = false;
    if (!record_matches(e->records, l, slot, &yes, st)) {
        return false;
    }
    uint64_t bit = UINT64_C(1) << (slot % WORD_SLOTS);
    words[slot / WORD_SLOTS] = yes ? words[slot / WORD_SLOTS] | bit : words[slot / WORD_SLOTS] & ~bit;
    return true;
}

static bool read_slots(const struct evaluation *e, const struct leaf *l, const struct span *s, struct status *st) {
    for (uint32_t slot = s->from; slot < s->to; slot++) {
        if (!read_slot(e, l, slot, s->words, st)) {
            return false;
        }
    }
    return true;
}

/* Slots whose strings are too long for the column. */
static bool read_elsewhere(const struct evaluation *e, const struct leaf *l, const struct column *col, const struct span *s,
                           struct status *st) {
    static const uint32_t elsewhere = COLUMN_ELSEWHERE;
    if (col == NULL || !column_has_elsewhere(col)) {
        return true;
    }
    clear_words(e->spare, s->from, s->to);
    column_match_sets(col, &elsewhere, 1, s->from, s->to, e->spare);
    for (uint32_t i = s->from / WORD_SLOTS; i < words_for(s->to); i++) {
        for (uint64_t left = e->spare[i]; left != 0; left &= left - 1) {
            if (!read_slot(e, l, i * WORD_SLOTS + (uint32_t)__builtin_ctzll(left), s->words, st)) {
                return false;
            }
        }
    }
    return true;
}

static bool match_columns(const struct evaluation *e, const struct leaf *l, const struct span *s, struct status *st) {
    struct leaf_columns k;
    bool all = true;
    for (unsigned i = 0; i < COLUMN_TYPES; i++) {
        k.has[i] = column_find(&e->columns, l->path, (enum column_type)(i + 1), &k.column[i]);
        all = all && k.has[i];
    }
    uint32_t known = columns_known_below(&e->columns, all);
    bool equal = l->op == OPERATOR_EQ || l->op == OPERATOR_IN;
    if (!(equal ? match_equal(e, l, &k, s, st) : match_order(e, l, &k, s, st)) ||
        !read_elsewhere(e, l, column_of(&k, COLUMN_KEYWORD), s, st)) {
        return false;
    }
    struct span unknown = {.from = known > s->from ? known : s->from, .to = s->to, .words = s->words};
    return unknown.from >= unknown.to || read_slots(e, l, &unknown, st);
}

/* --- ids --- */

static void set_slots(const struct span *s, uint32_t first, uint32_t count) {
    for (uint32_t slot = first; slot < first + count; slot++) {
        if (slot >= s->from && slot < s->to) {
            s->words[slot / WORD_SLOTS] |= UINT64_C(1) << (slot % WORD_SLOTS);
        }
    }
}

static bool match_id(const struct evaluation *e, bool chunk, struct slice encoded, const struct span *s, struct status *st) {
    struct status failure = {0};
    struct stored_document d;
    struct stored_chunk c;
    bool found = chunk ? reading_find_chunk(e->rd, encoded, &c, &failure) : reading_find_document(e->rd, encoded, &d, &failure);
    if (!found && failure.code != STATUS_NOT_FOUND) {
        *st = failure;
        return false;
    }
    if (found) {
        set_slots(s, chunk ? c.slot : d.first_chunk, chunk ? 1 : d.num_chunks);
    }
    return true;
}

static bool match_ids(const struct evaluation *e, const struct leaf *l, bool chunk, const struct span *s, struct status *st) {
    struct buf encoded = {0};
    bool ok = true;
    for (uint32_t i = 0; ok && i < l->value_count; i++) {
        buf_reset(&encoded);
        if (l->values[i].type == FILTER_TEXT && item_id_encode(l->values[i].text, &encoded)) {
            ok = buf_check(&encoded, st) && match_id(e, chunk, buf_slice(&encoded), s, st);
        }
    }
    buf_fini(&encoded);
    return ok;
}

/* --- the leaf --- */

static bool match(const struct evaluation *e, const struct leaf *l, const struct span *s, struct status *st) {
    bool equal = l->op == OPERATOR_EQ || l->op == OPERATOR_IN;
    bool chunk_id = slice_is(l->path, "chunk_id");
    bool id = slice_is(l->path, "id");
    if (equal && (id || chunk_id)) {
        return match_ids(e, l, chunk_id, s, st);
    }
    bool recorded = id || chunk_id || slice_is(l->path, "title") || slice_is(l->path, "text");
    return recorded || !e->has_columns ? read_slots(e, l, s, st) : match_columns(e, l, s, st);
}

bool leaf_evaluate(struct evaluation *e, const struct filter *f, uint32_t from, uint64_t *words, struct status *st) {
    struct leaf l = leaf_of(f);
    struct span s = {.from = from, .to = e->slots, .words = words};
    clear_words(words, from, e->slots);
    if (!match(e, &l, &s, st)) {
        return false;
    }
    for (uint32_t i = from / WORD_SLOTS; l.negated && i < words_for(e->slots); i++) {
        words[i] = ~words[i];
    }
    if (e->slots % WORD_SLOTS != 0 && from < e->slots) {
        words[e->slots / WORD_SLOTS] &= (UINT64_C(1) << (e->slots % WORD_SLOTS)) - 1;
    }
    return true;
}
