/*
 * json_scan.c - one pass over a body: is it JSON, is it within the limits, and where are its vectors.
 *
 * The pass is a loop over an explicit stack of frames, one for each open object or array, so depth costs 16 bytes and no C stack.
 * Nothing is allocated per token; what grows is one table of keys (24 bytes a key and as much again for room), the floats, and
 * the edited copy.
 *
 * Duplicate keys: json-c would keep the last and forget the first without a word, and two readers of one body would see two
 * documents. Every key goes into one hash table of the whole body under (number of its object, decoded text), so "a" and "\u0061"
 * are one key, and the cost does not depend on how wide or how nested the objects are. The hash has a seed of the process's own.
 *
 * Vector places: each frame carries a bit set of the places whose path leads through it. A key or an element narrows the set; a
 * value whose set holds a place that ends here stands at that place.
 */
#include "base/json_scan.h"

#include "base/decimal.h"
#include "base/hash.h"
#include "base/utf8.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

enum {
    PLACES_MAX = 32,
    SEGMENTS_MAX = 8,
    FIRST_KEY_SLOTS = 64,
    DOUBLE_DIGITS_MAX = 308 /* DBL_MAX is 1.8 * 10^308 */
};

/* A path such as "chunks.[].embedding", cut at its dots. */
struct place {
    unsigned count;
    struct slice segments[SEGMENTS_MAX];
};

struct frame {
    bool array;
    uint32_t object;  /* number of the object in the body */
    uint32_t members; /* of the object so far */
    uint32_t places;  /* bit set: places whose path leads through here */
};

struct key {
    uint64_t hash; /* 0: an empty slot */
    uint32_t object;
    uint32_t at; /* in the body, or in `decoded` */
    uint32_t len;
    bool decoded;
};

struct key_table {
    struct key *slots; /* a power of two, at most half of them taken */
    size_t slot_count;
    size_t used;
    struct buf decoded; /* the text of the keys that have escapes */
};

struct scanner {
    const char *start;
    const char *at;
    const char *end;
    const char *copied; /* up to here the body stands in out->edited */
    const struct json_limits *limits;
    struct place places[PLACES_MAX];
    unsigned place_count;
    struct frame *frames; /* limits->max_depth of them */
    uint32_t depth;
    uint32_t objects;
    uint32_t tokens;
    struct key_table keys;
    struct json_scan *out;
    struct status *st;
};

/* --- errors ------------------------------------------------------------------------------------------------------------ */

static bool malformed(struct scanner *s, const char *at, const char *what) {
    return status_set(s->st, STATUS_MALFORMED, "the JSON is malformed at byte %zu: %s", (size_t)(at - s->start), what);
}

static bool unexpected(struct scanner *s, const char *wanted) {
    return s->at == s->end ? malformed(s, s->at, "it ends early") : malformed(s, s->at, wanted);
}

/* --- vector places ----------------------------------------------------------------------------------------------------- */

static bool cut_place(struct scanner *s, const char *path) {
    struct place *p = &s->places[s->place_count];
    p->count = 0;
    for (const char *from = path;;) {
        size_t len = strcspn(from, ".");
        if (p->count == SEGMENTS_MAX || len == 0) {
            return status_set(s->st, STATUS_INTERNAL, "\"%s\" is no vector place", path);
        }
        p->segments[p->count++] = slice_of(from, len);
        if (from[len] == '\0') {
            s->place_count++;
            return true;
        }
        from += len + 1;
    }
}

static bool cut_places(struct scanner *s, const char *const *paths) {
    for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
        if (i == PLACES_MAX) {
            return status_set(s->st, STATUS_INTERNAL, "more than %d vector places", PLACES_MAX);
        }
        if (!cut_place(s, paths[i])) {
            return false;
        }
    }
    return true;
}

static uint32_t all_places(const struct scanner *s) {
    return (uint32_t)((UINT64_C(1) << s->place_count) - 1);
}

