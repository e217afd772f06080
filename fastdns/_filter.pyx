# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The code of routing filters: verifier and machine.

Strategy: `fastdns.expression.bytecode` translates what it can of a `view` to a few dozen instructions for a stack of
integers, booleans and texts. `Filter` verifies them once: every operand within the constants, every jump forward and
within the code, the same types on the stack wherever two ways meet, a bounded stack, a boolean at the end, and a bound
for the lists. So the machine needs no check, runs each instruction at most once, and no query costs it more than the
length of its name times the instructions.

Constants lie in one string of octets, native order: an integer is 8 octets; a text is its length (4 octets) and
octets; a list of integers a count (4, then 4 of nothing) and the sorted integers; a list of texts a count and the
offsets of sorted texts; networks a count and 18 octets each (family, bits, address).
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stage cimport PROTO_TCP, PROTO_UDP, Query
from fastdns._sys cimport memcmp, memcpy, memmem, memset
from fastdns._wire cimport ADMIT_OK, FLAG_DO, wire_admit, wire_limit, wire_name_text

cdef enum:
    END = 0
    INT = 1                     # operand: place of the integer
    TEXT = 2                    # operand: place of the text
    TRUE_ = 3
    FALSE_ = 4
    TYPE = 5
    CLASS = 6
    PROTO = 7                   # 0 UDP, 1 TCP
    SIZE = 8
    ID = 9
    OPCODE = 10
    BUFSIZE = 11
    PORT = 12
    SERVER_PORT = 13
    DO = 14
    NAME = 15
    NETWORKS = 16               # whether an address lies in one; flag 0: the client's, 1: the server's
    COMPARE_INT = 17            # flag: one of COMPARISONS
    COMPARE_TEXT = 18
    COMPARE_BOOL = 19           # == and != alone
    IN_INT = 20
    IN_TEXT = 21
    CONTAINS = 22
    STARTS = 23
    ENDS = 24
    NOT = 25
    IF_TRUE = 26                # jumps if the topmost value is true, and leaves it
    IF_FALSE = 27
    POP = 28
    JUMP = 29
    ADD = 30
    SUBTRACT = 31
    MULTIPLY = 32
    LENGTH = 33
    OPERATIONS_N = 34

cdef enum:
    IS_INT = 1
    IS_TEXT = 2
    IS_BOOL = 3

cdef enum:
    NETWORK = 18
    NAME_ROOM = 1032

OPERATIONS = {
    "end": END, "int": INT, "text": TEXT, "true": TRUE_, "false": FALSE_, "type": TYPE, "class": CLASS, "proto": PROTO,
    "size": SIZE, "id": ID, "opcode": OPCODE, "bufsize": BUFSIZE, "port": PORT, "server_port": SERVER_PORT, "do": DO,
    "name": NAME, "networks": NETWORKS, "compare_int": COMPARE_INT, "compare_text": COMPARE_TEXT,
    "compare_bool": COMPARE_BOOL, "in_int": IN_INT, "in_text": IN_TEXT, "contains": CONTAINS, "starts": STARTS,
    "ends": ENDS, "not": NOT, "if_true": IF_TRUE, "if_false": IF_FALSE, "pop": POP, "jump": JUMP, "add": ADD,
    "subtract": SUBTRACT, "multiply": MULTIPLY, "length": LENGTH,
}
COMPARISONS = {"==": 0, "!=": 1, "<": 2, "<=": 3, ">": 4, ">=": 5}

