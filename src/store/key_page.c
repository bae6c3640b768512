/*
 * key_page.c - see key_page.h.
 *
 * Why a look-up tells nothing by its time. A client sends a secret, the worker looks for its SHA-256. Comparing digests with an ordinary memcmp would tell, in
 * nanoseconds, how many leading bytes agree; to make use of that one would have to choose digests, which is to invert SHA-256, but nothing here leans on that
 * argument: every slot's whole digest is compared, with arithmetic and no branch, and the slots are as many as max_keys allows, not as many as are in use. So
 * neither what was sent, nor which key it is, nor how many there are changes the steps. The tests count them.
 */
#include "store/key_page.h"

#include "base/io.h"
#include "shm/atomics.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#define KEY_PAGE_MAGIC 0x31454759454b5551ULL /* "QUKEYGE1" */

enum { US_PER_MINUTE = 60000000, TAG_AT = UUID_BYTES - 4, DIGEST_WORDS = KEY_DIGEST_BYTES / 8 };

/* F_SEAL_FUTURE_WRITE since Linux 5.1; older headers do not name it. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
static const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

static bool seal(int fd, struct status *st) {
    return fcntl(fd, F_ADD_SEALS, seals) == 0 || status_set_errno(st, errno, "cannot seal the page of keys");
}

bool key_page_create(int *ret_fd, struct key_page **ret, struct status *st) {
    int fd = memfd_create("quire-keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return status_set_errno(st, errno, "cannot make the page of keys");
    }
    if (!io_truncate(fd, (off_t)sizeof(struct key_page), "the page of keys", st) ||
        !io_allocate(fd, 0, (off_t)sizeof(struct key_page), "the page of keys", st)) {
        io_close(&fd);
        return false;
    }
    void *at = mmap(NULL, sizeof(struct key_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        int err = errno;
        io_close(&fd);
        return status_set_errno(st, err, "cannot map the page of keys");
    }
    if (!seal(fd, st)) {
        (void)munmap(at, sizeof(struct key_page));
        io_close(&fd);
        return false;
    }
    struct key_page *p = (struct key_page *)at;
    p->magic = KEY_PAGE_MAGIC;
    *ret_fd = fd;
    *ret = p;
    return true;
}

bool key_page_map(int fd, const struct key_page **ret, struct status *st) {
    off_t size = 0;
    int have = fcntl(fd, F_GET_SEALS);
    if (have < 0 || (have & seals) != seals) {
        return status_set(st, STATUS_CORRUPT, "the inherited descriptor is no sealed page of keys");
    }
    if (!io_size(fd, &size, st)) {
        return false;
    }
    if (size != (off_t)sizeof(struct key_page)) {
        return status_set(st, STATUS_CORRUPT, "the inherited page of keys is another program's");
    }
    void *at = mmap(NULL, sizeof(struct key_page), PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return status_set_errno(st, errno, "cannot map the page of keys");
    }
    const struct key_page *p = (const struct key_page *)at;
    if (p->magic != KEY_PAGE_MAGIC) {
        key_page_unmap(p);
        return status_set(st, STATUS_CORRUPT, "the inherited page of keys does not begin as one");
    }
    *ret = p;
    return true;
}

void key_page_unmap(const struct key_page *p) {
    if (p != NULL) {
        (void)munmap((void *)(uintptr_t)p, sizeof *p);
    }
}

/* --- two copies ------------------------------------------------------------------------------------------------------- */

struct key_copy *key_page_begin(struct key_page *p) {
    uint64_t number = load_relaxed_u64(&p->number);
    /* What is stored from here on goes to a copy that readers with the number before this one may still look at: they must find the new number first. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return &p->copy[(number + 1) % 2];
}

void key_page_publish(struct key_page *p) {
    /* pairs with: KEY_PAGE; without it a worker compares with digests that are half written, and misses a key or meets a removed one */
    store_release_u64(&p->number, load_relaxed_u64(&p->number) + 1);
}

static const struct key_copy *begin_look(const struct key_page *p, uint64_t *ret_number) {
    *ret_number = load_acquire_u64(&p->number); /* pairs with: KEY_PAGE */
    return &p->copy[*ret_number % 2];
}