/* Of `places`, those whose path goes on with the member `key` of the innermost object, or, for NULL, with any element. */
static uint32_t narrow(const struct scanner *s, uint32_t places, const struct slice *key) {
    unsigned level = s->depth - 1;
    uint32_t narrowed = 0;
    for (unsigned i = 0; places >> i != 0; i++) {
        const struct place *p = &s->places[i];
        if ((places >> i & 1) == 0 || p->count <= level) {
            continue;
        }
        bool element = slice_is(p->segments[level], "[]");
        bool same = key == NULL ? element : !element && slice_equal(p->segments[level], *key);
        narrowed |= same ? UINT32_C(1) << i : 0;
    }
    return narrowed;
}

/* Whether one of `places`, to which the value that begins now belongs, ends here. */
static bool ends_here(const struct scanner *s, uint32_t places) {
    for (unsigned i = 0; places >> i != 0; i++) {
        if ((places >> i & 1) != 0 && s->places[i].count == s->depth) {
            return true;
        }
    }
    return false;
}

/* --- strings ----------------------------------------------------------------------------------------------------------- */

static inline void skip_space(struct scanner *s) {
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r')) {
        s->at++;
    }
}

/* Whether all of eight bytes can stand in a string as they are: from U+0020 on, neither quote nor backslash. */
static inline bool eight_plain(const char *p) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t v;
    memcpy(&v, p, sizeof v);
    uint64_t quotes = v ^ (ones * '"');
    uint64_t backslashes = v ^ (ones * '\\');
    uint64_t found = ((v - ones * 0x20) & ~v) | ((quotes - ones) & ~quotes) | ((backslashes - ones) & ~backslashes);
    return (found & highs) == 0;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Four hex digits at p, or -1. */
static int32_t hex_unit(const char *p, const char *end) {
    int32_t unit = 0;
    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p[i]);
        if (digit < 0) {
            return -1;
        }
        unit = unit << 4 | digit;
    }
    return unit;
}

/* The code point behind "\u", with its second half if it is a surrogate pair. Moves *at on. -1: no hex, -2: half a pair. */
static int32_t unicode_escape(const char **at, const char *end) {
    const char *p = *at;
    int32_t unit = hex_unit(p, end);
    *at = p + 4;
    if (unit < 0xD800 || unit > 0xDFFF) {
        return unit;
    }
    int32_t low = unit < 0xDC00 && end - p >= 6 && p[4] == '\\' && p[5] == 'u' ? hex_unit(p + 6, end) : -1;
    if (low < 0xDC00 || low > 0xDFFF) {
        return -2;
    }
    *at = p + 10;
    return 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
}

/* At a backslash. */
static bool check_escape(struct scanner *s) {
    const char *backslash = s->at;
    if (s->end - backslash < 2) {
        s->at = s->end;
        return unexpected(s, "");
    }
    char c = backslash[1];
    s->at += 2;
    if (c != 'u') {
        return (c != '\0' && strchr("\"\\/bfnrt", c) != NULL) || malformed(s, backslash, "no such escape");
    }
    int32_t code = unicode_escape(&s->at, s->end);
    if (code > 0) {
        return true;
    }
    return malformed(s, backslash,
                     code == 0    ? "a NUL character"
                     : code == -1 ? "\\u wants four hex digits"
                                  : "half a surrogate pair");
}

/* At the opening quote. *ret_text is what stands between the quotes, not decoded. */
static bool scan_string(struct scanner *s, struct slice *ret_text, bool *ret_escaped) {
    const char *from = ++s->at;
    *ret_escaped = false;
    for (;;) {
        while (s->end - s->at >= 8 && eight_plain(s->at)) {
            s->at += 8;
        }
        if (s->at == s->end) {
            return unexpected(s, "");
        }
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') {
            *ret_text = slice_of(from, (size_t)(s->at - from));
            s->at++;
            return true;
        }
        if (c < 0x20) {
            return malformed(s, s->at, "a control character in a string");
        }
        if (c == '\\') {
            *ret_escaped = true;
            if (!check_escape(s)) {
                return false;
            }
        } else {
            s->at++;
        }
    }
}

