/*
 * places.h - so many may do something at once, and nobody's death takes a place away.
 *
 * Each place holds the number of who has it, so what a dead process held is found and given back by whoever buries it; a counter
 * could not tell. Lives in shared memory. Nobody waits here: who finds no place goes and does something else, and whoever gives
 * one back looks for what was turned away meanwhile.
 */
#ifndef QUIRE_SHM_PLACES_H
#define QUIRE_SHM_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#define PLACES_MAX 128

/* All zeros: no places. */
struct places {
    uint32_t count;              /* written by: the supervisor, before anybody else looks */
    uint32_t holder[PLACES_MAX]; /* 0: free, else who + 1 */
};

/* At most PLACES_MAX. */
void places_init(struct places *p, uint32_t count);
/* False: all are taken. */
bool places_take(struct places *p, uint32_t who);
/* Gives back all that `who` has. Whatever it does after that, others can see that the place is free before they see it done. */
void places_leave(struct places *p, uint32_t who);
uint32_t places_taken(const struct places *p);

#endif
