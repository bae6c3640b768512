/*
 * letters.c - the tables behind letters.h.
 *
 * Classes above ASCII are a sorted list of ranges with "word" in between, so letters of scripts that are not listed (and of
 * those that Unicode adds later) are word letters. Folding is a string of base letters for the Latin blocks, and arithmetic
 * for Greek and Cyrillic, whose capitals stand at a fixed distance from their small letters.
 *
 * The unit test holds both against the general categories and decompositions of Unicode for samples of every block.
 */
#include "embed/letters.h"

#include <stddef.h>

struct class_range {
    uint32_t first;
    uint32_t last;
    enum letter_class class;
};

/* Ascending, without overlaps. What is in no range is LETTER_WORD. */
static const struct class_range ranges[] = {
    {0x0080, 0x00a0, LETTER_SPACE},   {0x00a1, 0x00a9, LETTER_PUNCT},   {0x00ab, 0x00ac, LETTER_PUNCT},
    {0x00ad, 0x00ad, LETTER_MARK},    {0x00ae, 0x00b1, LETTER_PUNCT},   {0x00b4, 0x00b4, LETTER_PUNCT},
    {0x00b6, 0x00b8, LETTER_PUNCT},   {0x00bb, 0x00bb, LETTER_PUNCT},   {0x00bf, 0x00bf, LETTER_PUNCT},
    {0x00d7, 0x00d7, LETTER_PUNCT},   {0x00f7, 0x00f7, LETTER_PUNCT},   {0x02c2, 0x02c5, LETTER_PUNCT},
    {0x02d2, 0x02df, LETTER_PUNCT},   {0x0300, 0x036f, LETTER_MARK},    {0x0375, 0x0375, LETTER_PUNCT},
    {0x037e, 0x037e, LETTER_PUNCT},   {0x0384, 0x0385, LETTER_PUNCT},   {0x0387, 0x0387, LETTER_PUNCT},
    {0x0482, 0x0482, LETTER_PUNCT},   {0x0483, 0x0489, LETTER_MARK},    {0x055a, 0x055f, LETTER_PUNCT},
    {0x0589, 0x058f, LETTER_PUNCT},   {0x0591, 0x05bd, LETTER_MARK},    {0x05be, 0x05be, LETTER_PUNCT},
    {0x05bf, 0x05bf, LETTER_MARK},    {0x05c0, 0x05c0, LETTER_PUNCT},   {0x05c1, 0x05c2, LETTER_MARK},
    {0x05c3, 0x05c3, LETTER_PUNCT},   {0x05c4, 0x05c5, LETTER_MARK},    {0x05c6, 0x05c6, LETTER_PUNCT},
    {0x05c7, 0x05c7, LETTER_MARK},    {0x05f3, 0x05f4, LETTER_PUNCT},   {0x0600, 0x0605, LETTER_MARK},
    {0x0606, 0x060f, LETTER_PUNCT},   {0x0610, 0x061a, LETTER_MARK},    {0x061b, 0x061b, LETTER_PUNCT},
    {0x061c, 0x061c, LETTER_MARK},    {0x061d, 0x061f, LETTER_PUNCT},   {0x0640, 0x0640, LETTER_MARK},
    {0x064b, 0x065f, LETTER_MARK},    {0x066a, 0x066d, LETTER_PUNCT},   {0x0670, 0x0670, LETTER_MARK},
    {0x06d4, 0x06d4, LETTER_PUNCT},   {0x06d6, 0x06e4, LETTER_MARK},    {0x06e7, 0x06ed, LETTER_MARK},
    {0x0700, 0x070f, LETTER_PUNCT},   {0x0964, 0x0965, LETTER_PUNCT},   {0x0970, 0x0970, LETTER_PUNCT},
    {0x0e3f, 0x0e3f, LETTER_PUNCT},   {0x0e4f, 0x0e4f, LETTER_PUNCT},   {0x0e5a, 0x0e5b, LETTER_PUNCT},
    {0x0f04, 0x0f14, LETTER_PUNCT},   {0x0f3a, 0x0f3d, LETTER_PUNCT},   {0x104a, 0x104f, LETTER_PUNCT},
    {0x10fb, 0x10fb, LETTER_PUNCT},   {0x1360, 0x1368, LETTER_PUNCT},   {0x1400, 0x1400, LETTER_PUNCT},
    {0x1680, 0x1680, LETTER_SPACE},   {0x16eb, 0x16ed, LETTER_PUNCT},   {0x17d4, 0x17d6, LETTER_PUNCT},
    {0x17d8, 0x17da, LETTER_PUNCT},   {0x1800, 0x180a, LETTER_PUNCT},   {0x180b, 0x180f, LETTER_MARK},
    {0x2000, 0x200b, LETTER_SPACE},   {0x200c, 0x200f, LETTER_MARK},    {0x2010, 0x2027, LETTER_PUNCT},
    {0x2028, 0x2029, LETTER_SPACE},   {0x202a, 0x202e, LETTER_MARK},    {0x202f, 0x202f, LETTER_SPACE},
    {0x2030, 0x205e, LETTER_PUNCT},   {0x205f, 0x205f, LETTER_SPACE},   {0x2060, 0x206f, LETTER_MARK},
    {0x207a, 0x207e, LETTER_PUNCT},   {0x208a, 0x208e, LETTER_PUNCT},   {0x20a0, 0x20cf, LETTER_PUNCT},
    {0x20d0, 0x20ff, LETTER_MARK},    {0x2190, 0x245f, LETTER_PUNCT},   {0x2500, 0x25ff, LETTER_PUNCT},
    {0x2600, 0x27bf, LETTER_ALONE},   {0x27c0, 0x2bff, LETTER_PUNCT},   {0x2e00, 0x2e7f, LETTER_PUNCT},
    {0x2e80, 0x2fdf, LETTER_ALONE},   {0x2ff0, 0x2fff, LETTER_PUNCT},   {0x3000, 0x3000, LETTER_SPACE},
    {0x3001, 0x3004, LETTER_PUNCT},   {0x3005, 0x3007, LETTER_ALONE},   {0x3008, 0x3020, LETTER_PUNCT},
    {0x3021, 0x3029, LETTER_ALONE},   {0x302a, 0x302f, LETTER_MARK},    {0x3030, 0x3030, LETTER_PUNCT},
    {0x3031, 0x3035, LETTER_ALONE},   {0x3036, 0x3037, LETTER_PUNCT},   {0x3038, 0x303c, LETTER_ALONE},
    {0x303d, 0x303f, LETTER_PUNCT},   {0x3040, 0x3098, LETTER_ALONE},   {0x3099, 0x309a, LETTER_MARK},
    {0x309b, 0x309c, LETTER_PUNCT},   {0x309d, 0x309f, LETTER_ALONE},   {0x30a0, 0x30a0, LETTER_PUNCT},
    {0x30a1, 0x30fa, LETTER_ALONE},   {0x30fb, 0x30fb, LETTER_PUNCT},   {0x30fc, 0x31bf, LETTER_ALONE},
    {0x31c0, 0x31ef, LETTER_PUNCT},   {0x31f0, 0x4dbf, LETTER_ALONE},   {0x4dc0, 0x4dff, LETTER_PUNCT},
    {0x4e00, 0xa48f, LETTER_ALONE},   {0xa490, 0xa4cf, LETTER_PUNCT},   {0xa4fe, 0xa4ff, LETTER_PUNCT},
    {0xa60d, 0xa60f, LETTER_PUNCT},   {0xa66f, 0xa672, LETTER_MARK},    {0xa673, 0xa673, LETTER_PUNCT},
    {0xa674, 0xa67d, LETTER_MARK},    {0xa67e, 0xa67e, LETTER_PUNCT},   {0xac00, 0xd7a3, LETTER_ALONE},
    {0xe000, 0xf8ff, LETTER_PUNCT},   {0xf900, 0xfaff, LETTER_ALONE},   {0xfb1e, 0xfb1e, LETTER_MARK},
    {0xfd3e, 0xfd3f, LETTER_PUNCT},   {0xfe00, 0xfe0f, LETTER_MARK},    {0xfe10, 0xfe1f, LETTER_PUNCT},
    {0xfe20, 0xfe2f, LETTER_MARK},    {0xfe30, 0xfe6f, LETTER_PUNCT},   {0xfeff, 0xfeff, LETTER_MARK},
    {0xff00, 0xff0f, LETTER_PUNCT},   {0xff1a, 0xff20, LETTER_PUNCT},   {0xff3b, 0xff40, LETTER_PUNCT},
    {0xff5b, 0xff65, LETTER_PUNCT},   {0xff66, 0xffdc, LETTER_ALONE},   {0xffe0, 0xffff, LETTER_PUNCT},
    {0x1d000, 0x1d1ff, LETTER_PUNCT}, {0x1f000, 0x1f3fa, LETTER_ALONE}, {0x1f3fb, 0x1f3ff, LETTER_MARK},
    {0x1f400, 0x1faff, LETTER_ALONE}, {0x20000, 0x3ffff, LETTER_ALONE}, {0xe0000, 0xe0fff, LETTER_MARK},
    {0xf0000, 0x10ffff, LETTER_PUNCT}};