static void put_code_point(struct buf *b, uint32_t code) {
    if (code < 0x80) {
        buf_put_u8(b, (uint8_t)code);
    } else if (code < 0x800) {
        buf_put_u8(b, (uint8_t)(0xC0 | code >> 6));
        buf_put_u8(b, (uint8_t)(0x80 | (code & 0x3F)));
    } else if (code < 0x10000) {
        buf_put_u8(b, (uint8_t)(0xE0 | code >> 12));
        buf_put_u8(b, (uint8_t)(0x80 | (code >> 6 & 0x3F)));
        buf_put_u8(b, (uint8_t)(0x80 | (code & 0x3F)));
    } else {
        buf_put_u8(b, (uint8_t)(0xF0 | code >> 18));
        buf_put_u8(b, (uint8_t)(0x80 | (code >> 12 & 0x3F)));
        buf_put_u8(b, (uint8_t)(0x80 | (code >> 6 & 0x3F)));
        buf_put_u8(b, (uint8_t)(0x80 | (code & 0x3F)));
    }
}

/* `text` has been checked: every escape in it is whole. */
static void decode_string(struct slice text, struct buf *out) {
    static const char letters[] = "bfnrt";
    static const char meant[] = "\b\f\n\r\t";
    const char *at = (const char *)text.data;
    const char *end = at + text.len;
    while (at < end) {
        if (*at != '\\') {
            buf_put_u8(out, (uint8_t)*at++);
            continue;
        }
        char c = at[1];
        at += 2;
        if (c == 'u') {
            put_code_point(out, (uint32_t)unicode_escape(&at, end));
        } else {
            const char *letter = strchr(letters, c);
            buf_put_u8(out, (uint8_t)(letter != NULL ? meant[letter - letters] : c));
        }
    }
}

/* --- keys -------------------------------------------------------------------------------------------------------------- */

static uint64_t key_seed;
static pthread_once_t key_seed_once = PTHREAD_ONCE_INIT;

static void make_key_seed(void) {
    /* A short or failed read leaves a weaker seed; equality is always decided by the text. */
    if (getrandom(&key_seed, sizeof key_seed, 0) != (ssize_t)sizeof key_seed) {
        key_seed ^= (uint64_t)(uintptr_t)&key_seed;
    }
}

static struct slice key_text(const struct scanner *s, const struct key *k) {
    return k->decoded ? slice_of(s->keys.decoded.data + k->at, k->len) : slice_of(s->start + k->at, k->len);
}

/* The slot that holds an equal key, or the empty one where it belongs. */
static struct key *find_slot(const struct scanner *s, const struct key *wanted) {
    const struct key_table *t = &s->keys;
    for (size_t i = wanted->hash & (t->slot_count - 1);; i = (i + 1) & (t->slot_count - 1)) {
        struct key *slot = &t->slots[i];
        if (slot->hash == 0 || (slot->hash == wanted->hash && slot->object == wanted->object &&
                                slice_equal(key_text(s, slot), key_text(s, wanted)))) {
            return slot;
        }
    }
}

static bool grow_keys(struct key_table *t, struct status *st) {
    size_t count = t->slot_count == 0 ? FIRST_KEY_SLOTS : t->slot_count * 2;
    struct key *slots = (struct key *)calloc(count, sizeof *slots);
    if (slots == NULL) {
        return status_no_memory(st);
    }
    for (size_t i = 0; i < t->slot_count; i++) {
        if (t->slots[i].hash == 0) {
            continue;
        }
        size_t to = t->slots[i].hash & (count - 1);
        while (slots[to].hash != 0) {
            to = (to + 1) & (count - 1);
        }
        slots[to] = t->slots[i];
    }
    free(t->slots);
    t->slots = slots;
    t->slot_count = count;
    return true;
}

