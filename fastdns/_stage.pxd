# SPDX-License-Identifier: Apache-2.0
#
# The contract between the loop and a compiled stage (the C half of a plugin). Public: shipped in the wheel.
#
# One query's story. A transport (UDP batch, TCP connection) hands octets to wire_admit; the router finds the
# block; the query is then a slot - struct Query - with a position in the block's list of stages. The runner
# (_chain) calls stage.ops.request of position 0, 1, 2 ... Each says NEXT, or ends the way down: REPLY (reply
# octets are in q.reply), RCODE (nothing written, q.rcode says which; the server will write it unless an outer
# stage does), DROP, SUSPEND (the stage keeps the query and calls w.api.resume later). A stage that Python
# runs is crossed by handing the query to the Python thread, which resumes it in the same way. Then the
# runner walks back up from the stage before the one that ended it, calling each stage.ops.response, and gives the
# query to the sink of its origin (UDP transmit, TCP connection, Python, nobody).
#
# Ownership. A query that runs to its end at once lives in its batch slot and costs no allocation. A
# stage that must wait first calls w.api.detach(w, q), which moves the query (with frames and request octets) to a
# slot of the bounded in-flight pool and returns the new address, or NULL when the pool is full (counted): then answer
# RCODE SERVFAIL. Reply octets live in the worker's transmit arena: w.api.reply_room(w, q) points q.reply at 65,535
# free octets; they stay valid until the sink has taken the query. Nothing here may block, allocate per hit, or call
# Python.
#
# A changed query. A stage that gives the stages behind it another query (rewrite; Python's next() with a replacement)
# keeps the client's packet and octets in its frame, which moves along when the query is detached, puts both back on the
# way up, and says what it asked instead with query_asked. Stages that report read that:
# log type, class, size, DO and buffer size; prometheus type and DO; errors name and type; all else is the client's.
# What the innermost stage asked last counts, as where all stages write to one message. `cache` ends it: CoreDNS's
# cache gives a copy downwards.
#
# Compiled, and in Python. A stage that can decide about some queries alone (_kept: answers; rewrite: names) says PYTHON
# for the others: the plugin that it was made with (compiled_stage) then runs its serve_dns at this place, as for a
# stage without C functions, and its own `response` does not see that query. What the plugin noted for its compiled half
# (`Query.note`) comes to ops.noted in the hot thread, before the query goes on with the plugin's result.
#
# Labels (`metadata`). A block with that directive keeps a value for each label that somebody in it reads: Label structs
# behind the stages' frames, so they move with the query and cost a block without readers nothing. A stage asks at
# set-up for a label's place (fastdns/labels.py; -1: nobody reads it) and sets it with label_set. The last one counts.
#
# A traced query (`trace`) runs in a copy of its block whose stages' functions note the time and call the block's own.
# Whoever needs to know the block by its address asks w.blocks[q.block.index].
#
# A signed query (TSIG) was verified at the ingress: q.tsig says what came of it, before any stage runs and for all that
# is looked up for it. Where its block signs, the common end of replies does so; no stage sees or makes a MAC.
#
# Octets as they pass (`dnstap`). A stage that sets q.tapped in its response, or in `message` of a stream, is shown what
# leaves for the client by ops.sent; what forwarding did for the queries of a block is told to `exchanged` of the block.
#
# A stream. A stage that answers with many messages (a transfer) says SUSPEND, writes each message as it would a reply,
# and gives it to w.api.stream, which shows it to `message` of the stages before and sends it. STREAM_GO: the next one.
# STREAM_WAIT: it was taken, but the client has enough to read for now; ops.room says when to go on. In the end
# w.api.stream_end runs the responses, once, with q.streamed > 0: q.reply is then header and question of the last
# message and q.ulen the octets of all; what a response changes in it is not sent. ops.room with q.gone, or STREAM_GONE:
# nobody reads any more; end it.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int16_t, int64_t
from fastdns._sys cimport memcpy, sockaddr_in6
from fastdns._wire cimport (
    FLAG_DO, RCODE_NOERROR, RCODE_NOTAUTH, RCODE_SERVFAIL, Message, Packet, Writer, wire_name_under, wire_opt,
)
from fastdns._log cimport LOG_ABSENT, LOG_LABEL_MAX, QueryRecord, Ring
from fastdns._tsig cimport TSIG_SIGN, Signature, TsigKeys, tsig_room

