/*
 * main.c - the program `quired`: its command line.
 *
 * Exit codes are those of sysexits.h: 0 stopped in order, 64 wrong command line, 65 damaged data, or a newer program's, 70 a bug, 71 the system
 * refused, 73 a directory cannot be made, or --init finds something in it, 74 input or output failed, 75 somebody else holds the data directory, 78 wrong
 * configuration.
 */
#include <config.h> /* in angle brackets: beside this file lies another config.h */

#include "base/io.h"
#include "durable/formats.h"
#include "proc/children.h"
#include "proc/init.h"
#include "proc/provider.h"
#include "proc/supervisor.h"
#include "proc/worker.h"
#include "shm/mapfile.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define PRESET_PATH QUIRE_SYSCONFDIR "/quire/quire.conf"

enum { OPTION_SET = 256, OPTION_INIT, OPTION_REPAIR, OPTION_WORKER, OPTION_FOREGROUND, WORKER_ARGUMENTS = 4, PROVIDER_ARGUMENTS = 3 };

static const struct option long_options[] = {{"config", required_argument, NULL, 'c'},
                                             {"set", required_argument, NULL, OPTION_SET},
                                             {"test", no_argument, NULL, 't'},
                                             {"init", no_argument, NULL, OPTION_INIT},
                                             {"repair", no_argument, NULL, OPTION_REPAIR},
                                             {"foreground", no_argument, NULL, OPTION_FOREGROUND},
                                             {"version", no_argument, NULL, 'V'},
                                             {"help", no_argument, NULL, 'h'},
                                             {NULL, 0, NULL, 0}};

static void print_help(void) {
    (void)printf("usage: quired [-c FILE] [--set KEY=VALUE]... [-t] [--init] [--repair]\n"
                 "\n"
                 "The server of Quire. It stays in the foreground; nginx speaks FastCGI to its socket.\n"
                 "\n"
                 "  -c, --config FILE    the configuration (%s)\n"
                 "      --set KEY=VALUE  sets a key over the configuration; may be given several times\n"
                 "  -t, --test           tests the configuration, and whether this program can read the data, and ends\n"
                 "      --init           makes the data directory and the first key, which it prints, and ends\n"
                 "      --repair         gives up what is damaged in the log instead of refusing to start\n"
                 "      --foreground     taken for the sake of unit files; it is the only way\n"
                 "  -V, --version        shows the version\n"
                 "  -h, --help           shows this\n"
                 "\n"
                 "Signals: TERM and INT stop in order, QUIT at once; HUP reloads; USR1 reopens the log; USR2 hands over to the program\n"
                 "that lies at this one's path now, without a failed request.\n",
                 PRESET_PATH);
}

/* None of 0, 1 and 2 may be free, or a file that is opened later would become what others write to. */
static bool fill_standard_descriptors(void) {
    int fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO) {
        fd = open("/dev/null", O_RDWR);
    }
    if (fd < 0) {
        return false;
    }
    (void)close(fd);
    return true;
}

struct arguments {
    struct supervisor_options options;
    bool test;
    bool init;
};

/* Returns an exit code, or -1: go on. */
static int parse_arguments(int argc, char **argv, const char **sets, struct arguments *ret) {
    int option;
    struct arguments a = {.options = {.sets = sets}};
    while ((option = getopt_long(argc, argv, "c:tVh", long_options, NULL)) != -1) {
        switch (option) {
        case 'c':
            a.options.config_path = optarg;
            break;
        case OPTION_SET:
            sets[a.options.set_count++] = optarg;
            break;
        case 't':
            a.test = true;
            break;
        case OPTION_INIT:
            a.init = true;
            break;
        case OPTION_REPAIR:
            a.options.repair = true;
            break;
        case OPTION_FOREGROUND:
            break;
        case 'V':
            (void)printf("quired (Quire) %s\n", PACKAGE_VERSION);
            return EX_OK;
        case 'h':
            print_help();
            return EX_OK;
        default:
            (void)fprintf(stderr, "quired --help shows how it is used\n");
            return EX_USAGE;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "quired: unexpected argument '%s'; quired --help shows how it is used\n", argv[optind]);
        return EX_USAGE;
    }
    *ret = a;
    return -1;
}

/* What is no error, because it may be meant or be there later, and still not what was written down says. */
static void tell_notes(const struct config *config) {
    struct status st;
    int fd = -1;
    if (config->archive_dir[0] != '\0' && !io_open_at(AT_FDCWD, config->archive_dir, O_RDONLY | O_DIRECTORY, 0, &fd, &st)) {
        (void)printf("archive_dir: %s; until that is mended, the log is not archived and its segments stay\n", st.detail);
    } else if (fd >= 0 && faccessat(fd, ".", W_OK, AT_EACCESS) != 0) {
        (void)printf("archive_dir: this user may not write to %s; the log would not be archived\n", config->archive_dir);
    }
    io_close(&fd);
    if (config->write_workers > children_writers(config)) {
        (void)printf("write_workers: %u of %u workers at most are for writes, not %u, so that some are there for searches\n", (unsigned)children_writers(config),
                     (unsigned)children_wanted(config), (unsigned)config->write_workers);
    }
}

/* The configuration is good. What lies in the data directory must be, too, as far as its formats go; a server may be at work there. */
static int test_data(const struct config *config) {
    struct status st;
    int fd = -1;
    (void)printf("configuration ok\n");
    tell_notes(config);
    if (!io_open_at(AT_FDCWD, config->data_dir, O_RDONLY | O_DIRECTORY, 0, &fd, &st)) {
        (void)printf("data not looked at: %s\n", st.detail);
        return EX_OK;
    }
    bool ok = formats_check(fd, &st);
    io_close(&fd);
    if (!ok) {
        (void)fprintf(stderr, "quired: %s\n", st.detail);
        return st.code == STATUS_CORRUPT ? EX_DATAERR : EX_IOERR;
    }
    (void)printf("data ok, as far as its formats go\n");
    return EX_OK;
}

static int init(const struct config *config) {
    struct status st;
    if (!init_data(config, &st)) {
        (void)fprintf(stderr, "quired: %s\n", st.detail);
        return EX_CANTCREAT;
    }
    return EX_OK;
}

static int run(const struct arguments *a) {
    static struct config config;
    struct supervisor_options options = a->options;
    struct status st;
    /* The preset file may be missing, one that was named may not. */
    if (options.config_path == NULL && access(PRESET_PATH, F_OK) == 0) {
        options.config_path = PRESET_PATH;
    }
    if (!supervisor_read_config(&options, &config, &st)) {
        (void)fprintf(stderr, "quired: %s\n", st.detail);
        return EX_CONFIG;
    }
    if (a->test) {
        return test_data(&config);
    }
    if (a->init) {
        return init(&config);
    }
    mapfile_use_huge_pages(config.huge_pages == CONFIG_ON);
    return supervisor_run(&options, &config);
}

int main(int argc, char **argv) {
    struct arguments arguments;
    if (!fill_standard_descriptors()) {
        return EX_OSERR;
    }
    if (argc == WORKER_ARGUMENTS && strcmp(argv[1], "--worker") == 0) {
        return worker_main(argv[2], argv[3]);
    }
    if (argc == PROVIDER_ARGUMENTS && strcmp(argv[1], "--provider") == 0) {
        return provider_main(argv[2]);
    }
    const char **sets = (const char **)calloc((size_t)argc, sizeof *sets);
    if (sets == NULL) {
        return EX_OSERR;
    }
    int code = parse_arguments(argc, argv, sets, &arguments);
    if (code < 0) {
        code = run(&arguments);
    }
    free(sets);
    return code;
}
