# SPDX-License-Identifier: Apache-2.0
#
# Weights of addresses, in memory that the keeper writes and every worker reads.
#
# Strategy: a weight is found by a keyed hash of owner name and address; the word that is found holds both, so one load
# sees all of an entry or nothing of it. Two tables take turns: the keeper fills the one that nobody reads and then says
# which it is. A reader that is overtaken twice within one reply finds old weights or none, never what is not there.
# (`Channel.publish` reaches plugins that Python serves; a compiled stage would have to ask Python for each version.)

cdef enum:
    CELLS_MOST = 1 << 18        # of one table
    WEIGHTS_MOST = 1 << 17      # at most half of the cells are taken
    PROBES = 128                # cells that are looked at; a chain as long as this fills no table that is half empty
    WEIGHT_BITS = 0xFF
    ADDRESS = 16                # octets, IPv4 mapped (RFC 4291 2.5.5.2)

cdef struct Shared:
    # The head of the shared memory.
    uint64_t side               # the table that counts: 1 or 2; 0: none yet
    uint64_t mask[2]            # cells in use - 1
    uint64_t key[2]

cdef struct Table:
    Shared *head
    uint64_t *cells[2]


cdef inline uint64_t weight_hash(const Shared *head, uint8_t *name, size_t n, const uint8_t *address) noexcept nogil:
    # `name` has room for 16 octets behind it. Never 0 where a weight is put in.
    memcpy(name + n, address, ADDRESS)
    return wire_siphash13(head.key, name, n + ADDRESS)


cdef uint32_t weight_of(const Table *t, uint32_t side, uint64_t hash) noexcept nogil:
    # 1 for what the file does not name.
    cdef uint64_t mask = fd_load_relaxed(&t.head.mask[side]) & (CELLS_MOST - 1)
    cdef uint64_t at = (hash >> 8) & mask
    cdef uint64_t cell
    cdef uint32_t _probe
    for _probe in range(PROBES):
        cell = fd_load_relaxed(&t.cells[side][at])
        if cell == 0:
            return 1
        if (cell ^ hash) & ~<uint64_t>WEIGHT_BITS == 0:
            return <uint32_t>(cell & WEIGHT_BITS)
        at = (at + 1) & mask
    return 1


cdef class Weights:
    """A table of weights that all processes forked from this one share."""

    cdef Table table
    cdef void *map
    cdef size_t size

    def __cinit__(self):
        cdef bytes key = os.urandom(16)
        cdef void *where
        self.size = 4096 + 2 * CELLS_MOST * sizeof(uint64_t)
        # Pages that no weight lies in are never touched.
        where = mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {self.size} octets of weights")
        self.map = where
        self.table.head = <Shared *>where
        self.table.cells[0] = <uint64_t *>(<uint8_t *>where + 4096)
        self.table.cells[1] = self.table.cells[0] + CELLS_MOST
        memcpy(self.table.head.key, <const uint8_t *>key, 16)

    def __dealloc__(self):
        if self.map != NULL:
            munmap(self.map, self.size)

    def publish(self, list weights) -> None:
        """Makes these weights count, in every process: (name, address of 16 octets, 1 to 255), names in lower-cased
        wire form. Of several for one address the first counts. ValueError for what is none, and for more than 131,072.
        """
        cdef uint64_t side, mask, hash, at
        cdef uint64_t *cells
        cdef uint8_t room[256 + ADDRESS]
        cdef bytes name, address
        cdef uint32_t probes
        if len(weights) > WEIGHTS_MOST:
            raise ValueError(f"at most {WEIGHTS_MOST} weights")
        side = 1 if fd_load_acquire(&self.table.head.side) == 1 else 0
        cells = self.table.cells[side]
        mask = 1
        while mask < 2 * <uint64_t>len(weights):
            mask *= 2
        memset(cells, 0, mask * sizeof(uint64_t))
        mask -= 1
        fd_store_relaxed(&self.table.head.mask[side], mask)
        for name, address, weight in weights:
            if not 0 < len(name) <= 255 or len(address) != ADDRESS or not 0 < weight <= WEIGHT_BITS:
                raise ValueError("not a weight")
            memcpy(room, <const uint8_t *>name, len(name))
            hash = weight_hash(self.table.head, room, len(name), address)
            at = (hash >> 8) & mask
            for probes in range(PROBES):
                if cells[at] == 0:
                    fd_store_relaxed(&cells[at], (hash & ~<uint64_t>WEIGHT_BITS) | <uint64_t>weight)
                    break
                if (cells[at] ^ hash) & ~<uint64_t>WEIGHT_BITS == 0:
                    break
                at = (at + 1) & mask
        fd_store_release(&self.table.head.side, side + 1)

    def weight(self, bytes name, bytes address) -> int:
        """The weight of an address of a name."""
        cdef uint8_t room[256 + ADDRESS]
        cdef uint64_t side = fd_load_acquire(&self.table.head.side)
        if not 0 < len(name) <= 255 or len(address) != ADDRESS:
            raise ValueError("not an address of a name")
        memcpy(room, <const uint8_t *>name, len(name))
        if side == 0:
            return 1
        return weight_of(&self.table, <uint32_t>(side - 1), weight_hash(self.table.head, room, len(name), address))
