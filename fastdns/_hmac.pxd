# SPDX-License-Identifier: Apache-2.0
#
# HMAC over SHA-1 and SHA-2, for TSIG: on the hot thread, without the interpreter, without allocation.
#
# A key is kept as the state of the hash behind each of its two pads (RFC 2104 4), so that a signature costs its message
# and two blocks. How long anything takes depends on lengths alone, never on a key or a message.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:                      # the hash
    SHA1 = 0
    SHA224 = 1
    SHA256 = 2
    SHA384 = 3
    SHA512 = 4
    HASHES = 5
    HASH_MAX = 64               # octets of the longest result
    BLOCK_MAX = 128             # ... of the longest block

cdef struct Hash:
    uint64_t state[8]           # words of 32 or 64 bits
    uint64_t octets             # taken so far, those in `block` among them
    uint8_t kind
    uint8_t block[BLOCK_MAX]

cdef struct HmacKey:
    uint64_t inner[8]
    uint64_t outer[8]

cdef uint32_t hash_size(int kind) noexcept nogil
    # Octets of a result.
cdef void hash_start(Hash *h, int kind) noexcept nogil
cdef void hash_add(Hash *h, const uint8_t *data, size_t n) noexcept nogil
cdef void hash_end(Hash *h, uint8_t *out) noexcept nogil
    # Writes hash_size octets.

cdef void hmac_key(HmacKey *key, int kind, const uint8_t *secret, size_t n) noexcept nogil
cdef void hmac_start(Hash *h, const HmacKey *key, int kind) noexcept nogil
    # What is signed then goes into hash_add.
cdef void hmac_end(Hash *h, const HmacKey *key, uint8_t *out) noexcept nogil
cdef bint same_octets(const uint8_t *a, const uint8_t *b, uint32_t n) noexcept nogil
    # Compares without telling by its time where they differ.
