/*
 * Counted boxes: memory that several tasks own, destroyed by whoever lets go last.
 *
 * The box is known by the address of its value, so a weft_arc is used like a pointer to what is in
 * it. Weak references do not keep the value alive, and can be turned into one that does as long as
 * somebody else has one.
 *
 * All functions may be called from any thread, in a runtime or in none. None suspends, but for what
 * `drop` does.
 *
 * Source: Rust's std::sync::Arc.
 */
#ifndef WEFT_ARC_H
#define WEFT_ARC_H

#include <weft/base.h>

WEFT_BEGIN_DECLS

/*
 * Makes a box with `bytes` of zeroed memory, aligned as malloc would.
 *
 *   drop   called once with the value when the last reference goes, by whoever gives it up; then
 *          the memory is freed. A panic in it goes on in the caller; the memory is freed all the
 *          same. NULL: nothing to do but free it
 *
 * Returns the value, with one reference, which is the caller's; NULL when out of memory.
 */
WEFT_API WEFT_MUST_CHECK void *weft_arc_create(size_t bytes, void (*drop)(void *value));
/* Takes a reference; returns value. NULL is passed through. */
WEFT_API void *weft_arc_ref(void *value);
/* Gives a reference up. What its holder did with the value comes before the drop. NULL does
 * nothing. */
WEFT_API void weft_arc_unref(void *value);
/* References now; with others about, an estimate. 1 means that the caller's is the only one, and
 * stays so while there are no weak ones. 0 for NULL. */
WEFT_API size_t weft_arc_count(const void *value);

typedef struct weft_arc_weak weft_arc_weak;

/* A weak reference, returned; value is borrowed. NULL for NULL. */
WEFT_API weft_arc_weak *weft_arc_downgrade(void *value);
/* A reference to the value, returned; NULL when it has been dropped, and for NULL. */
WEFT_API WEFT_MUST_CHECK void *weft_arc_upgrade(weft_arc_weak *weak);
WEFT_API weft_arc_weak *weft_arc_weak_ref(weft_arc_weak *weak);
WEFT_API void weft_arc_weak_unref(weft_arc_weak *weak); /* NULL does nothing */

WEFT_END_DECLS

#endif
