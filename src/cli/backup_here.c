/*
 * backup_here.c - quire backup DIRECTORY|FILE: takes a snapshot, has the server verify it, copies it with all that it rests on, and restores the copy on trial. quire verify: the last step
 * alone.
 *
 * A copy is written under a temporary name, synced, and renamed, so that what has an archive's name is whole. In a directory, archives that are there with
 * the right size are not copied again: names are never used twice, and the trial reads them all. The newest archive is renamed last, so a directory
 * whose backup was interrupted is still one of the state before.
 */
#include "cli/backup.h"

#include "base/io.h"
#include "cli/request.h"
#include "durable/snapshot.h"
#include "durable/snapshot_format.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

enum { PATH_ROOM = 4096, CHAIN_MAX = SNAPSHOT_CHAIN_LINKS_MAX };

/* --- archives of the server ---------------------------------------------------------------------------------------------- */

static bool list_snapshots(struct cli *cli, struct client_reply *ret, struct status *st) {
    if (!client_call(cli->client, "GET", "/v1/snapshots", slice_of(NULL, 0), true, ret, st))
        return false;
    if (json_object_is_type(ret->json, json_type_array) && json_object_array_length(ret->json) > 0)
        return true;
    client_reply_fini(ret);
    return status_set(st, STATUS_NOT_FOUND, "the server has no snapshot; `quire snapshot create` takes one");
}

static struct json_object *find_snapshot(struct json_object *list, const char *name) {
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *snapshot = json_object_array_get_idx(list, i);
        if (strcmp(member_text(snapshot, "name"), name) == 0)
            return snapshot;
    }
    return NULL;
}

bool backup_newest(struct cli *cli, char ret_name[BACKUP_NAME_MAX], struct status *st) {
    struct client_reply list;
    if (!list_snapshots(cli, &list, st))
        return false;
    (void)snprintf(ret_name, BACKUP_NAME_MAX, "%s", member_text(json_object_array_get_idx(list.json, 0), "name"));
    client_reply_fini(&list);
    return true;
}

struct download {
    FILE *out;
    uint64_t bytes;
    int error;
};

static bool on_bytes(void *ctx, const char *bytes, size_t len) {
    struct download *d = ctx;
    if (fwrite(bytes, 1, len, d->out) != len) {
        d->error = errno != 0 ? errno : EIO;
        return false;
    }
    d->bytes += len;
    return true;
}

