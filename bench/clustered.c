/* clustered.c - see clustered.h. The random numbers are SplitMix64 (Steele, Lea and Flood 2014) and the Box-Muller transform. */
#include "clustered.h"

#include "index/distance.h"

#include <math.h>
#include <stdlib.h>

enum { LATENT = 40 };

static const double TWO_PI = 6.283185307179586476925287;
static const double WITHIN = 0.9;
static const double NOISE = 0.25;

struct clustered {
    uint64_t state;
    double spare; /* Box-Muller makes two normals at a time */
    bool has_spare;
    uint32_t dimension;
    uint32_t centres;
    float *transform; /* A: dimension rows of LATENT */
    float *centre;    /* centres rows of LATENT */
    float *spread;
    double *cumulated; /* weights, summed up */
};

static uint64_t next_bits(struct clustered *c) {
    uint64_t z = (c->state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/* In (0, 1). */
static double next_uniform(struct clustered *c) {
    return ((double)(next_bits(c) >> 11) + 0.5) * 0x1p-53;
}

static double next_normal(struct clustered *c) {
    double radius;
    double angle;

    if (c->has_spare) {
        c->has_spare = false;
        return c->spare;
    }
    radius = sqrt(-2.0 * log(next_uniform(c)));
    angle = TWO_PI * next_uniform(c);
    c->spare = radius * sin(angle);
    c->has_spare = true;
    return radius * cos(angle);
}

static void fill(struct clustered *c) {
    double sum = 0.0;

    for (size_t i = 0; i < (size_t)c->dimension * LATENT; i++) {
        c->transform[i] = (float)(next_normal(c) / sqrt((double)LATENT));
    }
    for (size_t i = 0; i < (size_t)c->centres * LATENT; i++) {
        c->centre[i] = (float)next_normal(c);
    }
    for (uint32_t i = 0; i < c->centres; i++) {
        c->spread[i] = (float)(0.5 + next_uniform(c));
        sum += 1.0 / sqrt(1.0 + (double)i);
        c->cumulated[i] = sum;
    }
}

struct clustered *clustered_new(uint64_t seed, uint32_t dimension, uint32_t centres) {
    struct clustered *c = calloc(1, sizeof *c);

    if (c == NULL) {
        return NULL;
    }
    c->state = seed;
    c->dimension = dimension;
    c->centres = centres;
    c->transform = calloc((size_t)dimension * LATENT, sizeof *c->transform);
    c->centre = calloc((size_t)centres * LATENT, sizeof *c->centre);
    c->spread = calloc(centres, sizeof *c->spread);
    c->cumulated = calloc(centres, sizeof *c->cumulated);
    if (c->transform == NULL || c->centre == NULL || c->spread == NULL || c->cumulated == NULL) {
        clustered_free(c);
        return NULL;
    }
    fill(c);
    return c;
}

void clustered_free(struct clustered *c) {
    if (c != NULL) {
        free(c->transform);
        free(c->centre);
        free(c->spread);
        free(c->cumulated);
        free(c);
    }
}

static uint32_t next_centre(struct clustered *c) {
    double at = next_uniform(c) * c->cumulated[c->centres - 1];
    uint32_t low = 0;
    uint32_t high = c->centres - 1;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->cumulated[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void clustered_next(struct clustered *c, float *out) {
    uint32_t which = next_centre(c);
    float z[LATENT];

    for (size_t i = 0; i < LATENT; i++) {
        z[i] = c->centre[(size_t)which * LATENT + i] + (float)(WITHIN * (double)c->spread[which] * next_normal(c));
    }
    for (size_t i = 0; i < c->dimension; i++) {
        float sum = 0.0F;
        for (size_t j = 0; j < LATENT; j++) {
            sum += c->transform[i * LATENT + j] * z[j];
        }
        out[i] = tanhf(sum) + (float)(NOISE * next_normal(c));
    }
    (void)vector_normalize(out, c->dimension);
}

void clustered_go_on(struct clustered *c, uint64_t seed) {
    c->state = seed;
    c->has_spare = false;
}
