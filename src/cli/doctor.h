/*
 * doctor.h - what the parts of `quire doctor` share.
 *
 * A part looks at one thing and adds findings; it never fails the whole. What it may not look at, or cannot, it says by doctor_skip. Nothing is written, nothing
 * is held for longer than a look takes, and a running server notices nothing but requests: only of a stopped server's directory the LOCK is held, shared,
 * while log and snapshots are read (as `quire check` does).
 *
 * The troubles are those of doctor.def. Parts that judge a text from elsewhere (nginx's files, /proc, replies of the server) take that text, so that unit tests can
 * give them any.
 */
#ifndef QUIRE_CLI_DOCTOR_H
#define QUIRE_CLI_DOCTOR_H

#include "cli/cli.h"
#include "cli/metrics_text.h"
#include "cli/nginx_conf.h"
#include "proc/config.h"

#include <sys/types.h>

enum doctor_level { DOCTOR_NOTE, DOCTOR_WARNING, DOCTOR_ERROR };

enum trouble {
#define TROUBLE(id, level, name, what, advice, command) TROUBLE_##id,
#include "cli/doctor.def"
#undef TROUBLE
    TROUBLES
};

enum { DOCTOR_WHERE_MAX = 600, DOCTOR_DETAIL_MAX = 400, DOCTOR_TEXT_MAX = 2048, DOCTOR_USER_MAX = 64 };

struct doctor_finding {
    enum trouble trouble;
    char where[DOCTOR_WHERE_MAX];   /* path, address, key; "" where the trouble says it all */
    char detail[DOCTOR_DETAIL_MAX]; /* what was seen; or "" */
};

struct doctor_skipped {
    char what[DOCTOR_WHERE_MAX];
    char why[DOCTOR_DETAIL_MAX];
};

struct doctor {
    struct cli *cli;
    const char *config_path; /* NULL: only a data directory */
    const char *nginx_path;
    bool has_config; /* it was read, and `config` is what it says */
    bool deep;       /* --deep: read all archives and the log, however large */
    struct config config;
    char data_dir[CONFIG_PATH_MAX];
    int data_fd; /* -1: not opened */
    int64_t now_us;
    uid_t uid; /* of the server: of the process that runs, of its unit, or of who owns the data directory */
    bool knows_uid;
    char user[DOCTOR_USER_MAX];
    pid_t pid;    /* of the supervisor that holds the data directory for this configuration; 0: none */
    bool in_use;  /* somebody holds the data directory */
    bool has_unit; /* systemd's quired.service is this server's */
    struct nginx_conf nginx;
    bool has_nginx;      /* its configuration was read */
    size_t site;         /* the server block; NGINX_NONE: none was found */
    char url[512], connect_to[160], cacert[DOCTOR_WHERE_MAX]; /* found out for the client where the user said nothing */
    bool certificate_unseen; /* it is there, and this user may not read it: then a server that signs its own cannot be believed */
    struct doctor_finding *findings;
    size_t finding_count, finding_cap;
    struct doctor_skipped *skipped;
    size_t skipped_count, skipped_cap;
    bool no_memory;
};

/* --- doctor_report.c --- */

void doctor_find(struct doctor *d, enum trouble trouble, const char *where, const char *detail, ...) PRINTF_LIKE(4, 5);
void doctor_skip(struct doctor *d, const char *what, const char *why, ...) PRINTF_LIKE(3, 4);
enum doctor_level doctor_level_of(enum trouble trouble);
const char *doctor_name_of(enum trouble trouble);
bool doctor_found(const struct doctor *d, enum trouble trouble);
size_t doctor_count(const struct doctor *d, enum doctor_level level);
/* Puts what {where}, {data}, {conf}, {nginx} and {user} stand for into `text`. A value with anything but what a shell takes as it is stands in quotes where
 * `quote`. */
void doctor_expand(const struct doctor *d, const char *text, const char *where, bool quote, char *out, size_t room);
void doctor_print(const struct doctor *d);
MUST_CHECK bool doctor_print_json(const struct doctor *d, struct status *st);
void doctor_fini(struct doctor *d);

/* --- the parts, in the order in which they look --- */

