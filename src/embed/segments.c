/* segments.c - see segments.h. Rules bear the numbers of UAX 29. */
#include "embed/segments.h"

#include "base/utf8.h"

#define ASCII 0x80

struct segment_kind segment_kind_of(uint32_t code_point) {
    uint32_t block = code_point / SEGMENT_BLOCK;
    const char *kinds = segment_blocks[segment_blocks_of[segment_branches[block / SEGMENT_BRANCH]][block % SEGMENT_BRANCH]];
    return segment_kinds[kinds[code_point % SEGMENT_BLOCK] - SEGMENT_FIRST];
}

static struct segment_kind kind_at(struct slice text, size_t at, size_t *ret_next) {
    *ret_next = at;
    return segment_kind_of(utf8_next(text, ret_next));
}

/* --- sentences ------------------------------------------------------------------------------------------------------ */

static enum sentence_class sentence_class_at(struct slice text, size_t at, enum sentence_lines lines, size_t *ret_next) {
    enum sentence_class class = (enum sentence_class)kind_at(text, at, ret_next).sentence;
    bool wrapped = lines == LINES_ARE_WRAPPED && (class == SENTENCE_CR || class == SENTENCE_LF);
    return wrapped ? SENTENCE_SPACE : class;
}

static bool is_term(enum sentence_class class) {
    return class == SENTENCE_ATERM || class == SENTENCE_STERM;
}

static bool is_separator(enum sentence_class class) {
    return class == SENTENCE_SEPARATOR || class == SENTENCE_CR || class == SENTENCE_LF;
}

/* SB8: whether a small letter comes before any other letter, term or separator. */
static bool small_letter_follows(struct slice text, size_t at, enum sentence_lines lines) {
    while (at < text.len) {
        enum sentence_class class = sentence_class_at(text, at, lines, &at);
        if (class == SENTENCE_LOWER) {
            return true;
        }
        if (class == SENTENCE_UPPER || class == SENTENCE_LETTER || is_term(class) || is_separator(class)) {
            return false;
        }
    }
    return false;
}

/* How far the reading of SATerm Close* Sp* has come. */
enum sentence_phase { IN_SENTENCE, BEHIND_TERM, BEHIND_CLOSE, BEHIND_SPACE };

struct sentence_state {
    enum sentence_phase phase;
    enum sentence_class term;        /* the last one */
    enum sentence_class before;      /* the last character */
    enum sentence_class before_term; /* the one before that */
};

/* The rules that keep a character in the sentence although a term stands before it; moves the phase on. */
static bool sentence_holds(struct sentence_state *s, enum sentence_class class) {
    if (s->phase == BEHIND_TERM && s->term == SENTENCE_ATERM) {
        bool cased = s->before_term == SENTENCE_UPPER || s->before_term == SENTENCE_LOWER;
        if (class == SENTENCE_NUMERIC || (cased && class == SENTENCE_UPPER)) { /* SB6, SB7 */
            s->phase = IN_SENTENCE;
            return true;
        }
    }
    if (class == SENTENCE_CLOSE && s->phase != BEHIND_SPACE) { /* SB9 */
        s->phase = BEHIND_CLOSE;
        return true;
    }
    if (class == SENTENCE_SPACE) { /* SB9, SB10 */
        s->phase = BEHIND_SPACE;
        return true;
    }
    if (class == SENTENCE_CONTINUE || is_term(class)) { /* SB8a */
        s->phase = IN_SENTENCE;
        return true;
    }
    return is_separator(class); /* SB9, SB10 */
}

static void sentence_take(struct sentence_state *s, enum sentence_class class) {
    if (is_term(class)) {
        s->before_term = s->before;
        s->term = class;
        s->phase = BEHIND_TERM;
    }
    s->before = class;
}

