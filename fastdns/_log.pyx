# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Log rings, and the rendering of their records into lines.

Strategy: a ring is a power-of-two buffer of frames - octets, kind, payload, padded to eight - between a head that only
its producer moves and a tail that only the formatter moves. A frame never straddles the end (a LOG_PAD frame fills
it). A producer that dies between reserve and commit has published nothing. The consumer believes no length that it
has not checked: a frame that makes no sense skips the ring to its head and is counted. Formats become lists of
operations once; a line is then a walk over them that writes into one block, which Python gives to write(2).
"""

import fcntl
import os

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from fastdns._sys cimport (
    MAP_SHARED, PROT_READ, PROT_WRITE, c_write, calloc, fd_bump, fd_fence_seq_cst, fd_load_acquire, fd_load_relaxed,
    fd_load_relaxed32, fd_store_release, fd_store_release32, fd_swap32, free, malloc, memcpy, mmap, munmap, strlen,
)
from fastdns._stats cimport Stats
from fastdns._wire cimport wire_name_text

cdef enum:
    PAGE = 4096
    MAGIC = 0x474C5446          # "FTLG"
    FRAME = 8                   # octets of a frame's head
    SLEEPING_AT = 64            # the consumer's word in the header page
    BLOCK = 65536               # octets gathered before a write
    TURN = 32768                # octets taken from one ring before the next one's turn
    NAME_TEXT = 1024
    VALUE_MAX = LOG_LABEL_MAX   # octets that one token may take

cdef enum:
    OP_LITERAL = 0
    OP_TYPE = 1
    OP_CLASS = 2
    OP_NAME = 3
    OP_PROTO = 4
    OP_SIZE = 5
    OP_REMOTE = 6
    OP_LOCAL = 7
    OP_PORT = 8
    OP_ID = 9
    OP_OPCODE = 10
    OP_DO = 11
    OP_BUFSIZE = 12
    OP_RCODE = 13
    OP_RFLAGS = 14
    OP_RSIZE = 15
    OP_DURATION = 16
    OP_LABEL = 17               # the next text value of the record

TOKENS = {
    "{type}": OP_TYPE, "{class}": OP_CLASS, "{name}": OP_NAME, "{proto}": OP_PROTO, "{size}": OP_SIZE,
    "{remote}": OP_REMOTE, "{local}": OP_LOCAL, "{port}": OP_PORT, "{>id}": OP_ID, "{>opcode}": OP_OPCODE,
    "{>do}": OP_DO, "{>bufsize}": OP_BUFSIZE, "{rcode}": OP_RCODE, "{>rflags}": OP_RFLAGS, "{rsize}": OP_RSIZE,
    "{duration}": OP_DURATION,
}
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "FATAL")
RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7:
    "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADSIG", 17: "BADKEY", 18:
    "BADTIME", 19: "BADMODE", 20: "BADNAME", 21: "BADALG", 22: "BADTRUNC", 23: "BADCOOKIE",
}
CLASSES = {1: "IN", 2: "CS", 3: "CH", 4: "HS", 254: "NONE"}
TYPES = {
    0: "None", 1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL", 12:
    "PTR", 13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT",
    23: "NSAP-PTR", 24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC", 30: "NXT", 31: "EID", 32:
    "NIMLOC", 33: "SRV", 34: "ATMA", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS",
    44: "SSHFP", 45: "IPSECKEY", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM",
    52: "TLSA", 53: "SMIMEA", 55: "HIP", 56: "NINFO", 57: "RKEY", 58: "TALINK", 59: "CDS", 60: "CDNSKEY", 61:
    "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB", 65: "HTTPS", 99: "SPF", 100: "UINFO", 101: "UID", 102:
    "GID", 103: "UNSPEC", 104: "NID", 105: "L32", 106: "L64", 107: "LP", 108: "EUI48", 109: "EUI64", 128: "NXNAME",
    249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA", 255: "ANY", 256: "URI", 257:
    "CAA", 258: "AVC", 260: "AMTRELAY", 261: "RESINFO", 32768: "TA", 32769: "DLV", 65535: "Reserved",
}

# ---- the producer


cdef void *ring_reserve(Ring *r, uint16_t kind, uint32_t octets) noexcept nogil:
    cdef uint64_t size = r.mask + 1
    cdef uint64_t head = fd_load_relaxed(r.head)
    cdef uint64_t at = head & r.mask
    cdef uint64_t need = FRAME + ((<uint64_t>octets + 7) & ~<uint64_t>7)
    cdef uint64_t pad = size - at if at + need > size else 0
    if need > size >> 1:
        fd_bump(r.dropped, 1)
        return NULL
    if head + pad + need - r.seen_tail > size:
        r.seen_tail = fd_load_acquire(r.tail)
        if head + pad + need - r.seen_tail > size:
            fd_bump(r.dropped, 1)
            return NULL
    if pad:
        (<uint32_t *>(r.data + at))[0] = <uint32_t>(pad - FRAME)
        (<uint32_t *>(r.data + at + 4))[0] = LOG_PAD
        at = 0
    (<uint32_t *>(r.data + at))[0] = octets
    (<uint32_t *>(r.data + at + 4))[0] = kind
    r.pending = pad + need
    return r.data + at + FRAME


cdef void ring_commit(Ring *r) noexcept nogil:
    fd_store_release(r.head, fd_load_relaxed(r.head) + r.pending)
    r.pending = 0
    r.dirty = True


cdef void ring_wake(Ring *r) noexcept nogil:
    cdef uint64_t one = 1
    if not r.dirty:
        return
    r.dirty = False
    fd_fence_seq_cst()
    if fd_load_relaxed32(r.sleeping) and fd_swap32(r.sleeping, 0):
        # An eventfd that is full is awake already; the formatter looks again by itself after a while.
        if c_write(r.wake_fd, &one, 8) < 0:
            r.dirty = True


cdef bint ring_text(Ring *r, uint8_t level, const char *text, uint32_t n) noexcept nogil:
    cdef uint8_t *to
    if n > TEXT_MAX:
        n = TEXT_MAX
    to = <uint8_t *>ring_reserve(r, LOG_TEXT, n + 1)
    if to == NULL:
        return False
    to[0] = level
    memcpy(to + 1, text, n)
    ring_commit(r)
    ring_wake(r)
    return True


cdef class RingHandle:
    """The producing end of one thread's ring; made by `Rings.handle`."""

    def __init__(self):
        if self.ring.data == NULL:
            raise TypeError("made by Rings.handle")

    def text(self, level: int, line: str | bytes) -> bool:
        """Writes a line of text at a level (0 debug .. 4 fatal); False when there was no room (counted)."""
        cdef bytes raw = line if isinstance(line, bytes) else line.encode("utf-8", "backslashreplace")
        cdef uint8_t shown = min(max(level, LEVEL_DEBUG), LEVEL_FATAL)
        return ring_text(&self.ring, shown, raw, <uint32_t>min(len(raw), TEXT_MAX))

    def record(self, kind: int, payload: bytes) -> bool:
        """Writes a record as it is: what a compiled stage does in C. For tests and tools."""
        cdef bytes raw = payload
        cdef void *to = ring_reserve(&self.ring, <uint16_t>kind, <uint32_t>len(raw))
        if to == NULL:
            return False
        memcpy(to, <char *>raw, len(raw))
        ring_commit(&self.ring)
        ring_wake(&self.ring)
        return True


