/* recovery_fixture.h - what the tests of recovery share: a server with something to recover. */
#ifndef QUIRE_TESTS_RECOVERY_FIXTURE_H
#define QUIRE_TESTS_RECOVERY_FIXTURE_H

#include "durable_server.h"

enum { RECOVERY_NAMES_MAX = 64 };

int recovery_set_up(void **state); /* a struct server */
int recovery_tear_down(void **state);
void recovery_snapshot_ok(struct server *s);
void recovery_stop_ok(struct server *s);
/* Two snapshots, and log behind the second. */
void recovery_live_a_little(struct server *s);
/* Names in a directory of the server's that begin so; room for RECOVERY_NAMES_MAX. */
size_t recovery_names_in(struct server *s, const char *directory, const char *prefix, char (*names)[64]);
/* Nothing of a recovery is left under vectors/. */
void recovery_no_leftovers(struct server *s);

#endif
