/* search.c - quire search. */
#include "cli/condition.h"
#include "cli/request.h"

#include <ctype.h>
#include <sysexits.h>

#define EXCERPT_BYTES 300
#define FILE_ID "file:" /* the id of a document that an import made of a file begins with it, the path behind */

/* --- the reply ----------------------------------------------------------------------------------------------------------- */

/* "rank 3, 0.5" of one side of an explanation, or "-" where that side did not have the hit. */
static void print_side(const char *side, struct json_object *explained, const char *measure) {
    struct json_object *rank = member(explained, "rank");
    printf("%s ", side);
    if (rank == NULL)
        printf("-");
    else
        printf("rank %lld", (long long)json_object_get_int64(rank));
    if (member(explained, measure) != NULL)
        printf(" (%s %.4f)", measure, member_double(explained, measure));
}

static void print_explanation(struct json_object *explain) {
    printf("    ");
    print_side("dense", member(explain, "dense"), "distance");
    if (member(explain, "lexical") != NULL) {
        printf(", ");
        print_side("lexical", member(explain, "lexical"), "score");
    }
    putchar('\n');
}

static void print_hit(const struct cli *cli, struct json_object *hit, size_t number) {
    struct json_object *chunk = member(hit, "chunk");
    const char *id = member_text(hit, "document_id");
    printf("%2zu. %s", number, cli->bold);
    cli_print_clean(stdout, member_text(hit, "document_title"), 200);
    printf("%s  ", cli->plain);
    if (strncmp(id, FILE_ID, sizeof FILE_ID - 1) == 0) { /* of an import */
        cli_print_clean(stdout, id + sizeof FILE_ID - 1, 200);
        fputs("  ", stdout);
    }
    printf("(score %.4f", member_double(hit, "score"));
    if (member(hit, "distance") != NULL)
        printf(", distance %.3f", member_double(hit, "distance"));
    printf(")\n    ");
    const char *text = member_text(chunk, "text");
    cli_print_clean(stdout, text, EXCERPT_BYTES);
    printf("%s\n", strlen(text) > EXCERPT_BYTES ? " ..." : "");
    if (member(hit, "explain") != NULL)
        print_explanation(member(hit, "explain"));
}

/* A hybrid search that one side alone could answer, and the library has a model: whoever asked should know. */
static void print_note(const struct cli *cli, struct json_object *index) {
    const char *asked = cli_text(cli, OPTION_MODE), *mode = member_text(index, "mode");
    if ((asked != NULL && strcmp(asked, "hybrid") != 0) || strcmp(mode, "lexical") != 0 || strcmp(member_text(index, "model"), "none") == 0)
        return;
    fprintf(stderr, "note: answered by the words alone: the model gave no vector for this query. `quire models` tells whether it is away; else it knows none of the words, or the library has "
                    "no vectors yet\n");
}

static void print_hits(const struct cli *cli, struct json_object *reply) {
    struct json_object *results = member(reply, "results");
    size_t count = json_object_is_type(results, json_type_array) ? json_object_array_length(results) : 0;
    for (size_t i = 0; i < count; i++)
        print_hit(cli, json_object_array_get_idx(results, i), i + 1);
    if (count == 0)
        puts("nothing found");
    struct json_object *index = member(reply, "index");
    printf("%zu hit%s in %.2f ms (%s, %s%s, coverage %.0f%%)\n", count, count == 1 ? "" : "s", member_double(reply, "query_time_ms"), member_text(index, "mode"), member_text(index, "model"),
           json_object_get_boolean(member(index, "exact")) ? ", exact" : "", 100 * member_double(index, "coverage"));
    print_note(cli, index);
}

static void print_batch(const struct cli *cli, struct json_object *reply) {
    struct json_object *results = member(reply, "results");
    for (size_t i = 0; i < json_object_array_length(results); i++) {
        printf("%squery %zu%s\n", cli->bold, i + 1, cli->plain);
        print_hits(cli, json_object_array_get_idx(results, i));
    }
}

/* --- the request --------------------------------------------------------------------------------------------------------- */