static enum letter_class ascii_class(uint32_t c) {
    if (c <= ' ' || c == 0x7f) {
        return LETTER_SPACE;
    }
    uint32_t lower = c | 0x20;
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') ? LETTER_WORD : LETTER_PUNCT;
}

enum letter_class letter_class_of(uint32_t code_point) {
    if (code_point < 0x80) {
        return ascii_class(code_point);
    }
    size_t low = 0;
    size_t high = sizeof ranges / sizeof ranges[0];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (code_point > ranges[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < sizeof ranges / sizeof ranges[0] && code_point >= ranges[low].first) {
        return ranges[low].class;
    }
    return LETTER_WORD;
}

/* A small letter is the base letter of the code point at its place, '?' says that there is none, a capital stands for a pair. */
static const char latin[] = /* U+00C0 to U+024F */
    "aaaaaaAceeeeiiiidnooooo?ouuuuyTSaaaaaaAceeeeiiiidnooooo?ouuuuyTy"
    "aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiiiIIjjkkklllllll"
    "lllnnnnnnnnnooooooOOrrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs"
    "b????????????????ff???????l?????oo?????????????uu????zz?????????"
    "????DDDLLLJJJaaiioouuuuuuuuuu?aaaaAAggggkkoooo??jDDDgg??nnaaAAoo"
    "aaaaeeeeiiiioooorrrruuuusstt??hh?d??zzaaeeooooooooyyln?j???ccl??"
    "???b??eejj??rryy";
static const char latin_additional[] = /* U+1E00 to U+1EF9 */
    "aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm"
    "mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv"
    "wwwwwwwwwwxxxxyyzzzzzzhtwyasssS?aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee"
    "eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy";

/* Greek letters by their distance from alpha: 'a' is U+03B1, 'y' is omega. Final sigma becomes sigma. */
static const char greek[] = /* U+0370 to U+03FF */
    "??????????????????????a?egi?o?uyiabcdefghijklmnopq?stuvwxyiuaegi"
    "uabcdefghijklmnopqsstuvwxyiuouy?bhuuuvp?????????????????????????"
    "jqs?he???s??????";
static const char greek_extended[] = /* U+1F00 to U+1FFF */
    "aaaaaaaaaaaaaaaaeeeeee??eeeeee??ggggggggggggggggiiiiiiiiiiiiiiii"
    "oooooo??oooooo??uuuuuuuu?u?u?u?uyyyyyyyyyyyyyyyyaaeeggiioouuyy??"
    "aaaaaaaaaaaaaaaaggggggggggggggggyyyyyyyyyyyyyyyyaaaaa?aaaaaaa?i?"
    "??ggg?ggeeggg???iiii??iiiiii????uuuuqquuuuuuq?????yyy?yyooyyy???";

/* Small Cyrillic letters with an accent, and their base letters. Ascending. */
static const uint16_t cyrillic_accents[][2] = {
    {0x439, 0x438}, {0x450, 0x435}, {0x451, 0x435}, {0x453, 0x433}, {0x457, 0x456}, {0x45c, 0x43a}, {0x45d, 0x438},
    {0x45e, 0x443}, {0x477, 0x475}, {0x4c2, 0x436}, {0x4d1, 0x430}, {0x4d3, 0x430}, {0x4d7, 0x435}, {0x4db, 0x4d9},
    {0x4dd, 0x436}, {0x4df, 0x437}, {0x4e3, 0x438}, {0x4e5, 0x438}, {0x4e7, 0x43e}, {0x4eb, 0x4e9}, {0x4ed, 0x44d},
    {0x4ef, 0x443}, {0x4f1, 0x443}, {0x4f3, 0x443}, {0x4f5, 0x447}, {0x4f9, 0x44b}};

static unsigned fold_one(uint32_t letter, uint32_t out[LETTER_FOLD_MAX]) {
    out[0] = letter;
    return 1;
}

static unsigned fold_latin(uint32_t code_point, char entry, uint32_t out[LETTER_FOLD_MAX]) {
    static const char pairs[][3] = {"Aae", "Ddz", "Iij", "Jnj", "Llj", "Ooe", "Sss", "Tth"};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (pairs[i][0] == entry) {
            out[0] = (uint32_t)pairs[i][1];
            out[1] = (uint32_t)pairs[i][2];
            return 2;
        }
    }
    return fold_one(entry == '?' ? code_point : (uint32_t)entry, out);
}

