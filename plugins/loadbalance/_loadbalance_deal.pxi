# SPDX-License-Identifier: Apache-2.0
#
# The order of the addresses of one section where a policy or `prefer` says more than chance.
#
# Strategy: works on an index of the records, whether they then move in place or are written anew. `weighted` needs one
# pass: each address takes the place of the one chosen so far with the chance that its weight has among those seen.
# `prefer` counts the addresses of each network, and lays them out network by network in the order drawn before.

cdef enum:
    NETWORKS_MOST = 256         # of `prefer`: each address is compared with each

cdef enum Mode:
    ROUND_ROBIN = 0
    WEIGHTED = 1

cdef const char *MAPPED = b"\0\0\0\0\0\0\0\0\0\0\xff\xff"

cdef struct Network:
    bint ipv4                   # an IPv6 network around ::ffff:0:0/96 holds no IPv4 address
    uint8_t first[ADDRESS]
    uint8_t last[ADDRESS]

cdef struct Config:
    uint8_t mode
    uint8_t places[RANKS]       # where records of each rank come in answer and additional section
    Feed feed                   # of weights
    uint32_t count
    Network networks[NETWORKS_MOST]


cdef bint address_of(const uint8_t *msg, const Record *r, uint8_t *out) noexcept nogil:
    # An address in 16 octets, IPv4 mapped, as Go compares them.
    if r.rtype == TYPE_A and r.rdlen == 4:
        memcpy(out, MAPPED, 12)
        memcpy(out + 12, msg + r.rdata, 4)
        return True
    if r.rtype == TYPE_AAAA and r.rdlen == ADDRESS:
        memcpy(out, msg + r.rdata, ADDRESS)
        return True
    return False


cdef uint32_t chosen_by(Worker *w, const Table *t, const uint8_t *msg, uint32_t size, const Record *records,
                        uint32_t n) noexcept nogil:
    # The address that comes first, by its weight.
    cdef uint64_t sum = 0
    cdef uint32_t chosen = 0
    cdef uint32_t i, weight
    cdef uint8_t name[256 + ADDRESS]
    cdef uint8_t address[ADDRESS]
    cdef size_t used = 0
    cdef int length
    for i in range(n):
        weight = 1
        if t.cells != NULL and address_of(msg, &records[i], address):
            length = wire_name(msg, size, records[i].owner, name, &used)
            if length > 0:
                wire_lower(name, length)
                weight = weight_of(t, weight_hash(&t.h, name, length, address))
        sum += weight
        if sum > weight and w.api.random(w) % sum < weight:
            chosen = i
    return chosen


cdef uint32_t choose(Worker *w, Stage *s, const uint8_t *msg, uint32_t size, const Record *records,
                     uint32_t n) noexcept nogil:
    # ... by the newest weights; each is worth the same where they cannot be had.
    cdef const Config *c = <const Config *>s.config
    cdef State *st = <State *>s.state
    cdef Table none
    cdef uint32_t chosen
    cdef int _i
    for _i in range(TRIES):
        if feed_moved(&c.feed, &st.image) and feed_follow(&c.feed, &st.image):
            table_open(&st.weights, st.image.at, st.image.octets)
        chosen = chosen_by(w, &st.weights, msg, size, records, n)
        if image_whole(&st.image):
            return chosen
    none.cells = NULL
    return chosen_by(w, &none, msg, size, records, n)


cdef uint16_t network_of(const Config *c, const uint8_t *msg, const Record *r) noexcept nogil:
    # The first network that holds the address; behind the last where none does.
    cdef uint8_t address[ADDRESS]
    cdef bint ipv4
    cdef uint32_t i
    if address_of(msg, r, address):
        ipv4 = memcmp(address, MAPPED, 12) == 0
        for i in range(c.count):
            if (c.networks[i].ipv4 == ipv4 and memcmp(c.networks[i].first, address, ADDRESS) <= 0
                    and memcmp(address, c.networks[i].last, ADDRESS) <= 0):
                return <uint16_t>i
    return <uint16_t>c.count


cdef void prefer(const Config *c, const uint8_t *msg, const Record *records, uint16_t *order, uint16_t *group,
                 uint32_t n) noexcept nogil:
    # Sorts a drawn order by network; what is equal keeps its turn.
    cdef uint16_t starts[NETWORKS_MOST + 2]
    cdef uint32_t i
    memset(starts, 0, sizeof(starts))
    for i in range(n):
        group[i] = network_of(c, msg, &records[order[i]])
        starts[group[i] + 1] += 1
    for i in range(c.count):
        starts[i + 1] += starts[i]
    # Each address of the old order goes to the next place of its network; its number is kept in the upper half.
    for i in range(n):
        group[n + starts[group[i]]] = order[i]
        starts[group[i]] += 1
    memcpy(order, group + n, n * sizeof(uint16_t))


cdef bint deal(Worker *w, Dice *dice, Stage *s, const uint8_t *msg, uint32_t size, const Record *records, uint32_t n,
               uint16_t *order) noexcept nogil:
    # The order of n > 0 addresses; whether it is another than the one there is.
    cdef const Config *c = <const Config *>s.config
    cdef uint32_t i, chosen
    if c.mode == WEIGHTED:
        for i in range(n):
            order[i] = <uint16_t>i
        chosen = choose(w, s, msg, size, records, n)
        order[0] = <uint16_t>chosen
        order[chosen] = 0
        return chosen != 0
    shuffle(w, dice, order, n)
    prefer(c, msg, records, order, (<State *>s.state).group, n)
    return True
