/* engine_together.c - searching while others do something: another process that searches too, a writer that puts vectors in. */
#include "engine.h"

#include <stdio.h>

void run_processes(struct bench *b) {
    (void)b;
}

void run_insert(struct bench *b) {
    (void)b;
}
