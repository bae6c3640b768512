/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4), hardware where there is SSE4.2, tables elsewhere. */
#ifndef QUIRE_BASE_CRC32C_H
#define QUIRE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 to begin) over len bytes. crc32c(0, "123456789", 9) == 0xE3069283.
 * crc32c(crc32c(0, a), b) is the CRC of a then b. Several GB/s are needed: start checks arenas of gigabytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The portable one, for the test that holds both together. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
