/* limits.c - the presets of limits.def. */
#include "store/limits.h"

void limits_default(struct limits *out) {
    *out = (struct limits){
#define LIMIT(name, preset, least, most, unit, help) .name = (preset),
#include "store/limits.def"
#undef LIMIT
    };
}

void limits_widest(struct limits *out) {
    *out = (struct limits){
#define LIMIT(name, preset, least, most, unit, help) .name = (most),
#include "store/limits.def"
#undef LIMIT
    };
}