cdef enum:                      # Verdict
    NEXT = 0
    REPLY = 1                   # q.reply, q.reply_len, q.rcode, q.ulen are set
    RCODE = 2                   # q.rcode is set, nothing written (CoreDNS's bare return of an rcode)
    DROP = 3                    # deliberately silent
    SUSPEND = 4                 # the stage holds the query: w.api.resume(w, q, verdict) continues it
    PYTHON = 5                  # the plugin in Python decides about this one

cdef enum:                      # what became of a stream's message
    STREAM_GO = 0               # taken; there is room for the next
    STREAM_WAIT = 1             # taken; wait for ops.room
    STREAM_GONE = 2             # not taken: the client went away
    STREAM_UNFIT = 3            # not taken: it fits no message
    STREAM_REFUSED = 4          # not taken: the transport has one reply for a query (UDP)

cdef enum:                      # Origin
    ORIGIN_UDP = 0
    ORIGIN_TCP = 1
    ORIGIN_PYTHON = 2           # a child: Python's next(), or a look-up of the server's own
    ORIGIN_REFRESH = 3          # nobody waits: prefetch, stale refresh
    ORIGIN_LOOKUP = 4           # a look-up that a compiled stage holds a query for: ends in ops.answer
    ORIGINS = 5

cdef enum:                      # Proto
    PROTO_UDP = 0
    PROTO_TCP = 1

cdef enum:                      # Module: owners of epoll tags, timers and w.mod[] state
    MOD_LISTEN = 0              # UDP listeners (_udp)
    MOD_TCP = 1                 # TCP listeners and connections (_tcp)
    MOD_FORWARD = 2
    MOD_BRIDGE = 3              # the Python thread's rings
    MOD_CONTROL = 4             # stop, drain, reload (_udp)
    MOD_CACHE = 5               # refreshes
    MODULES = 8

cdef struct Asked:
    # What a stage asked the stages behind it instead of the client's question. Travels cut off behind the name.
    uint32_t size               # octets of the query
    uint16_t qtype
    uint16_t qclass
    uint16_t udp_size
    uint8_t has_opt
    uint8_t wants_dnssec        # DO
    uint16_t name_len
    uint8_t name[256]           # lower-cased, wire form

cdef struct Label:
    # A value that somebody reads. The text lies in a configuration, or in the query's `texts`.
    const char *text            # NULL: not set
    uint32_t len

cdef struct Exchange:
    # What became of an exchange with another server. Valid during the call.
    uint64_t begin_ns           # CLOCK_MONOTONIC, when the first one for the query began
    const uint8_t *question     # the id of another query may be in it
    uint32_t question_len
    const uint8_t *reply        # NULL: none came
    uint32_t reply_len
    const sockaddr_in6 *peer    # who was asked
    int fd                      # our socket; -1: there was none
    bint tcp

