# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of published data: how readers follow it, and the two words that a publisher moves.

Strategy: a memory file of fixed size that is a page and two sides, each with room for more than will ever be published;
memory is taken only where something lies. The page begins with the generation; its last bit says which side has the
data. A side begins with the generation again and the number of octets. To publish is to fill the other side and to
store the generation, so a reader sees all of a publication or none. A side is given back, or written again, only after
the generation in front of it was zeroed: a reader that was overtaken finds that out before it uses what it read
(`image_whole`). The mapping itself stays until its reader maps the next one; nothing can fault under it, because the
file cannot shrink. A worker that dies leaves nothing to repair, and so does a publisher.
"""

from fastdns._sys cimport (
    MAP_SHARED, PROT_READ, PROT_WRITE, c_pread, fd_fence_seq_cst, fd_store_release, mmap, munmap,
)

cdef enum:
    PAGE_ = 65536               # a page of any machine
    HEAD_ = 64                  # octets in front of the data: generation, octets
    SIDE_BITS = 36              # 64 GiB

PAGE = PAGE_
HEAD = HEAD_
SIDE = <uint64_t>1 << SIDE_BITS
COUNT = (<uint64_t>1 << COUNT_BITS) - 1


cdef inline uint64_t side_at(uint64_t generation) noexcept nogil:
    return PAGE_ + ((generation & 1) << SIDE_BITS)


cdef void image_close(Image *i) noexcept nogil:
    if i.map != NULL:
        munmap(i.map, i.mapped)
    i.map = NULL
    i.at = NULL
    i.octets = 0


cdef bint feed_follow(const Feed *f, Image *i) noexcept nogil:
    cdef uint64_t generation = fd_load_acquire(f.generation)
    cdef uint64_t head[2]
    cdef void *map
    if generation == i.generation:
        return False
    if publications(generation) == 0:
        image_close(i)
        i.generation = generation
        return True
    if c_pread(f.fd, head, sizeof(head), side_at(generation)) != sizeof(head):
        return False
    if head[0] != generation or head[1] > (<uint64_t>1 << SIDE_BITS) - HEAD_:
        return False
    map = mmap(NULL, HEAD_ + head[1], PROT_READ, MAP_SHARED, f.fd, side_at(generation))
    if map == <void *>-1:
        return False
    # Not overtaken between the two: these octets belong to this generation.
    if fd_load_acquire(<const uint64_t *>map) != generation:
        munmap(map, HEAD_ + head[1])
        return False
    image_close(i)
    i.map = map
    i.mapped = HEAD_ + head[1]
    i.at = <const uint8_t *>map + HEAD_
    i.octets = head[1]
    i.generation = generation
    return True


cdef class Mapped:
    """The first page of a board, mapped. Raises OSError."""

    def __cinit__(self, *_arguments):
        self.fd = -1

    def __init__(self, int fd):
        cdef void *map
        if self.feed.generation != NULL:
            raise ValueError("mapped already")
        map = mmap(NULL, PAGE_, PROT_READ, MAP_SHARED, fd, 0)
        if map == <void *>-1:
            raise OSError("mapping published data")
        self.fd = fd
        self.feed.fd = fd
        self.feed.generation = <const uint64_t *>map

    def __dealloc__(self):
        if self.feed.generation != NULL:
            munmap(<void *>self.feed.generation, PAGE_)

    @property
    def generation(self) -> int:
        """The DATA generation."""
        return fd_load_acquire(self.feed.generation)

    def _store(self, uint64_t at, uint64_t value) -> None:
        # A word at the begin of a page; everything that was written before is seen by whoever sees it.
        cdef void *map = mmap(NULL, PAGE_, PROT_READ | PROT_WRITE, MAP_SHARED, self.fd, at)
        if map == <void *>-1:
            raise OSError("mapping published data")
        fd_store_release(<uint64_t *>map, value)
        fd_fence_seq_cst()      # and before everything that follows
        munmap(map, PAGE_)

    def _read(self):
        # (generation, data) as they are now; None where the publisher was faster.
        cdef Image image
        cdef bytes data = b""
        image.map = NULL
        image.at = NULL
        image.octets = 0
        image.generation = ~<uint64_t>0
        if not feed_follow(&self.feed, &image):
            return None
        try:
            if image.at != NULL:
                data = (<const char *>image.at)[:image.octets]
            return (image.generation, data) if image_whole(&image) else None
        finally:
            image_close(&image)
