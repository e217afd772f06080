# SPDX-License-Identifier: Apache-2.0
#
# Published data as compiled code follows it: one load a query says whether there is anything newer.
#
# A stage keeps a Feed in its configuration (read-only, made before the fork) and an Image in each worker's state:
#
#     if feed_moved(&config.feed, &state.image) and feed_follow(&config.feed, &state.image):
#         ...                   # another image: check its head against state.image.octets
#     ...                       # answer out of state.image.at, every offset checked
#     if not image_whole(&state.image):
#         ...                   # it was taken away meanwhile: what was read is worth nothing, begin anew
#
# No pointer into an image may outlive the call: a query that waits has copied what it needs.

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint64_t

from fastdns._sys cimport fd_fence_acquire, fd_load_acquire, fd_load_relaxed

cdef enum:
    COUNT_BITS = 40             # of a generation that count publications; those above are the configuration's

cdef struct Feed:
    # The DATA generation of a plugin instance: a word that is another after each publication, and that no other
    # data of this instance, or of an instance of another configuration, ever had. Compare for equality; load it with
    # fd_load_acquire.
    const uint64_t *generation
    int fd

cdef struct Image:
    const uint8_t *at           # NULL: nothing is published
    uint64_t octets             # that may be read behind `at`, whatever the publisher does
    uint64_t generation         # what it is; 0: not looked yet
    void *map
    size_t mapped

cdef inline uint64_t publications(uint64_t generation) noexcept nogil:
    # How many there were; 0: nothing is published yet.
    return generation & ((<uint64_t>1 << COUNT_BITS) - 1)

cdef inline bint feed_moved(const Feed *f, const Image *i) noexcept nogil:
    # Whether there is anything but what `i` has.
    return fd_load_acquire(f.generation) != i.generation

cdef inline bint image_whole(const Image *i) noexcept nogil:
    # Whether what was read since `feed_follow` was all of one publication.
    if i.at == NULL:
        return True
    fd_fence_acquire()
    return fd_load_relaxed(<const uint64_t *>i.map) == i.generation

cdef bint feed_follow(const Feed *f, Image *i) noexcept nogil
    # Maps the newest image; whether `i` is another one now. One that cannot be had leaves the one before, and is tried
    # again with the next call. `i` begins as zeros.

cdef void image_close(Image *i) noexcept nogil
    # Lets go of the mapping.

cdef class Mapped:
    # A board's memory file, and its first page: what a compiled stage copies `feed` of, and has to keep alive.
    cdef readonly int fd
    cdef Feed feed
