# SPDX-License-Identifier: Apache-2.0
#
# The image of hosts: its layout, and how it is read.
#
# Strategy: sections of fixed width behind one head, told by offsets, so that any process may map it anywhere. Names lie
# in a pool, each behind what it has: its first IPv4 address, which is mostly the only one, and the heads of the lists
# of the others. An index by keyed hash leads there; a tag of the hash beside the place spares most comparisons with
# another name. Reverse: an index leads to addresses, each with a list of names. A number 0 ends a list. The reader
# has checked the head and checks every number, because the octets may be taken away under its hands (_published.pxd).

cdef enum:
    HEAD = 192                  # octets kept for the head
    MAGIC = 0x31536f4844460002
    FAMILY4 = 1                 # flags of a name
    REC_NAME = 14               # octets of a name's record before its octets
    REC_FLAGS = 12
    REC_LEN = 13
    SLOT = 8                    # of the index: tag, place in the pool / 4
    LINK4 = 8                   # address, next
    LINK6 = 20
    NODE = 24                   # address, place of a name, link to more
    RLINK = 8                   # place of a name, next

cdef struct Head:
    uint64_t magic
    uint64_t size
    uint64_t key[2]
    uint64_t entries
    uint64_t names
    uint64_t wild               # names that begin with *
    uint64_t index              # offsets of the sections, and their numbers: slots - 1, octets, links ...
    uint64_t index_mask
    uint64_t pool
    uint64_t pool_octets
    uint64_t four
    uint64_t four_count
    uint64_t six
    uint64_t six_count
    uint64_t rindex
    uint64_t rindex_mask
    uint64_t nodes
    uint64_t node_count
    uint64_t rlinks
    uint64_t rlink_count

cdef struct View:
    const uint8_t *base         # NULL: there is no image
    Head h                      # a copy: what was checked


cdef inline uint32_t load32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return v


cdef inline void store32(uint8_t *p, uint32_t v) noexcept nogil:
    memcpy(p, &v, 4)


cdef bint within(uint64_t size, uint64_t at, uint64_t count, uint64_t width) noexcept nogil:
    return at <= size and count <= (size - at) // width


cdef bint view_open(View *v, const uint8_t *base, uint64_t size) noexcept nogil:
    # Whether there is an image that keeps to its bounds.
    v.base = NULL
    if size < HEAD:
        return False
    memcpy(&v.h, base, sizeof(Head))
    if v.h.magic != MAGIC or v.h.size > size or v.h.index_mask >= v.h.size or v.h.rindex_mask >= v.h.size:
        return False
    if not (within(v.h.size, v.h.index, v.h.index_mask + 1, SLOT) and within(v.h.size, v.h.pool, v.h.pool_octets, 1)
            and within(v.h.size, v.h.four, v.h.four_count, LINK4) and within(v.h.size, v.h.six, v.h.six_count, LINK6)
            and within(v.h.size, v.h.rindex, v.h.rindex_mask + 1, 4)
            and within(v.h.size, v.h.nodes, v.h.node_count, NODE)
            and within(v.h.size, v.h.rlinks, v.h.rlink_count, RLINK)):
        return False
    v.base = base
    return True


cdef inline const uint8_t *record(const View *v, uint32_t place) noexcept nogil:
    # The record of a name, with its octets; NULL for a place that holds none.
    cdef uint64_t at = <uint64_t>place * 4
    cdef const uint8_t *p
    if place == 0 or at + REC_NAME > v.h.pool_octets:
        return NULL
    p = v.base + v.h.pool + at
    if at + REC_NAME + p[REC_LEN] > v.h.pool_octets:
        return NULL
    return p


cdef const uint8_t *find(const View *v, const uint8_t *name, uint32_t n) noexcept nogil:
    # The record of a name, lower-cased; NULL when it has none.
    cdef uint64_t hash
    cdef uint64_t i
    cdef uint64_t turns
    cdef const uint8_t *slot
    cdef const uint8_t *p
    cdef uint32_t place
    if v.base == NULL or v.h.names == 0:
        return NULL
    hash = wire_siphash13(v.h.key, name, n)
    i = hash & v.h.index_mask
    for turns in range(v.h.index_mask + 1):
        slot = v.base + v.h.index + i * SLOT
        place = load32(slot + 4)
        if place == 0:
            return NULL
        if load32(slot) == <uint32_t>(hash >> 32):
            p = record(v, place)
            if p != NULL and p[REC_LEN] == n and memcmp(p + REC_NAME, name, n) == 0:
                return p
        i = (i + 1) & v.h.index_mask
    return NULL


cdef const uint8_t *find_wild(const View *v, const uint8_t *name, uint32_t n) noexcept nogil:
    # The record of * and the labels behind the first, of which there must be some.
    cdef uint8_t pattern[256]
    cdef uint32_t first
    if v.base == NULL or v.h.wild == 0 or n < 2:
        return NULL
    first = <uint32_t>name[0] + 1
    if first + 1 >= n:
        return NULL
    pattern[0] = 1
    pattern[1] = c'*'
    memcpy(pattern + 2, name + first, n - first)
    return find(v, pattern, n - first + 2)


cdef const uint8_t *find_address(const View *v, const uint8_t *address) noexcept nogil:
    # The node of an address of 16 octets; NULL when nothing has it.
    cdef uint64_t i
    cdef uint64_t turns
    cdef uint32_t number
    cdef const uint8_t *p
    if v.base == NULL or v.h.node_count == 0:
        return NULL
    i = wire_siphash13(v.h.key, address, 16) & v.h.rindex_mask
    for turns in range(v.h.rindex_mask + 1):
        number = load32(v.base + v.h.rindex + i * 4)
        if number == 0 or number > v.h.node_count:
            return NULL
        p = v.base + v.h.nodes + <uint64_t>(number - 1) * NODE
        if memcmp(p, address, 16) == 0:
            return p
        i = (i + 1) & v.h.rindex_mask
    return NULL
