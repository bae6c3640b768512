/*
 * chunker.c - see chunker.h.
 *
 * The text is a row of atoms (atoms.h), of which the chunker looks at a window: what a chunk may have, and a quarter more, so that it knows before it cuts whether
 * little is left behind. Each cut is made in two passes over the window: the first finds where the text, or the section, would end the chunk, the second the
 * best place if they do not. A chunk is at least a quarter of what was looked at (but where overlaps leave little room), so all is linear.
 */
#include "embed/chunker.h"

#include "embed/atoms.h"

#include <stdlib.h>

#define LEAST_SHARE 4 /* of max_tokens: less is not left alone where it can join */

struct chunker {
    struct atom_reader atoms;
    const struct chunking *how;
    struct chunk_list list;
    size_t cap;
    uint32_t section; /* whose path was written last */
    struct status *st;
};

/* What a chunk that begins with atom `first` may have. */
struct room {
    size_t first;
    uint64_t most;  /* tokens */
    uint64_t least; /* of what is left alone */
};

static const struct atom *look_at(struct chunker *c, size_t n) {
    c->list.steps++;
    return atom_at(&c->atoms, n, c->st);
}

static bool failed(const struct chunker *c) {
    return c->atoms.failed;
}

/* --- where a chunk ends --------------------------------------------------------------------------------------------- */

/* A heading that may begin a chunk, or the text's end. */
struct stop {
    size_t index;    /* of the atom behind it */
    uint64_t tokens; /* from the chunk's begin */
    unsigned rank;   /* 0: the end */
    bool found;
};

/* The next one behind `from`, up to `bound` tokens from the chunk's begin. */
static struct stop next_stop(struct chunker *c, struct stop from, uint64_t bound) {
    const struct atom *a = look_at(c, from.index);
    while (a != NULL && from.tokens <= bound) {
        from.tokens += a->tokens;
        a = look_at(c, ++from.index);
        if (a != NULL && a->rank > 0) {
            break;
        }
    }
    from.rank = a == NULL ? 0 : a->rank;
    from.found = (a == NULL || a->rank > 0) && from.tokens <= bound;
    return from;
}

/*
 * The cut that a heading or the text's end asks for: the first with enough before it. When the section that begins there ends with little in it, and
 * what follows is not part of what that is part of, it joins. No such cut within the room: found is false, and *ret_limit says up to how many tokens
 * a cut leaves enough before the next one.
 */
static struct stop find_stop(struct chunker *c, const struct room *room, uint64_t *ret_limit) {
    struct stop stop = {.index = room->first};
    do {
        stop = next_stop(c, stop, room->most + room->least);
    } while (stop.found && stop.rank > 0 && stop.tokens < room->least);
    *ret_limit = room->most;
    if (!stop.found || stop.tokens > room->most) {
        *ret_limit -= stop.found ? room->least - (stop.tokens - room->most) : 0;
        stop.found = false;
        return stop;
    }
    while (stop.rank > 0) {
        struct stop next = next_stop(c, stop, room->most);
        if (!next.found || next.rank >= stop.rank || next.tokens - stop.tokens >= room->least) {
            break;
        }
        stop = next;
    }
    return stop;
}

/* The best cut with at most `limit` tokens before it; behind one atom where there is none. */
static size_t find_cut(struct chunker *c, const struct room *room, uint64_t limit) {
    size_t best[CUTS] = {0};
    size_t last = room->first + 1;
    uint64_t tokens = 0;
    const struct atom *a = look_at(c, room->first);
    for (size_t i = room->first + 1; a != NULL && tokens + a->tokens <= limit; i++) {
        tokens += a->tokens;
        a = look_at(c, i);
        last = i;
        if (a != NULL && tokens >= room->most - tokens) {
            best[a->before] = i;
        }
    }
    for (size_t i = 0; i < CUTS; i++) {
        if (best[i] > 0) {
            return best[i];
        }
    }
    return last;
}

/* --- what a chunk repeats ------------------------------------------------------------------------------------------- */

struct repeated {
    size_t first; /* atom */
    uint64_t tokens;
};

/* Of the chunk that began with atom `before`, for the one that begins with `first`. */
static struct repeated find_repeated(struct chunker *c, size_t before, size_t first) {
    struct repeated at = {first, 0};
    struct repeated word = at;
    struct repeated sentence = at;
    const struct atom *a = look_at(c, first);
    if (a == NULL || a->rank > 0) {
        return at;
    }
    while (at.first > before && !(a->rank > 0 && at.first < first)) {
        a = look_at(c, at.first - 1);
        if (a == NULL || at.tokens + a->tokens > c->how->overlap) {
            break;
        }
        at = (struct repeated){at.first - 1, at.tokens + a->tokens};
        word = a->before <= CUT_WORD ? at : word;
        sentence = a->before <= CUT_SENTENCE && at.tokens >= c->how->overlap - at.tokens ? at : sentence;
    }
    return sentence.tokens > 0 ? sentence : (word.tokens > 0 ? word : at);
}