static struct json_object *conditions(const struct cli *cli, struct status *st) {
    struct json_object *list = json_object_new_array();
    for (int i = 0; i < cli->given[OPTION_WHERE].count; i++) {
        struct json_object *condition = condition_of(cli->given[OPTION_WHERE].texts[i], st);
        if (condition == NULL) {
            json_object_put(list);
            return NULL;
        }
        json_object_array_add(list, condition);
    }
    return list;
}

/* --where beside --filter, or beside options that search/filtered has not: part of the filter. */
static bool put_filter(const struct cli *cli, struct json_object *body, struct status *st) {
    request_put_json(cli, body, "filter", OPTION_FILTER);
    if (!cli_has(cli, OPTION_WHERE))
        return true;
    struct json_object *all = conditions(cli, st), *filter = member(body, "filter");
    if (all == NULL)
        return false;
    if (filter != NULL)
        json_object_array_add(all, json_object_get(filter));
    struct json_object *both = json_object_new_object();
    json_object_object_add(both, "and", all);
    json_object_object_add(body, "filter", both);
    return true;
}

/* A file with a vector: JSON numbers, or base64 of float32. */
static bool put_embedding(const struct cli *cli, struct json_object *body, struct status *st) {
    struct buf input = {0};
    if (!cli_has(cli, OPTION_EMBEDDING))
        return true;
    bool ok = request_read(cli_text(cli, OPTION_EMBEDDING), &input, st);
    while (ok && input.len > 0 && isspace(input.data[input.len - 1]))
        input.data[--input.len] = '\0';
    if (ok && input.len > 0 && input.data[0] == '[') {
        struct json_object *vector = json_tokener_parse((const char *)input.data);
        ok = vector != NULL || status_set(st, STATUS_INVALID, "%s: no array of numbers", cli_text(cli, OPTION_EMBEDDING));
        json_object_object_add(body, "embedding", vector);
    } else if (ok) {
        json_object_object_add(body, "embedding", json_object_new_string_len((const char *)input.data, (int)input.len));
    }
    buf_fini(&input);
    return ok;
}

static void put_fusion(const struct cli *cli, struct json_object *body) {
    if (cli_has(cli, OPTION_MMR)) {
        struct json_object *mmr = json_object_new_object();
        request_put_real(cli, mmr, "lambda", OPTION_MMR);
        json_object_object_add(body, "mmr", mmr);
    }
    if (cli_has(cli, OPTION_FUSION) || cli_has(cli, OPTION_WEIGHT)) {
        struct json_object *fusion = json_object_new_object();
        request_put_text(cli, fusion, "method", OPTION_FUSION);
        request_put_real(cli, fusion, "weight", OPTION_WEIGHT);
        json_object_object_add(body, "fusion", fusion);
    }
}

static bool put_options(const struct cli *cli, struct json_object *body, struct status *st) {
    request_put_text(cli, body, "mode", OPTION_MODE);
    request_put_number(cli, body, "offset", OPTION_OFFSET);
    request_put_number(cli, body, "ef_search", OPTION_EF_SEARCH);
    request_put_flag(cli, body, "exact", OPTION_EXACT);
    request_put_flag(cli, body, "explain", OPTION_EXPLAIN);
    request_put_flag(cli, body, "prefix", OPTION_PREFIX);
    request_put_flag(cli, body, "include_embeddings", OPTION_VECTORS);
    if (cli_has(cli, OPTION_GROUP))
        json_object_object_add(body, "group_by", json_object_new_string("document"));
    put_fusion(cli, body);
    return put_filter(cli, body, st);
}

/* Whether only what search/embedding and search/filtered take, too, was asked for. */
static bool is_short(const struct cli *cli) {
    static const enum cli_option beyond[] = {OPTION_MODE, OPTION_OFFSET, OPTION_EF_SEARCH, OPTION_EXACT, OPTION_EXPLAIN, OPTION_PREFIX, OPTION_VECTORS,
                                             OPTION_GROUP, OPTION_MMR,    OPTION_FUSION,    OPTION_WEIGHT, OPTION_FILTER, OPTION_ALSO,   OPTION_BATCH, OPTION_BODY};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        if (cli_has(cli, beyond[i]))
            return false;
    }
    return true;
}

