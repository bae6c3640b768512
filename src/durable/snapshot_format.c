/* snapshot_format.c - names and words of snapshots. */
#include "durable/snapshot_format.h"

#include "base/bytes.h"

#include <stdio.h>

#define LIBRARIES "libraries/"

const struct json_limits snapshot_json_limits = {
    .max_depth = 544, /* custom metadata of the most that json_max_depth can be, and what stands around it */
    .max_tokens =
        32000000, /* eight for each of the most that json_max_tokens can be: a line says more of a chunk than a request */
    .max_vector_length = EMBED_MAX_DIMENSION,
    .max_keys = 1000000,
};

void snapshot_library_entry(const struct uuid *id, char out[SNAPSHOT_ENTRY_MAX]) {
    char text[UUID_TEXT + 1];
    uuid_format(id, text);
    (void)snprintf(out, SNAPSHOT_ENTRY_MAX, LIBRARIES "%s/library.json", text);
}

void snapshot_documents_entry(const struct uuid *id, uint32_t number, char out[SNAPSHOT_ENTRY_MAX]) {
    char text[UUID_TEXT + 1];
    uuid_format(id, text);
    (void)snprintf(out, SNAPSHOT_ENTRY_MAX, LIBRARIES "%s/documents-%06u.jsonl", text, number);
}

/* "documents-000001.jsonl" */
static bool documents_number(const char *name, uint32_t *ret) {
    static const char form[] = "documents-NNNNNN.jsonl";
    enum { AT_NUMBER = 10, DIGITS = 6 };
    if (strlen(name) != sizeof form - 1 || strncmp(name, form, AT_NUMBER) != 0 ||
        strcmp(name + AT_NUMBER + DIGITS, form + AT_NUMBER + DIGITS) != 0) {
        return false;
    }
    uint32_t number = 0;
    for (const char *c = name + AT_NUMBER; c < name + AT_NUMBER + DIGITS; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        number = number * 10 + (uint32_t)(*c - '0');
    }
    *ret = number;
    return number != 0;
}

void snapshot_entry_parse(const char *name, struct snapshot_entry_name *ret) {
    *ret = (struct snapshot_entry_name){.kind = ENTRY_UNKNOWN};
    if (strcmp(name, SNAPSHOT_MANIFEST) == 0) {
        ret->kind = ENTRY_MANIFEST;
    } else if (strcmp(name, SNAPSHOT_SUMS) == 0) {
        ret->kind = ENTRY_SUMS;
    } else if (strcmp(name, SNAPSHOT_KEYS) == 0) {
        ret->kind = ENTRY_KEYS;
    } else if (strcmp(name, SNAPSHOT_API_KEYS) == 0) {
        ret->kind = ENTRY_API_KEYS;
    } else if (strcmp(name, "") == 0 || strcmp(name, ".") == 0 || strcmp(name, LIBRARIES) == 0) {
        ret->kind = ENTRY_DIRECTORY;
    } else if (strncmp(name, LIBRARIES, sizeof LIBRARIES - 1) == 0) {
        const char *id = name + sizeof LIBRARIES - 1;
        if (strlen(id) <= UUID_TEXT || id[UUID_TEXT] != '/' || !uuid_parse(slice_of(id, UUID_TEXT), &ret->library)) {
            return;
        }
        const char *file = id + UUID_TEXT + 1;
        if (*file == '\0') {
            ret->kind = ENTRY_DIRECTORY;
        } else if (strcmp(file, "library.json") == 0) {
            ret->kind = ENTRY_LIBRARY;
        } else if (documents_number(file, &ret->number)) {
            ret->kind = ENTRY_DOCUMENTS;
        }
    }
}

static const char *const suffixes[] = {[SNAPSHOT_PLAIN] = ".tar", [SNAPSHOT_GZIP] = ".tar.gz", [SNAPSHOT_ZSTD] = ".tar.zst", [SNAPSHOT_XZ] = ".tar.xz"};

const char *snapshot_suffix(enum snapshot_compression compression) {
    return suffixes[compression];
}

static bool is_suffix(const char *text) {
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (strcmp(text, suffixes[i]) == 0) {
            return true;
        }
    }
    return false;
}

