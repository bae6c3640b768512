/* engine_filters.c */
#include "engine.h"

void run_filters(struct bench *b) {
    (void)b;
}

void run_exact(struct bench *b) {
    (void)b;
}
