# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of acl: decides about each query by its name, type and client.

Strategy: the order of policies was worked out at set-up (tables.py). A rule is a table of stretches of addresses for
each IP version, and a hash table of its zones. A query costs one binary search for each rule about its name, about
fifteen steps for ten thousand networks; its name is hashed once, label by label from the root, and only if some rule is
not about everything. The tables are read-only and shared by all workers.
"""

from libc.stddef cimport size_t
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stage cimport (
    DROP, NEXT, RCODE, REPLY, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport memcmp, memcpy
from fastdns._wire cimport RCODE_NOERROR, RCODE_REFUSED, RCODE_SERVFAIL, WIRE_MAX, get32, wire_rcode

cdef enum:                      # actions, as tables.py numbers them
    NO_ACTION = 0
    ALLOW = 1
    BLOCK = 2
    FILTER = 3
    DROP_IT = 4
    ACTIONS = 5

cdef enum:
    COUNTED = 3                 # actions with a counter for each zone, BLOCK the first
    LABELS_MAX = 128            # of a name of 255 octets
    OPT_SIZE = 4096             # what CoreDNS says there, with DO
    OPT_OCTETS = 17             # of an OPT with one extended error

cdef const uint8_t *BLOCKED = b"\x00\x0f\x00\x02\x00\x0f"      # option 15, two octets: 15 (RFC 8914)
cdef const uint8_t *FILTERED = b"\x00\x0f\x00\x02\x00\x11"     # ... 17

cdef struct Zone:
    const uint8_t *name         # lower-cased wire form, kept alive by the owner
    uint32_t len
    uint32_t hash

cdef struct Decision:
    uint32_t first              # of its exceptions
    uint16_t count
    uint8_t rest                # the action for every other type

cdef struct Exception_:
    uint16_t qtype
    uint8_t action

cdef struct Stretches:
    uint32_t n
    uint32_t *decisions
    uint32_t *starts4           # the first is 0
    uint64_t *starts6           # two words each

cdef struct Rule:
    int32_t root                # index of the root zone, if it is about everything, else -1
    uint32_t mask               # cells - 1
    uint32_t *cells             # 1 + index of a zone; 0: free. NULL: no zone but the root
    Stretches table[2]          # IPv4, IPv6

cdef struct Server:
    uint32_t allowed
    uint32_t *zones             # COUNTED for each zone

cdef struct Config:
    uint32_t rule_count
    Rule *rules
    Zone *zones
    Decision *decisions
    Exception_ *exceptions
    uint32_t server_count
    Server *servers

cdef struct Suffixes:
    # The query's name from each of its labels on: where it begins, and its hash.
    uint32_t n
    uint8_t at[LABELS_MAX]
    uint32_t hash[LABELS_MAX]


cdef inline uint32_t mixed(uint32_t hash, uint8_t octet) noexcept nogil:
    return (hash ^ octet) * 16777619u


cdef uint32_t name_hash(const uint8_t *name, uint32_t n) noexcept nogil:
    # From the last octet to the first, so that one pass gives the hashes of all suffixes.
    cdef uint32_t hash = 2166136261u
    while n > 0:
        n -= 1
        hash = mixed(hash, name[n])
    return hash


cdef void split(const Query *q, Suffixes *out) noexcept nogil:
    cdef const uint8_t *name = q.pkt.qname
    cdef uint32_t at = 0
    cdef uint32_t hash = 2166136261u
    cdef uint32_t i
    out.n = 0
    while at < q.pkt.qname_len and name[at] != 0 and out.n < LABELS_MAX:
        out.at[out.n] = <uint8_t>at
        out.n += 1
        at += <uint32_t>name[at] + 1
    at = q.pkt.qname_len
    i = out.n
    while i > 0:
        i -= 1
        while at > out.at[i]:
            at -= 1
            hash = mixed(hash, name[at])
        out.hash[i] = hash


cdef int32_t zone_of(const Config *c, const Rule *r, const Query *q, const Suffixes *names) noexcept nogil:
    # The longest zone of the rule that the query's name lies in, or -1.
    cdef const Zone *zone
    cdef uint32_t i, cell, left
    if r.cells == NULL:
        return r.root
    for i in range(names.n):
        left = q.pkt.qname_len - names.at[i]
        cell = names.hash[i] & r.mask
        while r.cells[cell] != 0:
            zone = &c.zones[r.cells[cell] - 1]
            if zone.hash == names.hash[i] and zone.len == left and memcmp(zone.name, q.pkt.qname + names.at[i],
                                                                          left) == 0:
                return <int32_t>r.cells[cell] - 1
            cell = (cell + 1) & r.mask
    return r.root


cdef inline uint32_t find4(const Stretches *t, uint32_t address) noexcept nogil:
    # The last stretch that begins at or before the address.
    cdef const uint32_t *at = t.starts4
    cdef uint32_t n = t.n
    cdef uint32_t half
    while n > 1:
        half = n >> 1
        at += half if at[half] <= address else 0
        n -= half
    return <uint32_t>(at - t.starts4)


cdef inline uint32_t find6(const Stretches *t, uint64_t high, uint64_t low) noexcept nogil:
    cdef const uint64_t *at = t.starts6
    cdef uint32_t n = t.n
    cdef uint32_t half
    while n > 1:
        half = n >> 1
        if at[2 * half] < high or (at[2 * half] == high and at[2 * half + 1] <= low):
            at += 2 * half
        n -= half
    return <uint32_t>((at - t.starts6) >> 1)


cdef inline uint64_t get64(const uint8_t *p) noexcept nogil:
    return (<uint64_t>get32(p) << 32) | get32(p + 4)


cdef int decide(const Config *c, const Rule *r, const Query *q) noexcept nogil:
    # The action of the rule's first policy that matches type and client.
    cdef const Decision *d
    cdef uint32_t number, i
    if q.family == 1:
        number = r.table[0].decisions[find4(&r.table[0], get32(q.client_ip))]
    else:
        number = r.table[1].decisions[find6(&r.table[1], get64(q.client_ip), get64(q.client_ip + 8))]
    d = &c.decisions[number]
    for i in range(d.count):
        if c.exceptions[d.first + i].qtype == q.pkt.qtype:
            return c.exceptions[d.first + i].action
    return d.rest


cdef int answer(Worker *w, Query *q, int rcode, const uint8_t *option) noexcept nogil:
    # No record, and an OPT even for a client that sent none.
    w.api.reply_room(w, q)
    q.reply_len = <uint32_t>wire_rcode(&q.pkt, rcode, q.reply, WIRE_MAX)
    if q.reply_len == 0:
        q.rcode = RCODE_SERVFAIL
        return RCODE
    q.rcode = <uint16_t>rcode
    q.ulen = q.reply_len + OPT_OCTETS
    q.has_opt = True
    q.set_do = True
    q.opt_size = OPT_SIZE
    q.options = option
    q.options_len = 6
    return REPLY


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef const Server *server = &c.servers[q.listener if q.listener < c.server_count else 0]
    cdef Suffixes names
    cdef bint known = False
    cdef const Rule *r
    cdef int32_t zone
    cdef uint32_t i
    cdef int action
    for i in range(c.rule_count):
        r = &c.rules[i]
        if r.cells != NULL and not known:
            split(q, &names)
            known = True
        zone = zone_of(c, r, q, &names)
        if zone < 0:
            continue
        action = decide(c, r, q)
        if action == NO_ACTION:
            continue
        if action == ALLOW:
            break
        stat_add(w.row, server.zones[zone * COUNTED + action - BLOCK], 1)
        if action == BLOCK:
            return answer(w, q, RCODE_REFUSED, BLOCKED)
        if action == FILTER:
            return answer(w, q, RCODE_NOERROR, FILTERED)
        q.rcode = RCODE_NOERROR
        return DROP
    stat_add(w.row, server.allowed, 1)
    return NEXT


cdef StageOps OPS
OPS.name = b"acl"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


cdef int name_zones(Memory m, list names) except -1:
    cdef Config *c = <Config *>m.at
    cdef bytes name
    cdef Zone *zone
    c.zones = <Zone *>m.room(len(names), sizeof(Zone))
    for i, name in enumerate(names):
        if not 0 < len(name) <= 255:
            raise ValueError(f"{name!r} is no name in wire form")
        zone = &c.zones[i]
        zone.name = name
        zone.len = <uint32_t>len(name)
        zone.hash = name_hash(zone.name, zone.len)
    return 0


cdef int take_decisions(Memory m, decisions) except -1:
    cdef Config *c = <Config *>m.at
    cdef uint32_t at = 0
    c.decisions = <Decision *>m.room(len(decisions), sizeof(Decision))
    c.exceptions = <Exception_ *>m.room(sum(len(own) for _, own in decisions), sizeof(Exception_))
    for i, (rest, own) in enumerate(decisions):
        if not 0 <= rest < ACTIONS or len(own) > 65535:
            raise ValueError("not a decision")
        c.decisions[i].first = at
        c.decisions[i].count = <uint16_t>len(own)
        c.decisions[i].rest = rest
        for qtype, action in own:
            if not 0 <= action < ACTIONS:
                raise ValueError("not a decision")
            c.exceptions[at].qtype = qtype
            c.exceptions[at].action = action
            at += 1
    return 0


cdef int take_zones(Memory m, list names, Rule *r, own) except -1:
    cdef Config *c = <Config *>m.at
    cdef uint32_t cells = 4
    cdef uint32_t cell, zone
    r.root = -1
    for zone in own:
        if zone >= <uint32_t>len(names):
            raise IndexError("no such zone")
    while cells < 2 * len(own):
        cells *= 2
    r.mask = cells - 1
    below = {zone for zone in own if len(names[zone]) > 1}
    if set(own) - below:
        r.root = min(set(own) - below)
    if not below:
        return 0
    r.cells = <uint32_t *>m.room(cells, sizeof(uint32_t))
    for zone in below:
        cell = c.zones[zone].hash & r.mask
        while r.cells[cell] != 0:
            cell = (cell + 1) & r.mask
        r.cells[cell] = zone + 1
    return 0


cdef int take_stretches(Memory m, Stretches *t, int family, bytes starts, bytes numbers,
                        uint32_t decisions) except -1:
    cdef size_t width = 16 if family else 4
    cdef size_t n = len(numbers) // 4
    cdef size_t i
    if n == 0 or n > 0x7FFFFFFF or len(numbers) != <Py_ssize_t>(4 * n) or len(starts) != <Py_ssize_t>(width * n):
        raise ValueError("tables that do not fit together")
    t.n = <uint32_t>n
    t.decisions = <uint32_t *>m.room(n, 4)
    memcpy(t.decisions, <const uint8_t *>numbers, 4 * n)
    if family:
        t.starts6 = <uint64_t *>m.room(n, width)
        memcpy(t.starts6, <const uint8_t *>starts, width * n)
    else:
        t.starts4 = <uint32_t *>m.room(n, width)
        memcpy(t.starts4, <const uint8_t *>starts, width * n)
    for i in range(n):
        if t.decisions[i] >= decisions:
            raise IndexError("no such decision")
    return 0


cdef int take_servers(Memory m, uint32_t names, slots) except -1:
    cdef Config *c = <Config *>m.at
    cdef size_t zones = COUNTED * <size_t>names
    cdef size_t j
    c.servers = <Server *>m.room(len(slots), sizeof(Server))
    c.server_count = <uint32_t>len(slots)
    for i, (allowed, counters) in enumerate(slots):
        if <size_t>len(counters) != zones:
            raise ValueError(f"{zones} counters are needed")
        c.servers[i].allowed = allowed
        c.servers[i].zones = <uint32_t *>m.room(zones, sizeof(uint32_t))
        for j in range(zones):
            c.servers[i].zones[j] = counters[j]
    return 0


def stage(zones, rules, decisions, slots) -> CompiledStage:
    """The stage of a block's rules.

    zones: names in lower-cased wire form. rules: for each its zones by index, then for IPv4 and IPv6 the starts and
    decisions of its stretches, packed as tables.py does. decisions: (action, ((type, action), ...)). slots: for each
    listener that of what passes, and three for each zone. ValueError, IndexError for tables that do not fit together.
    """
    cdef Memory m = zeroed(sizeof(Config))
    cdef Config *c = <Config *>m.at
    cdef list names = list(zones)
    cdef Rule *r
    if not slots:
        raise ValueError("a listener is needed")
    name_zones(m, names)
    take_decisions(m, decisions)
    c.rules = <Rule *>m.room(len(rules), sizeof(Rule))
    c.rule_count = <uint32_t>len(rules)
    for i, (own, *tables) in enumerate(rules):
        r = &c.rules[i]
        take_zones(m, names, r, own)
        for family, (starts, numbers) in enumerate(tables):
            take_stretches(m, &r.table[family], family, starts, numbers, <uint32_t>len(decisions))
        if r.table[0].n == 0 or r.table[1].n == 0:
            raise ValueError("a table for each IP version is needed")
    take_servers(m, <uint32_t>len(names), slots)
    return compiled_stage(&OPS, c, (m, names))