cdef struct Query:
    # -- identity: set by the transport
    Packet pkt                  # the parsed query; a stage may change flags, udp_size, opt_flags
    uint8_t origin
    uint8_t proto
    uint8_t family              # 1 IPv4, 2 IPv6 (the metrics' label)
    uint8_t local_len           # 0: unknown, 4 or 16
    uint16_t listener           # index of the listener: w.listeners[]
    uint16_t client_port        # host order
    uint8_t client_ip[16]       # IPv4 in the first four octets (never v4-mapped)
    uint8_t local_ip[16]        # the address asked
    uint32_t ifindex            # interface to answer by (link-local peers), else 0
    uint32_t client_scope       # IPv6 scope id
    sockaddr_in6 peer           # as the kernel gave it, to answer to
    uint32_t peer_len
    uint64_t start_ns           # CLOCK_MONOTONIC, at the batch that brought it
    uint64_t deadline_ns        # when `cancel` wants no more to be tried for it; 0: never
    uint64_t handle             # the transport's own: TCP connection and generation; Python's token
    # -- where it is
    Block *block                # NULL until routed
    uint16_t zone               # index of the block zone that matched (metrics' label): block.zones[]
    uint16_t pos                # the stage that runs or waits
    uint16_t base               # unwinding stops above this position (children start below a Python stage)
    uint8_t depth               # nested own look-ups: at most 8
    uint8_t proven              # a good cookie: the client is where its address says (TCP proves it too)
    uint8_t tsig                # what is known of its signature: TSIG_... of _tsig.pxd, 0: nothing. `signature` counts
    uint8_t apart               # never joins an equal question in flight: the probe of `loop` has to go its laps
    uint16_t gate               # 1 + position of a stage that wants to be asked at a miss, see query_past
    uint16_t tapped             # 1 + position of a stage that wants to see the octets that leave
    bint detached               # lives in the in-flight pool
    bint background             # no client: counters of clients stay untouched
    uint32_t route              # while a filter in Python is asked: the router's candidate that it belongs to
    uint32_t parent             # ... and 1 + the one that a DS goes to if none is above it
    uint8_t *frames             # block.frame_octets for the stages' frames
    # -- the answer
    bint written                # some stage wrote a reply
    bint dropped
    bint has_opt                # the reply carried an OPT (kept aside, never in q.reply)
    bint set_do
    uint16_t rcode              # what the chain returns (12 bits)
    uint16_t opt_size
    uint32_t ulen               # octets of the reply uncompressed (with the OPT it came with): log, histograms
    uint32_t reply_len
    uint8_t *reply              # header .. last record, no OPT
    const uint8_t *options      # options for the reply's OPT
    uint32_t options_len
    uint8_t cookie_len          # octets of `cookie`; 0: none. The reply's OPT then carries it, and no other
    uint8_t cookie[24]          # the client's and the server's (RFC 9018)
    uint8_t writer              # 1 + position of the stage that wrote
    uint8_t replaced            # `asked` counts
    uint16_t upstream           # whose answer the reply is, by its number (fastdns/upstream_numbers.py); 0: nobody's
    # -- a stream of messages
    uint8_t gone                # the client went away
    uint8_t waits               # for room
    uint8_t cut                 # it ended before its end: the connection is of no more use
    uint16_t stream_flags       # header flags of its last message
    uint16_t stream_rcode       # ... and rcode
    uint32_t streamed           # its messages so far; 0: no stream
    uint32_t stream_octets      # ... their ulen together
    Query *stream_next          # for the sink's list
    # -- why it failed: text for `errors`, empty when nothing did
    uint16_t error_len
    uint32_t traced             # whose trace it is in; read only where q.block is one that has `tap`
    Query *link                 # for whoever holds the query (wait lists, free list)
    uint64_t stage_word         # for the stage that suspended it
    uint8_t *owned              # request octets that were allocated for it, freed with it
    uint8_t *kept               # reply and options of a query that is held on its way up, freed with it
    void *texts                 # freed with it, a list of allocations: labels that came from Python, a stage's own room
    # -- the tail: copied and cleared only where it counts
    Asked asked
    char error[160]
    Signature signature

ctypedef int (*request_fn)(Worker *w, Stage *s, Query *q) noexcept nogil
ctypedef void (*response_fn)(Worker *w, Stage *s, Query *q) noexcept nogil
ctypedef void (*room_fn)(Worker *w, Stage *s, Query *q) noexcept nogil
ctypedef void (*tap_fn)(Worker *w, Query *q, const char *text, uint32_t n) noexcept nogil
ctypedef void (*sent_fn)(Worker *w, Stage *s, Query *q, const uint8_t *octets, uint32_t n) noexcept nogil
ctypedef void (*exchange_fn)(Worker *w, Stage *s, Query *q, const Exchange *e) noexcept nogil
ctypedef void (*answer_fn)(Worker *w, Stage *s, Query *held, Query *found) noexcept nogil
ctypedef void (*noted_fn)(Worker *w, Stage *s, Query *q, int verdict, const uint8_t *note, uint32_t n) noexcept nogil
ctypedef int (*start_fn)(Worker *w, Stage *s) noexcept nogil
ctypedef void (*stop_fn)(Worker *w, Stage *s) noexcept nogil