static unsigned fold_greek(uint32_t code_point, char entry, uint32_t out[LETTER_FOLD_MAX]) {
    return fold_one(entry == '?' ? code_point : 0x3b1 + (uint32_t)(entry - 'a'), out);
}

static uint32_t cyrillic_small(uint32_t c) {
    if (c <= 0x40f) {
        return c + 0x50;
    }
    if (c <= 0x42f) {
        return c + 0x20;
    }
    if (c <= 0x45f || (c >= 0x482 && c <= 0x489) || c == 0x4c0) {
        return c;
    }
    /* Pairs of capital and small: on even and odd places, but for U+04C1 to U+04CE. */
    return c >= 0x4c1 && c <= 0x4ce ? c + (c & 1) : c | 1;
}

static unsigned fold_cyrillic(uint32_t code_point, uint32_t out[LETTER_FOLD_MAX]) {
    uint32_t small = cyrillic_small(code_point);
    for (size_t i = 0; i < sizeof cyrillic_accents / sizeof cyrillic_accents[0] && cyrillic_accents[i][0] <= small; i++) {
        if (cyrillic_accents[i][0] == small) {
            return fold_one(cyrillic_accents[i][1], out);
        }
    }
    return fold_one(small, out);
}

/* U+FB00 to U+FB06: ff fi fl ffi ffl st st. */
static unsigned fold_ligature(uint32_t code_point, uint32_t out[LETTER_FOLD_MAX]) {
    static const char letters[][4] = {"ff", "fi", "fl", "ffi", "ffl", "st", "st"};
    const char *text = letters[code_point - 0xfb00];
    unsigned count = 0;
    for (; text[count] != '\0'; count++) {
        out[count] = (uint32_t)text[count];
    }
    return count;
}

