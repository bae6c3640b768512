/*
 * columns_validate.c - whether a file of columns is what columns_internal.h says, and whether a slot has its values.
 *
 * The tries are walked without recursion: a node's place on the way from the root follows from its hash alone, so an entry that is reached twice is a fault by
 * itself, and no walk is longer than the number of entries that the head promises.
 */
#include "index/columns_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DETAIL_BYTES 160
#define LINKS 4
#define STACK_LEAST 1024

struct checking {
    const struct columns *c;
    uint32_t slots;
    uint64_t faults;
    char *detail;
};

static void fault(struct checking *k, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void fault(struct checking *k, const char *fmt, ...) {
    va_list args;
    if (k->faults++ == 0) {
        va_start(args, fmt);
        (void)vsnprintf(k->detail, DETAIL_BYTES, fmt, args);
        va_end(args);
    }
}

/* Whether [ref, ref + bytes) is in use. */
static bool in_use(const struct checking *k, uint32_t ref, uint64_t bytes) {
    uint64_t at = (uint64_t)ref * COLUMNS_UNIT;
    uint64_t used = columns_used(k->c);
    return at >= COLUMNS_HEAD_BYTES && at <= used && bytes <= used - at;
}

static struct columns_node *entry_in_use(const struct checking *k, uint32_t ref, uint64_t extra) {
    return in_use(k, ref, sizeof(struct columns_node) + extra) ? columns_node_at(k->c, ref, extra) : NULL;
}

/* --- what each kind of entry must be --- */

static void check_string(struct checking *k, uint32_t ref, const struct columns_node *node) {
    if (entry_in_use(k, ref, node->length) == NULL) {
        fault(k, "string %u goes beyond what is in use", ref);
        return;
    }
    if (columns_string_hash(columns_string(k->c, ref)) != node->hash) {
        fault(k, "string %u has another hash", ref);
    }
    uint32_t set = node->tag;
    for (uint32_t before = UINT32_MAX; set != 0;) {
        struct keyword_set s = columns_set(k->c, set);
        const struct set_member *members = (const struct set_member *)s.members;
        uint32_t i = 0;
        while (i < s.count && members[i].string != ref) {
            i++;
        }
        if (set >= before || i == s.count) {
            fault(k, "string %u is led to set %u, which does not hold it", ref, set);
            return;
        }
        before = set;
        set = members[i].older;
    }
}

static void check_set(struct checking *k, uint32_t ref, const struct columns_node *node) {
    uint32_t strings[COLUMN_KEYWORDS_MAX];
    if (node->length == 0 || node->length > COLUMN_KEYWORDS_MAX ||
        entry_in_use(k, ref, (uint64_t)node->length * sizeof(struct set_member)) == NULL || node->tag > 1) {
        fault(k, "set %u has no possible number of members", ref);
        return;
    }
    struct keyword_set s = columns_set(k->c, ref);
    struct slice before = slice_of(NULL, 0);
    for (uint32_t i = 0; i < s.count; i++) {
        strings[i] = keyword_set_string(&s, i);
        struct slice string = columns_string(k->c, strings[i]);
        if (strings[i] >= ref || columns_find_string(k->c, string) != strings[i] ||
            (i > 0 && slice_compare(before, string) >= 0)) {
            fault(k, "member %u of set %u is no string, or out of order", i, ref);
            return;
        }
        before = string;
    }
    if (columns_set_hash(strings, s.count, s.array) != node->hash) {
        fault(k, "set %u has another hash", ref);
    }
}

/* --- columns --- */

static uint64_t value_bits_at(const struct column_page *page, enum column_type type, uint32_t at) {
    const void *values = page + 1;
    uint64_t bits;
    switch (type) {
    case COLUMN_KEYWORD:
        return ((const uint32_t *)values)[at];
    case COLUMN_BOOL:
        return ((const uint8_t *)values)[at];
    default:
        memcpy(&bits, (const uint64_t *)values + at, sizeof bits);
        return bits;
    }
}

static bool bits_absent(enum column_type type, uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    return type == COLUMN_NUMBER ? isnan(number) : type == COLUMN_TIME ? (int64_t)bits == INT64_MIN : bits == 0;
}

/* Order of two values as bits. */
static bool bits_between(enum column_type type, uint64_t low, uint64_t bits, uint64_t high) {
    double number[3];
    memcpy(&number[0], &low, sizeof low);
    memcpy(&number[1], &bits, sizeof bits);
    memcpy(&number[2], &high, sizeof high);
    if (type == COLUMN_NUMBER) {
        return number[0] <= number[1] && number[1] <= number[2];
    }
    if (type == COLUMN_TIME) {
        return (int64_t)low <= (int64_t)bits && (int64_t)bits <= (int64_t)high;
    }
    return low <= bits && bits <= high;
}

static bool value_possible(const struct checking *k, enum column_type type, uint64_t bits) {
    double number;
    memcpy(&number, &bits, sizeof number);
    if (type == COLUMN_NUMBER) {
        return isfinite(number) != 0;
    }
    if (type == COLUMN_BOOL) {
        return bits <= 2;
    }
    return type != COLUMN_KEYWORD || bits == COLUMN_ELSEWHERE || columns_set(k->c, (uint32_t)bits).count > 0;
}

static void check_page(struct checking *k, const struct column *col, uint32_t ref, uint32_t page, uint32_t number) {
    const struct column_page *p = (const struct column_page *)columns_at(k->c, page, column_page_bytes(col->type));
    uint32_t count = 0;
    if (page % (COLUMN_PAGE_ALIGN / COLUMNS_UNIT) != 0 || !in_use(k, page, column_page_bytes(col->type))) {
        fault(k, "page %u of column %u is not where pages are", number, ref);
        return;
    }
    for (uint32_t i = 0; i < COLUMN_PAGE_SLOTS; i++) {
        uint64_t bits = value_bits_at(p, col->type, i);
        uint64_t slot = (uint64_t)number * COLUMN_PAGE_SLOTS + i;
        if (bits_absent(col->type, bits)) {
            continue;
        }
        count++;
        if (slot >= k->slots || !value_possible(k, col->type, bits) || !bits_between(col->type, p->least, bits, p->greatest)) {
            fault(k, "column %u has a value for slot %llu that cannot be", ref, (unsigned long long)slot);
            return;
        }
    }
    if (count != p->count) {
        fault(k, "page %u of column %u counts %u values and has %u", number, ref, p->count, count);
    }
}

static void check_table(struct checking *k, const struct column *col, uint32_t ref, const uint32_t *table, unsigned level,
                        uint32_t first) {
    for (uint32_t i = 0; i < COLUMN_TABLE; i++) {
        uint32_t number = (first << COLUMN_TABLE_BITS) + i;
        if (table[i] == 0) {
            continue;
        }
        if (level == 0) {
            check_page(k, col, ref, table[i], number);
        } else if (!in_use(k, table[i], COLUMN_TABLE * sizeof(uint32_t)) ||
                   ((uint64_t)number << (level * COLUMN_TABLE_BITS)) * COLUMN_PAGE_SLOTS >= k->slots) {
            fault(k, "column %u has a table that is not within what is in use", ref);
        } else {
            check_table(k, col, ref, (const uint32_t *)columns_at(k->c, table[i], COLUMN_TABLE * sizeof(uint32_t)), level - 1,
                        number);
        }
    }
}

static void check_column(struct checking *k, uint32_t ref, struct columns_node *node) {
    if (node->tag < COLUMN_KEYWORD || node->tag > COLUMN_BOOL ||
        entry_in_use(k, ref, sizeof(struct column_body) + node->length) == NULL ||
        columns_path_hash(column_path_of(node), (enum column_type)node->tag) != node->hash) {
        fault(k, "column %u has no type, no path or another hash", ref);
        return;
    }
    struct column col = {.c = *k->c, .node = node, .type = (enum column_type)node->tag};
    check_table(k, &col, ref, column_body_of(node)->table, 2, 0);
}

/* --- the tries --- */

struct visit {
    uint32_t ref;
    uint32_t level;
    uint64_t way; /* the turns taken, two bits each, as in a hash */
};

static void check_entry(struct checking *k, enum columns_trie trie, uint32_t ref, struct columns_node *node) {
    switch (trie) {
    case TRIE_STRINGS:
        check_string(k, ref, node);
        break;
    case TRIE_SETS:
        check_set(k, ref, node);
        break;
    default:
        check_column(k, ref, node);
        break;
    }
}

/* Whether the hash leads where the entry was found. */
static bool on_its_way(const struct visit *v, uint64_t hash) {
    for (unsigned level = 0; level < v->level && level < 32; level++) {
        if (columns_turn(hash, level) != columns_turn(v->way, level)) {
            return false;
        }
    }
    return true;
}

static uint64_t turned(const struct visit *v, uint32_t turn) {
    return v->level >= 32 ? v->way : v->way | (uint64_t)turn << (2 * (31 - v->level));
}

/* Entries that wait. */
struct stack {
    struct visit *items;
    size_t room;
    size_t depth;
};

static bool stack_push(struct stack *s, struct visit v) {
    if (s->depth == s->room) {
        size_t room = s->room == 0 ? STACK_LEAST : s->room * 2;
        struct visit *more = (struct visit *)realloc(s->items, room * sizeof *more);
        if (more == NULL) {
            return false;
        }
        s->items = more;
        s->room = room;
    }
    s->items[s->depth++] = v;
    return true;
}

/* False: no memory. */
static bool check_trie(struct checking *k, enum columns_trie trie, struct stack *stack) {
    const struct columns_head *head = columns_head_of(k->c);
    uint32_t count = 0;
    stack->depth = 0;
    if (!stack_push(stack, (struct visit){.ref = head->root[trie]})) {
        return false;
    }
    while (stack->depth > 0) {
        struct visit v = stack->items[--stack->depth];
        struct columns_node *node = entry_in_use(k, v.ref, 0);
        if (v.ref == 0) {
            continue;
        }
        if (node == NULL || !on_its_way(&v, node->hash) || ++count > head->count[trie]) {
            fault(k, "trie %d has an entry (%u) that does not belong there", (int)trie, v.ref);
            continue;
        }
        check_entry(k, trie, v.ref, node);
        for (uint32_t turn = 0; turn < LINKS; turn++) {
            struct visit next = {.ref = node->child[turn], .level = v.level + 1, .way = turned(&v, turn)};
            if (next.ref != 0 && next.ref <= v.ref) {
                fault(k, "entry %u of trie %d leads back to %u", v.ref, (int)trie, next.ref);
            } else if (next.ref != 0 && !stack_push(stack, next)) {
                return false;
            }
        }
    }
    if (count < head->count[trie]) {
        fault(k, "trie %d has %u entries and counts %u", (int)trie, count, head->count[trie]);
    }
    return true;
}

uint64_t columns_validate(const struct columns *c, uint32_t slots, char detail[DETAIL_BYTES]) {
    struct checking k = {.c = c, .slots = slots, .detail = detail};
    detail[0] = '\0';
    if (!columns_valid(c)) {
        fault(&k, "the head is not that of columns");
        return k.faults;
    }
    const struct columns_head *head = columns_head_of(c);
    if (head->next_slot > slots || head->count[TRIE_COLUMNS] > COLUMNS_MAX) {
        fault(&k, "the head counts %u slots and %u columns", head->next_slot, head->count[TRIE_COLUMNS]);
        return k.faults;
    }
    struct stack stack = {0};
    bool memory = true;
    for (unsigned trie = 0; memory && trie < TRIES; trie++) {
        memory = check_trie(&k, (enum columns_trie)trie, &stack);
    }
    free(stack.items);
    return memory ? k.faults : UINT64_MAX;
}

/* --- one slot --- */

static bool value_at(const struct column *col, uint32_t slot, uint64_t *ret_bits) {
    const struct column_page *page = column_page_at(col, slot / COLUMN_PAGE_SLOTS);
    if (page == NULL) {
        return false;
    }
    *ret_bits = value_bits_at(page, col->type, slot % COLUMN_PAGE_SLOTS);
    return !bits_absent(col->type, *ret_bits);
}

static bool keywords_are(const struct columns *c, uint32_t ref, const struct field_value *v) {
    uint32_t count = v->as.keywords.count;
    if (ref == COLUMN_ELSEWHERE || count == 0 || count > COLUMN_KEYWORDS_MAX) {
        return ref == COLUMN_ELSEWHERE && (count == 0 || count > COLUMN_KEYWORDS_MAX);
    }
    struct keyword_set set = columns_set(c, ref);
    bool same = set.count == count && set.array == v->as.keywords.array;
    for (uint32_t i = 0; same && i < count; i++) {
        same = slice_equal(columns_string(c, keyword_set_string(&set, i)), v->as.keywords.items[i]);
    }
    return same;
}

/* Whether the slot has this value. *ret_present: it has one in that column. */
static bool holds_value(const struct columns *c, uint32_t slot, const struct field_value *v, bool *ret_present) {
    struct column col;
    uint64_t bits = 0;
    double number;
    *ret_present = column_find(c, v->path, v->type, &col) && value_at(&col, slot, &bits);
    if (v->type == COLUMN_NUMBER && !isfinite(v->as.number)) {
        return !*ret_present;
    }
    if (!*ret_present) {
        /* The head says so when values were left out. */
        return slot >= columns_known_below(c, false);
    }
    memcpy(&number, &bits, sizeof number);
    switch (v->type) {
    case COLUMN_NUMBER:
        return number == v->as.number;
    case COLUMN_TIME:
        return (int64_t)bits == v->as.time_us;
    case COLUMN_BOOL:
        return bits == (v->as.boolean ? 2 : 1);
    case COLUMN_KEYWORD:
        return keywords_are(c, (uint32_t)bits, v);
    }
    return false;
}

/* Columns in which the slot has a value. The trie's entries lie one behind the other in no order, so it is walked. */
static uint32_t count_values(const struct columns *c, uint32_t slot, uint32_t ref, uint32_t *left) {
    struct columns_node *node = columns_node_at(c, ref, sizeof(struct column_body));
    uint32_t count = 0;
    uint64_t bits = 0;
    if (node == NULL || *left == 0) {
        return 0;
    }
    --*left;
    struct column col = {.c = *c, .node = node, .type = (enum column_type)node->tag};
    count += value_at(&col, slot, &bits) ? 1 : 0;
    for (unsigned turn = 0; turn < LINKS; turn++) {
        if (node->child[turn] > ref) {
            count += count_values(c, slot, node->child[turn], left);
        }
    }
    return count;
}

bool columns_hold(const struct columns *c, uint32_t slot, const struct field_values *v) {
    uint32_t present = 0;
    uint32_t left = COLUMNS_MAX; /* and so the depth of the walk */
    for (uint32_t i = 0; i < v->count; i++) {
        bool is_present = false;
        if (!holds_value(c, slot, &v->items[i], &is_present)) {
            return false;
        }
        present += is_present ? 1 : 0;
    }
    return count_values(c, slot, columns_head_of(c)->root[TRIE_COLUMNS], &left) == present;
}
