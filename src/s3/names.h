/*
 * names.h - the names of objects. A backup has no other memory: what is there, and what each object is, stands in its name, so that one listing says all.
 *
 *   PREFIX/INSTANCE/snapshot/NAME~LSN~BASE~SIZE~HASH[~enc]
 *   PREFIX/INSTANCE/wal/NAME~NEXT~SIZE~HASH[~enc]
 *
 *   INSTANCE  UUID of the log, so that a server that was restored, which begins another log, does not mix the two
 *   NAME      of the snapshot's archive, or of the log segment, as in the server's directories
 *   LSN       of the snapshot, 20 digits; NEXT: the LSN behind the segment's last record
 *   BASE      name of the archive that it rests on, or "whole"
 *   SIZE      bytes of the file, decimal
 *   HASH      SHA-256 of the file, 64 hex digits; where it is encrypted, see frame.h
 *   enc       the object is the file encrypted (frame.h)
 *
 * Objects of one kind sort by time, then LSN. An object is written once, as a whole: storages show one when all of it is there (a PUT, or the completion of a
 * multipart upload), and a longer copy of the same segment has another name. So a backup that is killed leaves no half object and no list to mend.
 *
 * Names come from the storage and are not believed: what does not have the form is no object of ours, and the files' names in them are checked as those of files
 * are. So none leads out of a directory.
 */
#ifndef QUIRE_S3_NAMES_H
#define QUIRE_S3_NAMES_H

#include "base/uuid.h"
#include "durable/snapshot.h"
#include "durable/wal_format.h"

#define S3_NAME_MAX 320 /* of an object, without the prefix */
#define S3_HASH_BYTES 32

enum s3_kind { S3_SNAPSHOT, S3_SEGMENT };

struct s3_object {
    enum s3_kind kind;
    struct uuid instance;
    char file[SNAPSHOT_NAME_MAX]; /* name of the archive or segment */
    uint64_t first_lsn;           /* of a segment */
    uint64_t lsn;                 /* of a snapshot; of a segment, its last: NEXT - 1 */
    char base[SNAPSHOT_NAME_MAX]; /* of a snapshot; "": it is whole */
    uint64_t size;                /* of the file */
    uint8_t hash[S3_HASH_BYTES];
    bool encrypted;
    int64_t modified_us; /* by the storage's clock; not part of the name */
};

/* "INSTANCE/snapshot/..." */
void s3_object_name(const struct s3_object *o, char out[S3_NAME_MAX]);
/* false: it is none of ours. modified_us is left at 0. */
bool s3_object_parse(const char *name, struct s3_object *ret);
/* Bytes that the object has. */
uint64_t s3_object_bytes(const struct s3_object *o);

#endif