# What an instruction takes from the stack and leaves there.
_EFFECTS = {
    INT: ((), IS_INT), TEXT: ((), IS_TEXT), TRUE_: ((), IS_BOOL), FALSE_: ((), IS_BOOL),
    TYPE: ((), IS_INT), CLASS: ((), IS_INT), PROTO: ((), IS_INT), SIZE: ((), IS_INT), ID: ((), IS_INT),
    OPCODE: ((), IS_INT), BUFSIZE: ((), IS_INT), PORT: ((), IS_INT), SERVER_PORT: ((), IS_INT), DO: ((), IS_BOOL),
    NAME: ((), IS_TEXT), NETWORKS: ((), IS_BOOL), COMPARE_INT: ((IS_INT, IS_INT), IS_BOOL),
    COMPARE_TEXT: ((IS_TEXT, IS_TEXT), IS_BOOL), COMPARE_BOOL: ((IS_BOOL, IS_BOOL), IS_BOOL),
    IN_INT: ((IS_INT,), IS_BOOL), IN_TEXT: ((IS_TEXT,), IS_BOOL), CONTAINS: ((IS_TEXT, IS_TEXT), IS_BOOL),
    STARTS: ((IS_TEXT, IS_TEXT), IS_BOOL), ENDS: ((IS_TEXT, IS_TEXT), IS_BOOL), NOT: ((IS_BOOL,), IS_BOOL),
    ADD: ((IS_INT, IS_INT), IS_INT), SUBTRACT: ((IS_INT, IS_INT), IS_INT), MULTIPLY: ((IS_INT, IS_INT), IS_INT),
    LENGTH: ((IS_TEXT,), IS_INT),
}

cdef struct Value:
    int64_t number              # of an integer or a boolean
    const uint8_t *text
    uint32_t octets


# ---------------------------------------------------------------------------------------------- verifier