/* --- the list ------------------------------------------------------------------------------------------------------- */

static bool write_section(struct chunker *c, size_t first, size_t end, struct chunk_span *span) {
    const struct atom *a = look_at(c, first);
    for (size_t i = first + 1; a != NULL && a->heading && i < end; i++) {
        a = look_at(c, i);
    }
    if (a == NULL) {
        return false;
    }
    const struct chunk_span *last = c->list.count == 0 ? NULL : &c->list.spans[c->list.count - 1];
    if (last != NULL && a->section == c->section) {
        span->section_at = last->section_at;
        span->section_len = last->section_len;
        return true;
    }
    c->section = a->section;
    span->section_at = c->list.sections.len;
    atom_section_path(&c->atoms, a->section, CHUNKER_SECTION_MAX_BYTES, &c->list.sections);
    span->section_len = c->list.sections.len - span->section_at;
    return buf_check(&c->list.sections, c->st);
}

static bool add_span(struct chunker *c, size_t first, size_t end, size_t repeated_from) {
    const size_t least = 16;
    if (c->list.count == c->how->max_chunks) {
        return status_set(c->st, STATUS_TOO_LARGE, "the text gives more than %zu chunks; raise max_tokens or divide it", c->how->max_chunks);
    }
    if (c->list.count == c->cap) {
        size_t cap = c->cap == 0 ? least : 2 * c->cap;
        struct chunk_span *grown = (struct chunk_span *)realloc(c->list.spans, cap * sizeof *grown);
        if (grown == NULL) {
            return status_no_memory(c->st);
        }
        c->list.spans = grown;
        c->cap = cap;
    }
    const struct atom *behind = look_at(c, end);
    if (failed(c)) {
        return false;
    }
    struct chunk_span span = {.end = behind == NULL ? c->atoms.text.len : behind->begin};
    span.begin = atom_at(&c->atoms, first, c->st)->begin;
    span.overlap = span.begin - atom_at(&c->atoms, repeated_from, c->st)->begin;
    if (!write_section(c, first, end, &span)) {
        return false;
    }
    c->list.spans[c->list.count++] = span;
    return true;
}

/* The chunk that begins with atom `first`. *ret_end: the atom behind it. */
static bool cut_chunk(struct chunker *c, size_t before, size_t first, size_t *ret_end) {
    struct repeated repeated = find_repeated(c, before, first);
    const struct atom *a = look_at(c, first);
    if (a == NULL) {
        return false;
    }
    if (repeated.tokens + a->tokens > c->how->max_tokens) {
        repeated = (struct repeated){first, 0};
    }
    struct room room = {.first = first, .most = c->how->max_tokens - repeated.tokens};
    room.least = room.most / LEAST_SHARE;
    uint64_t limit = 0;
    struct stop stop = find_stop(c, &room, &limit);
    *ret_end = stop.found ? stop.index : find_cut(c, &room, limit);
    return !failed(c) && add_span(c, first, *ret_end, repeated.first);
}

bool chunker_cut(struct slice text, const struct chunking *how, struct chunk_list *ret, struct status *st) {
    if (how->max_tokens < 1 || how->overlap >= how->max_tokens) {
        return status_set(st, STATUS_INVALID, "max_tokens must be at least 1, and overlap less than max_tokens");
    }
    struct chunker c = {.how = how, .st = st};
    bool good = true;
    size_t before = 0;
    size_t first = 0;
    atom_reader_init(&c.atoms, text, how->format, how->vocabulary, how->max_tokens);
    buf_init(&c.list.sections);
    while (good && look_at(&c, first) != NULL) {
        size_t end = 0;
        good = cut_chunk(&c, before, first, &end);
        before = first;
        first = end;
        atoms_forget(&c.atoms, before);
    }
    good = good && !failed(&c);
    atom_reader_fini(&c.atoms);
    if (!good) {
        chunk_list_fini(&c.list);
        return false;
    }
    *ret = c.list;
    return true;
}

void chunk_list_fini(struct chunk_list *list) {
    free(list->spans);
    buf_fini(&list->sections);
    *list = (struct chunk_list){0};
}
