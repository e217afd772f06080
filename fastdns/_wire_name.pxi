# SPDX-License-Identifier: Apache-2.0
#
# Names of _wire: wire form, presentation form, keyed hash.
#
# Strategy: every loop over a name is bounded by 255 octets and 126 pointers; a pointer leads to before the
# start of the run of labels that holds it, so that no walk can turn in a circle, and what it leads to ends before
# the name begins, so that no name reaches into octets behind it.

cdef int wire_name(const uint8_t *msg, size_t n, size_t off, uint8_t *out, size_t *used) noexcept nogil:
    cdef size_t at = off
    cdef size_t segment = off
    cdef size_t length = 0
    cdef size_t target
    cdef uint32_t hops = 0
    cdef uint8_t c
    used[0] = 0
    while True:
        if at >= n:
            return 0
        c = msg[at]
        if c >= 0xC0:
            if n - at < 2:
                return 0
            target = get16(msg + at) & 0x3FFF
            if hops == 0:
                used[0] = at + 2 - off
            hops += 1
            if target >= segment or target < WIRE_HEADER or hops > HOPS_MAX:
                return 0
            at = segment = target
            n = off             # a prior name ends before this one begins
            continue
        if c > 63 or n - at <= c or length + c + 1 > WIRE_NAME_MAX:
            return 0
        memcpy(out + length, msg + at, c + 1)
        length += c + 1
        at += c + 1
        if c == 0:
            if hops == 0:
                used[0] = at - off
            return <int>length
    return 0


cdef uint32_t name_walk(const uint8_t *msg, uint32_t at, uint32_t limit, uint32_t *memo, uint32_t *used) noexcept nogil:
    # Octets of the expanded name at `at`, 0 when malformed. Its in-line part must end at or before limit.
    # memo[offset] (offset < min(n, POINTER_MAX), 0: unknown) keeps what was measured from a label on: octets,
    # pointers << 8, target of the first of them << 16. So no octet is walked twice but by its own record.
    cdef uint16_t seen_at[256]
    cdef uint8_t seen_length[256]
    cdef uint8_t seen_hops[256]
    cdef uint16_t target_of[HOPS_MAX + 2]
    cdef uint32_t seen = 0
    cdef uint32_t length = 0
    cdef uint32_t hops = 0
    cdef uint32_t first = at
    cdef uint32_t segment = at
    cdef uint32_t end = limit
    cdef uint32_t known, target, total, total_hops, i
    cdef uint8_t c
    while True:
        if at >= end:
            return 0
        if hops and memo != NULL and at < POINTER_MAX:
            known = memo[at]
            if known:
                total = length + (known & 0xFF)
                total_hops = hops + ((known >> 8) & 0xFF)
                target_of[hops] = <uint16_t>(known >> 16)
                if total > WIRE_NAME_MAX or total_hops > HOPS_MAX or (known >> 16) >= segment:
                    return 0
                break
        c = msg[at]
        if at < POINTER_MAX:
            # at most 127 labels, 126 pointers and the root: below 256
            seen_at[seen] = <uint16_t>at
            seen_length[seen] = <uint8_t>length
            seen_hops[seen] = <uint8_t>hops
            seen += 1
        if c >= 0xC0:
            if end - at < 2:
                return 0
            target = get16(msg + at) & 0x3FFF
            target_of[hops] = <uint16_t>target
            if hops == 0:
                used[0] = at + 2 - first
            hops += 1
            if target >= segment or target < WIRE_HEADER or hops > HOPS_MAX:
                return 0
            at = segment = target
            end = first         # a prior name ends before this one begins
            continue
        if c > 63 or end - at <= c or length + c + 1 > WIRE_NAME_MAX:
            return 0
        length += c + 1
        at += c + 1
        if c == 0:
            if hops == 0:
                used[0] = at - first
            total = length
            total_hops = hops
            target_of[hops] = 0
            break
    if memo != NULL:
        for i in range(seen):
            memo[seen_at[i]] = ((total - seen_length[i]) | ((total_hops - seen_hops[i]) << 8)
                                | (<uint32_t>target_of[seen_hops[i]] << 16))
    return total


cdef void wire_lower(uint8_t *name, size_t n) noexcept nogil:
    copy_folded(name, name, n)


cdef inline bint is_special(uint8_t c) noexcept nogil:
    return c in (c'.', c' ', c"'", c'@', c';', c'(', c')', c'"', c'\\')


