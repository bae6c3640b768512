/* backup.h - what `quire backup` does with snapshots of a server (backup_here.c), in steps that others use, too. */
#ifndef QUIRE_CLI_BACKUP_H
#define QUIRE_CLI_BACKUP_H

#include "cli/cli.h"

enum { BACKUP_NAME_MAX = 128 };

/* The name of the newest snapshot that the server has. STATUS_NOT_FOUND: it has none. */
MUST_CHECK bool backup_newest(struct cli *cli, char ret_name[BACKUP_NAME_MAX], struct status *st);
/* Copies one archive of the server to a file, which is there only when it is whole and on the disk. */
MUST_CHECK bool backup_download(struct cli *cli, const char *name, const char *to, uint64_t *ret_bytes, struct status *st);

/* The whole command for a directory or file on this machine, cli->argv[0]. Returns an exit code. */
int backup_here(struct cli *cli);

#endif
