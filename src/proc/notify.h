/* notify.h - telling systemd (or whoever set NOTIFY_SOCKET) how the server is. */
#ifndef QUIRE_PROC_NOTIFY_H
#define QUIRE_PROC_NOTIFY_H

#include "base/status.h"

/* Takes NOTIFY_SOCKET and WATCHDOG_USEC from the environment. Without them every call below does nothing. */
void notify_init(void);
/* Sends assignments, separated by newlines: "READY=1\nSTATUS=...". */
void notify_send(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* How often WATCHDOG=1 is expected, in microseconds; 0: never. */
int64_t notify_watchdog_us(void);

#endif
