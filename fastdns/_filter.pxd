# SPDX-License-Identifier: Apache-2.0
#
# The code of routing filters: an expression about a query, decided without Python. The router runs it.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._stage cimport Query

cdef enum:
    FILTER_DEPTH = 32           # values on the stack
    FILTER_CODE = 8192          # instructions
    FILTER_DATA = 1 << 20       # octets of constants
    FILTER_MEMBERS = 8192       # networks in lists that are searched from end to end, all of a filter's together

cdef struct Instruction:
    uint8_t op
    uint8_t flag
    uint16_t spare
    uint32_t operand

cdef struct FilterCode:
    const Instruction *code
    const uint8_t *data

cdef class Filter:
    # A verified filter and the memory behind it.
    cdef FilterCode run
    cdef readonly bytes code
    cdef readonly bytes data
    cdef int _verify(self, uint32_t count, uint32_t octets) except -1
    cdef int _operand(self, const Instruction *i, uint32_t at, uint32_t octets) except -1
    cdef int _within(self, uint32_t at, uint64_t start, uint64_t n, uint32_t align, uint32_t octets) except -1
    cdef uint32_t _count(self, uint32_t at, uint32_t start, uint32_t octets) except? 0
    cdef int _text(self, uint32_t at, uint32_t start, uint32_t octets) except -1
    cdef uint32_t _word(self, uint32_t start) noexcept
    cdef int64_t _number(self, uint32_t start) noexcept
    cdef bytes _bytes(self, uint32_t place)

cdef bint filter_passes(const FilterCode *f, const Query *q, uint16_t port) noexcept nogil
    # Whether the query passes. `port` is the listener's. Not a step is checked: Filter has verified the code.