cdef class Rings:
    """The server's log rings in shared memory, one per row of the table of counters; `fd` may be sent and attached.

    Odd rows (hot threads) have `octets`, the others `text_octets`; memory is taken only as it is written.
    """

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.map != NULL:
            munmap(self.map, self.size)

    @classmethod
    def create(cls, rows: int, octets: int = 4 << 20, text_octets: int = 256 << 10):
        """New rings for `rows` threads. The sizes are powers of two from 4,096. Raises ValueError, OSError."""
        if not 1 <= rows <= 65536:
            raise ValueError(f"rows must be in 1..65536, not {rows}")
        for n in (octets, text_octets):
            if not PAGE <= n <= 1 << 30 or n & (n - 1):
                raise ValueError(f"the octets of a ring are a power of two in 4096..2^30, not {n}")
        fd = os.memfd_create("fastdns-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, PAGE + (rows // 2) * octets + (rows - rows // 2) * text_octets + rows * PAGE)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
            os.pwrite(fd, b"".join(int(v).to_bytes(8, "little") for v in (MAGIC, rows, octets, text_octets)), 0)
            return cls.attach(fd)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int):
        """Maps the rings behind `fd`, which stays open as long as the object lives. Raises ValueError if it is none."""
        cdef Rings self = cls.__new__(cls)
        size = os.fstat(fd).st_size
        head = os.pread(fd, 32, 0)
        if len(head) < 32:
            raise ValueError("not a segment of log rings")
        magic, rows, octets, text = (int.from_bytes(head[i:i + 8], "little") for i in range(0, 32, 8))
        if magic != MAGIC or size != PAGE + (rows // 2) * octets + (rows - rows // 2) * text + rows * PAGE:
            raise ValueError("not a segment of log rings")
        cdef void *where = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if where == <void *>-1:
            raise MemoryError(f"mapping {size} octets of log rings")
        self.map = <uint8_t *>where
        self.size = size
        self.fd = fd
        self.rows = rows
        self.octets = octets
        self.text_octets = text
        return self

    cdef uint32_t _octets(self, uint32_t row) noexcept nogil:
        return self.octets if row & 1 else self.text_octets

    cdef uint8_t *_base(self, uint32_t row) noexcept nogil:
        # A page of positions, then the data. Before row r stand r // 2 odd rows and the rest even ones.
        cdef size_t odd = row // 2
        return self.map + PAGE + odd * self.octets + (row - odd) * <size_t>self.text_octets + <size_t>row * PAGE

    def handle(self, row: int, wake_fd: int, stats: Stats | None = None) -> RingHandle:
        """The producing end of `row`'s ring, for the one thread that owns it. `wake_fd` is the formatter's eventfd.

        With `stats`, records that find no room are counted in `fastdns_log_dropped_total` of that row.
        """
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row}")
        cdef RingHandle h = RingHandle.__new__(RingHandle)
        cdef uint8_t *base = self._base(row)
        cdef uint64_t *words
        cdef Stats table
        h.owner = self
        h.stats = stats
        h.ring.head = <uint64_t *>base
        h.ring.tail = <uint64_t *>(base + 64)
        h.ring.dropped = <uint64_t *>(base + 128)
        if stats is not None:
            table = stats
            words = table.row(row)
            if words == NULL:
                raise IndexError(f"row {row}")
            slot = table.intern("fastdns_log_dropped_total", (), "counter", (), DROPPED_HELP)
            h.ring.dropped = words + <uint32_t>slot
        h.ring.sleeping = <uint32_t *>(self.map + SLEEPING_AT)
        h.ring.data = base + PAGE
        h.ring.mask = self._octets(row) - 1
        if fd_load_acquire(h.ring.head) & 7:
            # Damaged by somebody else: frames start at multiples of eight, and the formatter skips to the head.
            fd_store_release(h.ring.head, (fd_load_acquire(h.ring.head) + 7) & ~<uint64_t>7)
        h.ring.seen_tail = fd_load_acquire(h.ring.tail)
        h.ring.wake_fd = wake_fd
        return h


