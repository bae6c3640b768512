/* reembed.c - quire reembed: another model for a library, the one before back, or no longer kept. */
#include "cli/request.h"

int command_reembed(struct cli *cli) {
    bool back = cli_has(cli, OPTION_ROLLBACK), drop = cli_has(cli, OPTION_DROP);
    if ((back && drop) || (cli_has(cli, OPTION_MODEL) && (back || drop)))
        return cli_usage(cli, "--model, --rollback and --drop exclude each other");
    struct status st = {0};
    struct request r = {.method = "POST", .task = true};
    if (drop)
        r = (struct request){.method = "DELETE", .done = "given up"};
    else if (!back)
        r.body = request_body(cli, &st);
    bool ok = drop || back || r.body != NULL;
    if (r.body != NULL)
        request_put_text(cli, r.body, "embedding_model", OPTION_MODEL);
    ok = ok && request_library(cli, &r, cli->argv[0], back ? "/reembed/rollback" : "/reembed", &st);
    return ok ? request_run(cli, &r) : request_failed(&r, &st);
}
