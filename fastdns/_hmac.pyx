# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""HMAC (RFC 2104) over the hashes of FIPS 180-4 that TSIG uses.

Strategy: a signed reply leaves on the hot thread, which has no interpreter and may not wait for one, and a wheel that
runs anywhere cannot rely on a library of the machine; so the five hashes are here. They are three compressions: SHA-1
and SHA-256 over words of 32 bits, SHA-512 over words of 64; 224 and 384 are these with another start and a shorter
result. Their constants are the first bits of roots of primes, and computed when the module is loaded. The tests hold
all of it against Python's hashlib, for every length around the end of a block.
"""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastdns._sys cimport memcpy, memset
from fastdns._wire cimport get32, put32

NAMES = ("sha1", "sha224", "sha256", "sha384", "sha512")

cdef uint64_t FACTORS[80]                   # of SHA-512; the upper halves of the first 64 are SHA-256's
cdef uint64_t STARTS[HASHES][8]
cdef uint32_t SIZES[HASHES]


# ---- the constants

def _root(number, degree):
    # The whole part of a root.
    low, high = 0, 1 << (number.bit_length() // degree + 1)
    while low < high:
        middle = (low + high + 1) // 2
        if middle ** degree <= number:
            low = middle
        else:
            high = middle - 1
    return low


def _fraction(number, degree):
    # The first 64 bits behind the point of a root.
    return _root(number << (64 * degree), degree) % (1 << 64)


def _fill():
    primes = [n for n in range(2, 410) if all(n % d for d in range(2, n))]
    for i in range(80):
        FACTORS[i] = _fraction(primes[i], 3)
    for i, size in enumerate((20, 28, 32, 48, 64)):
        SIZES[i] = size
    for i, word in enumerate((0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0)):
        STARTS[SHA1][i] = word
    for i in range(8):
        STARTS[SHA512][i] = _fraction(primes[i], 2)
        STARTS[SHA384][i] = _fraction(primes[8 + i], 2)
        STARTS[SHA256][i] = STARTS[SHA512][i] >> 32
        STARTS[SHA224][i] = STARTS[SHA384][i] & 0xFFFFFFFF


_fill()


# ---- the compressions

cdef inline uint32_t left32(uint32_t x, int n) noexcept nogil:
    return x << n | x >> (32 - n)


cdef inline uint32_t right32(uint32_t x, int n) noexcept nogil:
    return x >> n | x << (32 - n)


cdef inline uint64_t right64(uint64_t x, int n) noexcept nogil:
    return x >> n | x << (64 - n)


cdef void sha1_block(uint64_t *state, const uint8_t *p) noexcept nogil:
    cdef uint32_t w[80]
    cdef uint32_t a = <uint32_t>state[0]
    cdef uint32_t b = <uint32_t>state[1]
    cdef uint32_t c = <uint32_t>state[2]
    cdef uint32_t d = <uint32_t>state[3]
    cdef uint32_t e = <uint32_t>state[4]
    cdef uint32_t f, t
    cdef int i
    for i in range(16):
        w[i] = get32(p + 4 * i)
    for i in range(16, 80):
        w[i] = left32(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    for i in range(80):
        if i < 20:
            f = ((b & c) | (~b & d)) + <uint32_t>0x5A827999
        elif i < 40:
            f = (b ^ c ^ d) + <uint32_t>0x6ED9EBA1
        elif i < 60:
            f = ((b & c) | (b & d) | (c & d)) + <uint32_t>0x8F1BBCDC
        else:
            f = (b ^ c ^ d) + <uint32_t>0xCA62C1D6
        t = left32(a, 5) + f + e + w[i]
        e = d
        d = c
        c = left32(b, 30)
        b = a
        a = t
    state[0] = <uint32_t>(state[0] + a)
    state[1] = <uint32_t>(state[1] + b)
    state[2] = <uint32_t>(state[2] + c)
    state[3] = <uint32_t>(state[3] + d)
    state[4] = <uint32_t>(state[4] + e)


cdef void sha256_block(uint64_t *state, const uint8_t *p) noexcept nogil:
    cdef uint32_t w[64]
    cdef uint32_t v[8]
    cdef uint32_t s, t
    cdef int i, k
    for i in range(16):
        w[i] = get32(p + 4 * i)
    for i in range(16, 64):
        s = right32(w[i - 15], 7) ^ right32(w[i - 15], 18) ^ (w[i - 15] >> 3)
        t = right32(w[i - 2], 17) ^ right32(w[i - 2], 19) ^ (w[i - 2] >> 10)
        w[i] = w[i - 16] + s + w[i - 7] + t
    for k in range(8):
        v[k] = <uint32_t>state[k]
    for i in range(64):
        s = v[7] + (right32(v[4], 6) ^ right32(v[4], 11) ^ right32(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6]))
        s += <uint32_t>(FACTORS[i] >> 32) + w[i]
        t = right32(v[0], 2) ^ right32(v[0], 13) ^ right32(v[0], 22)
        t += (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2])
        v[7] = v[6]
        v[6] = v[5]
        v[5] = v[4]
        v[4] = v[3] + s
        v[3] = v[2]
        v[2] = v[1]
        v[1] = v[0]
        v[0] = s + t
    for k in range(8):
        state[k] = <uint32_t>(state[k] + v[k])


cdef inline uint64_t get64(const uint8_t *p) noexcept nogil:
    return <uint64_t>get32(p) << 32 | get32(p + 4)


cdef void sha512_block(uint64_t *state, const uint8_t *p) noexcept nogil:
    cdef uint64_t w[80]
    cdef uint64_t v[8]
    cdef uint64_t s, t
    cdef int i, k
    for i in range(16):
        w[i] = get64(p + 8 * i)
    for i in range(16, 80):
        s = right64(w[i - 15], 1) ^ right64(w[i - 15], 8) ^ (w[i - 15] >> 7)
        t = right64(w[i - 2], 19) ^ right64(w[i - 2], 61) ^ (w[i - 2] >> 6)
        w[i] = w[i - 16] + s + w[i - 7] + t
    for k in range(8):
        v[k] = state[k]
    for i in range(80):
        s = v[7] + (right64(v[4], 14) ^ right64(v[4], 18) ^ right64(v[4], 41)) + ((v[4] & v[5]) ^ (~v[4] & v[6]))
        s += FACTORS[i] + w[i]
        t = right64(v[0], 28) ^ right64(v[0], 34) ^ right64(v[0], 39)
        t += (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2])
        v[7] = v[6]
        v[6] = v[5]
        v[5] = v[4]
        v[4] = v[3] + s
        v[3] = v[2]
        v[2] = v[1]
        v[1] = v[0]
        v[0] = s + t
    for k in range(8):
        state[k] += v[k]


# ---- a hash

cdef inline uint32_t block_size(int kind) noexcept nogil:
    return 64 if kind < SHA384 else 128


cdef inline void compress(int kind, uint64_t *state, const uint8_t *p) noexcept nogil:
    if kind == SHA1:
        sha1_block(state, p)
    elif kind < SHA384:
        sha256_block(state, p)
    else:
        sha512_block(state, p)


cdef uint32_t hash_size(int kind) noexcept nogil:
    return SIZES[kind]


cdef void hash_start(Hash *h, int kind) noexcept nogil:
    h.kind = <uint8_t>kind
    h.octets = 0
    memcpy(h.state, &STARTS[kind][0], sizeof(h.state))


cdef void hash_add(Hash *h, const uint8_t *data, size_t n) noexcept nogil:
    cdef size_t size = block_size(h.kind)
    cdef size_t have = <size_t>(h.octets % size)
    cdef size_t part
    h.octets += n
    if have:
        part = size - have if size - have < n else n
        memcpy(h.block + have, data, part)
        if have + part < size:
            return
        compress(h.kind, h.state, h.block)
        data += part
        n -= part
    while n >= size:
        compress(h.kind, h.state, data)
        data += size
        n -= size
    if n:
        memcpy(h.block, data, n)


cdef void hash_end(Hash *h, uint8_t *out) noexcept nogil:
    # A one, zeros, and the number of bits at the end of a block (FIPS 180-4 5.1).
    cdef uint32_t size = block_size(h.kind)
    cdef uint32_t have = <uint32_t>(h.octets % size)
    cdef uint64_t bits = h.octets * 8
    cdef uint8_t all[HASH_MAX]
    cdef uint32_t i
    h.block[have] = 0x80
    have += 1
    if have > size - size // 8:
        memset(h.block + have, 0, size - have)
        compress(h.kind, h.state, h.block)
        have = 0
    memset(h.block + have, 0, size - have)
    put32(h.block + size - 8, <uint32_t>(bits >> 32))
    put32(h.block + size - 4, <uint32_t>bits)
    compress(h.kind, h.state, h.block)
    for i in range(8):
        if h.kind < SHA384:
            put32(all + 4 * i, <uint32_t>h.state[i])
        else:
            put32(all + 8 * i, <uint32_t>(h.state[i] >> 32))
            put32(all + 8 * i + 4, <uint32_t>h.state[i])
    memcpy(out, all, SIZES[h.kind])


# ---- HMAC

cdef void hmac_key(HmacKey *key, int kind, const uint8_t *secret, size_t n) noexcept nogil:
    cdef Hash h
    cdef uint8_t pad[BLOCK_MAX]
    cdef uint32_t size = block_size(kind)
    cdef uint32_t i
    memset(pad, 0, sizeof(pad))
    if n > size:
        hash_start(&h, kind)
        hash_add(&h, secret, n)
        hash_end(&h, pad)
    elif n:
        memcpy(pad, secret, n)
    for i in range(size):
        pad[i] ^= 0x36
    hash_start(&h, kind)
    hash_add(&h, pad, size)
    memcpy(key.inner, h.state, sizeof(key.inner))
    for i in range(size):
        pad[i] ^= 0x36 ^ 0x5C
    hash_start(&h, kind)
    hash_add(&h, pad, size)
    memcpy(key.outer, h.state, sizeof(key.outer))


cdef void hmac_start(Hash *h, const HmacKey *key, int kind) noexcept nogil:
    h.kind = <uint8_t>kind
    h.octets = block_size(kind)
    memcpy(h.state, key.inner, sizeof(h.state))


cdef void hmac_end(Hash *h, const HmacKey *key, uint8_t *out) noexcept nogil:
    cdef uint8_t inner[HASH_MAX]
    cdef int kind = h.kind
    hash_end(h, inner)
    h.octets = block_size(kind)
    memcpy(h.state, key.outer, sizeof(h.state))
    hash_add(h, inner, SIZES[kind])
    hash_end(h, out)


cdef bint same_octets(const uint8_t *a, const uint8_t *b, uint32_t n) noexcept nogil:
    cdef uint32_t i
    cdef uint8_t other = 0
    for i in range(n):
        other |= a[i] ^ b[i]
    return other == 0


# ---- for Python

def digest(int kind, bytes data not None, list cuts=None) -> bytes:
    """The hash of octets, which are added in pieces cut at `cuts`."""
    cdef Hash h
    cdef uint8_t out[HASH_MAX]
    cdef bytes piece
    if not 0 <= kind < HASHES:
        raise ValueError("no such hash")
    hash_start(&h, kind)
    ends = [0, *sorted(min(max(cut, 0), len(data)) for cut in cuts or ()), len(data)]
    for i in range(len(ends) - 1):
        piece = data[ends[i]:ends[i + 1]]
        hash_add(&h, piece, len(piece))
    hash_end(&h, out)
    return out[:SIZES[kind]]


def hmac(int kind, bytes secret not None, bytes data not None) -> bytes:
    """The HMAC of octets."""
    cdef HmacKey key
    cdef Hash h
    cdef uint8_t out[HASH_MAX]
    if not 0 <= kind < HASHES:
        raise ValueError("no such hash")
    hmac_key(&key, kind, secret, len(secret))
    hmac_start(&h, &key, kind)
    hash_add(&h, data, len(data))
    hmac_end(&h, &key, out)
    return out[:SIZES[kind]]