static bool put_words(const struct cli *cli, struct json_object *body, struct status *st) {
    struct buf words = {0};
    for (int i = 1; i < cli->argc; i++)
        buf_printf(&words, "%s%s", i > 1 ? " " : "", cli->argv[i]);
    bool ok = buf_check(&words, st);
    if (ok && words.len > 0)
        json_object_object_add(body, "query", json_object_new_string_len((const char *)words.data, (int)words.len));
    buf_fini(&words);
    return ok;
}

/* Each line of a file is a query, with the same options. */
static bool put_batch(const struct cli *cli, struct json_object **body, struct status *st) {
    struct buf input = {0};
    if (!request_read(cli_text(cli, OPTION_BATCH), &input, st)) {
        buf_fini(&input);
        return false;
    }
    struct json_object *searches = json_object_new_array(), *whole = json_object_new_object();
    char *rest = (char *)input.data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (line[strspn(line, " \t\r")] == '\0')
            continue;
        struct json_object *one = NULL;
        json_object_deep_copy(*body, &one, NULL);
        json_object_object_add(one, "query", json_object_new_string(line));
        json_object_array_add(searches, one);
    }
    json_object_object_add(whole, "searches", searches);
    json_object_put(*body);
    *body = whole;
    buf_fini(&input);
    return true;
}

static bool put_libraries(struct cli *cli, struct json_object *body, const char *first, struct status *st) {
    struct json_object *ids = json_object_new_array();
    json_object_array_add(ids, json_object_new_string(first));
    json_object_object_add(body, "libraries", ids);
    for (int i = 0; i < cli->given[OPTION_ALSO].count; i++) {
        char id[64];
        if (!cli_find_library(cli, cli->given[OPTION_ALSO].texts[i], id, st))
            return false;
        json_object_array_add(ids, json_object_new_string(id));
    }
    return true;
}

/* Fills in all but the path; *ret_rest: which call of the library, NULL: that of several. */
static bool fill(struct cli *cli, struct request *r, const char *library, const char **ret_rest, struct status *st) {
    bool brief = is_short(cli), words = cli->argc > 1;
    *ret_rest = "/search";
    if ((r->body = request_body(cli, st)) == NULL || !put_words(cli, r->body, st) || !put_embedding(cli, r->body, st))
        return false;
    request_put_number(cli, r->body, "k", OPTION_K);
    request_put_real(cli, r->body, "distance_threshold", OPTION_THRESHOLD);
    request_put_text(cli, r->body, "min_lsn", OPTION_MIN_LSN);
    if (brief && words && cli_has(cli, OPTION_WHERE) && !cli_has(cli, OPTION_EMBEDDING)) {
        struct json_object *list = conditions(cli, st);
        json_object_object_add(r->body, "metadata_filters", list);
        *ret_rest = "/search/filtered";
        return list != NULL;
    }
    if (brief && !words && !cli_has(cli, OPTION_WHERE))
        *ret_rest = "/search/embedding";
    if (!put_options(cli, r->body, st))
        return false;
    if (cli_has(cli, OPTION_BATCH)) {
        *ret_rest = "/search/batch";
        r->show = print_batch;
        return put_batch(cli, &r->body, st);
    }
    if (!cli_has(cli, OPTION_ALSO))
        return true;
    *ret_rest = NULL;
    return put_libraries(cli, r->body, library, st);
}

int command_search(struct cli *cli) {
    struct status st = {0};
    struct request r = {.method = "POST", .again = true, .show = print_hits};
    const char *rest = NULL;
    char id[64];
    if (cli_has(cli, OPTION_BATCH) && (cli->argc > 1 || cli_has(cli, OPTION_EMBEDDING) || cli_has(cli, OPTION_ALSO)))
        return cli_usage(cli, "--batch has the queries, for one library");
    if (cli->argc == 1 && !cli_has(cli, OPTION_EMBEDDING) && !cli_has(cli, OPTION_BATCH) && !cli_has(cli, OPTION_BODY))
        return cli_usage(cli, "say what to look for");
    bool ok = cli_find_library(cli, cli->argv[0], id, &st) && fill(cli, &r, id, &rest, &st);
    ok = ok && (rest != NULL ? request_path(&r, &st, "/v1/libraries/", id, rest, NULL) : request_path(&r, &st, "/v1/search", NULL));
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}
