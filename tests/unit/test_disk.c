/* test_disk.c - the model of a disk (disk.h) is what its essay says: what is synced is always there, what is not is there or not, in every mixture. */
#include "disk.h"
#include "durable_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PAGE = 4096, SECTOR = 512, SEEDS = 400 };

struct bench {
    struct scratch work;
    struct scratch state;
    struct disk *disk;
};

static int set_up(void **state) {
    struct bench *b = (struct bench *)malloc(sizeof *b);
    scratch_make(&b->work);
    scratch_make(&b->state);
    b->disk = NULL;
    *state = b;
    return 0;
}

static int tear_down(void **state) {
    struct bench *b = (struct bench *)*state;
    disk_free(b->disk);
    scratch_remove(&b->work);
    scratch_remove(&b->state);
    free(b);
    return 0;
}

static void begin(struct bench *b) {
    b->disk = disk_new(b->work.fd);
    disk_start(b->disk);
}

/* The state is made in a directory that was emptied before. */
static struct disk_state make(struct bench *b, size_t moment, uint64_t seed) {
    struct disk_state s;
    scratch_remove(&b->state);
    scratch_make(&b->state);
    disk_make(b->disk, moment, seed, b->state.fd, &s);
    return s;
}

static int make_file(int dir_fd, const char *name) {
    struct status st;
    int fd = -1;
    assert_true(io_open_at(dir_fd, name, O_RDWR | O_CREAT, 0600, &fd, &st));
    return fd;
}

static void write_page(int fd, uint64_t number, char letter) {
    char page[PAGE];
    struct status st;
    memset(page, letter, sizeof page);
    assert_true(io_pwrite_full(fd, page, sizeof page, (off_t)(number * PAGE), &st));
}

/* The letter that fills a whole page of a state's file; '?': several; '-': no such page. */
static char letter_of(struct bench *b, const char *name, uint64_t number) {
    struct buf content = {0};
    char found = '-';
    if (file_exists(b->state.fd, name)) {
        file_read(b->state.fd, name, &content);
    }
    for (size_t i = (size_t)number * PAGE; i < content.len && i < (size_t)(number + 1) * PAGE; i++) {
        char letter = content.data[i] == 0 ? '0' : (char)content.data[i];
        found = found == '-' || found == letter ? letter : '?';
    }
    buf_fini(&content);
    return found;
}

static void nothing_synced_is_ever_missing(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    begin(b);
    int fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'a');
    write_page(fd, 1, 'b');
    assert_true(io_fsync(fd, "file", &st) && io_fsync(b->work.fd, ".", &st));
    write_page(fd, 0, 'c');
    assert_true(io_fdatasync(fd, "file", &st));
    io_close(&fd);
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        assert_int_equal(letter_of(b, "file", 0), 'c');
        assert_int_equal(letter_of(b, "file", 1), 'b');
    }
}

/* Each page is old or new or torn, whatever the other is, and each size is one that there was. */
static void pages_go_their_own_ways(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    unsigned seen[2][2] = {{0}};
    unsigned torn = 0;
    unsigned longer = 0;
    begin(b);
    int fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'a');
    write_page(fd, 1, 'a');
    assert_true(io_fsync(fd, "file", &st) && io_fsync(b->work.fd, ".", &st));
    write_page(fd, 0, 'b');
    write_page(fd, 1, 'b');
    write_page(fd, 2, 'b');
    io_close(&fd);
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        char first = letter_of(b, "file", 0);
        char second = letter_of(b, "file", 1);
        char third = letter_of(b, "file", 2);
        torn += first == '?' || second == '?' ? 1 : 0;
        longer += third != '-' ? 1 : 0;
        assert_true(first == 'a' || first == 'b' || first == '?');
        assert_true(third == '-' || third == '0' || third == 'b' || third == '?');
        if (first != '?' && second != '?') {
            seen[first == 'b'][second == 'b']++;
        }
    }
    assert_true(seen[0][0] > 0 && seen[0][1] > 0 && seen[1][0] > 0 && seen[1][1] > 0);
    assert_true(torn > 0 && longer > 0 && longer < SEEDS);
}

/* A torn page is torn at sectors, each of which is whole. */
static void sectors_are_whole(void **state) {
    struct bench *b = (struct bench *)*state;
    struct buf content = {0};
    struct status st;
    begin(b);
    int fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'a');
    assert_true(io_fsync(fd, "file", &st) && io_fsync(b->work.fd, ".", &st));
    write_page(fd, 0, 'b');
    write_page(fd, 0, 'c');
    io_close(&fd);
    disk_stop(b->disk);
    bool seen['c' + 1] = {false};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        file_read(b->state.fd, "file", &content);
        assert_int_equal(content.len, PAGE);
        for (size_t at = 0; at < PAGE; at++) {
            assert_int_equal(content.data[at], content.data[at / SECTOR * SECTOR]);
            seen[content.data[at]] = true;
        }
    }
    assert_true(seen['a'] && seen['b'] && seen['c']);
    buf_fini(&content);
}

