# SPDX-License-Identifier: Apache-2.0
"""The compiled half of rewrite: rules without look-ups and placeholders.

Strategy: what rules make of a query depends on the query alone, so they are applied on the way down to ask, and again
on the way up to know what to undo; nothing but the client's query is kept. One that no rule matches costs comparisons,
an exact name of another length costs one. Names are compared as texts, as CoreDNS does. A reply whose names need not
change is changed where it stands; else it is written anew, without compression but for owners that are the question.
A client's query of usual length is kept in the frame; a longer one that a rule changes gets memory of its own, for
which it moves into the pool.

Expressions are Python's. What they make of a name is a recipe (program.py), which depends on the name alone: one that
lies on the shelf is used; for another the stage says PYTHON, which answers that query and notes its recipe. So the
question and how to undo it are kept, never an answer.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastdns._cache cimport CacheEntry, CacheKey
from fastdns._kept cimport Kept, Shelf, kept_get, kept_key, kept_open, kept_put
from fastdns._stage cimport (
    NEXT, PROTO_UDP, PYTHON, RCODE, SUSPEND, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage,
    query_asked, stage_frame, zeroed,
)
from fastdns._stats cimport stat_add
from fastdns._sys cimport free, malloc, memcmp, memcpy, memset
from fastdns._wire cimport (
    ADMIT_OK, OPTION_COOKIE, OPTION_EXPIRE, OPTION_KEEPALIVE, OPTION_NSID, OPTION_PADDING, RCODE_FORMERR, RCODE_NOTIMP,
    RCODE_REFUSED, RCODE_SERVFAIL, SHAPE_NAMES, TYPE_CNAME, TYPE_DNAME, TYPE_MX, TYPE_NS, TYPE_OPT, TYPE_PTR, TYPE_SOA,
    TYPE_SRV, WIRE_HEADER, WIRE_MAX, FLAG_TC, Packet, Record, get16, put16, put32, rdata_names_at, rdata_shape,
    WIRE_QUERY_MAX, wire_admit, wire_lower, wire_name, wire_name_from_text, wire_name_text, wire_rcode, wire_scan,
)

cdef enum:
    RULES_MAX = 64
    RENAMES_MAX = 8             # name rules that one query may meet
    TEXT = 1024                 # a name as text has at most 1,021 characters
    KEPT = 1232                 # octets of a client's query that the frame keeps
    QUERY_MAX = WIRE_QUERY_MAX  # ... that are changed: a longer one is refused
    ADDED_MAX = 512             # octets that rules may add to the options
    RECIPE = 1024               # octets of a recipe
    RECIPE_HEAD = 12
    OPT_FIXED = 11
    OPT_ROOM = QUERY_MAX + ADDED_MAX
    BESIDE = WIRE_HEADER + 260 + OPT_FIXED + ADDED_MAX    # octets of what is asked beside the client's options
    ASKED = BESIDE + KEPT
    OPT_SIZE = 4096             # of an OPT that only a rule put into the query
    RR_FIXED = 10
    TYPE_NAPTR = 35

cdef enum Kind:
    NAME = 0
    TYPE = 1
    CLASS = 2
    TTL = 3
    CODE = 4
    OPTION = 5

cdef enum Match:
    EXACT = 0
    PREFIX = 1
    SUFFIX = 2
    SUBSTRING = 3
    REGEX = 4                   # the recipe says

cdef enum Action:
    APPEND = 0
    REPLACE = 1
    SET = 2
    UNSET = 3

RULES = RULES_MAX
RENAMES = RENAMES_MAX
ADDED = ADDED_MAX
KINDS = {"name": NAME, "type": TYPE, "class": CLASS, "ttl": TTL, "rcode": CODE, "edns0": OPTION}
MATCHES = {"exact": EXACT, "prefix": PREFIX, "suffix": SUFFIX, "substring": SUBSTRING, "regex": REGEX}
ACTIONS = {"append": APPEND, "replace": REPLACE, "set": SET, "unset": UNSET}

cdef struct Rule:
    uint8_t kind
    uint8_t match
    uint8_t action
    bint stop
    bint back                   # names of the reply are mapped back
    uint32_t low                # from, the least, or an option's code
    uint32_t high               # to, or the most
    const char *old             # what names are compared with, or an option's data
    const char *new
    uint32_t old_len
    uint32_t new_len
    uint32_t wire_len           # octets of the name that `old` is, 0 where it has escapes

cdef struct Config:
    Rule rules[RULES_MAX]
    uint32_t count
    uint16_t echoes[RULES_MAX]
    uint32_t echo_count
    const Kept *empty           # the shelf of recipes; NULL: no rule has an expression
    uint32_t lane
    uint32_t hits               # counters
    uint32_t misses
    uint32_t stored

cdef struct Text:
    uint32_t len
    char octets[TEXT]

cdef struct Draft:
    # What is asked, and which rules led there.
    Text names[RENAMES_MAX + 1]
    uint32_t renames
    bint texted                 # names[0] was made
    bint matched
    bint touched                # the query has an OPT by a rule
    bint bad                    # the last name is none
    const uint8_t *recipe       # what of the recipe was not used yet
    uint32_t recipe_len
    uint16_t qtype
    uint16_t qclass
    uint32_t steps
    uint8_t step[RULES_MAX]     # rules that have something to undo
    uint8_t at[RULES_MAX]       # ... and the name before it, for a name rule
    uint32_t options_len
    uint32_t room               # octets that they may have: what is asked then fits where it goes
    uint8_t options[OPT_ROOM]

cdef struct Large:
    # The memory of a query that the frame has no room for; in the list q.texts, and freed with it.
    void *next
    uint8_t octets[QUERY_MAX]
    uint8_t asked[BESIDE + QUERY_MAX]

cdef struct Frame:
    uint8_t matched
    uint8_t changed             # the stages behind got another query
    uint8_t touched
    uint16_t opt_len            # of the options that were asked with, at opt_at in `asked`
    uint16_t opt_at
    uint16_t recipe_len
    Packet client
    Large *large                # NULL: the query's octets are here
    uint8_t octets[KEPT]        # the client's
    uint8_t asked[ASKED]
    uint8_t recipe[RECIPE]      # only where a rule has an expression: last, and the frame of the others ends before it


cdef inline uint8_t *octets_of(Frame *f) noexcept nogil:
    return &f.octets[0] if f.large == NULL else &f.large.octets[0]


cdef inline uint8_t *asked_of(Frame *f) noexcept nogil:
    return &f.asked[0] if f.large == NULL else &f.large.asked[0]


cdef inline uint32_t asked_room(const Frame *f) noexcept nogil:
    return ASKED if f.large == NULL else BESIDE + QUERY_MAX


# ---- names as texts

cdef uint32_t found_at(const Rule *r, const Text *t, uint32_t start) noexcept nogil:
    # Where a rule's text stands in a name, from `start` on; TEXT when nowhere.
    cdef uint32_t i
    if r.old_len > t.len:
        return TEXT
    for i in range(start, t.len - r.old_len + 1):
        if t.octets[i] == r.old[0] and memcmp(t.octets + i, r.old, r.old_len) == 0:
            return i
    return TEXT


cdef bint matches(const Rule *r, const Text *t) noexcept nogil:
    if r.old_len > t.len:
        return False
    if r.match == EXACT:
        return r.old_len == t.len and memcmp(t.octets, r.old, t.len) == 0
    if r.match == PREFIX:
        return memcmp(t.octets, r.old, r.old_len) == 0
    if r.match == SUFFIX:
        return memcmp(t.octets + (t.len - r.old_len), r.old, r.old_len) == 0
    return found_at(r, t, 0) != TEXT


cdef bint append(Text *out, const char *text, uint32_t n) noexcept nogil:
    if n > TEXT - out.len:
        return False
    memcpy(out.octets + out.len, text, n)
    out.len += n
    return True


cdef bint renamed(const Rule *r, const Text *t, Text *out) noexcept nogil:
    # What a rule that matches makes of a name. False: it is too long to be one.
    cdef uint32_t at, start
    out.len = 0
    if r.match == EXACT:
        return append(out, r.new, r.new_len)
    if r.match == PREFIX:
        return append(out, r.new, r.new_len) and append(out, t.octets + r.old_len, t.len - r.old_len)
    if r.match == SUFFIX:
        return append(out, t.octets, t.len - r.old_len) and append(out, r.new, r.new_len)
    start = 0
    while True:
        at = found_at(r, t, start)
        if at == TEXT:
            return append(out, t.octets + start, t.len - start)
        if not append(out, t.octets + start, at - start) or not append(out, r.new, r.new_len):
            return False
        start = at + r.old_len


# ---- the way down

cdef inline const Text *name_of(Draft *d, const Packet *p) noexcept nogil:
    if not d.texted:
        d.texted = True
        d.names[0].len = <uint32_t>wire_name_text(p.qname, p.qname_len, d.names[0].octets, TEXT)
    return &d.names[d.renames]


cdef bint by_recipe(Draft *d, const uint8_t **text, uint32_t *n) noexcept nogil:
    # Whether the next expression matches, and the new name that it gives.
    cdef uint32_t item
    if d.recipe_len < 2:
        return False
    item = get16(d.recipe)
    d.recipe += 2
    d.recipe_len -= 2
    if item == 0 or item - 1 > d.recipe_len:
        return False
    text[0] = d.recipe
    n[0] = item - 1
    d.recipe += n[0]
    d.recipe_len -= n[0]
    return True


cdef bint named(const Rule *r, Draft *d, const Packet *p) noexcept nogil:
    # Whether a rule is for the name asked so far.
    cdef const uint8_t *text
    cdef uint32_t n
    if r.match == REGEX:
        return by_recipe(d, &text, &n)
    if r.match == EXACT and d.renames == 0 and r.wire_len and r.wire_len != p.qname_len:
        return False
    return matches(r, name_of(d, p))


cdef void take_options(Draft *d, const Packet *p) noexcept nogil:
    d.touched = True
    if p.has_opt and p.length <= QUERY_MAX:
        d.options_len = p.opt_rdlen
        memcpy(d.options, p.wire + p.opt_rdata, p.opt_rdlen)


cdef bint change_option(const Rule *r, Draft *d, const Packet *p) noexcept nogil:
    # Whether the rule matches. The query has an OPT from here on in any case.
    cdef uint32_t at = 0
    cdef uint32_t n
    if not d.touched:
        take_options(d, p)
    while at + 4 <= d.options_len:
        n = 4 + <uint32_t>get16(d.options + at + 2)
        if get16(d.options + at) != r.low:
            at += n
            continue
        if r.action == APPEND:
            return False
        if r.action == UNSET:
            d.options_len -= n
            move_down(d.options + at, n, d.options_len - at)
            continue
        return put_option(r, d, at, n)
    if r.action == UNSET:
        return True
    return r.action != REPLACE and put_option(r, d, d.options_len, 0)


cdef void move_down(uint8_t *to, uint32_t by, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        to[i] = to[i + by]


cdef bint put_option(const Rule *r, Draft *d, uint32_t at, uint32_t old) noexcept nogil:
    # Writes the rule's option over the `old` octets at `at`.
    cdef uint8_t rest[OPT_ROOM]
    cdef uint32_t need = 4 + r.old_len
    cdef uint32_t tail = d.options_len - at - old
    if d.options_len - old + need > d.room:
        return False
    memcpy(rest, d.options + at + old, tail)
    put16(d.options + at, r.low)
    put16(d.options + at + 2, r.old_len)
    memcpy(d.options + at + 4, r.old, r.old_len)
    memcpy(d.options + at + need, rest, tail)
    d.options_len += need - old
    return True


cdef inline void note(Draft *d, uint32_t rule) noexcept nogil:
    d.step[d.steps] = <uint8_t>rule
    d.at[d.steps] = <uint8_t>d.renames
    d.steps += 1


cdef bint rename(const Rule *r, Draft *d, const Packet *p, uint32_t number) noexcept nogil:
    cdef uint8_t wire[256]
    cdef Text *to
    cdef const uint8_t *text = NULL
    cdef uint32_t n = 0
    if r.match == REGEX:
        if not by_recipe(d, &text, &n):
            return False
        name_of(d, p)
    elif not named(r, d, p):
        return False
    if r.back:
        note(d, number)
    to = &d.names[d.renames + 1]
    if text != NULL:
        to.len = 0
        d.bad = not append(to, <const char *>text, n)
    else:
        d.bad = not renamed(r, &d.names[d.renames], to)
    d.bad = d.bad or wire_name_from_text(to.octets, to.len, wire) == 0
    d.renames += 1
    return True


cdef bint apply(const Rule *r, Draft *d, const Packet *p, uint32_t number) noexcept nogil:
    # Whether a rule matches; what it changes, or leaves to be undone, is then in the draft.
    if r.kind == NAME:
        return d.renames < RENAMES_MAX and rename(r, d, p, number)
    if r.kind == TYPE:
        if d.qtype != r.low:
            return False
        d.qtype = <uint16_t>r.high
        return True
    if r.kind == CLASS:
        if d.qclass != r.low:
            return False
        d.qclass = <uint16_t>r.high
        return True
    if r.kind == OPTION:
        return change_option(r, d, p)
    if not named(r, d, p):
        return False
    note(d, number)
    return True


cdef void draft(const Config *c, const Packet *p, const Frame *f, Draft *d) noexcept nogil:
    cdef uint32_t i
    d.recipe_len = 0
    if f.recipe_len:
        d.recipe = f.recipe + RECIPE_HEAD
        d.recipe_len = f.recipe_len - RECIPE_HEAD
    d.renames = d.steps = d.options_len = 0
    d.texted = d.matched = d.touched = d.bad = False
    d.room = ADDED_MAX + (p.length if p.length <= QUERY_MAX else 0)
    d.qtype = p.qtype
    d.qclass = p.qclass
    for i in range(c.count):
        if apply(&c.rules[i], d, p, i):
            d.matched = True
            if d.bad or c.rules[i].stop:
                return


cdef int refuse(Query *q, const char *why, const Text *name) noexcept nogil:
    cdef uint32_t n = 0
    cdef uint32_t more
    while why[n] != 0:
        q.error[n] = why[n]
        n += 1
    if name != NULL:
        more = name.len if name.len < sizeof(q.error) - n else <uint32_t>sizeof(q.error) - n
        memcpy(q.error + n, name.octets, more)
        n += more
    q.error_len = <uint16_t>n
    q.rcode = RCODE_SERVFAIL
    return RCODE


cdef bint ask(Frame *f, const Draft *d, Query *q) noexcept nogil:
    # Gives the stages behind the query of the draft. False: the server would not admit it.
    cdef const Packet *p = &f.client
    cdef const Text *name = &d.names[d.renames]
    cdef uint8_t *out = asked_of(f)
    cdef const uint8_t *client = octets_of(f)
    cdef uint32_t at = WIRE_HEADER
    cdef uint32_t length = d.options_len if d.touched else p.opt_rdlen
    memset(out, 0, WIRE_HEADER)
    put16(out, p.id)
    put16(out + 2, p.flags)
    out[5] = 1
    if d.renames:
        at += <uint32_t>wire_name_from_text(name.octets, name.len, out + at)
    else:
        memcpy(out + at, client + at, p.qname_len)
        at += p.qname_len
    put16(out + at, d.qtype)
    put16(out + at + 2, d.qclass)
    at += 4
    if p.has_opt or d.touched:
        out[11] = 1
        out[at] = 0
        put16(out + at + 1, TYPE_OPT)
        put16(out + at + 3, p.udp_size if p.has_opt else OPT_SIZE)
        put32(out + at + 5, p.opt_flags if p.has_opt else 0)
        put16(out + at + 9, length)
        at += OPT_FIXED
        memcpy(out + at, <const uint8_t *>d.options if d.touched else client + p.opt_rdata, length)
        f.opt_at = <uint16_t>at
        f.opt_len = <uint16_t>length
        at += length
    if wire_admit(out, at, &q.pkt) == ADMIT_OK:
        return True
    q.pkt = f.client
    q.pkt.wire = octets_of(f)
    return False


cdef int change(Frame *f, const Draft *d, Query *q) noexcept nogil:
    # Keeps the client's query and asks the draft's. All of it: a stage before may have put something behind the end of
    # the message.
    f.client = q.pkt
    memcpy(octets_of(f), q.pkt.wire, q.pkt.length)
    if not ask(f, d, q):
        f.matched = False
        return refuse(q, b"invalid query after rewrite", NULL)
    f.changed = True
    f.touched = d.touched
    return NEXT


cdef int change_large(Worker *w, Stage *s, Query *q, const Draft *d) noexcept nogil:
    # The same for a query that the frame has no room for.
    cdef Query *held = w.api.detach(w, q)
    cdef Frame *f
    cdef Large *large
    cdef int verdict
    if held == NULL:
        return refuse(q, b"too many queries in flight", NULL)
    large = <Large *>malloc(sizeof(Large))
    if large == NULL:
        if held != q:
            w.api.release(w, held)
        return refuse(q, b"no memory for a query of more than 1,232 octets", NULL)
    large.next = held.texts
    held.texts = large
    f = <Frame *>stage_frame(s, held)
    f.large = large
    verdict = change(f, d, held)
    if held == q:
        return verdict
    w.api.resume(w, held, verdict)
    return SUSPEND


cdef bint recipe_of(Worker *w, Stage *s, Query *q, Frame *f) noexcept nogil:
    # Takes the recipe of the name from the shelf; False: Python has to be asked.
    cdef const Config *c = <const Config *>s.config
    cdef Kept *k = <Kept *>s.state
    cdef CacheKey key
    cdef CacheEntry e
    kept_key(k, c.lane, q.pkt.qname, q.pkt.qname_len, &key)
    w.api.reply_room(w, q)
    if (q.pkt.length > QUERY_MAX or not kept_get(k, &key, &e, q.reply) or e.wire_len > RECIPE
            or e.wire_len < RECIPE_HEAD):
        stat_add(w.row, c.misses, 1)
        return False
    memcpy(f.recipe, q.reply, e.wire_len)
    f.recipe_len = e.wire_len
    stat_add(w.row, c.hits, 1)
    return True


cdef void noted(Worker *w, Stage *s, Query *q, int verdict, const uint8_t *note, uint32_t n) noexcept nogil:
    # What Python has found out about the name, however its query ended.
    cdef const Config *c = <const Config *>s.config
    cdef Kept *k = <Kept *>s.state
    cdef CacheKey key
    if n < RECIPE_HEAD or n > RECIPE:
        return
    kept_key(k, c.lane, q.pkt.qname, q.pkt.qname_len, &key)
    if kept_put(k, w, &key, note, n, 0, 0):
        stat_add(w.row, c.stored, 1)


cdef int start(Worker *w, Stage *s) noexcept nogil:
    s.state = kept_open((<const Config *>s.config).empty, w)
    return 0 if s.state != NULL else -1


cdef void stop(Worker *w, Stage *s) noexcept nogil:
    free(s.state)
    s.state = NULL


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef const Config *c = <const Config *>s.config
    cdef Draft d
    if c.empty != NULL and not recipe_of(w, s, q, f):
        return PYTHON
    draft(c, &q.pkt, f, &d)
    if d.bad:
        return refuse(q, b"invalid name after rewrite: ", &d.names[d.renames])
    if not d.matched and not d.touched:
        return NEXT
    f.matched = True
    if d.renames == 0 and not d.touched and d.qtype == q.pkt.qtype and d.qclass == q.pkt.qclass:
        return NEXT
    if q.pkt.length > QUERY_MAX:
        return refuse(q, b"a query of more than 4,096 octets cannot be changed", NULL)
    return change(f, &d, q) if q.pkt.length <= KEPT else change_large(w, s, q, &d)


# ---- the way up

include "_rewrite_reply.pxi"


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef const Config *c = <const Config *>s.config
    cdef Draft d
    if not f.matched:
        return
    if f.changed:
        query_asked(q, &q.pkt)
        q.pkt = f.client
        q.pkt.wire = octets_of(f)
    if q.streamed or (not q.written and not write_error(w, c, s, q, f)):
        return
    draft(c, &q.pkt, f, &d)
    edit(w, c, &d, q, &q.pkt, f)


cdef void message(Worker *w, Stage *s, Query *q) noexcept nogil:
    # One message of a stream: the stages behind have not ended, so the client's packet stays where it is kept.
    cdef Frame *f = <Frame *>stage_frame(s, q)
    cdef Packet client
    cdef Draft d
    if not f.matched:
        return
    client = f.client if f.changed else q.pkt
    if f.changed:
        client.wire = octets_of(f)
    draft(<const Config *>s.config, &client, f, &d)
    edit(w, <const Config *>s.config, &d, q, &client, f)


cdef StageOps OPS
OPS.name = b"rewrite"
OPS.frame_size = sizeof(Frame) - RECIPE
OPS.request = request
OPS.response = response
OPS.message = message

cdef StageOps ASKING            # ... where rules have expressions
ASKING = OPS
ASKING.frame_size = sizeof(Frame)
ASKING.start = start
ASKING.stop = stop
ASKING.noted = noted


def stage(rows, echoes, plugin=None, Shelf shelf=None) -> CompiledStage:
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef Rule *r
    cdef bytes old, new
    rows, codes = list(rows), sorted(set(echoes))
    if len(rows) > RULES_MAX or len(codes) > RULES_MAX:
        raise ValueError(f"a stage has at most {RULES_MAX} rules")
    for kind, match, action, stop, back, low, high, old, new in rows:
        r = &config.rules[config.count]
        r.kind, r.match, r.action = kind, match, action
        r.stop, r.back, r.low, r.high = stop, back, low, high
        r.old, r.old_len = old, <uint32_t>len(old)
        r.new, r.new_len = new, <uint32_t>len(new)
        r.wire_len = 0 if b"\\" in old else 1 if old == b"." else <uint32_t>len(old) + 1
        config.count += 1
    for code in codes:
        config.echoes[config.echo_count] = code
        config.echo_count += 1
    if shelf is not None:
        config.hits, config.misses, config.stored = shelf.counters("rewrite")
        config.empty = &shelf.empty
        config.lane = shelf.lane()
    return compiled_stage(&OPS if shelf is None else &ASKING, config, (memory, rows, shelf), plugin)
