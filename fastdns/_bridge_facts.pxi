# SPDX-License-Identifier: Apache-2.0
#
# What a plugin reads of a query while it answers, so that no answer is kept by less than it depends on.
#
# Strategy: each property of a query sets a bit. Whoever keeps answers (`_kept`) says which bits its key covers; a run
# that read anything else, that asked the stages behind or the server, or that did not end at once is never kept,
# whatever its plugin declared. Block, zone, listener, type, class, opcode, RD and CD are in every key, and no query
# with a signature or with an option outside the key is kept, so these set no bit.


cdef bint labels_changed(_Request request) except -1:
    # Whether the plugin set a label, or may have.
    cdef uint32_t n
    cdef uint8_t *packed
    cdef bytes now
    if request.metadata is None:
        return False
    if any(type(value) is not str for value in request.metadata.values()):
        # A value that is still to be computed: not twice.
        return True
    n = labels_octets(request.q)
    now = labels_of(request)
    if now is None or <uint32_t>len(now) != n:
        return (now is not None) or n != 0
    packed = <uint8_t *>malloc(n + 1)
    if packed == NULL:
        raise MemoryError
    try:
        labels_pack(request.q, packed)
        return memcmp(packed, <const uint8_t *>now, n) != 0
    finally:
        free(packed)


cdef bytes note_of(_Request request, uint32_t covered, Reply reply, list counts):
    # What a kept answer needs beside the reply: two facts about it and what was counted, or None.
    cdef uint8_t out[1 + 8 * NOTE_COUNTS]
    cdef uint32_t n = 1
    if request.reads & ~covered or reply.error is not None or len(counts) > NOTE_COUNTS or labels_changed(request):
        return None
    out[0] = (NOTE_CASED if reply.cased else 0) | (NOTE_NAMED if reply.named else 0)
    for slot, by in counts:
        if not (0 <= slot < 1 << 32 and 0 <= by < 1 << 32):
            return None
        put32(out + n, <uint32_t>slot)
        put32(out + n + 4, <uint32_t>by)
        n += 8
    return out[:n]