/* A sync covers what came before it began: a rename behind it may be lost, the content may not. */
static void names_need_their_own_sync(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    unsigned seen[4] = {0};
    begin(b);
    int fd = make_file(b->work.fd, "file.tmp");
    write_page(fd, 0, 'n');
    assert_true(io_fsync(fd, "file.tmp", &st));
    assert_true(io_rename_at(b->work.fd, "file.tmp", b->work.fd, "file", &st));
    io_close(&fd);
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        bool before = file_exists(b->state.fd, "file.tmp");
        bool after = file_exists(b->state.fd, "file");
        assert_false(before && after); /* a rename is atomic */
        assert_true(!after || letter_of(b, "file", 0) == 'n');
        seen[(before ? 1 : 0) + (after ? 2 : 0)]++;
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

/* Without a sync of the file the new name may show anything. */
static void a_rename_may_overtake_the_content(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    unsigned empty = 0;
    unsigned whole = 0;
    begin(b);
    int fd = make_file(b->work.fd, "file.tmp");
    write_page(fd, 0, 'n');
    assert_true(io_rename_at(b->work.fd, "file.tmp", b->work.fd, "file", &st));
    assert_true(io_fsync(b->work.fd, ".", &st));
    io_close(&fd);
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        assert_true(file_exists(b->state.fd, "file"));
        char letter = letter_of(b, "file", 0);
        empty += letter == '-' || letter == '0' ? 1 : 0;
        whole += letter == 'n' ? 1 : 0;
    }
    assert_true(empty > 0 && whole > 0);
}

static void unlinked_and_made_again(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    unsigned seen['b' + 1] = {0};
    unsigned gone = 0;
    begin(b);
    int fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'a');
    assert_true(io_fsync(fd, "file", &st) && io_fsync(b->work.fd, ".", &st));
    io_close(&fd);
    assert_true(io_unlink_at(b->work.fd, "file", &st));
    fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'b');
    assert_true(io_fsync(fd, "file", &st));
    io_close(&fd);
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        char letter = letter_of(b, "file", 0);
        gone += letter == '-' ? 1 : 0;
        if (letter != '-') {
            seen[(unsigned char)letter]++;
        }
        assert_true(letter == '-' || letter == 'a' || letter == 'b');
    }
    assert_true(gone > 0 && seen['a'] > 0 && seen['b'] > 0);
}

/* What is stored into a map is on the disk after a sync of the file, or of that part of the map, and else perhaps. */
static void stores_through_maps(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    void *map = NULL;
    unsigned third = 0;
    begin(b);
    int fd = make_file(b->work.fd, "file");
    assert_true(io_allocate(fd, 0, 3 * PAGE, "file", &st));
    assert_true(io_fsync(fd, "file", &st) && io_fsync(b->work.fd, ".", &st));
    assert_true(io_map(fd, NULL, 0, 3 * PAGE, true, "file", &map, &st));
    memset(map, 'a', PAGE);
    assert_true(io_fdatasync(fd, "file", &st));
    memset((char *)map + PAGE, 'b', 2 * PAGE);
    assert_true(io_msync((char *)map + PAGE, PAGE, "file", &st));
    io_close(&fd);
    disk_stop(b->disk);
    assert_int_equal(munmap(map, 3 * PAGE), 0);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        assert_int_equal(letter_of(b, "file", 0), 'a');
        assert_int_equal(letter_of(b, "file", 1), 'b');
        third += letter_of(b, "file", 2) == 'b' ? 1 : 0;
    }
    assert_true(third > 0 && third < SEEDS);
}

static void directories(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    unsigned seen[3] = {0};
    struct stat info;
    begin(b);
    assert_true(io_mkdir_at(b->work.fd, "dir", 0700, &st));
    int dir = -1;
    assert_true(io_open_at(b->work.fd, "dir", O_RDONLY | O_DIRECTORY, 0, &dir, &st));
    int fd = make_file(dir, "file");
    write_page(fd, 0, 'a');
    io_close(&fd);
    io_close(&dir);
    assert_true(io_remove_tree(b->work.fd, "dir", &st));
    disk_stop(b->disk);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        (void)make(b, disk_changes(b->disk), seed);
        bool there = fstatat(b->state.fd, "dir", &info, 0) == 0;
        seen[there ? 1 + (file_exists(b->state.fd, "dir/file") ? 1 : 0) : 0]++;
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

/* The beginning is what the directory held, and what is synced then; notes are those before the moment; equal states have equal sums. */
static void moments(void **state) {
    struct bench *b = (struct bench *)*state;
    struct status st;
    int fd = make_file(b->work.fd, "file");
    write_page(fd, 0, 'a');
    begin(b);
    disk_note(b->disk, (struct disk_mark){.begun = 1});
    write_page(fd, 0, 'b');
    assert_true(io_fdatasync(fd, "file", &st));
    disk_note(b->disk, (struct disk_mark){.begun = 1, .promised = 1});
    write_page(fd, 0, 'c');
    io_close(&fd);
    disk_stop(b->disk);
    bool b_seen = false;
    bool c_seen = false;
    for (size_t moment = disk_first(b->disk); moment <= disk_changes(b->disk); moment++) {
        struct disk_mark mark = disk_mark_at(b->disk, moment);
        for (uint64_t seed = 0; seed < SEEDS / 4; seed++) {
            struct disk_state one = make(b, moment, seed);
            struct disk_state again;
            char letter = letter_of(b, "file", 0);
            disk_make(b->disk, moment, seed, -1, &again);
            assert_true(one.hash == again.hash);
            assert_true(letter == 'a' || letter == 'b' || letter == 'c' || letter == '?');
            assert_int_equal(mark.begun, 1);
            assert_true(mark.promised == 0 || letter != 'a');
            b_seen = b_seen || letter == 'b';
            c_seen = c_seen || letter == 'c';
        }
    }
    assert_true(b_seen && c_seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_synced_is_ever_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pages_go_their_own_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sectors_are_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_need_their_own_sync, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_rename_may_overtake_the_content, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unlinked_and_made_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(stores_through_maps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(directories, set_up, tear_down),
        cmocka_unit_test_setup_teardown(moments, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