DROPPED_HELP = "Log records that found no room because standard output was read too slowly."

# ---- formats


def parse_format(text: str) -> list:
    """Splits a FORMAT into (operation, literal) pairs; what is no token stays literal. Raises nothing."""
    ops = []
    while True:
        j = text.find("}")
        if j < 0:
            break
        i = text.rfind("{", 0, j)
        token = text[i:j + 1] if i >= 0 else ""
        op = OP_LABEL if token.startswith("{/") else TOKENS.get(token, OP_LITERAL)
        if op == OP_LITERAL:
            ops.append((OP_LITERAL, text[:j + 1]))
        else:
            if i:
                ops.append((OP_LITERAL, text[:i]))
            ops.append((op, token[2:j - i] if op == OP_LABEL else ""))
        text = text[j + 1:]
    if text:
        ops.append((OP_LITERAL, text))
    return ops


def format_labels(text: str) -> list:
    """The metadata labels in a FORMAT, in the order in which a record has their values."""
    return [literal for op, literal in parse_format(text) if op == OP_LABEL]


# What CoreDNS writes as `-` where it has no reply to speak of.
_OF_REPLIES = (OP_RCODE, OP_RFLAGS, OP_RSIZE, OP_DURATION)


cdef struct Op:
    uint32_t kind
    uint32_t len
    const char *text


