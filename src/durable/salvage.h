/*
 * salvage.h - inside durable: vectors out of arenas that are made anew.
 *
 * Recovery that cannot take the arenas as they are sets them aside (vectors/<id>.old) and builds new ones from text. A chunk
 * whose id, text, model and dimension are the same gets its old vector, when that still has its checksum; so a crash costs
 * copying and not embedding.
 */
#ifndef QUIRE_DURABLE_SALVAGE_H
#define QUIRE_DURABLE_SALVAGE_H

#include "store/catalog.h"

struct salvage;

/* Sets all arenas aside, but for those of libraries that are spared (NULL: none), and looks at what there is. vectors_dir_fd is borrowed. */
typedef bool (*salvage_spared_fn)(const void *ctx, const struct uuid *library);
MUST_CHECK bool salvage_begin(int vectors_dir_fd, salvage_spared_fn spared, const void *ctx, struct salvage **ret, struct status *st);
/* Vectors for a DOCUMENT_PUT whose op has none. `view`: of its library, as the catalog holds it now. known: rows that the caller
 * has already (NaN first where it has not), or NULL. *ret: num_chunks * dimension floats, NaN first in rows that nobody has,
 * valid until the next call; NULL when there is no row at all. */
MUST_CHECK bool salvage_vectors(struct salvage *s, const struct op *op, const struct library_view *view, const float *known,
                                const float **ret, struct status *st);
/* Gives their room on the disk back before the end, because there is not enough for both. true: there was something. */
bool salvage_sacrifice(struct salvage *s);
/* The library has another model from here on: what is set aside may have vectors of that one. Takes NULL. */
void salvage_look_again(struct salvage *s, const struct uuid *library);
/* Chunks of the published state that have no vector get those that lie there. For one that salvage_look_again was called for. */
MUST_CHECK bool salvage_fill(struct salvage *s, struct catalog *c, const struct uuid *library, struct status *st);
/* Vectors of a library's other model, out of the log or a snapshot, are kept for whoever makes that side anew, or for the library when it has that model. Without
 * room on the disk they are not. */
MUST_CHECK bool salvage_shelve(struct salvage *s, struct library *lib, const struct op *op, struct status *st);
/* The library is about to get another model: what a provider made for it until now is kept likewise. */
MUST_CHECK bool salvage_shelve_all(struct salvage *s, struct library *lib, const struct uuid *id, struct status *st);
/* The libraries are dropped, and all is loaded anew. */
void salvage_clear_shelves(struct salvage *s);
/* Removes what was set aside, but for vectors of another model than the library's while the exchange of its model is under way, or the one before kept: they
 * get a directory's name again, for whoever makes that side anew (store/exchange.h). */
MUST_CHECK bool salvage_end(struct salvage *s, struct catalog *c, struct status *st);
/* Forgets it without removing anything: the next recovery finds it again. Takes NULL. */
void salvage_free(struct salvage *s);

/* Removes arenas of libraries that the catalog does not have, what earlier recoveries left, and arenas that do not serve unless an exchange may want them. */
MUST_CHECK bool salvage_remove_strays(int vectors_dir_fd, struct catalog *c, struct status *st);

#endif
