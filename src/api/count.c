/* count.c - see count.h. */
#include "api/count.h"

#include "api/exchange.h"
#include "shm/atomics.h"

_Static_assert(ROUTE_CLASSES == CONTROL_ROUTE_CLASSES, "every class of routes has a histogram in the control segment");
_Static_assert(SEARCH_HYBRID == CONTROL_SEARCH_MODES, "every mode has a counter in the control segment");

/* The first is for whatever else there is. Often given ones stand first. */
static const int statuses[] = {0,   200, 201, 204, 404, 202, 400, 401, 403, 405, 409, 412, 413, 415, 422, 503, 507, 500, 304};
#define STATUSES (sizeof statuses / sizeof statuses[0])
_Static_assert(STATUSES <= CONTROL_STATUSES, "every status has a counter in the control segment");

unsigned count_status_index(int status) {
    for (unsigned i = 1; i < STATUSES; i++) {
        if (statuses[i] == status) {
            return i;
        }
    }
    return 0;
}

int count_status(unsigned index) {
    return index < STATUSES ? statuses[index] : 0;
}

const char *count_class_name(enum route_class class) {
    static const char *const names[ROUTE_CLASSES] = {"search", "write", "read", "other"};
    return names[class];
}

const char *count_mode_name(unsigned index) {
    static const char *const names[CONTROL_SEARCH_MODES] = {"dense", "lexical", "hybrid"}; /* as enum search_mode */
    return names[index];
}

static enum route_class class_of(const struct api_response *r) {
    const struct route *route = r->route > 0 ? route_at(r->route - 1) : NULL;
    unsigned flags = route == NULL ? 0 : route->flags;
    if ((flags & ROUTE_SEARCH) != 0) {
        return ROUTE_CLASS_SEARCH;
    }
    if ((flags & ROUTE_WRITE) != 0) {
        return ROUTE_CLASS_WRITE;
    }
    return (flags & ROUTE_DATA) != 0 && (flags & ROUTE_KEYED) == 0 ? ROUTE_CLASS_READ : ROUTE_CLASS_OTHER; /* keyed: snapshots */
}

void count_work(struct api_response *r, struct control_worker *page) {
    for (unsigned i = 0; i < CONTROL_SEARCH_MODES; i++) {
        if (r->searches[i] > 0) {
            count_relaxed_u64(&page->searches[i], r->searches[i]);
            count_relaxed_u64(&page->candidates[i], r->candidates[i]);
            r->searches[i] = 0;
            r->candidates[i] = 0;
        }
    }
    if (r->embedded > 0) {
        count_relaxed_u64(&page->embedded, r->embedded);
        control_histogram_time(&page->embedding_time, r->embedding_ns);
        r->embedded = 0;
        r->embedding_ns = 0;
    }
    count_relaxed_u64(&page->streamed_in, r->documents_in);
    count_relaxed_u64(&page->streamed_out, r->documents_out);
    r->documents_in = 0;
    r->documents_out = 0;
}

void count_reply(struct api_response *r, int64_t took_ns, struct control_worker *page) {
    unsigned route = r->route < CONTROL_ROUTES ? r->route : 0;
    count_relaxed_u64(&page->requests[route][count_status_index(r->status)], 1);
    if (took_ns >= 0) {
        control_histogram_time(&page->request_time[class_of(r)], took_ns);
    }
    count_work(r, page);
}