cdef class _Format:
    """A FORMAT as an array of operations."""

    cdef Op *ops
    cdef uint32_t count
    cdef size_t longest         # octets of the longest line
    cdef list keep

    def __cinit__(self, parsed: list):
        cdef uint32_t i
        cdef bytes raw
        self.keep = []
        self.count = <uint32_t>len(parsed)
        self.longest = 64
        self.ops = <Op *>calloc(self.count + 1, sizeof(Op))
        if self.ops == NULL:
            raise MemoryError
        for i, (kind, literal) in enumerate(parsed):
            raw = literal.encode("utf-8", "backslashreplace")
            self.keep.append(raw)
            self.ops[i].kind = kind
            self.ops[i].text = raw
            self.ops[i].len = <uint32_t>len(raw)
            self.longest += len(raw) if kind == OP_LITERAL else VALUE_MAX

    def __dealloc__(self):
        free(self.ops)


# ---- rendering

include "_log_render.pxi"


cdef size_t render_query(
    char *to, const Op *ops, uint32_t count, const uint8_t *payload, uint32_t octets
) noexcept nogil:
    # The payload was checked: a whole QueryRecord and its name fit in it.
    cdef const QueryRecord *r = <const QueryRecord *>payload
    cdef const uint8_t *qname = payload + sizeof(QueryRecord)
    cdef const uint8_t *at = qname + r.qname_len
    cdef const uint8_t *end = payload + octets
    cdef size_t n = put_text(to, "[INFO] ")
    cdef uint32_t i
    for i in range(count):
        if ops[i].kind == OP_LITERAL:
            memcpy(to + n, ops[i].text, ops[i].len)
            n += ops[i].len
        elif ops[i].kind == OP_LABEL:
            n += put_label(to + n, &at, end)
        else:
            n += put_value(to + n, ops[i].kind, r, qname)
    to[n] = 10
    return n + 1


cdef size_t render_error(char *to, const ErrorRecord *r, const uint8_t *qname) noexcept nogil:
    cdef size_t n = put_text(to, "[ERROR] plugin/errors: ")
    cdef const uint8_t *text = qname + r.qname_len
    cdef uint32_t i
    n += put_number(to + n, r.rcode)
    to[n] = 32
    n += 1 + put_name(to + n + 1, qname, r.qname_len)
    to[n] = 32
    n += 1 + put_type(to + n + 1, r.qtype)
    n += put_text(to + n, ": ")
    for i in range(r.text_len):
        to[n] = <char>text[i] if text[i] >= 32 and text[i] != 127 else 63
        n += 1
    to[n] = 10
    return n + 1


cdef class Texts:
    """FORMATs outside of the log, of queries without replies. A record has the labels of all of them, in order."""

    cdef _Format _format

    def __cinit__(self, formats: list):
        parsed = []
        for text in formats:
            parsed += [(OP_LITERAL, "-") if op in _OF_REPLIES else (op, literal) for op, literal in parse_format(text)]
            parsed.append((OP_LITERAL, "\0"))       # in no value: control octets are none
        self._format = _Format(parsed)

    def render(self, record: bytes) -> list:
        """The texts for a QueryRecord with name and label values; ValueError for what is none."""
        cdef bytes raw = record
        cdef bytes line
        cdef char *to
        cdef size_t n
        cdef const QueryRecord *r = <const QueryRecord *><const char *>raw
        if len(raw) < sizeof(QueryRecord) or r.qname_len > 255 or len(raw) < sizeof(QueryRecord) + r.qname_len:
            raise ValueError("not a record of a query")
        to = <char *>malloc(self._format.longest)
        if to == NULL:
            raise MemoryError
        n = render_query(to, self._format.ops, self._format.count, <const uint8_t *>r, <uint32_t>len(raw))
        try:
            line = to[:n]
        finally:
            free(to)
        return line[len("[INFO] "):n - 2].split(b"\0")


