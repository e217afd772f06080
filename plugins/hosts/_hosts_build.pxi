# SPDX-License-Identifier: Apache-2.0
#
# From a hosts file to an image.
#
# Strategy: the text is walked twice, from its end to its beginning: first to count, which bounds every section, then to
# fill them. Backwards, because what is put in front of a list last is then what stood first in the file, so no list
# needs a memory of its end. Sections are zeroed memory of which only what is used becomes real. A line that makes no
# sense is passed over, whatever it holds.

cdef struct Build:
    const uint8_t *text
    bint reverse
    uint32_t zone_count
    const Zone *zones
    # counted first
    uint64_t lines              # with an address
    uint64_t tokens             # names on them
    uint64_t octets             # ... of those
    uint64_t tokens6            # ... on lines with an IPv6 address
    # then filled
    Head h
    uint8_t *index
    uint8_t *pool
    uint8_t *four
    uint8_t *six
    uint8_t *rindex
    uint8_t *nodes
    uint8_t *rlinks


cdef inline bint blank(uint8_t c) noexcept nogil:
    return c == c' ' or (9 <= c <= 13)


cdef bint parse4(const uint8_t *p, size_t n, uint8_t *out) noexcept nogil:
    # Four decimal numbers; one with a zero in front is none (it might be meant octal).
    cdef size_t i = 0
    cdef size_t begin
    cdef uint32_t value
    cdef int part
    for part in range(4):
        begin = i
        value = 0
        while i < n and c'0' <= p[i] <= c'9' and i - begin < 3:
            value = value * 10 + (p[i] - c'0')
            i += 1
        if i == begin or value > 255 or (i - begin > 1 and p[begin] == c'0'):
            return False
        out[part] = <uint8_t>value
        if part < 3:
            if i >= n or p[i] != c'.':
                return False
            i += 1
    return i == n


cdef inline int hexadecimal(uint8_t c) noexcept nogil:
    if c'0' <= c <= c'9':
        return c - c'0'
    if c'a' <= c <= c'f':
        return c - c'a' + 10
    if c'A' <= c <= c'F':
        return c - c'A' + 10
    return -1


cdef bint parse6(const uint8_t *p, size_t n, uint8_t *out) noexcept nogil:
    # RFC 4291 2.2: groups, at most one `::`, an IPv4 address in the place of the last two.
    cdef size_t i = 0
    cdef size_t begin
    cdef uint32_t value
    cdef int at = 0
    cdef int gap = -1
    cdef int tail
    memset(out, 0, 16)
    if n >= 2 and p[0] == c':' and p[1] == c':':
        gap = 0
        i = 2
    while i < n:
        if at >= 16:
            return False
        begin = i
        value = 0
        while i < n and i - begin < 5 and hexadecimal(p[i]) >= 0:
            value = (value << 4) | <uint32_t>hexadecimal(p[i])
            i += 1
        if i == begin or i - begin > 4:
            return False
        if i < n and p[i] == c'.':
            if (gap < 0 and at != 12) or at > 12 or not parse4(p + begin, n - begin, out + at):
                return False
            at += 4
            break
        put16(out + at, value)
        at += 2
        if i == n:
            break
        if p[i] != c':' or i + 1 == n:
            return False
        i += 1
        if p[i] == c':':
            if gap >= 0:
                return False
            gap = at
            i += 1
    if gap < 0:
        return at == 16
    if at == 16:                # the gap stands for at least one group
        return False
    tail = at - gap
    memmove(out + 16 - tail, out + gap, tail)
    memset(out + gap, 0, 16 - at)
    return True


cdef int parse_ip(const uint8_t *p, size_t n, uint8_t *out) noexcept nogil:
    # 4 or 6, and the address in 16 octets, IPv4 mapped (RFC 4291 2.5.5.2); 0: no address. A zone behind % is dropped.
    cdef size_t i
    cdef bint colon = False
    for i in range(n):
        if p[i] == c'%':
            n = i
            break
        if p[i] == c':':
            colon = True
    if not colon:
        memset(out, 0, 10)
        out[10] = out[11] = 255
        return 4 if parse4(p, n, out + 12) else 0
    if not parse6(p, n, out):
        return 0
    for i in range(10):
        if out[i] != 0:
            return 6
    return 4 if out[10] == 255 and out[11] == 255 else 6


