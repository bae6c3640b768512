/* remote_fixture.h - tests/lib/fake_provider.py as a child, clients of it, and what its vectors have to be. */
#ifndef QUIRE_TESTS_REMOTE_FIXTURE_H
#define QUIRE_TESTS_REMOTE_FIXTURE_H

#include "embed/remote.h"

#include <json-c/json.h>
#include <sys/types.h>

#define FAKE_KEY "sk-fake-0123456789"
enum { FAKE_DIMENSION = 64 };

struct provider {
    pid_t pid;
    int stdin_fd; /* it ends when this does */
    unsigned port;
};
/* `options` ends with NULL. */
void provider_start(struct provider *p, const char *const *options);
void provider_stop(struct provider *p);
/* Its JSON for GET `path`; the caller puts it. */
struct json_object *provider_get(const struct provider *p, const char *path);
int64_t provider_count(const struct provider *p, const char *member); /* of /state */
void provider_control(const struct provider *p, const char *json);

/* Settings of a client that is answered as `behaviour` says (NULL: as the provider is told), impatient and without jitter to speak of. */
struct remote_settings fake_settings(const struct provider *p, enum remote_dialect dialect, const char *behaviour);
struct remote_client *fake_client(const struct remote_settings *s);

/* Fails the test unless vector[FAKE_DIMENSION] is that of the text. */
void expect_vector(const float *vector, struct slice text, const char *model);

/* A deadline that no test meets. */
int64_t far_away(void);

/* What most tests ask: the same texts, of one provider that wants FAKE_KEY. The two are for cmocka's group; the first also initialises the client library, in an
 * environment whose proxies nobody may use. */
enum { ROOM = 64 };
extern struct provider plain;
extern struct slice texts[ROOM]; /* "word7 and more" */
extern float vectors[ROOM * FAKE_DIMENSION];
int fixture_set_up(void **state);
int fixture_tear_down(void **state);
/* Asks for the vectors of texts[0..count), to `vectors`. The status is in *st, the outcome in *ret. */
bool ask_for(struct remote_client *c, size_t count, struct remote_outcome *ret, struct status *st);
/* Expects those vectors. */
void expect_texts(struct remote_client *c, size_t count);
/* Expects that failure, a detail that says so, and no key in it. */
void expect_failure(struct remote_client *c, size_t count, enum remote_failure failure, const char *in_detail, struct remote_outcome *ret);

#endif
