/*
 * Faults: makes the n-th call of a kind that weft makes fail, as $WEFT_FAULT asks for.
 *
 *     WEFT_FAULT=recv:17:ECONNRESET     the 17th recv() fails once
 *     WEFT_FAULT=alloc:5+:ENOMEM        the fifth allocation and all that follow
 *     WEFT_FAULT=write:/2:EINTR         every second one, from the first
 *     WEFT_FAULT=read:3:short           one byte is read, however many were asked for
 *     WEFT_FAULT=count                  none; the calls are recorded in the file $WEFT_FAULT_TRACE
 *
 * Kinds and errors stand in tests/faults/table. Only weft's own calls are counted: they go through
 * weft__sys_table, whose entries are replaced before main(). Without the variable nothing is
 * replaced. tools/sweep-faults fails every call in turn, by faults_ask() in children that a program
 * has forked for it (harness.h).
 *
 * After a fault a test of the API is not held to its checks, which ask for success: the first that
 * fails ends the process, with status FAULTS_CHECK_FAILED. A scene (tests/faults) is strict: it
 * copes with any error that may come, and then all that it checks must hold.
 */
#ifndef WEFT_TESTS_FAULTS_H
#define WEFT_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FAULTS_CHECK_FAILED = 77 };

/* As WEFT_FAULT does; once, while there is no other thread. Ends the process, with a line that says
 * why, if there is no such fault. */
void faults_ask(const char *text);

/* Counts from here on; or, until then and after disarm, lets every call alone. */
void faults_arm(void);
void faults_disarm(void);
/* By the harness, before each test: counts, unless the program is strict. */
void faults_begin_test(void);
/* Before any test: the program arms by itself, and its checks hold whatever fails. */
void faults_be_strict(void);

/* A call was made to fail. */
bool faults_was_reached(void);
/* From here on nothing is explained by it. */
void faults_forget(void);
/* With one that was, rc is an error that it may have led to at the caller of the API: the error
 * itself, or what weft makes of it by its documentation. */
bool faults_explain(long rc);
/* By the harness, when a check has failed; does not return if that is to be expected. */
void faults_check_failed(void);

/* By the harness: weft will try again until it succeeds, says its log. Where what has run out stays
 * so that is all that may come of it, and this does not return. */
void faults_tried_again(const char *line);

/* What weft has allocated, and mapped, and not given back. 0 without WEFT_FAULT. */
long faults_allocated(void);
long faults_mapped_bytes(void);
/* p came from weft and is about to be freed by free(). */
void faults_freed(const void *p);

#ifdef __cplusplus
}
#endif

#endif
