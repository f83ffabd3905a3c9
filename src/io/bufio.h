/*
 * Buffered readers, for who hands a line on before it is taken.
 */
#ifndef WEFT_IO_BUFIO_H
#define WEFT_IO_BUFIO_H

#include <weft/stream.h>

/*
 * weft_bufreader_read_line() that takes nothing: *ret_line is borrowed until the next call on r,
 * and has no NUL behind it. weft_bufreader_consume() takes its *ret_piece bytes, end included;
 * until then the same line comes again.
 */
int weft__bufreader_find_line(weft_bufreader *r, const char **ret_line, size_t *ret_len,
                              size_t *ret_piece);

#endif
