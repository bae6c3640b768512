/* request.h - what commands that make one call share: its path, its body out of options and files, and the reply shown. */
#ifndef QUIRE_CLI_REQUEST_H
#define QUIRE_CLI_REQUEST_H

#include "cli/cli.h"

/* One call. request_run frees what it holds; start from REQUEST_EMPTY. */
struct request {
    const char *method;
    struct buf path;          /* NUL at its end */
    struct json_object *body; /* or NULL, */
    struct buf raw;           /* then this, as it stands */
    bool again;               /* it can be repeated when the server is busy, or a reply was lost */
    bool task;                /* the reply is a task: with --wait it is waited for */
    void (*show)(const struct cli *cli, struct json_object *reply); /* without --json; NULL: all members, one a line */
    const char *done; /* instead of show: this line */
};
void request_fini(struct request *r);

/* Pieces of a path up to NULL, alternately as they stand and percent-encoded: "/v1/tasks/", id, "/x". */
MUST_CHECK bool request_path(struct request *r, struct status *st, ...) __attribute__((sentinel));
/* "/v1/libraries/<id>" of a library by name or id, and `rest`. */
MUST_CHECK bool request_library(struct cli *cli, struct request *r, const char *name, const char *rest, struct status *st);
/* Makes the call and shows what came. Frees *r. Returns an exit code: EX_DATAERR where a part of a batch has failed. */
int request_run(struct cli *cli, struct request *r);
/* The same for where it could not be made: frees *r and tells of *st. */
int request_failed(struct request *r, const struct status *st);

/* A body from --body (further members, as JSON), or an empty one. NULL: *st says why. */
struct json_object *request_body(const struct cli *cli, struct status *st);
/* Members out of options, where they were given. */
void request_put_text(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
void request_put_number(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
void request_put_real(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
void request_put_flag(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
void request_put_list(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
void request_put_json(const struct cli *cli, struct json_object *body, const char *key, enum cli_option option);
/* M, ef_construction and ef_search, as index_config, where one was given. */
void request_put_index(const struct cli *cli, struct json_object *body);
struct json_object *request_words(int count, char **words); /* an array of strings */

/* A file, or standard input for "-", with a NUL behind its end. */
MUST_CHECK bool request_read(const char *name, struct buf *ret, struct status *st);
/* The pages of a list from path on, all together; *ret is freed by the caller. most: 0: all. */
MUST_CHECK bool request_pages(struct cli *cli, const char *path, size_t most, struct json_object **ret, struct status *st);

/* What a task came to; with --wait it is over. Returns an exit code. */
int task_tell(const struct cli *cli, struct json_object *task);

#endif