/* Enters a key of the innermost object and says its decoded text, which holds until the next key. */
static bool enter_key(struct scanner *s, struct slice text, bool escaped, struct slice *ret_key) {
    struct key_table *t = &s->keys;
    const char *at = (const char *)text.data;
    struct key k = {.object = s->frames[s->depth - 1].object, .at = (uint32_t)(at - s->start), .len = (uint32_t)text.len};
    if (escaped) {
        k.decoded = true;
        k.at = (uint32_t)t->decoded.len;
        decode_string(text, &t->decoded);
        if (!buf_check(&t->decoded, s->st)) {
            return false;
        }
        k.len = (uint32_t)t->decoded.len - k.at;
    }
    *ret_key = key_text(s, &k);
    k.hash = hash64(key_seed + k.object, ret_key->data, ret_key->len) | 1;
    if (t->used * 2 >= t->slot_count && !grow_keys(t, s->st)) {
        return false;
    }
    struct key *slot = find_slot(s, &k);
    if (slot->hash != 0) {
        return malformed(s, at - 1, "a key that the object has already");
    }
    *slot = k;
    t->used++;
    return true;
}

/* --- numbers ----------------------------------------------------------------------------------------------------------- */

/* json-c would turn an integer that is too large into the largest one. */
static bool fits_64_bits(const struct decimal_number *n) {
    if (n->cut > 1) {
        return false;
    }
    uint64_t value = n->kept;
    if (n->cut == 1) {
        uint64_t last = (uint64_t)(n->mantissa_end[-1] - '0');
        if (value > (UINT64_MAX - last) / 10) {
            return false;
        }
        value = value * 10 + last;
    }
    return !n->negative || value <= (uint64_t)INT64_MAX + 1;
}

static bool finite_double(const struct decimal_number *n) {
    int64_t digits = n->kept_count + n->exponent; /* the value is below 10^digits */
    if (n->kept == 0 || digits <= DOUBLE_DIGITS_MAX) {
        return true;
    }
    if (digits > DOUBLE_DIGITS_MAX + 1) {
        return false;
    }
    char copy[DECIMAL_COPY_MAX];
    decimal_copy(n, copy);
    return isfinite(strtod_l(copy, NULL, decimal_locale()));
}

static bool scan_plain_number(struct scanner *s) {
    struct decimal_number n;
    const char *wrong;
    if (!decimal_scan(s->at, s->end, &n, &wrong)) {
        s->at = wrong;
        return unexpected(s, "a digit is missing");
    }
    if (n.integer && !fits_64_bits(&n)) {
        return malformed(s, s->at, "an integer that does not fit into 64 bits");
    }
    if (!finite_double(&n)) {
        return malformed(s, s->at, "a number that is not finite");
    }
    s->at = n.end;
    return true;
}

/* --- vectors ----------------------------------------------------------------------------------------------------------- */

static bool wrong_element(struct scanner *s) {
    if (s->at < s->end && *s->at != '\0' && strchr("\"[{tfn", *s->at) != NULL) {
        return status_set(s->st, STATUS_INVALID, "a vector holds numbers only: see byte %zu of the body",
                          (size_t)(s->at - s->start));
    }
    return unexpected(s, "a number is wanted");
}

static bool scan_elements(struct scanner *s, uint32_t *ret_length) {
    uint32_t length = 0;
    float value;
    for (;;) {
        skip_space(s);
        size_t used = scan_float(s->at, (size_t)(s->end - s->at), &value);
        if (used == 0) {
            return wrong_element(s);
        }
        if (!isfinite(value)) {
            return malformed(s, s->at, "a number that is not finite as a 32-bit float");
        }
        if (length == s->limits->max_vector_length) {
            return malformed(s, s->at, "a vector of too many numbers");
        }
        length++;
        buf_put(&s->out->floats, &value, sizeof value);
        s->at += used;
        skip_space(s);
        if (s->at == s->end || *s->at != ',') {
            *ret_length = length;
            return (s->at < s->end && *s->at == ']') || unexpected(s, "\",\" or \"]\" is wanted");
        }
        s->at++;
    }
}

