/*
 * doctor.c - quire doctor: what is wrong here, and what to do.
 *
 * What it looks at follows from what it finds: a configuration names a data directory, sockets, models and keys; nginx's configuration leads to a certificate
 * and an address; a server that answers there is asked. With --data alone it looks at a directory, with QUIRE_URL alone at a server. The parts and their
 * troubles: doctor.h, doctor.def.
 */
#include "cli/doctor.h"

#include "base/clock.h"
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#define PRESET_CONFIG QUIRE_SYSCONFDIR "/quire/quire.conf"
#define PRESET_NGINX "/etc/nginx/nginx.conf"

enum { EXIT_HEALTHY = 0, EXIT_WARNINGS = 1, EXIT_ERRORS = 2 };

/* That beside quire.conf, as scripts/serve has it, or the system's. */
static const char *preset_nginx(const char *config_path, char *out, size_t room) {
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", config_path);
    snprintf(out, room, "%s/nginx.conf", dirname(copy));
    return access(out, F_OK) == 0 ? out : PRESET_NGINX;
}

/* Whoever the directories belong to may put a pipe where a file is expected, and who opens that waits for ever. */
static int open_without_waiting(int dir_fd, const char *path, int flags, int *ret_fd, void *ctx) {
    (void)ctx;
    bool file = (flags & (O_ACCMODE | O_DIRECTORY)) == O_RDONLY;
    *ret_fd = openat(dir_fd, path, file ? flags | O_NONBLOCK | O_NOCTTY : flags);
    return *ret_fd < 0 ? errno : 0;
}

static void look(struct doctor *d) {
    doctor_look_at_config(d);
    doctor_look_at_processes(d);
    doctor_look_at_secrets(d);
    doctor_look_at_data(d);
    if (d->data_dir[0] != '\0')
        doctor_look_at_disk(d, d->data_dir);
    doctor_look_at_log(d);
    doctor_look_at_backup(d);
    if (d->has_config) {
        doctor_look_at_machine(d);
        doctor_look_at_nginx(d);
        doctor_look_at_sockets(d);
        doctor_look_at_certificate(d);
    }
    if (d->has_config || d->data_dir[0] == '\0')
        doctor_ask_server(d);
}

/* A directory as scripts/serve makes it, with the data below it: taken for the data, everything in it would be a stranger. */
static bool is_instance(const char *directory) {
    char conf[PATH_MAX], data[PATH_MAX], log[PATH_MAX];
    snprintf(conf, sizeof conf, "%s/quire.conf", directory);
    snprintf(data, sizeof data, "%s/data", directory);
    snprintf(log, sizeof log, "%s/wal", directory);
    return access(conf, F_OK) == 0 && access(data, F_OK) == 0 && access(log, F_OK) != 0;
}

static int tell(const struct doctor *d) {
    struct status st = {0};
    if (d->no_memory && !status_no_memory(&st))
        return cli_fail(&st);
    if (!d->cli->json)
        doctor_print(d);
    else if (!doctor_print_json(d, &st))
        return cli_fail(&st);
    return doctor_count(d, DOCTOR_ERROR) > 0 ? EXIT_ERRORS : doctor_count(d, DOCTOR_WARNING) > 0 ? EXIT_WARNINGS : EXIT_HEALTHY;
}

int command_doctor(struct cli *cli) {
    static struct doctor d; /* it holds a whole configuration */
    char config_path[PATH_MAX], nginx_path[PATH_MAX];
    const char *named = cli_text(cli, OPTION_CONFIG), *data = cli_text(cli, OPTION_DATA), *nginx = cli_text(cli, OPTION_NGINX);
    if (data != NULL && is_instance(data)) {
        fprintf(stderr, "quire: %s has an instance, its data is in %s/data: say --data %s/data, or -c %s/quire.conf, which looks at configuration, nginx and server, too\n", data, data, data, data);
        return EX_USAGE;
    }
    bool has_server = cli->server.url != NULL || getenv("QUIRE_URL") != NULL;
    if (named == NULL && data == NULL && (access(PRESET_CONFIG, F_OK) == 0 || !has_server))
        named = PRESET_CONFIG;
    d = (struct doctor){.cli = cli, .data_fd = -1, .site = NGINX_NONE, .now_us = clock_wall_us(), .deep = cli_has(cli, OPTION_DEEP), .nginx_path = nginx};
    if (named != NULL) {
        /* Absolute, so that what it says to do holds in any directory. */
        d.config_path = realpath(named, config_path) != NULL ? config_path : named;
        d.nginx_path = nginx != NULL ? nginx : preset_nginx(d.config_path, nginx_path, sizeof nginx_path);
    }
    if (data != NULL)
        snprintf(d.data_dir, sizeof d.data_dir, "%s", data);
    io_set_opener(open_without_waiting, NULL);
    look(&d);
    io_set_opener(NULL, NULL);
    int rc = tell(&d);
    io_close(&d.data_fd);
    nginx_conf_fini(&d.nginx);
    doctor_fini(&d);
    return rc;
}
