/*
 * secret.h - secrets of API keys: "qk_", 30 random characters, 6 that check them. 39 in all, letters and digits but for the mark in front.
 *
 * 30 characters of 62 are 178 random bits. The check is the CRC-32 (that of zip and PNG: zlib.crc32 in Python) of the 30 characters, written in base 62 from
 * the most significant digit on, led by zeros. So a scanner of sources and logs that finds qk_[0-9A-Za-z]{36} can tell a key from something alike, without
 * asking anybody, and a person who copied one badly is told so. It adds nothing to what is secret.
 */
#ifndef QUIRE_BASE_SECRET_H
#define QUIRE_BASE_SECRET_H

#include "base/buf.h"

#define SECRET_TEXT 39

MUST_CHECK bool secret_make(char out[SECRET_TEXT + 1], struct status *st);
/* Whether it has the form, check included. */
bool secret_well_formed(struct slice text);
/* Overwrites memory that held one. */
void secret_wipe(void *at, size_t len);

#endif
