/* limits.h - the limits of limits.def as a struct; config fills it, api and store read it. */
#ifndef QUIRE_STORE_LIMITS_H
#define QUIRE_STORE_LIMITS_H

#include <stdint.h>

struct limits {
#define LIMIT(name, preset, least, most, unit, error, help) uint64_t name;
#define FIXED(name, value, unit, error, help)
#include "store/limits.def"
#undef LIMIT
#undef FIXED
};

enum limit_fixed {
#define LIMIT(name, preset, least, most, unit, error, help)
#define FIXED(name, value, unit, error, help) LIMIT_##name = (value),
#include "store/limits.def"
#undef LIMIT
#undef FIXED
};

/* All presets. */
void limits_default(struct limits *out);
/* The most that each may be set to: what is logged already was within these, whatever the configuration says today. */
void limits_widest(struct limits *out);

#endif