cdef size_t wire_name_text(const uint8_t *name, size_t n, char *out, size_t cap) noexcept nogil:
    cdef size_t at = 0
    cdef size_t w = 0
    cdef size_t stop
    cdef uint8_t c
    if n == 0 or cap < 2:
        return 0
    if name[0] == 0:
        out[0] = c'.'
        out[1] = 0
        return 1
    while at < n and name[at]:
        stop = at + 1 + name[at]
        if stop > n:
            return 0
        at += 1
        while at < stop:
            c = name[at]
            at += 1
            if cap - w < 6:     # \DDD, a dot and the NUL
                return 0
            if is_special(c):
                out[w] = c'\\'
                out[w + 1] = <char>c
                w += 2
            elif 32 <= c <= 126:
                out[w] = <char>c
                w += 1
            else:
                out[w] = c'\\'
                out[w + 1] = <char>(c'0' + c // 100)
                out[w + 2] = <char>(c'0' + c // 10 % 10)
                out[w + 3] = <char>(c'0' + c % 10)
                w += 4
        out[w] = c'.'
        w += 1
    out[w] = 0
    return w


cdef inline bint is_digit(char c) noexcept nogil:
    return c'0' <= c <= c'9'


cdef int wire_name_from_text(const char *text, size_t n, uint8_t *out) noexcept nogil:
    cdef size_t i = 0
    cdef size_t start = 0       # where the label's length octet stands
    cdef size_t w = 1
    cdef uint32_t value
    if n == 0:
        return 0
    if n == 1 and text[0] == c'.':
        out[0] = 0
        return 1
    while i < n:
        if text[i] == c'.':
            if w == start + 1:
                return 0
            out[start] = <uint8_t>(w - start - 1)
            start = w
            w += 1
            i += 1
            continue
        if text[i] == c'\\':
            if n - i >= 4 and is_digit(text[i + 1]) and is_digit(text[i + 2]) and is_digit(text[i + 3]):
                value = 100 * <uint32_t>(text[i + 1] - c'0') + 10 * <uint32_t>(text[i + 2] - c'0')
                value += <uint32_t>(text[i + 3] - c'0')
                if value > 255:
                    return 0
                i += 4
            else:
                if n - i < 2 or is_digit(text[i + 1]):
                    return 0
                value = <uint8_t>text[i + 1]
                i += 2
        else:
            value = <uint8_t>text[i]
            i += 1
        if w - start > 63 or w >= WIRE_NAME_MAX - 1:
            return 0
        out[w] = <uint8_t>value
        w += 1
    if w > start + 1:           # no dot at the end
        out[start] = <uint8_t>(w - start - 1)
        start = w
    out[start] = 0
    return <int>(start + 1)


cdef bint wire_name_under(const uint8_t *name, size_t n, const uint8_t *zone, size_t zn) noexcept nogil:
    cdef size_t at = 0
    if zn == 0 or zn > n:
        return False
    while n - at > zn:
        at += name[at] + 1      # a label ends before n, so at stays below it
        if at >= n:
            return False
    return n - at == zn and memcmp(name + at, zone, zn) == 0


# ---- keyed hash

cdef inline uint64_t rotl(uint64_t x, int b) noexcept nogil:
    return (x << b) | (x >> (64 - b))


cdef struct Sip:
    uint64_t v0
    uint64_t v1
    uint64_t v2
    uint64_t v3


cdef inline void sip_round(Sip *s) noexcept nogil:
    s.v0 += s.v1
    s.v1 = rotl(s.v1, 13) ^ s.v0
    s.v0 = rotl(s.v0, 32)
    s.v2 += s.v3
    s.v3 = rotl(s.v3, 16) ^ s.v2
    s.v0 += s.v3
    s.v3 = rotl(s.v3, 21) ^ s.v0
    s.v2 += s.v1
    s.v1 = rotl(s.v1, 17) ^ s.v2
    s.v2 = rotl(s.v2, 32)


cdef inline uint64_t load64(const uint8_t *p) noexcept nogil:
    cdef uint64_t x
    memcpy(&x, p, 8)
    return le64toh(x)


cdef uint64_t wire_siphash13(const uint64_t *key, const uint8_t *data, size_t n) noexcept nogil:
    cdef Sip s
    cdef uint64_t m
    cdef size_t i = 0
    cdef uint64_t last = <uint64_t>n << 56
    cdef int shift = 0
    s.v0 = key[0] ^ 0x736f6d6570736575ULL
    s.v1 = key[1] ^ 0x646f72616e646f6dULL
    s.v2 = key[0] ^ 0x6c7967656e657261ULL
    s.v3 = key[1] ^ 0x7465646279746573ULL
    while i + 8 <= n:
        m = load64(data + i)
        s.v3 ^= m
        sip_round(&s)
        s.v0 ^= m
        i += 8
    if n >= 8 and i < n:
        # the last octets are the top ones of the eight that end the data
        last |= load64(data + n - 8) >> (8 * (8 - (n - i)))
    else:
        while i < n:
            last |= <uint64_t>data[i] << shift
            shift += 8
            i += 1
    s.v3 ^= last
    sip_round(&s)
    s.v0 ^= last
    s.v2 ^= 0xff
    sip_round(&s)
    sip_round(&s)
    sip_round(&s)
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3