cdef struct StageOps:
    # One per compiled stage kind, static.
    const char *name
    uint32_t frame_size         # octets of q's frame for this stage; zeroed before the query starts
    request_fn request
    # NULL: not interested. Sees q.written / q.rcode / q.reply; may replace the reply, or hold
    response_fn response
    start_fn start              # in each worker before its loop: per-worker state; non-zero refuses. NULL: none
    stop_fn stop                # NULL: none
    # Each message of a stream on its way to the client; may change it as `response` would, but not hold. NULL: leaves
    # it as it is
    response_fn message
    room_fn room                # of a stage that streams: go on, or q.gone. NULL: it does not stream
    # Of a stage that set q.gate: `cache` has no answer. A verdict as of request; q.pos is that of `cache`
    request_fn past
    # Of a stage that holds a query while it looks something up: the child (ORIGIN_LOOKUP, its handle the held query)
    # has ended, its reply as `response` would see it, valid until reply_room. Makes the held one's reply, unwinds it.
    answer_fn answer
    # Of a stage that says PYTHON: the plugin has ended with that verdict (REPLY: the reply is in q) and noted n octets
    noted_fn noted
    sent_fn sent                # of a stage that set q.tapped: a message as it leaves

cdef struct Stage:
    const StageOps *ops         # NULL: a Python stage
    void *config                # the instance's C configuration, built before the fork, read-only
    void *state                 # the worker's own, set by ops.start
    uint32_t frame_off          # into q.frames
    uint16_t index              # position in block.stages
    bint python                 # a plugin in Python runs here: always, or where the compiled half says PYTHON
    uint32_t deadline_us        # ... and may take so long; set in each worker
    Block *block
    char name[32]               # the plugin's, for error texts

cdef struct Zone:
    uint8_t name[256]           # lower-cased wire form
    uint16_t len
    uint16_t labels

cdef struct Block:
    uint32_t index              # in w.blocks
    uint32_t id                 # block id of the shared cache
    Zone *zones
    uint16_t zone_count
    Stage *stages
    uint16_t stage_count
    uint32_t frame_octets
    uint32_t label_off          # of the labels in q.frames
    uint16_t label_count
    bint metadata               # labels are kept: the block has that directive
    # An exchange with another server begins for the query at q.pos; the text, its address, outlives all queries. NULL,
    # as in all of w.blocks: the query is not traced
    tap_fn tap
    # An exchange with another server has ended for the query at q.pos. NULL: nobody wants to know. `watcher` is the
    # stage that does, and set it when it started
    exchange_fn exchanged
    Stage *watcher
    const void *filter          # FilterCode of queries that may enter; NULL: nothing for compiled code to judge
    bint python_filter          # a stage behind the last one, at stage_count + 1, has to be asked too
    bint signs                  # replies to verified queries are signed (`tsig`)
    uint16_t signed_count
    Zone *signed_zones          # ... for names in these; NULL: for all of its names

cdef struct Listener:
    # One listen address of the server (dns://ADDR:PORT), the same index in every worker.
    uint16_t index
    uint16_t port
    bint wildcard               # asks for packet info
    bint any_class              # a block on it has chaos or forward: other classes pass
    uint32_t server             # index of the `server` label
    void *router                # _chain's table: zone suffix -> Block
    int udp_fd                  # this worker's sockets, -1 none
    int tcp_fd
    uint64_t first_ns           # `timeouts` of its TCP connections: to the first query; 0: the engine's own
    uint64_t idle_ns            # ... to each later one
    uint64_t write_ns           # ... that a client may leave its answers unread
    uint32_t queries            # ... queries of one connection before it closes; 0: any number
    void *dropped_cell          # _count's counters of the server's own replies, NULL: not counted
    bint keeps                  # `shed`: replies that its UDP socket does not take wait, newest first
    bint full                   # ... and there is no room for another
    uint32_t lost               # ... counter slot of those that never reach the wire
    const TsigKeys *keys        # that signed queries are verified with; NULL: nobody looks at signatures

