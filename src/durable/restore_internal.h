/*
 * restore_internal.h - what the files of a restore share. Their tasks: restore.c runs it; restore_source.c opens what is to be read; restore_reader.c is the
 * child that reads; restore_log.c its part for log segments; restore_state.c checks the ops; restore_vectors.c keeps vectors; restore_switch.c puts the new
 * state in the old one's place.
 */
#ifndef QUIRE_DURABLE_RESTORE_INTERNAL_H
#define QUIRE_DURABLE_RESTORE_INTERNAL_H

#include "durable/restore.h"
#include "durable/snapshot.h"
#include "durable/wal_format.h"

#include <sys/types.h>

#define RESTORE_NEW "restore.new"
#define RESTORE_READY "restore.ready"
#define RESTORE_ENTERING "restore.entering"
#define RESTORE_DISCARDED "restore.discarded"
#define RESTORE_ASIDE_FILE "aside" /* in restore.ready: the name under which the old state goes */
#define RESTORE_REPLACED_PREFIX "replaced."
#define RESTORE_DIRECTORY_MODE 0700
#define RESTORE_ONLY_NAME "snapshot_00000000_000000.tar.zst" /* what an archive is called inside whose name is none of ours */

/* --- restore_source.c --- */

/* A file that was opened for the child. */
struct restore_file {
    int dir_fd;
    char name[RESTORE_NAME_MAX + 16];
    int fd;
    uint64_t size;
    uint64_t on_disk; /* a sparse one claims more */
};

struct restore_source {
    int snapshots_fd; /* -1: none */
    char archive[SNAPSHOT_NAME_MAX]; /* under snapshots_fd: this one; "": the newest that fits */
    char archive_given[128];         /* its name as given, for messages */
    int lock_fd;                     /* of a data directory that is read */
    int dir_fds[64];                 /* to close */
    size_t dir_count;
    struct restore_file *archives;
    size_t archive_count;
    size_t archive_cap;
    struct restore_file *segments;
    size_t segment_count;
    size_t segment_cap;
    uint64_t bytes; /* of all files, on the disk */
};

/* into_fd: the directory that is restored into; when the source is that one, it is locked already. */
MUST_CHECK bool restore_source_open(const char *path, const char *const *logs, size_t log_count, int into_fd, struct restore_source *ret,
                                    struct status *st);
/* The data directory that is restored into itself, up to its end. */
MUST_CHECK bool restore_source_own(int data_dir_fd, struct restore_source *ret, struct status *st);
void restore_source_close(struct restore_source *s); /* takes a zeroed one with fds -1 */
void restore_source_init(struct restore_source *s);

/* --- the pipe from the child --- */
enum restore_frame_kind { FRAME_BASE = 1, FRAME_OP, FRAME_RECORD, FRAME_NOTE, FRAME_DONE, FRAME_FAILED };
struct restore_frame { /* both ends are the same program */
    uint32_t kind;
    uint32_t length; /* of the payload behind it */
    uint64_t lsn;
    int64_t time_us;
    uint64_t count; /* DONE: frames with ops before it; FAILED: the status code; BASE: documents */
};

struct restore_target {
    uint64_t lsn;    /* 0: none */
    int64_t time_us; /* INT64_MAX: none */
};

/* --- restore_reader.c --- */
/* Starts the child. *ret_pipe: frames. */
MUST_CHECK bool restore_reader_start(const struct restore_source *source, const struct restore_target *target, pid_t *ret_pid, int *ret_pipe,
                                     struct status *st);

struct restore_reader {
    const struct restore_source *source;
    struct restore_target target;
    int pipe;
    uint64_t sent;
    uint64_t lsn;    /* reached */
    int64_t time_us; /* of that */
    uint64_t place;  /* of that, where an archive says it: the id of the segment that has it; 0: not known */
    char base[128];  /* the archive, for messages */
};
MUST_CHECK bool restore_send(struct restore_reader *r, enum restore_frame_kind kind, uint64_t lsn, int64_t time_us, uint64_t count, struct slice payload,
                             struct status *st);
void restore_note(struct restore_reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* --- restore_log.c: sends the records behind r->lsn --- */
MUST_CHECK bool restore_read_log(struct restore_reader *r, struct status *st);

/* --- restore_state.c --- */
struct restore_library {
    struct uuid id;
    char *name;
    uint64_t model, language; /* hashes of the words */
    uint32_t incarnation;
    uint32_t dimension;
    bool brings_vectors;
    uint64_t documents;
    uint64_t chunks;
};
struct restore_state;
/* libraries_only: documents are not looked at. NULL: no memory. */
struct restore_state *restore_state_new(bool libraries_only);
void restore_state_free(struct restore_state *s); /* takes NULL */
/* Whether the op fits what came before; it counts as done then. A failure is final. */
MUST_CHECK bool restore_state_apply(struct restore_state *s, const struct op *op, struct status *st);
void restore_state_count(const struct restore_state *s, struct restore_report *ret);
/* Those of that name or id; the last one found. */
size_t restore_state_find(const struct restore_state *s, const char *name_or_id, struct uuid *ret);

/* --- restore_vectors.c: arenas of the state that is there, for the new one; as far as it goes --- */
void restore_link_vectors(int data_dir_fd, int new_state_fd);

/* --- restore_switch.c --- */
/* DIR/restore.new is complete and synced: decides for it. *ret_aside: where the old state is from then on; "": there was none. */
MUST_CHECK bool restore_switch(int data_dir_fd, char ret_aside[RESTORE_NAME_MAX], struct status *st);

#endif