/* At the '[' of an array in a vector place: parses it, and puts its number into the copy instead. */
static bool scan_vector(struct scanner *s) {
    struct json_scan *out = s->out;
    size_t first = out->floats.len / sizeof(float);
    uint32_t length = 0;
    uint32_t reference = (uint32_t)(out->vectors.len / sizeof(struct json_vector));
    buf_put(&out->edited, s->copied, (size_t)(s->at - s->copied));
    buf_printf(&out->edited, "%u", reference);
    s->at++;
    skip_space(s);
    if ((s->at == s->end || *s->at != ']') && !scan_elements(s, &length)) {
        return false;
    }
    s->at++;
    s->copied = s->at;
    struct json_vector vector = {.first = (uint32_t)first, .length = length};
    buf_put(&out->vectors, &vector, sizeof vector);
    return buf_check(&out->floats, s->st) && buf_check(&out->vectors, s->st) && buf_check(&out->edited, s->st);
}

/* --- values ------------------------------------------------------------------------------------------------------------ */

static bool count_token(struct scanner *s) {
    return s->tokens++ < s->limits->max_tokens || malformed(s, s->at, "too many values");
}

/* At an opening bracket of a value that belongs to `places`. */
static bool open_container(struct scanner *s, bool array, uint32_t places) {
    if (s->depth == s->limits->max_depth) {
        return malformed(s, s->at, "too deep");
    }
    struct frame *f = &s->frames[s->depth++];
    *f = (struct frame){.array = array, .places = places};
    if (!array) {
        f->object = s->objects++;
    } else if (places != 0) {
        /* All elements belong to the same places. */
        f->places = narrow(s, places, NULL);
    }
    s->at++;
    return true;
}

static bool scan_word(struct scanner *s, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(s->end - s->at) < len || memcmp(s->at, word, len) != 0) {
        return malformed(s, s->at, "a value is wanted");
    }
    s->at += len;
    return true;
}

/* One value that belongs to `places`; of a container only its beginning. *ret_opened tells whether it was one. */
static bool scan_value(struct scanner *s, uint32_t places, bool *ret_opened) {
    struct slice text;
    bool escaped;
    bool vector_place = places != 0 && ends_here(s, places);
    *ret_opened = false;
    if (!count_token(s)) {
        return false;
    }
    if (s->at == s->end) {
        return unexpected(s, "");
    }
    switch (*s->at) {
    case '"':
        return scan_string(s, &text, &escaped);
    case '{':
        *ret_opened = true;
        return open_container(s, false, places);
    case '[':
        if (vector_place) {
            return scan_vector(s);
        }
        *ret_opened = true;
        return open_container(s, true, places);
    case 't':
        return scan_word(s, "true");
    case 'f':
        return scan_word(s, "false");
    case 'n':
        return scan_word(s, "null");
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        if (vector_place) {
            return status_set(s->st, STATUS_INVALID,
                              "a vector is an array of numbers or a base64 string, not a number: see byte %zu",
                              (size_t)(s->at - s->start));
        }
        return scan_plain_number(s);
    default:
        return malformed(s, s->at, "a value is wanted");
    }
}

