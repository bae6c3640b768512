/*
 * floor.c - a FastCGI worker that answers at once: what nginx and libfcgi cost by themselves, for bench/http and bench/durable.
 *
 *   floor SOCKET [WORKERS [REPLY_BYTES]]
 *
 * It reads the body and sends a fixed reply, by default of the size of a search's. It ends when its parent does, or on a signal.
 */
#include <fcgiapp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define REPLY_BYTES 4096
#define REPLY_MOST 65536

static void serve(int listening, int reply_bytes) {
    static char reply[REPLY_MOST], block[8192];
    for (size_t i = 0; i < sizeof reply; i++)
        reply[i] = (char)('a' + i % 26);
    FCGX_Request request;
    if (FCGX_InitRequest(&request, listening, 0) != 0)
        return;
    while (FCGX_Accept_r(&request) == 0) {
        while (FCGX_GetStr(block, (int)sizeof block, request.in) > 0) {
        }
        FCGX_FPrintF(request.out, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", reply_bytes);
        FCGX_PutStr(reply, reply_bytes, request.out);
        FCGX_Finish_r(&request);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: floor SOCKET [WORKERS [REPLY_BYTES]]\n");
        return 64;
    }
    int workers = argc > 2 ? atoi(argv[2]) : 2;
    int reply_bytes = argc > 3 ? atoi(argv[3]) : REPLY_BYTES;
    if (reply_bytes < 0 || reply_bytes > REPLY_MOST || FCGX_Init() != 0)
        return 71;
    int listening = FCGX_OpenSocket(argv[1], 511);
    if (listening < 0)
        return 71;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (int i = 1; i < workers; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    }
    serve(listening, reply_bytes);
    return 0;
}
