# SPDX-License-Identifier: Apache-2.0
#
# Metadata labels between the two threads: a plugin in Python sees what compiled stages set, and the other way round.
#
# Strategy: only the labels that somebody in the block reads cross over, packed as place, length, octets behind the
# other octets of a record. The hot thread copies them into one allocation that the query owns.

cdef enum:
    LABEL_HEAD = 4              # octets before a packed value: place and length, 16 bits each
    LABEL_TEXT = 1024           # octets of a value; the rest is cut


cdef uint32_t labels_octets(const CQuery *q) noexcept nogil:
    # Octets of the labels that are set, packed.
    cdef const Label *label
    cdef uint32_t i, n = 0
    if q.block == NULL or q.block.label_count == 0 or q.frames == NULL:
        return 0
    label = query_labels(q)
    for i in range(q.block.label_count):
        if label[i].text != NULL:
            n += LABEL_HEAD + (label[i].len if label[i].len < LABEL_TEXT else LABEL_TEXT)
    return n


cdef void labels_pack(const CQuery *q, uint8_t *to) noexcept nogil:
    # Room for labels_octets.
    cdef const Label *label = query_labels(q)
    cdef uint32_t i, n
    for i in range(q.block.label_count):
        if label[i].text == NULL:
            continue
        n = label[i].len if label[i].len < LABEL_TEXT else LABEL_TEXT
        put16(to, i)
        put16(to + 2, n)
        memcpy(to + LABEL_HEAD, label[i].text, n)
        to += LABEL_HEAD + n


cdef uint8_t *labels_room(CQuery *q, uint32_t n) noexcept nogil:
    # n octets that live as long as the detached query; NULL without memory: its labels stay as they were.
    cdef void **texts = <void **>malloc(sizeof(void *) + n)
    if texts == NULL:
        return NULL
    texts[0] = q.texts
    q.texts = texts
    return <uint8_t *>(texts + 1)


cdef void labels_set(CQuery *q, const uint8_t *at, uint32_t n) noexcept nogil:
    # Sets what was packed; the octets are the query's own.
    cdef const uint8_t *end = at + n
    cdef uint32_t length
    while end - at >= LABEL_HEAD:
        length = get16(at + 2)
        if length > <uint32_t>(end - at - LABEL_HEAD):
            return
        label_set(q, get16(at), <const char *>at + LABEL_HEAD, length)
        at += LABEL_HEAD + length


cdef void labels_take(CQuery *q, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef uint8_t *room = labels_room(q, n) if n and q.block != NULL and q.block.label_count else NULL
    if room != NULL:
        memcpy(room, at, n)
        labels_set(q, room, n)


cdef void labels_copy(CQuery *to, const CQuery *q) noexcept nogil:
    # Both are queries of one block; nothing of the copy points into the other.
    cdef uint32_t n = labels_octets(q)
    cdef uint8_t *room
    if n == 0:
        return
    room = labels_room(to, n)
    memset(query_labels(to), 0, to.block.label_count * sizeof(Label))
    if room != NULL:
        labels_pack(q, room)
        labels_set(to, room, n)


cdef int labels_read(_Request request, const uint8_t *at, uint32_t n) except -1:
    # Into the dict that plugins see.
    cdef const uint8_t *end = at + n
    cdef uint32_t length
    cdef tuple names = request.bridge.labels[request.q.block.index]
    while end - at >= LABEL_HEAD:
        length = get16(at + 2)
        request.metadata[names[get16(at)]] = at[LABEL_HEAD:LABEL_HEAD + length].decode("utf-8", "replace")
        at += LABEL_HEAD + length
    return 0


cdef int labels_begin(_Request request) except -1:
    # The dict with what compiled stages have set so far.
    cdef uint32_t n
    cdef uint8_t *packed
    if request.metadata is not None:
        return 0
    request.metadata = {}
    n = labels_octets(request.q) if request.q != NULL else 0
    if n:
        packed = <uint8_t *>malloc(n)
        if packed == NULL:
            raise MemoryError
        try:
            labels_pack(request.q, packed)
            labels_read(request, packed, n)
        finally:
            free(packed)
    return 0


cdef bytes labels_of(_Request request):
    # What the plugins have set, packed for the hot thread; None: nothing that anybody reads.
    cdef tuple names
    if not request.metadata or request.q == NULL or request.q.block.label_count == 0:
        return None
    names = request.bridge.labels[request.q.block.index]
    parts = []
    for place, name in enumerate(names):
        value = request.metadata.get(name)
        if value is None:
            continue
        try:
            raw = str(value() if callable(value) else value).encode("utf-8", "replace")[:LABEL_TEXT]
        except BaseException as error:
            # Nothing but the value is lost.
            stat_add(request.bridge.row, request.bridge.slot_panics, 1)
            complain(request.bridge, request, error)
            raw = b""
        parts.append(place.to_bytes(2, "big") + len(raw).to_bytes(2, "big") + raw)
    return b"".join(parts) if parts else None
