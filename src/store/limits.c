/* limits.c - the presets of limits.def. */
#include "store/limits.h"

void limits_default(struct limits *out) {
    *out = (struct limits){
#define LIMIT(name, preset, least, most, unit, error, help) .name = (preset),
#define FIXED(name, value, unit, error, help)
#include "store/limits.def"
#undef LIMIT
#undef FIXED
    };
}

void limits_widest(struct limits *out) {
    *out = (struct limits){
#define LIMIT(name, preset, least, most, unit, error, help) .name = (most),
#define FIXED(name, value, unit, error, help)
#include "store/limits.def"
#undef LIMIT
#undef FIXED
    };
}
