/*
 * waiting_key.h - an API key that was made on the machine itself, on its way into the log.
 *
 * Who may write in the data directory is the server, so such a one needs no other key to make the first. `quire key create --data` leaves the key in the file key.new
 * (mode 0600): a KEY_ADD, and its CRC-32C as u32. The server takes it at its start, and looks for one every second while it serves; when it is logged the file
 * goes. A crash between the two leaves a file whose key is there already, which goes, too. The secret is not in it.
 */
#ifndef QUIRE_DURABLE_WAITING_KEY_H
#define QUIRE_DURABLE_WAITING_KEY_H

#include "store/op.h"

#define WAITING_KEY "key.new" /* what begins like that in a data directory is of this */

/* STATUS_CONFLICT: another one waits. By root, it is given to the owner of the directory. */
MUST_CHECK bool waiting_key_leave(int data_dir_fd, const struct op_key *key, struct status *st);
bool waiting_key_is_there(int data_dir_fd);
/* *ret points into `bytes`. Only a file that nobody but the directory's owner and root can have written: else STATUS_DENIED. */
MUST_CHECK bool waiting_key_read(int data_dir_fd, struct buf *bytes, struct op *ret, struct status *st);
MUST_CHECK bool waiting_key_remove(int data_dir_fd, struct status *st);

#endif
