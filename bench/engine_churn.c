/* engine_churn.c */
#include "engine.h"

void run_churn(struct bench *b) {
    (void)b;
}
