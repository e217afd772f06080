# SPDX-License-Identifier: Apache-2.0
#
# Weights of addresses: the image that the keeper publishes and every worker reads (_published.pxd).
#
# Strategy: a weight is found by a keyed hash of owner name and address; the word that is found holds both. At most half
# of the words are taken. A reader that was overtaken by a new image draws again.

cdef enum:
    WEIGHTS_MOST = 1 << 17
    PROBES = 128                # cells that are looked at; a chain as long as this fills no table that is half empty
    WEIGHT_BITS = 0xFF
    ADDRESS = 16                # octets, IPv4 mapped (RFC 4291 2.5.5.2)
    TRIES = 3                   # images that go away while they are read

cdef struct Head:
    uint64_t key[2]
    uint64_t mask               # cells - 1

cdef struct Table:
    # An image that was looked at: its numbers, and where its cells are. NULL: there is none.
    const uint64_t *cells
    Head h


cdef bint table_open(Table *t, const uint8_t *image, uint64_t octets) noexcept nogil:
    # Whether there is a table that keeps to its bounds.
    t.cells = NULL
    if image == NULL or octets < sizeof(Head):
        return False
    memcpy(&t.h, image, sizeof(Head))
    if t.h.mask >= (octets - sizeof(Head)) // sizeof(uint64_t):
        return False
    t.cells = <const uint64_t *>(image + sizeof(Head))
    return True


cdef inline uint64_t weight_hash(const Head *head, uint8_t *name, size_t n, const uint8_t *address) noexcept nogil:
    # `name` has room for 16 octets behind it.
    memcpy(name + n, address, ADDRESS)
    return wire_siphash13(head.key, name, n + ADDRESS)


cdef uint32_t weight_of(const Table *t, uint64_t hash) noexcept nogil:
    # 1 for what the file does not name.
    cdef uint64_t at = (hash >> 8) & t.h.mask
    cdef uint64_t cell
    cdef uint32_t _probe
    for _probe in range(PROBES):
        cell = t.cells[at]
        if cell == 0:
            return 1
        if (cell ^ hash) & ~<uint64_t>WEIGHT_BITS == 0:
            return <uint32_t>(cell & WEIGHT_BITS)
        at = (at + 1) & t.h.mask
    return 1


def image(list weights) -> bytes:
    """The image of these weights: (name, address of 16 octets, 1 to 255), names in lower-cased wire form. Of several
    for one address the first counts. ValueError for what is none, and for more than 131,072."""
    cdef bytearray made
    cdef Head head
    cdef bytes key = os.urandom(16)
    cdef bytes name, address
    cdef uint8_t room[256 + ADDRESS]
    cdef uint64_t *cells
    cdef uint64_t hash, at
    cdef uint32_t probes
    if len(weights) > WEIGHTS_MOST:
        raise ValueError(f"at most {WEIGHTS_MOST} weights")
    memcpy(head.key, <const uint8_t *>key, 16)
    head.mask = 1
    while head.mask < 2 * <uint64_t>len(weights):
        head.mask *= 2
    made = bytearray(sizeof(Head) + head.mask * sizeof(uint64_t))
    head.mask -= 1
    memcpy(<char *>made, &head, sizeof(Head))
    cells = <uint64_t *>(<char *>made + sizeof(Head))
    for name, address, weight in weights:
        if not 0 < len(name) <= 255 or len(address) != ADDRESS or not 0 < weight <= WEIGHT_BITS:
            raise ValueError("not a weight")
        memcpy(room, <const uint8_t *>name, len(name))
        hash = weight_hash(&head, room, len(name), address)
        at = (hash >> 8) & head.mask
        for probes in range(PROBES):
            if cells[at] == 0:
                cells[at] = (hash & ~<uint64_t>WEIGHT_BITS) | <uint64_t>weight
                break
            if (cells[at] ^ hash) & ~<uint64_t>WEIGHT_BITS == 0:
                break
            at = (at + 1) & head.mask
    return bytes(made)


def weight(bytes image, bytes name, bytes address) -> int:
    """What an image says of an address of a name."""
    cdef Table table
    cdef uint8_t room[256 + ADDRESS]
    if not 0 < len(name) <= 255 or len(address) != ADDRESS or not table_open(&table, image, len(image)):
        raise ValueError("not an address of a name, or no image")
    memcpy(room, <const uint8_t *>name, len(name))
    return weight_of(&table, weight_hash(&table.h, room, len(name), address))