cdef struct Api:
    # What a stage may ask of the loop.
    Query *(*detach)(Worker *w, Query *q) noexcept nogil
    void (*resume)(Worker *w, Query *q, int verdict) noexcept nogil
        # Continues a suspended query at q.pos: NEXT goes to q.pos + 1, the others unwind from q.pos - 1 up.
        # Consumes q.
    Query *(*hold)(Worker *w, Query *q) noexcept nogil
        # For a response that needs a look-up of its own: detaches the query with its reply and stops its way up once
        # the response returns. NULL when the pool is full: then the response must do with what it has.
    void (*unwind)(Worker *w, Query *q) noexcept nogil
        # Continues a held query's way up, from the stage above the one that held it. Consumes q.
    void (*reply_room)(Worker *w, Query *q) noexcept nogil
    Query *(*child)(Worker *w, Query *parent, const uint8_t *wire, uint32_t n, Block *block, uint16_t pos,
                    int origin) noexcept nogil
        # A new detached query from octets, entered at position pos of block (the parent's identity is copied; parent
        # may be NULL).
    void (*run)(Worker *w, Query *q) noexcept nogil
        # Starts a child at q.pos.
    void (*release)(Worker *w, Query *q) noexcept nogil
        # Gives a detached query back without an answer.
    int (*stream)(Worker *w, Query *q) noexcept nogil
        # Sends q.reply as one message of a stream, from the stage that suspended q at q.pos: STREAM_...
    void (*stream_end)(Worker *w, Query *q, bint whole) noexcept nogil
        # Ends a stream; not whole: q.rcode and q.error say why, and the connection closes. Without any message sent the
        # query ends with q.rcode alone. Consumes q.
    bint (*watch)(Worker *w, int fd, int module, uint64_t data, uint32_t events) noexcept nogil
        # epoll: events of fd arrive at w.on_event[module](w, data, events). data < 2^56. Also modifies.
    void (*unwatch)(Worker *w, int fd) noexcept nogil
    uint64_t (*random)(Worker *w) noexcept nogil
        # 64 bits of the worker's kernel-seeded generator (reseeded after every fork).

ctypedef void (*event_fn)(Worker *w, uint64_t data, uint32_t events) noexcept nogil
ctypedef int64_t (*tick_fn)(Worker *w) noexcept nogil
ctypedef void (*flush_fn)(Worker *w) noexcept nogil
ctypedef void (*sink_fn)(Worker *w, Query *q) noexcept nogil
ctypedef int (*part_fn)(Worker *w, Query *q) noexcept nogil
ctypedef bint (*sleep_fn)(Worker *w, bint sleeping) noexcept nogil

cdef struct Worker:
    uint32_t index
    uint64_t now_ns             # CLOCK_MONOTONIC, read once per batch
    uint64_t boot_ns            # CLOCK_BOOTTIME, read once per batch: TTLs
    uint64_t *row               # the hot thread's counter row (_stats)
    uint64_t *shared            # row 0: words of all (fd_add_*, fd_cas)
    Ring *ring                  # the hot thread's log ring, NULL without log
    Api *api
    Block *blocks
    uint32_t block_count
    Listener *listeners
    uint32_t listener_count
    event_fn on_event[8]        # by Module
    tick_fn on_tick[8]          # each turn; returns the next moment it wants one (CLOCK_MONOTONIC ns), -1 none
    flush_fn on_flush[8]        # after each batch: send what was gathered
    # before the loop sleeps (True; returns whether there is work after all) and after (False)
    sleep_fn on_sleep[8]
    sink_fn sink[5]             # by Origin: takes the finished query
    part_fn part[5]             # by Origin: takes one message of a stream, STREAM_...; NULL: streams are refused
    void *mod[8]                # the modules' own state
    void *cache                 # CacheView*
    Message *scan               # scratch: an index of WIRE_RECORDS_MAX records
    uint8_t *scratch            # scratch: 65,536 octets
    bint draining               # no new queries are read; the loop ends when in_flight is 0
    uint32_t in_flight          # detached queries
    uint32_t in_flight_max
    uint32_t slot_beat          # counter slots of the loop's own
    uint32_t slot_pool_full
    uint32_t counts[16]         # slots of the ingress counters (_ingress.pxd)
    # -- the runner's (_chain)
    const char *(*push_python)(Worker *w, Query *q) noexcept nogil
        # NULL: Python has the query. Otherwise why not, for an error text; the query stays the caller's.
    void (*push_room)(Worker *w, Query *q) noexcept nogil
    void (*dropped)(Worker *w, Query *q, int rcode) noexcept nogil
        # Counts a reply that the server itself made (zone="dropped"); NULL: not counted.
    Query *pool_free            # in-flight slots, last freed first
    uint8_t *pool_map
    uint32_t pool_used          # slots ever handed out: memory beyond is untouched
    uint32_t frame_octets       # the largest block's
    uint32_t slot_octets        # a pool slot: Query, frames, request octets
    Query *held                 # the query that a response has just held
    Query *ready_head           # children that wait for the current query to end
    Query *ready_tail
    uint8_t *arena              # replies until the flush
    uint32_t arena_at
    uint32_t arena_size
    void (*arena_flush)(Worker *w) noexcept nogil
    int epoll_fd
    uint64_t rng[4]