/* Superscripts, the micro sign, and capitals of African and Turkic alphabets whose small letters stand elsewhere. Ascending. */
static const uint16_t singles[][2] = {{0xaa, 'a'},    {0xb2, '2'},    {0xb3, '3'},    {0xb5, 0x3bc},
                                      {0xb9, '1'},    {0xba, 'o'},    {0x181, 0x253}, {0x186, 0x254},
                                      {0x189, 0x256}, {0x18a, 0x257}, {0x18f, 0x259}, {0x190, 0x25b},
                                      {0x194, 0x263}, {0x198, 0x199}, {0x19d, 0x272}, {0x1b3, 0x1b4}};

static unsigned fold_rare(uint32_t c, uint32_t out[LETTER_FOLD_MAX]) {
    if (c >= 0x531 && c <= 0x556) { /* Armenian */
        return fold_one(c + 0x30, out);
    }
    if (c >= 0xfb00 && c <= 0xfb06) {
        return fold_ligature(c, out);
    }
    if (c >= 0xff10 && c <= 0xff5a) { /* full-width ASCII */
        return letter_fold(c - 0xff10 + '0', out);
    }
    for (size_t i = 0; i < sizeof singles / sizeof singles[0] && singles[i][0] <= c; i++) {
        if (singles[i][0] == c) {
            return fold_one(singles[i][1], out);
        }
    }
    return fold_one(c, out);
}

unsigned letter_fold(uint32_t code_point, uint32_t out[LETTER_FOLD_MAX]) {
    uint32_t c = code_point;
    if (c < 0x80) {
        return fold_one(c >= 'A' && c <= 'Z' ? c + 0x20 : c, out);
    }
    if (c >= 0xc0 && c <= 0x24f && latin[c - 0xc0] != '?') {
        return fold_latin(c, latin[c - 0xc0], out);
    }
    if (c >= 0x1e00 && c <= 0x1ef9) {
        return fold_latin(c, latin_additional[c - 0x1e00], out);
    }
    if (c >= 0x370 && c <= 0x3ff) {
        return fold_greek(c, greek[c - 0x370], out);
    }
    if (c >= 0x400 && c <= 0x52f) {
        return fold_cyrillic(c, out);
    }
    if (c >= 0x1f00 && c <= 0x1fff) {
        return fold_greek(c, greek_extended[c - 0x1f00], out);
    }
    return fold_rare(c, out);
}
