/* language.c - the languages of libstemmer, under its names and the codes of ISO 639-1, -2 and -3. */
#include "text/language.h"

struct language {
    const char *name;
    const char *codes; /* each between spaces */
};

/* Ascending by name. */
static const struct language languages[] = {
    {"arabic", " ar ara "},
    {"armenian", " hy hye arm "},
    {"basque", " eu eus baq "},
    {"catalan", " ca cat "},
    {"danish", " da dan "},
    {"dutch", " nl nld dut "},
    {"english", " en eng "},
    {"finnish", " fi fin "},
    {"french", " fr fra fre "},
    {"german", " de deu ger "},
    {"greek", " el ell gre "},
    {"hindi", " hi hin "},
    {"hungarian", " hu hun "},
    {"indonesian", " id ind "},
    {"irish", " ga gle "},
    {"italian", " it ita "},
    {"lithuanian", " lt lit "},
    {"nepali", " ne nep "},
    {"none", " "},
    {"norwegian", " no nor nb nob nn nno "},
    {"portuguese", " pt por "},
    {"romanian", " ro ron rum "},
    {"russian", " ru rus "},
    {"serbian", " sr srp "},
    {"spanish", " es spa "},
    {"swedish", " sv swe "},
    {"tamil", " ta tam "},
    {"turkish", " tr tur "},
    {"yiddish", " yi yid "},
};

enum { LANGUAGES = sizeof languages / sizeof *languages, NAME_BYTES_MAX = 16 };

const char *const *language_names(void) {
    static const char *const names[LANGUAGES + 1] = {
        "arabic",     "armenian", "basque", "catalan",   "danish",     "dutch",      "english", "finnish",
        "french",     "german",   "greek",  "hindi",     "hungarian",  "indonesian", "irish",   "italian",
        "lithuanian", "nepali",   "none",   "norwegian", "portuguese", "romanian",   "russian", "serbian",
        "spanish",    "swedish",  "tamil",  "turkish",   "yiddish",    NULL,
    };
    return names;
}

const char *language_canonical(struct slice name) {
    char lower[NAME_BYTES_MAX + 3] = " ";
    if (name.len == 0 || name.len > NAME_BYTES_MAX) {
        return NULL;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        if (c >= 'A' && c <= 'Z') {
            c = (uint8_t)(c - 'A' + 'a');
        }
        if (c < 'a' || c > 'z') {
            return NULL;
        }
        lower[i + 1] = (char)c;
    }
    lower[name.len + 1] = ' ';
    for (size_t i = 0; i < LANGUAGES; i++) {
        if (slice_equal(slice_str(languages[i].name), slice_of(lower + 1, name.len)) ||
            strstr(languages[i].codes, lower) != NULL) {
            return languages[i].name;
        }
    }
    return NULL;
}