cdef inline size_t query_body(const Query *q) noexcept nogil:
    # Octets of a query before its tail.
    return <size_t>(<const uint8_t *>&q.asked - <const uint8_t *>q)

cdef inline void asked_fill(Asked *a, const Packet *p) noexcept nogil:
    a.size = p.end
    a.qtype = p.qtype
    a.qclass = p.qclass
    a.udp_size = p.udp_size
    a.has_opt = p.has_opt
    a.wants_dnssec = p.has_opt and (p.opt_flags & FLAG_DO) != 0
    a.name_len = p.qname_len
    memcpy(a.name, p.qname, p.qname_len)

cdef inline void query_asked(Query *q, const Packet *p) noexcept nogil:
    # Called on the way up by a stage that gave p to those behind it. One of those that did the same was later.
    if not q.replaced:
        q.replaced = True
        asked_fill(&q.asked, p)

cdef inline bint block_signs(const Block *b, const uint8_t *name, uint32_t n) noexcept nogil:
    # Whether `tsig` is about a name (lower-cased wire form) of the block.
    cdef uint32_t i
    if not b.signs or b.signed_zones == NULL:
        return b.signs
    for i in range(b.signed_count):
        if wire_name_under(name, n, b.signed_zones[i].name, b.signed_zones[i].len):
            return True
    return False

cdef inline bint query_signs(const Query *q) noexcept nogil:
    # Whether the reply gets a TSIG record. What was wrong with the query's is said by NOTAUTH alone (RFC 8945 5.3.2).
    return q.tsig & TSIG_SIGN and (q.signature.error == 0 or q.rcode == RCODE_NOTAUTH)

cdef inline uint32_t query_room(const Query *q) noexcept nogil:
    # Octets that signing will add to the reply.
    return tsig_room(&q.signature, &q.pkt) if query_signs(q) else 0

cdef inline uint32_t query_sized(const Query *q) noexcept nogil:
    # What q.ulen has more by TSIG_SIZED: the record, and the OPT that CoreDNS's tsig puts in front of it.
    return query_room(q) + (0 if q.has_opt else wire_opt(&q.pkt, q.proto == PROTO_UDP))

cdef inline uint32_t advertised(int proto, bint has_opt, uint16_t size) noexcept nogil:
    return 65535 if proto else size if has_opt and size > 512 else 512

cdef inline void record_query(const Worker *w, const Query *q, QueryRecord *r) noexcept nogil:
    # What a line says of a query, into a record of zeros; of its reply, nothing.
    cdef bint anywhere = q.proto == PROTO_UDP and w.listeners[q.listener].wildcard
    r.id = q.pkt.id
    r.client_port = q.client_port
    r.opcode = q.pkt.opcode
    r.proto = q.proto
    r.family = 6 if q.family == 2 else 4
    if q.replaced:
        # What a stage asked in its place (rewrite): CoreDNS's stages all look at one message.
        r.size = q.asked.size
        r.qtype = q.asked.qtype
        r.qclass = q.asked.qclass
        r.do_bit = q.asked.wants_dnssec
        r.bufsize = advertised(q.proto, q.asked.has_opt, q.asked.udp_size)
    else:
        r.size = q.pkt.end
        r.qtype = q.pkt.qtype
        r.qclass = q.pkt.qclass
        r.do_bit = 1 if q.pkt.has_opt and q.pkt.opt_flags & FLAG_DO else 0
        r.bufsize = advertised(q.proto, q.pkt.has_opt, q.pkt.udp_size)
    memcpy(r.client, q.client_ip, 16)
    # CoreDNS does not learn which address of a wildcard socket was asked over UDP, and says so.
    r.local_family = 4 if q.local_len == 4 and not anywhere else 6
    if q.local_len and not anywhere:
        memcpy(r.local, q.local_ip, 16)

