/*
 * What the model explorer is told of plain memory that it does not see for itself: src/ is compiled
 * so that the compiler tells it (docs/design/model.md), tests are not. Nothing in other builds.
 *
 * WEFT__MODEL_READ(p) and WEFT__MODEL_WRITE(p) stand before an access of *p, or of so many bytes.
 * Two accesses by two threads, one of them a write, of which neither happens before the other, fail
 * the model.
 */
#ifndef WEFT_BASE_MODEL_H
#define WEFT_BASE_MODEL_H

#ifdef WEFT_MODEL
#include <stddef.h>

void weft__model_read(const void *addr, size_t bytes);
void weft__model_write(const void *addr, size_t bytes);

#define WEFT__MODEL_READ(p) weft__model_read((p), sizeof *(p))
#define WEFT__MODEL_WRITE(p) weft__model_write((p), sizeof *(p))
#define WEFT__MODEL_READ_BYTES(p, bytes) weft__model_read((p), (bytes))
#define WEFT__MODEL_WRITE_BYTES(p, bytes) weft__model_write((p), (bytes))
#else
#define WEFT__MODEL_READ(p) ((void)0)
#define WEFT__MODEL_WRITE(p) ((void)0)
#define WEFT__MODEL_READ_BYTES(p, bytes) ((void)0)
#define WEFT__MODEL_WRITE_BYTES(p, bytes) ((void)0)
#endif

#endif