# ---- the consumer

cdef class Formatter:
    """The consuming end of all rings: one per server. Not thread-safe.

    `resolve(number)` gives the FORMAT text behind a record's number, or None (then `fallback` is used).
    """

    cdef Rings _rings
    cdef object _resolve
    cdef dict _formats
    cdef _Format _fallback
    cdef char *_block
    cdef size_t _cap
    cdef size_t _len
    cdef uint32_t _next
    cdef readonly uint64_t damaged
    cdef readonly list errors

    def __cinit__(self, rings: Rings, resolve, fallback: str):
        self._rings = rings
        self._resolve = resolve
        self._formats = {}
        self._fallback = _Format(parse_format(fallback))
        self._cap = BLOCK + 2 * TURN
        self._block = <char *>malloc(self._cap)
        if self._block == NULL:
            raise MemoryError
        self.errors = []

    def __dealloc__(self):
        free(self._block)

    def sleep(self) -> bool:
        """Announces that the caller is about to wait on the eventfd; False when a ring holds something: then do not."""
        fd_store_release32(<uint32_t *>(self._rings.map + SLEEPING_AT), 1)
        fd_fence_seq_cst()
        if self.waiting():
            self.awake()
            return False
        return True

    def awake(self) -> None:
        """Takes the announcement back."""
        fd_store_release32(<uint32_t *>(self._rings.map + SLEEPING_AT), 0)

    def waiting(self) -> bool:
        """Whether any ring holds a record."""
        cdef uint32_t row
        cdef uint8_t *base
        for row in range(self._rings.rows):
            base = self._rings._base(row)
            if fd_load_acquire(<uint64_t *>base) != fd_load_relaxed(<uint64_t *>(base + 64)):
                return True
        return False

    def collect(self) -> bytes:
        """Takes records off the rings, in turn, and returns the rendered lines, about 64 KiB at most; empty: none.

        Errors of a site that consolidates are not rendered but appended to `errors` as (site, rcode, name, type, text).
        """
        cdef uint32_t _tried
        self._len = 0
        for _tried in range(self._rings.rows):
            if self._len >= BLOCK:
                break
            self._take(self._next)
            self._next = (self._next + 1) % self._rings.rows
        return self._block[:self._len]

    cdef int _take(self, uint32_t row) except -1:
        cdef uint8_t *base = self._rings._base(row)
        cdef uint8_t *data = base + PAGE
        cdef uint64_t size = self._rings._octets(row)
        cdef uint64_t head = fd_load_acquire(<uint64_t *>base)
        cdef uint64_t tail = fd_load_relaxed(<uint64_t *>(base + 64))
        cdef uint64_t start = tail
        cdef uint64_t at
        cdef uint32_t octets
        if head - tail > size or (head | tail) & 7:
            self.damaged += 1
            tail = head
        while tail != head and tail - start < TURN and self._len < BLOCK:
            at = tail & (size - 1)
            octets = (<uint32_t *>(data + at))[0]
            if octets > head - tail or FRAME + <uint64_t>octets > size - at:
                self.damaged += 1
                tail = head
                break
            if not self._render((<uint32_t *>(data + at + 4))[0], data + at + FRAME, octets):
                self.damaged += 1
            tail += FRAME + ((<uint64_t>octets + 7) & ~<uint64_t>7)
        fd_store_release(<uint64_t *>(base + 64), tail)
        return 0

    cdef bint _render(self, uint32_t kind, const uint8_t *payload, uint32_t octets) except -1:
        if kind == LOG_QUERY:
            return self._query(payload, octets)
        if kind == LOG_TEXT:
            return self._text(payload, octets)
        if kind == LOG_ERROR:
            return self._error(payload, octets)
        return kind == LOG_PAD

    cdef int _room(self, size_t octets) except -1:
        cdef char *more
        if self._len + octets > self._cap:
            more = <char *>malloc(self._len + octets)
            if more == NULL:
                raise MemoryError
            memcpy(more, self._block, self._len)
            free(self._block)
            self._block = more
            self._cap = self._len + octets
        return 0

    cdef bint _query(self, const uint8_t *payload, uint32_t octets) except -1:
        cdef const QueryRecord *r = <const QueryRecord *>payload
        cdef _Format f
        if octets < sizeof(QueryRecord) or r.qname_len > 255 or octets < sizeof(QueryRecord) + r.qname_len:
            return False
        f = <_Format>self._formats.get(r.format)
        if f is None:
            text = self._resolve(r.format)
            f = _Format(parse_format(text)) if text is not None else self._fallback
            self._formats[r.format] = f
        self._room(f.longest)
        self._len += render_query(self._block + self._len, f.ops, f.count, payload, octets)
        return True

    cdef bint _text(self, const uint8_t *payload, uint32_t octets) except -1:
        cdef char *to
        cdef size_t n
        if octets < 1 or octets > TEXT_MAX + 1 or payload[0] > LEVEL_FATAL:
            return False
        self._room(octets + 16)
        to = self._block + self._len
        to[0] = 91
        n = 1 + put_text(to + 1, LEVEL_TEXT[payload[0]])
        n += put_text(to + n, "] ")
        memcpy(to + n, payload + 1, octets - 1)
        n += octets - 1
        to[n] = 10
        self._len += n + 1
        return True

    cdef bint _error(self, const uint8_t *payload, uint32_t octets) except -1:
        cdef const ErrorRecord *r = <const ErrorRecord *>payload
        cdef const uint8_t *qname = payload + sizeof(ErrorRecord)
        cdef char name[NAME_TEXT]
        cdef char kind[32]
        if octets < sizeof(ErrorRecord) or r.qname_len > 255:
            return False
        if octets < sizeof(ErrorRecord) + r.qname_len + r.text_len:
            return False
        if r.site:
            self.errors.append((
                r.site, r.rcode, name[:put_name(name, qname, r.qname_len)].decode("latin-1"),
                kind[:put_type(kind, r.qtype)].decode(),
                qname[r.qname_len:r.qname_len + r.text_len].decode("utf-8", "backslashreplace"),
            ))
            return True
        self._room(2 * NAME_TEXT + <size_t>r.text_len)
        self._len += render_error(self._block + self._len, r, qname)
        return True