static bool sync_directory_of(const char *path, struct status *st) {
    char copy[PATH_ROOM];
    (void)snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (!ok)
        (void)status_set_errno(st, errno, "the directory of %s", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool fetch(struct cli *cli, const char *name, struct download *d, struct status *st) {
    struct client *client = NULL; /* of its own: one that has streamed is good for streams alone */
    struct request r = {0};
    bool ok = request_path(&r, st, "/v1/snapshots/", name, NULL) && client_new(&cli->server, &client, st);
    const struct client_stream stream = {.method = "GET", .path = (const char *)r.path.data, .write = on_bytes, .ctx = d};
    ok = ok && client_run_stream(client, &stream, st);
    client_free(client);
    request_fini(&r);
    return ok;
}

bool backup_download(struct cli *cli, const char *name, const char *to, uint64_t *ret_bytes, struct status *st) {
    char part[PATH_ROOM];
    struct download d = {0};
    if (snprintf(part, sizeof part, "%s.part", to) >= (int)sizeof part)
        return status_set(st, STATUS_INVALID, "%.100s...: the path is too long", to);
    int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600); /* texts are in it, and hashes of keys */
    if (fd < 0 || (d.out = fdopen(fd, "w")) == NULL) {
        (void)status_set_errno(st, errno, "%s", part);
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = fetch(cli, name, &d, st);
    if (ok && (d.error != 0 || fflush(d.out) != 0 || fsync(fd) != 0))
        ok = status_set_errno(st, d.error != 0 ? d.error : errno, "%s", part);
    if (fclose(d.out) != 0 && ok)
        ok = status_set_errno(st, errno, "%s", part);
    if (ok && rename(part, to) != 0)
        ok = status_set_errno(st, errno, "%s", to);
    if (!ok) {
        (void)unlink(part);
        return false;
    }
    *ret_bytes = d.bytes;
    return sync_directory_of(to, st);
}

/* --- quire verify -------------------------------------------------------------------------------------------------------- */

static bool is_directory(const char *path) {
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

struct listed {
    const struct snapshot_info *list;
    size_t count;
};

/* An archive whose manifest cannot be read is not in the list: it must not be passed over for an older one. */
static bool is_listed(int dir_fd, const char *name, void *ctx, struct status *st) {
    const struct listed *l = ctx;
    (void)dir_fd;
    if (!snapshot_name_valid(name))
        return true;
    for (size_t i = 0; i < l->count; i++) {
        if (strcmp(l->list[i].name, name) == 0)
            return true;
    }
    return status_set(st, STATUS_CORRUPT, "%s cannot be read: it is broken, or no snapshot", name);
}

static bool newest_in(int dir_fd, const char *dir, char name[SNAPSHOT_NAME_MAX], struct status *st) {
    struct snapshot_info *list = NULL;
    size_t count = 0;
    if (!snapshot_list(dir_fd, &list, &count, st))
        return false;
    struct listed listed = {.list = list, .count = count};
    bool ok = io_each_entry(dir_fd, dir, is_listed, &listed, st);
    if (ok && count > 0)
        memcpy(name, list[0].name, SNAPSHOT_NAME_MAX);
    free(list);
    return ok && (count > 0 || status_set(st, STATUS_NOT_FOUND, "there is no snapshot in %s", dir));
}

/* Restores an archive, or the newest of a directory, on trial. */
static bool try_archive(const char *path, struct snapshot_info *ret, struct status *st) {
    const struct snapshot_trial_options options = {0};
    char copy[PATH_ROOM], name[SNAPSHOT_NAME_MAX] = "";
    bool whole_directory = is_directory(path);
    (void)snprintf(copy, sizeof copy, "%s", path);
    const char *dir = whole_directory ? path : dirname(copy);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return status_set_errno(st, errno, "%s", dir);
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    bool ok = true;
    if (whole_directory)
        ok = newest_in(fd, dir, name, st);
    else if (snprintf(name, sizeof name, "%s", base) >= (int)sizeof name)
        ok = status_set(st, STATUS_INVALID, "%s is not named as a snapshot (snapshot_20261130_120000.tar.zst)", base);
    ok = ok && snapshot_trial(fd, name, &options, ret, st);
    close(fd);
    return ok;
}

static void print_held(const struct snapshot_info *info) {
    char libraries[CLI_COUNTED_ROOM], documents[CLI_COUNTED_ROOM], chunks[CLI_COUNTED_ROOM];
    printf("%s, %s, %s, up to LSN %llu", cli_counted(info->libraries, "library", "libraries", libraries), cli_counted(info->documents, "document", "documents", documents),
           cli_counted(info->chunks, "chunk", "chunks", chunks), (unsigned long long)info->lsn);
}

static void print_verified(const struct cli *cli, const struct snapshot_info *info) {
    if (cli->json) {
        printf("{\"name\":\"%s\",\"lsn\":%llu,\"libraries\":%u,\"documents\":%llu,\"chunks\":%llu,\"good\":true}\n", info->name, (unsigned long long)info->lsn, info->libraries,
               (unsigned long long)info->documents, (unsigned long long)info->chunks);
        return;
    }
    printf("%s is good: ", info->name);
    print_held(info);
    putchar('\n');
}

int command_verify(struct cli *cli) {
    struct snapshot_info info;
    struct status st = {0};
    if (!try_archive(cli->argv[0], &info, &st))
        return cli_fail(&st);
    print_verified(cli, &info);
    return EX_OK;
}

/* --- quire backup -------------------------------------------------------------------------------------------------------- */

static void tell(const struct cli *cli, const char *what) {
    if (!cli->json && isatty(STDERR_FILENO))
        fprintf(stderr, "%s\n", what);
}

/* A task, begun and waited for. */
static bool do_task(struct cli *cli, const char *path, const char *what, struct status *st) {
    struct client_reply reply;
    if (!client_call(cli->client, "POST", path, slice_of(NULL, 0), true, &reply, st))
        return false;
    bool ok = cli_wait_for_task(cli, &reply, st);
    const char *state = ok ? member_text(reply.json, "state") : "";
    if (ok && strcmp(state, "succeeded") != 0)
        ok = status_set(st, STATUS_IO, "%s: %s: %.200s", what, state, member_text(reply.json, "error"));
    client_reply_fini(&reply);
    return ok;
}

static bool take_and_verify(struct cli *cli, struct client_reply *ret_list, const char **ret_name, struct status *st) {
    struct request r = {0};
    if (!cli_has(cli, OPTION_LATEST)) {
        tell(cli, "taking a snapshot");
        if (!do_task(cli, "/v1/snapshots", "the snapshot", st))
            return false;
    }
    if (!list_snapshots(cli, ret_list, st))
        return false;
    *ret_name = member_text(json_object_array_get_idx(ret_list->json, 0), "name");
    tell(cli, "the server verifies it");
    bool ok = request_path(&r, st, "/v1/snapshots/", *ret_name, "/verify", NULL) && do_task(cli, (const char *)r.path.data, "the server's verification", st);
    request_fini(&r);
    if (!ok)
        client_reply_fini(ret_list);
    return ok;
}

/* *count of the archives that `name` rests on, itself first. */
static bool chain_of(struct json_object *list, const char *name, struct json_object *chain[CHAIN_MAX], size_t *count, struct status *st) {
    *count = 0;
    while (name[0] != '\0') {
        struct json_object *snapshot = find_snapshot(list, name);
        if (snapshot == NULL || *count == CHAIN_MAX)
            return status_set(st, STATUS_NOT_FOUND, "the server does not list %s, on which the snapshot rests", name);
        if (strchr(name, '/') != NULL)
            return status_set(st, STATUS_MALFORMED, "the server gives a snapshot a name that is none");
        chain[(*count)++] = snapshot;
        name = member_text(snapshot, "base");
    }
    return true;
}

static bool is_there(const char *path, int64_t bytes) {
    struct stat about;
    return lstat(path, &about) == 0 && S_ISREG(about.st_mode) && about.st_size == bytes;
}

struct copied {
    size_t files;
    uint64_t bytes;
    char path[PATH_ROOM]; /* of the newest */
};

/* The oldest first: what is there rests on nothing that is not. */
static bool copy_chain(struct cli *cli, struct json_object *const *chain, size_t count, const char *dir, struct copied *ret, struct status *st) {
    for (size_t i = count; i-- > 0;) {
        const char *name = member_text(chain[i], "name");
        uint64_t bytes = 0;
        if (snprintf(ret->path, sizeof ret->path, "%s/%s", dir, name) >= (int)sizeof ret->path)
            return status_set(st, STATUS_INVALID, "%.100s...: the path is too long", dir);
        if (is_there(ret->path, member_int(chain[i], "bytes")))
            continue;
        tell(cli, name);
        if (!backup_download(cli, name, ret->path, &bytes, st))
            return false;
        ret->files++;
        ret->bytes += bytes;
    }
    return true;
}

/* To a file: through a directory beside it, where it has its own name for the trial. */
static bool copy_to_file(struct cli *cli, struct json_object *const *chain, size_t count, const char *file, struct copied *ret, struct snapshot_info *ret_info, struct status *st) {
    char dir[PATH_ROOM];
    if (count != 1)
        return status_set(st, STATUS_INVALID, "the snapshot rests on %zu others, which do not go into one file: name a directory (snapshot_chain_max = 0 in quire.conf makes each whole)",
                          count - 1);
    if (snprintf(dir, sizeof dir, "%s.XXXXXX", file) >= (int)sizeof dir)
        return status_set(st, STATUS_INVALID, "%.100s...: the path is too long", file);
    if (mkdtemp(dir) == NULL)
        return status_set_errno(st, errno, "%s", dir);
    bool ok = copy_chain(cli, chain, count, dir, ret, st) && try_archive(ret->path, ret_info, st);
    if (ok && rename(ret->path, file) != 0)
        ok = status_set_errno(st, errno, "%s", file);
    if (!ok)
        (void)unlink(ret->path);
    (void)rmdir(dir);
    (void)snprintf(ret->path, sizeof ret->path, "%s", file);
    return ok && sync_directory_of(file, st);
}

static void print_backup(const struct cli *cli, const struct copied *c, const struct snapshot_info *info, size_t archives) {
    char bytes[32];
    if (cli->json) {
        struct json_object *out = json_object_new_object();
        json_object_object_add(out, "path", json_object_new_string(c->path));
        json_object_object_add(out, "archives", json_object_new_int64((int64_t)archives));
        json_object_object_add(out, "copied", json_object_new_int64((int64_t)c->files));
        json_object_object_add(out, "bytes", json_object_new_int64((int64_t)c->bytes));
        json_object_object_add(out, "lsn", json_object_new_int64((int64_t)info->lsn));
        json_object_object_add(out, "documents", json_object_new_int64((int64_t)info->documents));
        json_object_object_add(out, "chunks", json_object_new_int64((int64_t)info->chunks));
        cli_print_json(out);
        json_object_put(out);
        return;
    }
    printf("%s: ", c->path);
    print_held(info);
    puts(", restored on trial");
    printf("%zu of %zu archive%s copied, %s\n", c->files, archives, archives == 1 ? "" : "s", cli_bytes(c->bytes, bytes));
    printf("to restore it: quire restore %s --into DATA_DIRECTORY\n", c->path);
}

int backup_here(struct cli *cli) {
    char *to = cli->argv[0];
    const char *name = NULL;
    struct json_object *chain[CHAIN_MAX];
    struct client_reply list;
    struct copied copied = {0};
    struct snapshot_info info = {0};
    struct status st = {0};
    size_t count = 0, len = strlen(to);
    if (len > 0 && to[len - 1] == '/' && mkdir(to, 0700) != 0 && errno != EEXIST) {
        (void)status_set_errno(&st, errno, "%s", to);
        return cli_fail(&st);
    }
    while (len > 1 && to[len - 1] == '/')
        to[--len] = '\0';
    if (!take_and_verify(cli, &list, &name, &st))
        return cli_fail(&st);
    bool ok = chain_of(list.json, name, chain, &count, &st);
    if (ok && !is_directory(to)) {
        ok = copy_to_file(cli, chain, count, to, &copied, &info, &st);
    } else if (ok) {
        ok = copy_chain(cli, chain, count, to, &copied, &st) && try_archive(copied.path, &info, &st);
    }
    client_reply_fini(&list);
    if (!ok)
        return cli_fail(&st);
    print_backup(cli, &copied, &info, count);
    return EX_OK;
}