void doctor_look_at_config(struct doctor *d);      /* doctor_config.c; fills config and data_dir */
void doctor_look_at_processes(struct doctor *d);   /* doctor_processes.c; fills pid, in_use, uid */
void doctor_look_at_secrets(struct doctor *d);     /* doctor_config.c: what the configuration names */
void doctor_look_at_data(struct doctor *d);        /* doctor_data.c: rights, owners, names */
void doctor_look_at_disk(struct doctor *d, const char *path); /* doctor_disk.c: room, inodes, file system */
void doctor_look_at_log(struct doctor *d);         /* doctor_log.c: formats, log, snapshots, archive */
void doctor_look_at_backup(struct doctor *d);      /* doctor_backup.c: backup.conf, its keys, what came of the last one */
void doctor_look_at_machine(struct doctor *d);     /* doctor_machine.c: limits, memory, clock */
void doctor_look_at_nginx(struct doctor *d);       /* doctor_nginx.c */
void doctor_look_at_sockets(struct doctor *d);     /* doctor_sockets.c; behind nginx, whose user it asks for */
void doctor_look_at_certificate(struct doctor *d); /* doctor_tls.c */
void doctor_ask_server(struct doctor *d);          /* doctor_server.c */

/* The pid in a file; 0: there is none. */
pid_t doctor_read_pid(const char *path);
/* Whether a process of that name lives under the pid. */
bool doctor_is_alive(pid_t pid, const char *name);

/* --- judgements on texts and facts --- */

struct backup_state;
/* state NULL: no backup has left one. */
void doctor_judge_backup(struct doctor *d, const char *path, const struct backup_state *state);

struct doctor_room {
    uint64_t total_bytes, free_bytes; /* free: for others than root */
    uint64_t total_inodes, free_inodes; /* 0 total: the file system does not count them */
};
/* needed: what the next segment and a snapshot may take. */
void doctor_judge_room(struct doctor *d, const char *path, const struct doctor_room *room, uint64_t needed);
/* magic: statfs's f_type. options: of the mount, separated by commas. */
void doctor_judge_file_system(struct doctor *d, const char *path, uint64_t magic, const char *options);
/* The options of the mount that has the path, from /proc/self/mountinfo. False: it is not in there. */
bool doctor_mount_options(const char *mountinfo, unsigned device_major, unsigned device_minor, char *out, size_t room);
/* limits: of /proc/PID/limits. */
void doctor_judge_limits(struct doctor *d, const char *limits);
/* dense_bytes: what a dense search touches, of all libraries. */
void doctor_judge_memory(struct doctor *d, const char *meminfo, const char *overcommit, uint64_t dense_bytes);
/* `systemctl show` of the unit, lines KEY=VALUE. */
void doctor_judge_unit(struct doctor *d, const char *properties);
/* Who holds an flock for writing on that inode, from /proc/locks: the pid; 0: nobody; -1: somebody whose pid is not seen. Of another device it counts when the
 * holder is `written`, the pid that stands in the file. */
long doctor_lock_holder(const char *locks, unsigned device_major, unsigned device_minor, uint64_t inode, long written);
/* Whether that user, with those groups, may do what `want` says (4 read, 2 write, 1 enter) with a file of that owner, group and mode. */
bool doctor_may(uid_t user, const gid_t *groups, size_t group_count, uid_t owner, gid_t group, mode_t mode, unsigned want);
/* name: that clients use; "": not known. key_text empty: not to be had. */
void doctor_judge_certificate(struct doctor *d, const char *path, struct slice text, const char *key_path, struct slice key_text, const char *name);

void doctor_judge_metrics(struct doctor *d, const struct metrics_text *m);
/* Two readings, some seconds apart. */
void doctor_judge_pending(struct doctor *d, const struct metrics_text *before, const struct metrics_text *now);
void doctor_judge_health(struct doctor *d, struct json_object *health);
void doctor_judge_libraries(struct doctor *d, struct json_object *libraries, struct json_object *models);
void doctor_judge_tasks(struct doctor *d, struct json_object *tasks);
void doctor_judge_keys(struct doctor *d, struct json_object *keys);
void doctor_judge_models(struct doctor *d, struct json_object *models);

#endif
