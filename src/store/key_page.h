/*
 * key_page.h - the API keys as workers see them: a memory file that the supervisor writes and workers can only read.
 *
 * Keys do not stand in the control segment, because workers can write there: one that was broken into would write itself a key that all others accept. This
 * file is sealed (F_SEAL_FUTURE_WRITE) as soon as the supervisor has mapped it: from then on the kernel refuses every other map and call that would write,
 * whoever holds the descriptor. Size and seals are for ever.
 *
 * There are two copies of the table, and a number that says which holds: the copy number % 2. The supervisor fills the other one and counts the number up.
 * A reader that finds another number behind its look than before it looks again; so nobody waits for anybody, whoever dies where.
 *
 * Looking for a key takes the same steps whatever is looked for and whatever is there (key_page_find).
 */
#ifndef QUIRE_STORE_KEY_PAGE_H
#define QUIRE_STORE_KEY_PAGE_H

#include "store/op.h"

#define KEYS_MOST 1024 /* max_keys, at most */

/* A key, without what would open anything. */
struct key_entry {
    struct uuid id;
    int64_t created_at;
    int64_t expires_at;   /* 0: never */
    int64_t last_used_at; /* as of the last publication; 0: not known */
    uint8_t scopes;       /* enum key_scope; 0: there is no key here */
    bool all;
    uint16_t name_bytes;
    uint32_t library_count;
    char name[KEY_NAME_MAX + 1];
    struct uuid libraries[KEY_LIBRARIES_MAX]; /* ascending */
};

struct key_copy {
    uint64_t slots; /* of digest and entry that are looked at: all that can be in use under max_keys, or are */
    uint8_t digest[KEYS_MOST][KEY_DIGEST_BYTES];
    struct key_entry entry[KEYS_MOST];
};

struct key_page {
    uint64_t magic;
    uint64_t number; /* written by: the committer (release); read by: workers (acquire). pairs with: KEY_PAGE */
    struct key_copy copy[2];
};

/* The supervisor's: the descriptor for workers, and the only map that can be written. */
MUST_CHECK bool key_page_create(int *ret_fd, struct key_page **ret, struct status *st);
/* A worker's. STATUS_CORRUPT when the descriptor is none of these. */
MUST_CHECK bool key_page_map(int fd, const struct key_page **ret, struct status *st);
void key_page_unmap(const struct key_page *p); /* takes NULL */

/* The copy to fill in, which nobody reads; then it is the one that holds. One thread. */
struct key_copy *key_page_begin(struct key_page *p);
void key_page_publish(struct key_page *p);

/* The key whose digest that is, expired or not. *ret_slot: its place. *ret_steps (may be NULL): comparisons made, which are as many as there are slots. */
bool key_page_find(const struct key_page *p, const uint8_t digest[KEY_DIGEST_BYTES], struct key_entry *ret, uint32_t *ret_slot, uint64_t *ret_steps);
/* The key in a slot; false: there is none. */
bool key_page_entry(const struct key_page *p, uint32_t slot, struct key_entry *ret);
uint32_t key_page_slots(const struct key_page *p);

/* Expired ones open nothing. */
static inline bool key_entry_expired(const struct key_entry *e, int64_t now_us) {
    return e->expires_at != 0 && e->expires_at <= now_us;
}
bool key_entry_reaches(const struct key_entry *e, const struct uuid *library);

/* When a key was last used stands in the control segment, a word a slot (written by: workers, relaxed; for display only): the last four bytes of the key's
 * id, so that a slot's next key does not inherit it, and the minute. It is written where the minute is another: no write per request. */
void key_use_note(uint64_t *word, const struct uuid *key, int64_t now_us);
int64_t key_use_read(const uint64_t *word, const struct uuid *key); /* 0: not since the server started */

#endif