cdef bint in_zones(const Zone *zones, uint32_t count, const uint8_t *name, size_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(count):
        if zones[i].len == 1 or wire_name_under(name, n, zones[i].name, zones[i].len):
            return True
    return False


cdef uint32_t place_of(Build *b, const uint8_t *name, uint32_t n) noexcept nogil:
    # Where the record of a name is, or a new one.
    cdef uint64_t hash = wire_siphash13(b.h.key, name, n)
    cdef uint64_t i = hash & b.h.index_mask
    cdef uint8_t *slot
    cdef const uint8_t *p
    cdef uint32_t place
    while True:                 # at most half of the slots are taken
        slot = b.index + i * SLOT
        place = load32(slot + 4)
        if place == 0:
            break
        if load32(slot) == <uint32_t>(hash >> 32):
            p = b.pool + <uint64_t>place * 4
            if p[REC_LEN] == n and memcmp(p + REC_NAME, name, n) == 0:
                return place
        i = (i + 1) & b.h.index_mask
    place = <uint32_t>(b.h.pool_octets // 4)
    store32(slot, <uint32_t>(hash >> 32))
    store32(slot + 4, place)
    b.pool[b.h.pool_octets + REC_LEN] = <uint8_t>n
    memcpy(b.pool + b.h.pool_octets + REC_NAME, name, n)
    b.h.pool_octets += (REC_NAME + n + 3) // 4 * 4
    b.h.names += 1
    return place


cdef void add_reverse(Build *b, const uint8_t *address, uint32_t place) noexcept nogil:
    cdef uint64_t i = wire_siphash13(b.h.key, address, 16) & b.h.rindex_mask
    cdef uint32_t number
    cdef uint8_t *p
    while True:
        number = load32(b.rindex + i * 4)
        if number == 0:
            store32(b.rindex + i * 4, <uint32_t>b.h.node_count + 1)
            p = b.nodes + b.h.node_count * NODE
            b.h.node_count += 1
            memcpy(p, address, 16)
            store32(p + 16, place)
            return
        p = b.nodes + <uint64_t>(number - 1) * NODE
        if memcmp(p, address, 16) == 0:
            break
        i = (i + 1) & b.h.rindex_mask
    memcpy(b.rlinks + b.h.rlink_count * RLINK, p + 16, 8)
    b.h.rlink_count += 1
    store32(p + 16, place)
    store32(p + 20, <uint32_t>b.h.rlink_count)


cdef void add_name(Build *b, const uint8_t *text, size_t n, const uint8_t *address, int family) noexcept nogil:
    # One name of a line, in front of all that came before it.
    cdef uint8_t name[256]
    cdef int octets = wire_name_from_text(<const char *>text, n, name)
    cdef bint wild
    cdef uint32_t place
    cdef uint8_t *p
    if octets <= 0:
        return
    wire_lower(name, octets)
    if not in_zones(b.zones, b.zone_count, name, octets):
        return
    wild = name[0] == 1 and name[1] == c'*'
    b.h.entries += 1
    if wild and octets == 3:    # *. stands for nothing: there is no label behind it
        return
    place = place_of(b, name, octets)
    p = b.pool + <uint64_t>place * 4
    if family == 6:
        memcpy(b.six + b.h.six_count * LINK6, address, 16)
        store32(b.six + b.h.six_count * LINK6 + 16, load32(p + 8))
        b.h.six_count += 1
        store32(p + 8, <uint32_t>b.h.six_count)
    else:
        if p[REC_FLAGS] & FAMILY4:
            memcpy(b.four + b.h.four_count * LINK4, p, 8)
            b.h.four_count += 1
            store32(p + 4, <uint32_t>b.h.four_count)
        p[REC_FLAGS] |= FAMILY4
        memcpy(p, address + 12, 4)
    if wild:
        b.h.wild += 1
    elif b.reverse:
        b.h.entries += 1
        add_reverse(b, address, place)


cdef void line(Build *b, const uint8_t *p, size_t n, bint fill) noexcept nogil:
    # `ADDRESS NAME... # comment`, from the last name to the first.
    cdef uint8_t address[16]
    cdef size_t begin = 0
    cdef size_t head
    cdef size_t end
    cdef int family
    for head in range(n):
        if p[head] == c'#':
            n = head
            break
    while begin < n and blank(p[begin]):
        begin += 1
    head = begin
    while head < n and not blank(p[head]):
        head += 1
    while n > head and blank(p[n - 1]):
        n -= 1
    if n <= head:
        return
    family = parse_ip(p + begin, head - begin, address)
    if family == 0:
        return
    if not fill:
        b.lines += 1
    while n > head:
        end = n
        while n > head and not blank(p[n - 1]):
            n -= 1
        if fill:
            add_name(b, p + n, end - n, address, family)
        else:
            b.tokens += 1
            b.octets += end - n
            b.tokens6 += family == 6
        while n > head and blank(p[n - 1]):
            n -= 1


cdef void walk(Build *b, size_t n, bint fill) noexcept nogil:
    # All lines, the last first.
    cdef size_t begin
    while n > 0:
        begin = n
        while begin > 0 and b.text[begin - 1] != c'\n':
            begin -= 1
        line(b, b.text + begin, n - begin, fill)
        n = begin - 1 if begin > 0 else 0


cdef uint64_t mask_for(uint64_t count) noexcept nogil:
    # Slots - 1: a power of two, at least twice the count.
    cdef uint64_t slots = 2
    while slots < 2 * count:
        slots *= 2
    return slots - 1


cdef class Image:
    """The names of a text in the form of a hosts file that lie in `zones` (wire form, lower case)."""

    cdef Build b
    cdef Memory zones

    def __cinit__(self, bytes text, zones, bint reverse):
        cdef Build *b = &self.b
        cdef size_t n = len(text)
        self.zones = zone_list(zones)
        b.zones = <const Zone *>self.zones.at
        b.zone_count = <uint32_t>len(zones)
        b.text = <const uint8_t *>text
        b.reverse = reverse
        with nogil:
            walk(b, n, False)
        if b.octets // 4 + 5 * b.tokens >= 0xffffffff:
            raise ValueError("more names than an image holds")
        b.h.key[0], b.h.key[1] = unpack("=QQ", urandom(16))
        b.h.index_mask = mask_for(b.tokens)
        b.h.rindex_mask = mask_for(b.lines if reverse else 0)
        b.h.pool_octets = 4     # no record lies at 0
        b.index = <uint8_t *>calloc(b.h.index_mask + 1, SLOT)
        # A name's octets are two more than its characters at most; a record begins at a multiple of four.
        b.pool = <uint8_t *>calloc(4 + b.tokens * (REC_NAME + 5) + b.octets, 1)
        b.four = <uint8_t *>calloc(b.tokens - b.tokens6 + 1, LINK4)
        b.six = <uint8_t *>calloc(b.tokens6 + 1, LINK6)
        b.rindex = <uint8_t *>calloc(b.h.rindex_mask + 1, 4)
        b.nodes = <uint8_t *>calloc(b.lines + 1, NODE)
        b.rlinks = <uint8_t *>calloc(b.tokens + 1, RLINK)
        if (b.index == NULL or b.pool == NULL or b.four == NULL or b.six == NULL or b.rindex == NULL or b.nodes == NULL
                or b.rlinks == NULL):
            raise MemoryError
        with nogil:
            walk(b, n, True)
        b.text = NULL
        self.place()

    cdef void place(self) noexcept:
        # Sections behind one another, each at a multiple of 64 octets.
        cdef Head *h = &self.b.h
        h.magic = MAGIC
        h.index = HEAD
        h.pool = after(h.index, (h.index_mask + 1) * SLOT)
        h.four = after(h.pool, h.pool_octets)
        h.six = after(h.four, h.four_count * LINK4)
        h.rindex = after(h.six, h.six_count * LINK6)
        h.nodes = after(h.rindex, (h.rindex_mask + 1) * 4)
        h.rlinks = after(h.nodes, h.node_count * NODE)
        h.size = after(h.rlinks, h.rlink_count * RLINK)

    def __dealloc__(self):
        free(self.b.index)
        free(self.b.pool)
        free(self.b.four)
        free(self.b.six)
        free(self.b.rindex)
        free(self.b.nodes)
        free(self.b.rlinks)

    @property
    def octets(self) -> int:
        return self.b.h.size

    @property
    def entries(self) -> int:
        return self.b.h.entries

    @property
    def names(self) -> int:
        return self.b.h.names

    def pack(self, out) -> None:
        """Writes the image to a buffer of at least `octets` octets."""
        cdef uint8_t[::1] room = out
        cdef Head *h = &self.b.h
        cdef uint8_t *p
        if room.shape[0] < <Py_ssize_t>h.size:
            raise ValueError("too small a buffer")
        p = &room[0]
        with nogil:
            memcpy(p, h, sizeof(Head))
            memcpy(p + h.index, self.b.index, (h.index_mask + 1) * SLOT)
            memcpy(p + h.pool, self.b.pool, h.pool_octets)
            memcpy(p + h.four, self.b.four, h.four_count * LINK4)
            memcpy(p + h.six, self.b.six, h.six_count * LINK6)
            memcpy(p + h.rindex, self.b.rindex, (h.rindex_mask + 1) * 4)
            memcpy(p + h.nodes, self.b.nodes, h.node_count * NODE)
            memcpy(p + h.rlinks, self.b.rlinks, h.rlink_count * RLINK)


cdef inline uint64_t after(uint64_t at, uint64_t octets) noexcept nogil:
    return (at + octets + 63) // 64 * 64