/* Key and colon of the next member of the innermost object. *ret_places: those that its value belongs to. */
static bool scan_key(struct scanner *s, uint32_t *ret_places) {
    struct frame *f = &s->frames[s->depth - 1];
    struct slice text;
    struct slice key;
    bool escaped;
    if (s->at == s->end || *s->at != '"') {
        return unexpected(s, "a key is wanted");
    }
    if (f->members++ == s->limits->max_keys) {
        return malformed(s, s->at, "an object of too many keys");
    }
    if (!count_token(s) || !scan_string(s, &text, &escaped) || !enter_key(s, text, escaped, &key)) {
        return false;
    }
    skip_space(s);
    if (s->at == s->end || *s->at != ':') {
        return unexpected(s, "\":\" is wanted");
    }
    s->at++;
    skip_space(s);
    *ret_places = f->places == 0 ? 0 : narrow(s, f->places, &key);
    return true;
}

/* Behind a value: closes what ends here. Leaves the scanner before the next member, or at the end of the text with depth 0. */
static bool close_containers(struct scanner *s) {
    for (;;) {
        skip_space(s);
        if (s->depth == 0) {
            return s->at == s->end || malformed(s, s->at, "something follows the JSON");
        }
        bool array = s->frames[s->depth - 1].array;
        if (s->at < s->end && *s->at == ',') {
            s->at++;
            skip_space(s);
            return true;
        }
        if (s->at == s->end || *s->at != (array ? ']' : '}')) {
            return unexpected(s, array ? "\",\" or \"]\" is wanted" : "\",\" or \"}\" is wanted");
        }
        s->at++;
        s->depth--;
    }
}

/* Behind an opening bracket: true when the container is empty; its closing bracket is left to close_containers. */
static bool empty_container(struct scanner *s) {
    skip_space(s);
    return s->at < s->end && *s->at == (s->frames[s->depth - 1].array ? ']' : '}');
}

static bool scan_all(struct scanner *s) {
    uint32_t places = all_places(s);
    bool opened;
    skip_space(s);
    for (;;) {
        if (!scan_value(s, places, &opened)) {
            return false;
        }
        if (!opened || empty_container(s)) {
            if (!close_containers(s)) {
                return false;
            }
            if (s->depth == 0) {
                return true;
            }
        }
        places = s->frames[s->depth - 1].places;
        if (!s->frames[s->depth - 1].array && !scan_key(s, &places)) {
            return false;
        }
    }
}

/* --- the pass ---------------------------------------------------------------------------------------------------------- */

static bool check_utf8(struct scanner *s, struct slice body) {
    if (utf8_valid(body)) {
        return true;
    }
    size_t at = 0;
    size_t before = 0;
    while (at < body.len) {
        before = at;
        (void)utf8_next(body, &at);
        if (at - before == 1 && body.data[before] >= 0x80) {
            break;
        }
    }
    return malformed(s, s->start + before, "no UTF-8");
}

bool json_scan_body(struct slice body, const struct json_limits *limits, const char *const *vector_places, struct json_scan *out,
                    struct status *st) {
    if (body.len > INT_MAX - 1) {
        return status_set(st, STATUS_TOO_LARGE, "the body is larger than 2 GB");
    }
    const char *text = body.len == 0 ? "" : (const char *)body.data;
    struct scanner s = {
        .start = text, .at = text, .copied = text, .end = text + body.len, .limits = limits, .out = out, .st = st};
    bool ok = false;
    (void)pthread_once(&key_seed_once, make_key_seed);
    s.frames = (struct frame *)calloc((size_t)limits->max_depth + 1, sizeof *s.frames);
    if (s.frames == NULL) {
        (void)status_no_memory(st);
        goto out;
    }
    if (!cut_places(&s, vector_places) || !check_utf8(&s, body) || !scan_all(&s)) {
        goto out;
    }
    buf_put(&out->edited, s.copied, (size_t)(s.end - s.copied));
    buf_put_u8(&out->edited, '\0');
    ok = buf_check(&out->edited, st);
out:
    free(s.frames);
    free(s.keys.slots);
    buf_fini(&s.keys.decoded);
    return ok;
}

void json_scan_fini(struct json_scan *out) {
    buf_fini(&out->edited);
    buf_fini(&out->floats);
    buf_fini(&out->vectors);
}