/* Whether what was read since begin_look is one state. */
static bool end_look(const struct key_page *p, uint64_t number) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE); /* all has been read before the number is */
    return load_relaxed_u64(&p->number) == number;
}

static uint64_t slots_of(const struct key_copy *c) {
    return c->slots < KEYS_MOST ? c->slots : KEYS_MOST;
}

/* 1 where both digests are the same, else 0; no branch. */
static uint64_t same_digest(const uint8_t *a, const uint8_t *b) {
    uint64_t differs = 0;
    for (int i = 0; i < DIGEST_WORDS; i++) {
        uint64_t x, y;
        memcpy(&x, a + 8 * i, sizeof x);
        memcpy(&y, b + 8 * i, sizeof y);
        differs |= x ^ y;
    }
    return 1 ^ ((differs | (0 - differs)) >> 63);
}

/* 1 + the slot, or 0. A slot without a key has a digest of zeros, and no scopes. */
static uint64_t look(const struct key_copy *c, const uint8_t digest[KEY_DIGEST_BYTES], uint64_t *ret_steps) {
    uint64_t slots = slots_of(c);
    uint64_t found = 0;
    uint64_t steps = 0;
    for (uint64_t i = 0; i < slots; i++) {
        found |= (i + 1) & (0 - same_digest(c->digest[i], digest));
        steps++;
    }
    *ret_steps = steps;
    return found;
}

bool key_page_find(const struct key_page *p, const uint8_t digest[KEY_DIGEST_BYTES], struct key_entry *ret, uint32_t *ret_slot, uint64_t *ret_steps) {
    struct key_entry entry;
    uint64_t number = 0;
    uint64_t found = 0;
    uint64_t steps = 0;
    do {
        const struct key_copy *c = begin_look(p, &number);
        found = look(c, digest, &steps);
        entry = c->entry[found == 0 || found > KEYS_MOST ? 0 : found - 1];
    } while (!end_look(p, number));
    if (ret_steps != NULL) {
        *ret_steps = steps;
    }
    if (found == 0 || entry.scopes == 0) {
        return false;
    }
    *ret = entry;
    *ret_slot = (uint32_t)(found - 1);
    return true;
}

bool key_page_entry(const struct key_page *p, uint32_t slot, struct key_entry *ret) {
    struct key_entry entry;
    uint64_t number = 0;
    do {
        entry = begin_look(p, &number)->entry[slot % KEYS_MOST];
    } while (!end_look(p, number));
    if (entry.scopes == 0) {
        return false;
    }
    *ret = entry;
    return true;
}

uint32_t key_page_slots(const struct key_page *p) {
    uint64_t number = 0;
    return (uint32_t)slots_of(begin_look(p, &number));
}

bool key_entry_reaches(const struct key_entry *e, const struct uuid *library) {
    unsigned reaches = e->all ? 1 : 0;
    for (uint32_t i = 0; i < e->library_count && i < KEY_LIBRARIES_MAX; i++) {
        reaches |= uuid_equal(&e->libraries[i], library) ? 1 : 0;
    }
    return reaches != 0;
}

/* --- last use --------------------------------------------------------------------------------------------------------- */

static uint32_t tag_of(const struct uuid *key) {
    uint32_t tag;
    memcpy(&tag, key->b + TAG_AT, sizeof tag);
    return tag;
}

void key_use_note(uint64_t *word, const struct uuid *key, int64_t now_us) {
    uint64_t minute = now_us > 0 ? (uint64_t)(now_us / US_PER_MINUTE) & UINT32_MAX : 0;
    uint64_t now = (uint64_t)tag_of(key) << 32 | minute;
    if (load_relaxed_u64(word) != now) {
        store_relaxed_u64(word, now);
    }
}

int64_t key_use_read(const uint64_t *word, const struct uuid *key) {
    uint64_t w = load_relaxed_u64(word);
    return w >> 32 == tag_of(key) ? (int64_t)(w & UINT32_MAX) * US_PER_MINUTE : 0;
}