cdef class Filter:
    def __init__(self, bytes code not None, bytes data not None):
        if len(code) == 0 or len(code) % sizeof(Instruction) or len(code) > FILTER_CODE * sizeof(Instruction):
            raise ValueError(f"a filter has 1 to {FILTER_CODE} instructions")
        if len(data) > FILTER_DATA:
            raise ValueError(f"the constants of a filter have at most {FILTER_DATA} octets")
        # The octets of a bytes object lie 32 behind its start, which is aligned to 16: so a place that is a multiple
        # of 8 may hold an integer.
        self.code = code
        self.data = data
        self.run.code = <const Instruction *><const uint8_t *>self.code
        self.run.data = self.data
        self._verify(len(code) // sizeof(Instruction), len(data))

    cdef int _verify(self, uint32_t count, uint32_t octets) except -1:
        cdef const Instruction *i
        cdef uint32_t at
        waiting = {}            # instruction: the stack that a jump brings
        stack = ()              # None: no way leads here but jumps
        members = 0
        for at in range(count):
            i = &self.run.code[at]
            if at in waiting:
                if stack is not None and stack != waiting[at]:
                    raise ValueError(f"instruction {at}: two ways meet with different values")
                stack = waiting.pop(at)
            if stack is None:
                raise ValueError(f"instruction {at}: no way leads here")
            members += self._operand(i, at, octets)
            if i.op == END:
                if stack != (IS_BOOL,) or at + 1 != count or waiting:
                    raise ValueError(f"instruction {at}: a filter ends once, with a boolean")
                return 0
            if i.op in (IF_TRUE, IF_FALSE, JUMP):
                if i.op != JUMP and (not stack or stack[len(stack) - 1] != IS_BOOL):
                    raise ValueError(f"instruction {at}: no boolean to decide by")
                if not at < i.operand < count or waiting.setdefault(i.operand, stack) != stack:
                    raise ValueError(f"instruction {at}: a jump to {i.operand}")
                if i.op == JUMP:
                    stack = None
            elif i.op == POP:
                if not stack:
                    raise ValueError(f"instruction {at}: the stack is empty")
                stack = stack[:len(stack) - 1]
            else:
                takes, gives = _EFFECTS[i.op]
                if len(stack) < len(takes) or stack[len(stack) - len(takes):] != takes:
                    raise ValueError(f"instruction {at}: other values on the stack than it takes")
                stack = (*stack[:len(stack) - len(takes)], gives)
                if len(stack) > FILTER_DEPTH:
                    raise ValueError(f"instruction {at}: more than {FILTER_DEPTH} values on the stack")
            if members > FILTER_MEMBERS:
                raise ValueError(f"instruction {at}: more than {FILTER_MEMBERS} networks")
        raise ValueError("a filter has an end")

    cdef int _operand(self, const Instruction *i, uint32_t at, uint32_t octets) except -1:
        # The operand's constants lie within the data. Returns the networks that the instruction looks through.
        cdef uint32_t n
        if i.op >= OPERATIONS_N:
            raise ValueError(f"instruction {at}: no operation {i.op}")
        if i.flag > (5 if i.op in (COMPARE_INT, COMPARE_TEXT) else 1 if i.op in (COMPARE_BOOL, NETWORKS) else 0):
            raise ValueError(f"instruction {at}: no flag {i.flag}")
        if i.op == INT:
            self._within(at, i.operand, 8, 8, octets)
        elif i.op == TEXT:
            self._text(at, i.operand, octets)
        elif i.op == IN_INT:
            n = self._count(at, i.operand, octets)
            self._within(at, i.operand, 8 + n * <uint64_t>8, 8, octets)
            for k in range(1, n):
                if self._number(i.operand + 8 * k) >= self._number(i.operand + 8 + 8 * k):
                    raise ValueError(f"instruction {at}: a list that is not sorted")
        elif i.op == IN_TEXT:
            n = self._count(at, i.operand, octets)
            self._within(at, i.operand, 4 + n * <uint64_t>4, 4, octets)
            for k in range(n):
                self._text(at, self._word(i.operand + 4 + 4 * k), octets)
            for k in range(1, n):
                if self._bytes(i.operand + 4 * k) >= self._bytes(i.operand + 4 + 4 * k):
                    raise ValueError(f"instruction {at}: a list that is not sorted")
        elif i.op == NETWORKS:
            n = self._count(at, i.operand, octets)
            self._within(at, i.operand, 4 + n * <uint64_t>NETWORK, 4, octets)
            for k in range(n):
                family, bits = self.data[i.operand + 4 + NETWORK * k], self.data[i.operand + 5 + NETWORK * k]
                if family not in (1, 2) or bits > (32 if family == 1 else 128):
                    raise ValueError(f"instruction {at}: no network")
            return n
        return 0

    cdef int _within(self, uint32_t at, uint64_t start, uint64_t n, uint32_t align, uint32_t octets) except -1:
        if start % align or start + n > octets:
            raise ValueError(f"instruction {at}: a constant beyond the constants")
        return 0

    cdef uint32_t _count(self, uint32_t at, uint32_t start, uint32_t octets) except? 0:
        self._within(at, start, 4, 4, octets)
        return self._word(start)

    cdef int _text(self, uint32_t at, uint32_t start, uint32_t octets) except -1:
        self._within(at, start, <uint64_t>4 + self._count(at, start, octets), 4, octets)
        return 0

    cdef uint32_t _word(self, uint32_t start) noexcept:
        return (<const uint32_t *>(self.run.data + start))[0]

    cdef int64_t _number(self, uint32_t start) noexcept:
        return (<const int64_t *>(self.run.data + start))[0]

    cdef bytes _bytes(self, uint32_t place):
        cdef uint32_t start = self._word(place)
        return self.data[start + 4:start + 4 + self._word(start)]

    def passes(self, bytes wire not None, *, bytes client=b"\x7f\0\0\1", int client_port=0, bytes local=b"",
               bint tcp=False, int port=53):
        """Whether a query passes: for `explain`, and for tests. Addresses are 4 or 16 octets; `local` may be empty."""
        cdef Query q
        if len(client) not in (4, 16) or len(local) not in (0, 4, 16):
            raise ValueError("no address")
        memset(&q, 0, sizeof(Query))
        if wire_admit(wire, len(wire), &q.pkt) != ADMIT_OK:
            raise ValueError("no admissible query")
        q.proto = PROTO_TCP if tcp else PROTO_UDP
        q.family = 1 if len(client) == 4 else 2
        memcpy(q.client_ip, <const uint8_t *>client, len(client))
        q.client_port = <uint16_t>client_port
        q.local_len = <uint8_t>len(local)
        memcpy(q.local_ip, <const uint8_t *>local, len(local))
        return bool(filter_passes(&self.run, &q, <uint16_t>port))


# ---------------------------------------------------------------------------------------------- machine

cdef inline uint32_t word(const uint8_t *data, uint32_t at) noexcept nogil:
    return (<const uint32_t *>(data + at))[0]


cdef inline int64_t number(const uint8_t *data, uint32_t at) noexcept nogil:
    return (<const int64_t *>(data + at))[0]


cdef int order(const uint8_t *a, uint32_t n, const uint8_t *b, uint32_t m) noexcept nogil:
    cdef int way = memcmp(a, b, n if n < m else m) if n and m else 0
    if way != 0:
        return way
    return -1 if n < m else 1 if n > m else 0


cdef inline bint holds(int way, uint8_t flag) noexcept nogil:
    # Whether a comparison holds for operands of this order.
    if flag == 0:
        return way == 0
    if flag == 1:
        return way != 0
    if flag == 2:
        return way < 0
    if flag == 3:
        return way <= 0
    if flag == 4:
        return way > 0
    return way >= 0


cdef bint in_numbers(int64_t x, const uint8_t *data, uint32_t at) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = word(data, at)
    cdef uint32_t middle
    cdef int64_t y
    while low < high:
        middle = low + (high - low) // 2
        y = number(data, at + 8 + 8 * middle)
        if x == y:
            return True
        if y < x:
            low = middle + 1
        else:
            high = middle
    return False


cdef bint in_texts(const uint8_t *text, uint32_t n, const uint8_t *data, uint32_t at) noexcept nogil:
    cdef uint32_t low = 0
    cdef uint32_t high = word(data, at)
    cdef uint32_t middle, place
    cdef int way
    while low < high:
        middle = low + (high - low) // 2
        place = word(data, at + 4 + 4 * middle)
        way = order(text, n, data + place + 4, word(data, place))
        if way == 0:
            return True
        if way > 0:
            low = middle + 1
        else:
            high = middle
    return False


cdef bint in_networks(const Query *q, bint server, const uint8_t *data, uint32_t at) noexcept nogil:
    cdef uint32_t n = word(data, at)
    cdef const uint8_t *net = data + at + 4
    cdef const uint8_t *address = &q.client_ip[0]
    cdef uint8_t family = q.family
    cdef uint8_t unknown[16]
    cdef uint32_t bits, whole
    if server:
        address = &q.local_ip[0]
        family = 1 if q.local_len == 4 else 2
        if q.local_len == 0:
            memset(unknown, 0, 16)      # it reads as `::`
            address = unknown
    while n > 0:
        n -= 1
        if net[0] == family:
            bits = net[1]
            whole = bits >> 3
            if memcmp(net + 2, address, whole) == 0 and (
                    bits & 7 == 0 or (net[2 + whole] ^ address[whole]) >> (8 - (bits & 7)) == 0):
                return True
        net += NETWORK
    return False


cdef int64_t characters(const uint8_t *text, uint32_t n) noexcept nogil:
    # UTF-8: every octet but those that continue a character.
    cdef const uint8_t *end = text + n
    cdef int64_t count = 0
    while text < end:
        count += text[0] & 0xc0 != 0x80
        text += 1
    return count


cdef void leaf(const Instruction *i, const uint8_t *data, const Query *q, uint16_t port, Value *out) noexcept nogil:
    # What takes nothing from the stack: constants and facts of the query.
    if i.op == INT:
        out.number = number(data, i.operand)
    elif i.op == TEXT:
        out.text = data + i.operand + 4
        out.octets = word(data, i.operand)
    elif i.op == TRUE_ or i.op == FALSE_:
        out.number = i.op == TRUE_
    elif i.op == TYPE:
        out.number = q.pkt.qtype
    elif i.op == CLASS:
        out.number = q.pkt.qclass
    elif i.op == PROTO:
        out.number = q.proto != PROTO_UDP
    elif i.op == SIZE:
        out.number = q.pkt.end
    elif i.op == ID:
        out.number = q.pkt.id
    elif i.op == OPCODE:
        out.number = q.pkt.opcode
    elif i.op == BUFSIZE:
        out.number = wire_limit(&q.pkt, q.proto == PROTO_UDP)
    elif i.op == PORT:
        out.number = q.client_port
    elif i.op == SERVER_PORT:
        out.number = port
    elif i.op == DO:
        out.number = q.pkt.has_opt and (q.pkt.opt_flags & FLAG_DO) != 0
    else:                       # NETWORKS
        out.number = in_networks(q, i.flag, data, i.operand)


cdef void two(uint8_t op, uint8_t flag, Value *a, const Value *b) noexcept nogil:
    # What takes two values; the result takes the place of the first.
    if op == COMPARE_INT or op == COMPARE_BOOL:
        a.number = holds(-1 if a.number < b.number else a.number > b.number, flag)
    elif op == COMPARE_TEXT:
        a.number = holds(order(a.text, a.octets, b.text, b.octets), flag)
    elif op == CONTAINS:
        a.number = memmem(a.text, a.octets, b.text, b.octets) != NULL
    elif op == STARTS:
        a.number = b.octets <= a.octets and memcmp(a.text, b.text, b.octets) == 0
    elif op == ENDS:
        a.number = b.octets <= a.octets and memcmp(a.text + a.octets - b.octets, b.text, b.octets) == 0
    elif op == ADD:
        a.number = <int64_t>(<uint64_t>a.number + <uint64_t>b.number)
    elif op == SUBTRACT:
        a.number = <int64_t>(<uint64_t>a.number - <uint64_t>b.number)
    else:                       # MULTIPLY
        a.number = <int64_t>(<uint64_t>a.number * <uint64_t>b.number)


cdef bint filter_passes(const FilterCode *f, const Query *q, uint16_t port) noexcept nogil:
    cdef Value stack[FILTER_DEPTH + 1]      # the first one is nobody's: an empty stack has a top too
    cdef Value *top = stack
    cdef const Instruction *i
    cdef const uint8_t *data = f.data
    cdef uint32_t pc = 0
    cdef char name[NAME_ROOM]
    cdef uint32_t name_octets = 0
    while True:
        i = &f.code[pc]
        pc += 1
        if i.op == END:
            return top.number != 0
        elif i.op == NAME:
            if name_octets == 0:
                name_octets = <uint32_t>wire_name_text(q.pkt.qname, q.pkt.qname_len, name, NAME_ROOM)
            top += 1
            top.text = <const uint8_t *>name
            top.octets = name_octets
        elif i.op < COMPARE_INT:
            top += 1
            leaf(i, data, q, port, top)
        elif i.op == IN_INT:
            top.number = in_numbers(top.number, data, i.operand)
        elif i.op == IN_TEXT:
            top.number = in_texts(top.text, top.octets, data, i.operand)
        elif i.op == NOT:
            top.number = top.number == 0
        elif i.op == IF_TRUE:
            if top.number != 0:
                pc = i.operand
        elif i.op == IF_FALSE:
            if top.number == 0:
                pc = i.operand
        elif i.op == POP:
            top -= 1
        elif i.op == JUMP:
            pc = i.operand
        elif i.op == LENGTH:
            top.number = characters(top.text, top.octets)
        else:
            top -= 1
            two(i.op, i.flag, top, top + 1)
