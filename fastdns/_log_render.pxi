# SPDX-License-Identifier: Apache-2.0
#
# The values of a log line as text. A part of _log.
#
# Strategy: each function writes at `to`, where VALUE_MAX octets are free, and returns the octets written. No value can
# end the line: names are written as zone files escape them, and control octets of a label become question marks.

cdef const char *type_text[262]
cdef const char *class_text[256]
cdef const char *rcode_text[24]
cdef list _texts = []


cdef _fill_tables():
    for number, text in TYPES.items():
        if number < 262:
            _texts.append(text.encode())
            type_text[number] = _texts[len(_texts) - 1]
    for number, text in CLASSES.items():
        _texts.append(text.encode())
        class_text[number] = _texts[len(_texts) - 1]
    for number, text in RCODES.items():
        _texts.append(text.encode())
        rcode_text[number] = _texts[len(_texts) - 1]


_fill_tables()


cdef size_t put_text(char *to, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    memcpy(to, text, n)
    return n


cdef size_t put_number(char *to, uint64_t v) noexcept nogil:
    cdef char digits[20]
    cdef size_t n = 0
    cdef size_t i
    while True:
        digits[n] = <char>(48 + v % 10)
        n += 1
        v = v // 10
        if v == 0:
            break
    for i in range(n):
        to[i] = digits[n - 1 - i]
    return n


cdef size_t put_named(char *to, const char *name, const char *prefix, uint32_t number) noexcept nogil:
    cdef size_t n
    if name != NULL:
        return put_text(to, name)
    n = put_text(to, prefix)
    return n + put_number(to + n, number)


cdef size_t put_type(char *to, uint32_t number) noexcept nogil:
    cdef const char *name = type_text[number] if number < 262 else NULL
    if number == 32768:
        name = "TA"
    elif number == 32769:
        name = "DLV"
    elif number == 65535:
        name = "Reserved"
    return put_named(to, name, "TYPE", number)


cdef size_t put_rcode(char *to, uint32_t number) noexcept nogil:
    return put_named(to, rcode_text[number] if number < 24 else NULL, "", number)


cdef size_t put_hex(char *to, uint32_t v) noexcept nogil:
    # A group of an IPv6 address: no leading zeros (RFC 5952 4.1).
    cdef size_t n = 0
    cdef int shift = 12
    cdef uint32_t digit
    while shift >= 0:
        digit = (v >> shift) & 15
        if digit or n or shift == 0:
            to[n] = <char>(48 + digit if digit < 10 else 87 + digit)
            n += 1
        shift -= 4
    return n


cdef size_t put_address(char *to, const uint8_t *ip, uint32_t family) noexcept nogil:
    # IPv6 in brackets, its longest run of zero groups shortened, the first of equals (RFC 5952 4.2).
    cdef uint32_t groups[8]
    cdef size_t n = 0
    cdef uint32_t i
    cdef uint32_t start = 8
    cdef uint32_t best = 1
    cdef uint32_t run = 0
    if family != 6:
        for i in range(4):
            if i:
                to[n] = 46
                n += 1
            n += put_number(to + n, ip[i])
        return n
    for i in range(8):
        groups[i] = (<uint32_t>ip[2 * i] << 8) | ip[2 * i + 1]
        run = run + 1 if groups[i] == 0 else 0
        if run > best:
            best = run
            start = i + 1 - run
    to[n] = 91
    n += 1
    i = 0
    while i < 8:
        if i == start:
            n += put_text(to + n, "::")
            i += best
            continue
        if i and i != start + best:
            to[n] = 58
            n += 1
        n += put_hex(to + n, groups[i])
        i += 1
    to[n] = 93
    return n + 1


cdef size_t put_flags(char *to, uint32_t flags) noexcept nogil:
    cdef const char **names = ["qr,", "aa,", "tc,", "rd,", "ra,", "z,", "ad,", "cd,"]
    cdef uint32_t *bits = [0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0040, 0x0020, 0x0010]
    cdef size_t n = 0
    cdef uint32_t i
    for i in range(8):
        if flags & bits[i]:
            n += put_text(to + n, names[i])
    return n - 1 if n else 0


cdef size_t put_seconds(char *to, uint64_t ns) noexcept nogil:
    # Seconds as the shortest decimal, suffix s.
    cdef size_t n = put_number(to, ns // 1000000000)
    cdef uint64_t rest = ns % 1000000000
    cdef uint64_t unit = 100000000
    if rest:
        to[n] = 46
        n += 1
        while rest:
            to[n] = <char>(48 + rest // unit)
            n += 1
            rest = rest % unit
            unit = unit // 10
    to[n] = 115
    return n + 1


cdef size_t put_label(char *to, const uint8_t **at, const uint8_t *end) noexcept nogil:
    # The next text value: uint16 length, octets; control octets cannot break the line. Without one, `-`.
    cdef size_t n
    cdef size_t i
    if end - at[0] < 2:
        to[0] = 45
        return 1
    n = at[0][0] | (<size_t>at[0][1] << 8)
    at[0] += 2
    if n == LOG_ABSENT:
        to[0] = 45
        return 1
    if n > <size_t>(end - at[0]):
        n = end - at[0]
    for i in range(min(n, <size_t>VALUE_MAX)):
        to[i] = <char>at[0][i] if at[0][i] >= 32 and at[0][i] != 127 else 63
    at[0] += n
    return min(n, <size_t>VALUE_MAX)


cdef size_t put_name(char *to, const uint8_t *name, size_t n) noexcept nogil:
    cdef size_t written = wire_name_text(name, n, to, NAME_TEXT)
    if written == 0:
        to[0] = 46
        return 1
    return written


cdef size_t put_value(char *to, uint32_t op, const QueryRecord *r, const uint8_t *qname) noexcept nogil:
    if op == OP_TYPE:
        return put_type(to, r.qtype)
    if op == OP_CLASS:
        return put_named(to, class_text[r.qclass] if r.qclass < 256 else NULL, "CLASS", r.qclass)
    if op == OP_NAME:
        return put_name(to, qname, r.qname_len)
    if op == OP_PROTO:
        return put_text(to, "tcp" if r.proto else "udp")
    if op == OP_SIZE:
        return put_number(to, r.size)
    if op == OP_REMOTE:
        return put_address(to, r.client, r.family)
    if op == OP_LOCAL:
        return put_address(to, r.local, r.local_family)
    if op == OP_PORT:
        return put_number(to, r.client_port)
    if op == OP_ID:
        return put_number(to, r.id)
    if op == OP_OPCODE:
        return put_number(to, r.opcode)
    if op == OP_DO:
        return put_text(to, "true" if r.do_bit else "false")
    if op == OP_BUFSIZE:
        return put_number(to, r.bufsize)
    if op == OP_RCODE:
        return put_rcode(to, r.rcode) if r.written else put_text(to, "-")
    if op == OP_RFLAGS:
        return put_flags(to, r.rflags) if r.written else put_text(to, "-")
    if op == OP_RSIZE:
        return put_number(to, r.rsize)
    return put_seconds(to, r.duration_ns)