cdef inline int query_past(Worker *w, Query *q) noexcept nogil:
    # What `cache` says instead of NEXT when it has no answer: the stage that set q.gate may stop a miss.
    cdef Stage *s
    if q.gate == 0:
        return NEXT
    s = &q.block.stages[q.gate - 1]
    return s.ops.past(w, s, q)

cdef inline int query_replied(Query *q, const Writer *out, uint32_t ulen) noexcept nogil:
    # The verdict of a stage that wrote a reply to q.reply without an OPT; what found no room is a SERVFAIL.
    if out.bad:
        q.rcode = RCODE_SERVFAIL
        return RCODE
    q.rcode = RCODE_NOERROR
    q.reply_len = out.n
    q.ulen = ulen
    q.has_opt = False
    q.options_len = 0
    return REPLY

cdef inline Label *query_labels(const Query *q) noexcept nogil:
    return <Label *>(q.frames + q.block.label_off)

cdef inline void label_set(const Query *q, int label, const char *text, uint32_t n) noexcept nogil:
    # `label` is what `labels.place` gave at set-up. The text must outlive the query.
    if label >= 0 and label < q.block.label_count:
        query_labels(q)[label].text = text
        query_labels(q)[label].len = n

cdef inline const Label *label_value(const Query *q, int label) noexcept nogil:
    # NULL: it is not set.
    if label < 0 or label >= q.block.label_count or query_labels(q)[label].text == NULL:
        return NULL
    return &query_labels(q)[label]

cdef inline uint32_t label_octets(const Label *label) noexcept nogil:
    return label.len if label.len < LOG_LABEL_MAX else LOG_LABEL_MAX

cdef inline uint32_t labels_octets(const Query *q, const int16_t *labels, uint32_t count) noexcept nogil:
    # What labels_put writes.
    cdef uint32_t i, n = 0
    cdef const Label *label
    for i in range(count):
        label = label_value(q, labels[i])
        n += 2 + (0 if label == NULL else label_octets(label))
    return n

cdef inline void labels_put(const Query *q, const int16_t *labels, uint32_t count, uint8_t *to) noexcept nogil:
    # Values of labels behind a QueryRecord: length (little-endian), octets.
    cdef uint32_t i, n
    cdef const Label *label
    for i in range(count):
        label = label_value(q, labels[i])
        n = LOG_ABSENT if label == NULL else label_octets(label)
        to[0] = <uint8_t>n
        to[1] = <uint8_t>(n >> 8)
        to += 2
        if label != NULL:
            memcpy(to, label.text, n)
            to += n

cdef inline void *stage_frame(const Stage *s, Query *q) noexcept nogil:
    return q.frames + s.frame_off

cdef class CompiledStage:
    # A compiled stage on its way from a plugin's Python half to the chain: what `Plugin.compiled()` returns.
    # `owner` keeps the memory behind config alive. `python`: the plugin instance of a stage that says PYTHON, or None.
    cdef const StageOps *ops
    cdef void *config
    cdef readonly object owner
    cdef readonly object python
    cdef readonly str name

cdef class Memory:
    # The configuration of a stage: zeroed octets that live as long as the object, and further ones that it points to.
    cdef void *at
    cdef list parts
    cdef void *room(self, size_t n, size_t size) except NULL
        # Zeros for n elements (at least one) that live as long as the object. MemoryError.

cdef Memory zeroed(size_t octets)

cdef CompiledStage compiled_stage(const StageOps *ops, void *config, object owner, object python=*)
    # A stage by the name of `ops`, to be returned by a compiled half's `stage()`. `python`: the plugin instance that
    # runs where ops.request says PYTHON; the stage has its name.