bool snapshot_name_valid(const char *name) {
    static const char form[] = "snapshot_DDDDDDDD_DDDDDD";
    for (size_t i = 0; i < sizeof form - 1; i++) {
        bool digit = name[i] >= '0' && name[i] <= '9';
        if (form[i] == 'D' ? !digit : name[i] != form[i]) {
            return false; /* so is the end of a shorter one */
        }
    }
    return is_suffix(name + sizeof form - 1);
}

/* The digits as a number, then which suffix. */
enum { AT_DATE = 9, AT_SUFFIX = 24, PACKED_BYTES = 8 };

void snapshot_name_pack(const char *name, struct uuid *ret) {
    uint64_t number = 0;
    *ret = (struct uuid){{0}};
    for (size_t i = AT_DATE; i < AT_SUFFIX; i++) {
        number = name[i] == '_' ? number : number * 10 + (uint64_t)(name[i] - '0');
    }
    store_u64le(ret->b, number);
    for (uint8_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        ret->b[PACKED_BYTES] = strcmp(name + AT_SUFFIX, suffixes[i]) == 0 ? i : ret->b[PACKED_BYTES];
    }
}

bool snapshot_name_unpack(const struct uuid *packed, char out[SNAPSHOT_NAME_MAX]) {
    const uint64_t per_day = 1000000;
    const uint64_t most = 100000000 * per_day;
    uint64_t number = load_u64le(packed->b);
    uint8_t suffix = packed->b[PACKED_BYTES];
    if (number >= most || suffix >= sizeof suffixes / sizeof suffixes[0]) {
        return false;
    }
    (void)snprintf(out, SNAPSHOT_NAME_MAX, "snapshot_%08u_%06u%s", (unsigned)(number / per_day), (unsigned)(number % per_day), suffixes[suffix]);
    return true;
}

static const char *const index_words[] = {[INDEX_HNSW] = "hnsw", [INDEX_FLAT] = "flat"};
static const char *const quantization_words[] = {
    [QUANTIZATION_NONE] = "none", [QUANTIZATION_SCALAR] = "scalar", [QUANTIZATION_HYBRID] = "hybrid"};
static const char *const failure_words[] = {[ON_FAILURE_PENDING] = "pending", [ON_FAILURE_REJECT] = "reject"};
static const char *const exchange_words[] = {
    [EXCHANGE_BUILDING] = "building", [EXCHANGE_KEPT] = "kept", [EXCHANGE_RETURNING] = "returning"};

static const char *word_of(const char *const *words, uint32_t count, uint32_t number) {
    return number < count ? words[number] : NULL;
}

static bool number_of(const char *const *words, uint32_t count, struct slice word, uint32_t *ret) {
    for (uint32_t i = 0; i < count; i++) {
        if (words[i] != NULL && slice_is(word, words[i])) {
            *ret = i;
            return true;
        }
    }
    return false;
}

enum {
    INDEX_WORDS = sizeof index_words / sizeof index_words[0],
    QUANTIZATION_WORDS = sizeof quantization_words / sizeof quantization_words[0],
    FAILURE_WORDS = sizeof failure_words / sizeof failure_words[0],
    EXCHANGE_WORDS = sizeof exchange_words / sizeof exchange_words[0]
};

const char *snapshot_index_word(uint32_t type) {
    return word_of(index_words, INDEX_WORDS, type);
}

bool snapshot_index_type(struct slice word, uint32_t *ret) {
    return number_of(index_words, INDEX_WORDS, word, ret);
}

const char *snapshot_quantization_word(uint32_t strategy) {
    return word_of(quantization_words, QUANTIZATION_WORDS, strategy);
}

bool snapshot_quantization_strategy(struct slice word, uint32_t *ret) {
    return number_of(quantization_words, QUANTIZATION_WORDS, word, ret);
}

const char *snapshot_failure_word(uint32_t on_failure) {
    return word_of(failure_words, FAILURE_WORDS, on_failure);
}

bool snapshot_failure_action(struct slice word, uint32_t *ret) {
    return number_of(failure_words, FAILURE_WORDS, word, ret);
}

const char *snapshot_exchange_word(uint32_t state) {
    return word_of(exchange_words, EXCHANGE_WORDS, state);
}

bool snapshot_exchange_state(struct slice word, uint32_t *ret) {
    return number_of(exchange_words, EXCHANGE_WORDS, word, ret);
}
