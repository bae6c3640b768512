/* fuzz_s3.c - what a storage answers, and backup.conf: XML, names of objects, encrypted files, settings. The first byte says which. */
#include "fuzz.h"

#include "durable/backup_state.h"
#include "s3/frame.h"
#include "s3/names.h"
#include "s3/xml.h"

#include <string.h>

enum { KINDS = 5, FILE_MAX = 300 };

static bool look(const struct xml_item *item, void *ctx, struct status *st) {
    size_t *depth = (size_t *)ctx;
    (void)st;
    FUZZ_CHECK(strlen(item->path) > 0 && strlen(item->text) < XML_TEXT_MAX);
    *depth += item->end ? (size_t)-1 : 1;
    return true;
}

static void check_xml(struct slice input) {
    struct status st = {0};
    size_t depth = 0;
    if (xml_read(input, look, &depth, &st)) {
        FUZZ_CHECK(depth == 0);
    } else {
        FUZZ_CHECK(st.code == STATUS_MALFORMED);
    }
}

/* A name that is taken has one form. */
static void check_name(struct slice input) {
    char name[2 * S3_NAME_MAX] = "";
    char again[S3_NAME_MAX];
    struct s3_object o;
    if (input.len > 0 && input.len < sizeof name) {
        memcpy(name, input.data, input.len);
    }
    if (s3_object_parse(name, &o)) {
        s3_object_name(&o, again);
        FUZZ_CHECK(strcmp(again, name) == 0);
        FUZZ_CHECK(strchr(o.file, '/') == NULL && o.file[0] != '.' && strchr(o.base, '/') == NULL);
    }
}

/* Nothing that was not sealed opens; an input is a file and what is done to it when it is sealed. */
static void check_frame(struct slice input) {
    static const uint8_t key[S3_KEY_BYTES] = {7};
    struct frame *f = NULL;
    struct status st = {0};
    struct buf sealed = {0};
    struct buf out = {0};
    if (input.len < 3) {
        return;
    }
    size_t at = input.data[0] | (size_t)input.data[1] << 8;
    struct slice file = slice_of(input.data + 3, input.len - 3 < FILE_MAX ? input.len - 3 : FILE_MAX);
    FUZZ_CHECK(frame_new(key, "name", file.len, &f, &st) && frame_seal(f, file, &sealed, &st));
    frame_free(f);
    sealed.data[at % sealed.len] ^= input.data[2];
    FUZZ_CHECK(frame_new(key, "name", file.len, &f, &st));
    bool ok = frame_open(f, buf_slice(&sealed), &out, &st) && frame_opened(f, &st);
    FUZZ_CHECK(ok == (input.data[2] == 0));
    FUZZ_CHECK(!ok || slice_equal(buf_slice(&out), file));
    frame_free(f);
    /* And as it came. */
    buf_reset(&out);
    FUZZ_CHECK(frame_new(key, "name", file.len, &f, &st));
    (void)!frame_open(f, file, &out, &st);
    FUZZ_CHECK(out.len == 0);
    frame_free(f);
    buf_fini(&sealed);
    buf_fini(&out);
}

static void check_settings(struct slice input) {
    struct s3_settings s;
    struct status st = {0};
    struct s3_place place;
    char url[S3_TEXT_MAX] = "";
    s3_settings_default(&s);
    if (s3_settings_read(&s, "backup.conf", input, &st)) {
        (void)!s3_settings_check(&s, &st);
    } else {
        FUZZ_CHECK(st.code == STATUS_CONFIG);
    }
    if (input.len > 0 && input.len < sizeof url) {
        memcpy(url, input.data, input.len);
    }
    if (s3_place_parse(url, &place, &st)) {
        FUZZ_CHECK(strstr(place.prefix, "..") == NULL || strstr(place.prefix, "/../") == NULL);
    }
}

static void check_state(struct slice input) {
    struct backup_state s;
    struct backup_state again;
    char text[BACKUP_STATE_MAX];
    if (backup_state_parse(input, &s)) {
        backup_state_format(&s, text);
        FUZZ_CHECK(backup_state_parse(slice_str(text), &again) && memcmp(&s, &again, sizeof s) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const checks[KINDS])(struct slice) = {check_xml, check_name, check_frame, check_settings, check_state};
    if (size > 0) {
        checks[data[0] % KINDS](slice_of(data + 1, size - 1));
    }
    return 0;
}