size_t sentence_end(struct slice text, size_t at, enum sentence_lines lines) {
    struct sentence_state s = {IN_SENTENCE, SENTENCE_OTHER, SENTENCE_OTHER, SENTENCE_OTHER};
    while (at < text.len) {
        size_t next;
        enum sentence_class class = sentence_class_at(text, at, lines, &next);
        if (class == SENTENCE_EXTEND || class == SENTENCE_FORMAT) { /* SB5 */
            at = next;
            continue;
        }
        if (s.phase != IN_SENTENCE && !sentence_holds(&s, class)) {
            if (s.term == SENTENCE_STERM || !small_letter_follows(text, at, lines)) { /* SB8, SB11 */
                return at;
            }
            s.phase = IN_SENTENCE;
        }
        if (is_separator(class)) { /* SB3, SB4 */
            return class == SENTENCE_CR && next < text.len && text.data[next] == '\n' ? next + 1 : next;
        }
        sentence_take(&s, class);
        at = next;
    }
    return text.len;
}

/* --- grapheme clusters ---------------------------------------------------------------------------------------------- */

/* GB6 to GB8. */
static bool syllable_goes_on(enum cluster_class before, enum cluster_class class) {
    switch (before) {
    case CLUSTER_HANGUL_L:
        return class == CLUSTER_HANGUL_L || class == CLUSTER_HANGUL_V || class == CLUSTER_HANGUL_LV || class == CLUSTER_HANGUL_LVT;
    case CLUSTER_HANGUL_LV:
    case CLUSTER_HANGUL_V:
        return class == CLUSTER_HANGUL_V || class == CLUSTER_HANGUL_T;
    case CLUSTER_HANGUL_LVT:
    case CLUSTER_HANGUL_T:
        return class == CLUSTER_HANGUL_T;
    default:
        return false;
    }
}

static bool is_control(enum cluster_class class) {
    return class == CLUSTER_CONTROL || class == CLUSTER_CR || class == CLUSTER_LF;
}

struct cluster_state {
    enum cluster_class before;
    bool picture;  /* what has been read is ExtPict Extend*, or that and a joiner */
    bool odd_flag; /* the regional indicators read are odd in number */
};

static bool cluster_holds(const struct cluster_state *s, enum cluster_class class) {
    if (is_control(s->before) || is_control(class)) { /* GB3 to GB5 */
        return s->before == CLUSTER_CR && class == CLUSTER_LF;
    }
    if (cluster_goes_on((uint8_t)class) || s->before == CLUSTER_PREPEND) { /* GB9 to GB9b */
        return true;
    }
    bool joined = s->before == CLUSTER_JOINER && s->picture && class == CLUSTER_PICTURE; /* GB11 */
    bool flag = s->before == CLUSTER_REGIONAL && s->odd_flag && class == CLUSTER_REGIONAL; /* GB12, GB13 */
    return joined || flag || syllable_goes_on(s->before, class);
}

static void cluster_take(struct cluster_state *s, enum cluster_class class) {
    bool extends = class == CLUSTER_EXTEND || (class == CLUSTER_JOINER && s->before != CLUSTER_JOINER);
    s->picture = class == CLUSTER_PICTURE || (s->picture && extends);
    s->odd_flag = class == CLUSTER_REGIONAL && !s->odd_flag;
    s->before = class;
}

size_t cluster_end(struct slice text, size_t at) {
    struct cluster_state s = {CLUSTER_OTHER, false, false};
    size_t next;
    if (text.data[at] < ASCII && text.data[at] != '\r' && (at + 1 == text.len || text.data[at + 1] < ASCII)) {
        return at + 1;
    }
    cluster_take(&s, (enum cluster_class)kind_at(text, at, &next).cluster);
    for (at = next; at < text.len; at = next) {
        enum cluster_class class = (enum cluster_class)kind_at(text, at, &next).cluster;
        if (!cluster_holds(&s, class)) {
            break;
        }
        cluster_take(&s, class);
    }
    return at;
}
