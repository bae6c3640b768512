/* remote_failure.c - words for what goes wrong, apart from the client, so that who only shows them needs no libcurl. */
#include "embed/remote.h"

const char *remote_failure_name(enum remote_failure failure) {
    static const char *const names[REMOTE_FAILURES] = {"done",      "unreachable", "forbidden", "timeout",   "throttled", "broken",   "denied",
                                                       "exhausted", "refused",     "bad_reply", "resting", "cancelled", "ourselves"};
    return (unsigned)failure < REMOTE_FAILURES ? names[failure] : "unknown";
}