cdef const char *LEVEL_TEXT[5]
LEVEL_TEXT[0] = "DEBUG"
LEVEL_TEXT[1] = "INFO"
LEVEL_TEXT[2] = "WARNING"
LEVEL_TEXT[3] = "ERROR"
LEVEL_TEXT[4] = "FATAL"


def type_name(number: int) -> str:
    """The mnemonic of a record type as log lines and labels have it, else TYPE<n>."""
    return TYPES.get(number) or f"TYPE{number}"


def rcode_name(number: int) -> str:
    """The mnemonic of a response code, else the number."""
    return RCODES.get(number) or str(number)


QUERY_FIELDS = (
    "duration_ns", "rsize", "size", "format", "id", "qtype", "qclass", "rcode", "rflags", "client_port", "qname_len",
    "bufsize", "opcode", "proto", "family", "do_bit", "written", "local_family", "labels", "spare", "client", "local",
)


def query_record(fields: dict, qname: bytes, labels: tuple = ()) -> bytes:
    """The octets of a QueryRecord with these fields set, name (wire form) and label values. For tests and tools."""
    cdef QueryRecord r = dict.fromkeys(QUERY_FIELDS, 0) | {"client": bytes(16), "local": bytes(16)} | fields | {
        "qname_len": len(qname), "labels": len(labels),
    }
    cdef bytes head = (<char *>&r)[:sizeof(QueryRecord)]
    return head + qname + b"".join(len(v).to_bytes(2, "little") + v for v in labels)


def error_record(site: int, rcode: int, qtype: int, qname: bytes, text: bytes) -> bytes:
    """The octets of an ErrorRecord, name (wire form) and text. For tests and tools."""
    cdef ErrorRecord r
    r.site = site
    r.rcode = rcode
    r.qtype = qtype
    r.qname_len = <uint16_t>len(qname)
    r.text_len = <uint16_t>len(text)
    return (<char *>&r)[:sizeof(ErrorRecord)] + qname + text
