# SPDX-License-Identifier: Apache-2.0
#
# Forwarding's tables: what is asked, who waits for it, by which id, until when.

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._stage cimport Query, Stage, Worker
from fastdns._sys cimport iovec, mmsghdr, sockaddr_in6

cdef enum:
    NONE = 0xffffffff
    QUESTIONS = 16384           # messages in flight of a worker
    WAITERS = 1024              # queries that wait for one of them
    ASKS = 4                    # ids under which one question is listened for: the newest and refused ones
    INLINE = 256                # octets of a message kept in its slot; longer ones are allocated
    LARGE_OCTETS = 1 << 24      # of all allocated messages of a worker
    BUCKETS = 32768             # of both hash tables
    TICK = 22                   # 2^22 ns: 4.2 ms, the timers' step
    SLOTS = 2048                # of the timer wheel: 8.6 s; later moments are set again when their turn comes
    SLOT_WORDS = 32             # of a map with a bit for each slot
    OFF = 0xffff                # no timer
    DUE = 0xfffe                # in the list of timers that have run out
    POOL_SOCKETS = 1024         # UDP sockets by upstream address
    SOCKETS = 32768             # ... of a worker, retired ones included
    CONNECTIONS = 1024          # TCP connections to upstreams of a worker
    UPSTREAMS = 255             # of one stanza
    QUEUE = 256                 # questions gathered before a send
    RX = 64                     # datagrams of one receive
    RX_OCTETS = 65536 + 192     # a receive buffer; the odd size spreads the cache sets
    ERROR_MAX = 128

cdef enum:                      # Policy
    POLICY_RANDOM = 0
    POLICY_ROUND_ROBIN = 1
    POLICY_SEQUENTIAL = 2

cdef enum:                      # What a question waits for
    WAIT_UDP = 0
    WAIT_TCP = 1
    WAIT_RETRY = 2              # the next attempt, at its timer
    WAIT_LINGER = 3             # a true answer after refusals that may be forged
    WAIT_FAILED = 4             # the next attempt after this one's failure to be sent, at its timer
    WAIT_END = 5                # its end, at its timer: it failed inside its own request

cdef enum:                      # counters, in the order of _forward.EVENTS
    COUNT_WRONG_ID = 0
    COUNT_MISMATCH = 1
    COUNT_MALFORMED = 2
    COUNT_OVERSIZED = 3
    COUNT_REFUSED = 4
    COUNT_TIMEOUT = 5
    COUNT_TO_TCP = 6
    COUNT_COALESCED = 7
    COUNT_FULL = 8
    COUNT_WAITERS_FULL = 9
    COUNT_SEND_ERROR = 10
    COUNT_SEGMENT_FALLBACK = 11
    COUNT_SOCKET_ERROR = 12
    COUNT_CONNECTIONS_FULL = 13
    COUNTS = 14

cdef struct Upstream:
    # One address of a stanza. Built before the fork, read-only.
    sockaddr_in6 addr
    uint32_t addr_len
    uint32_t text_len
    char text[64]               # IP:PORT
    uint16_t number             # of fastdns/upstream_numbers.py
    uint32_t slot_fails         # row 0: health checks failed in a row
    uint32_t slot_drained       # row 0: 1 keeps new questions away from it
    uint32_t slot_looped        # row 0: 1, it sends queries back to us (`loop`): it is asked nothing at all
    uint32_t slot_check         # row 0: 1 asks the keeper for a check
    uint32_t slot_warm          # row 0: when a worker used it over UDP last
    uint32_t slot_duration      # histograms by rcode
    uint32_t slot_hits[2]       # by protocol
    uint32_t slot_misses[2]

cdef struct Suffix:
    uint8_t name[256]           # lower-cased wire form
    uint16_t len

cdef struct Config:
    # One stanza. Built before the fork, read-only.
    Upstream *upstreams
    uint32_t n
    Suffix zone                 # FROM
    Suffix *ignored             # except
    uint32_t ignored_n
    uint8_t policy
    bint force_tcp
    bint prefer_udp
    bint failfast
    bint next_on_nodata
    bint has_next               # the following stage is a forward too
    uint32_t max_fails
    uint32_t max_attempts       # 0: no cap
    uint64_t read_timeout_ns
    uint64_t expire_ns
    uint64_t max_age_ns
    uint32_t max_idle
    uint64_t max_concurrent     # 0: no limit
    char limit_text[64]
    uint32_t limit_len
    uint64_t next_rcodes[64]    # bit sets of 4,096
    uint64_t failover[64]
    sockaddr_in6 source
    uint32_t source_len
    uint32_t slot_broken
    uint32_t slot_rejects
    uint32_t slot_concurrent
    uint32_t slot_robin
    uint32_t slot_events
    const uint64_t *rows        # row 0, rows of `stride` words each
    size_t stride
    uint32_t row_count
    uint32_t descriptors        # that UDP sockets may use
    int wake_fd                 # of the keeper's health checks
    int label                   # place of forward/upstream, -1: nobody reads it

cdef struct Ask:
    # An id under which a UDP socket listens for a question's answer.
    uint32_t socket             # NONE: free
    uint32_t id_next            # chain of the id table
    uint32_t prev               # the socket's list
    uint32_t next
    uint16_t id
    uint16_t upstream
    bint refused
    uint64_t sent_ns

cdef struct Question:
    # A message in flight. message() is what was sent first, with its two octets of length before it.
    uint32_t same_next          # chain of the coalescing table, or the free list
    uint32_t queue_next         # of the pool that will send it
    uint64_t hash
    Stage *stage
    Query *first                # who waits
    Query *last
    uint32_t waiters
    uint32_t len                # octets of the message
    uint8_t *large              # NULL: it is in octets
    uint8_t proto               # the clients'
    uint8_t wait
    uint8_t current             # the newest ask
    bint tcp                    # this upstream is asked over TCP for TC's sake
    bint suspected              # a near miss moved it to TCP once
    bint moved                  # ... and that attempt runs
    bint queued                 # the batch has not left yet
    uint16_t upstream
    uint16_t step               # of the policy's order
    uint16_t down               # upstreams passed over since the order began
    uint16_t failovers
    uint32_t attempts
    uint32_t tries
    uint32_t conn               # TCP connection, NONE
    uint64_t seed
    uint64_t start_ns
    uint64_t try_ns             # the current exchange's start
    uint64_t linger_ns
    uint64_t deadline_ns        # the latest of those who wait; 0: none
    uint64_t due_ns             # the timer
    uint32_t timer_prev
    uint32_t timer_next
    uint16_t timer_slot
    uint16_t error_len
    Ask asks[ASKS]
    uint8_t octets[INLINE + 2]
    char error[ERROR_MAX]

cdef struct Socket:
    int fd                      # -1: free
    uint32_t asks               # head of the list
    uint32_t pending            # asks
    uint32_t pool
    uint32_t place              # in the pool, NONE: retired
    uint64_t born_ns

cdef struct Pool:
    # UDP sockets to one address from one source.
    sockaddr_in6 addr
    uint32_t addr_len
    sockaddr_in6 source
    uint32_t source_len
    uint32_t sockets[POOL_SOCKETS]
    uint32_t size
    uint32_t live
    uint32_t drawn              # for this batch
    uint32_t queue              # head: questions to send
    uint32_t queue_tail
    uint32_t queued
    uint64_t plain_until_ns     # no segmented sends before

cdef struct TcpPool:
    # Idle connections to one upstream of one stanza, the oldest first.
    uint32_t idle_head
    uint32_t idle_tail
    uint32_t idle
    uint64_t dial_ns            # moving average

cdef struct Stanza:
    # A stage's state in a worker.
    Stage *stage
    const Config *config
    uint32_t *pools             # UDP pool of each upstream
    TcpPool *tcp                # of each upstream
    Stanza *next

cdef struct Conn:
    int fd                      # -1: free
    uint16_t gen
    bint dialing
    bint cached                 # was idle before: an EOF is no failure
    bint idle
    uint16_t id
    uint16_t upstream
    uint32_t question           # NONE: nobody waits
    uint32_t prev               # idle list; next also the free list
    uint32_t next
    uint32_t sent               # octets of the frame
    Stanza *stanza
    uint64_t born_ns
    uint64_t used_ns
    uint8_t *buf
    uint32_t have
    uint32_t cap

cdef struct Forward:
    # A worker's forwarding: w.mod[MOD_FORWARD].
    Question *questions
    uint32_t free_question
    uint32_t used_questions
    uint32_t in_flight
    uint64_t large_octets
    uint32_t same[BUCKETS]      # coalescing: 1 + question
    uint32_t ids[BUCKETS]       # (socket, id): 1 + question * ASKS + ask
    uint64_t key[2]
    uint32_t slots[SLOTS]       # 1 + question
    uint64_t slot_map[SLOT_WORDS]
    uint32_t due                # 1 + question
    uint64_t wheel_at           # last tick that was looked at
    uint64_t next_ns            # no timer is due before
    uint32_t timers
    Socket *sockets
    uint32_t free_socket
    uint32_t used_sockets
    uint32_t open_sockets
    uint32_t max_sockets
    Pool *pools
    uint32_t pool_n
    uint32_t drawn_pools        # with a socket drawn for this batch
    uint32_t pool_room
    Conn conns[CONNECTIONS]
    uint32_t free_conn
    uint32_t used_conns
    uint32_t open_conns
    Stanza *stanzas
    uint32_t running            # stanzas that have not stopped
    uint64_t sweep_ns
    uint64_t allowance_ns       # token buckets of near misses
    uint32_t stray_tokens
    uint32_t move_tokens
    uint32_t slot_events
    uint32_t reading            # the socket whose datagrams are being handled
    uint32_t scratch[QUESTIONS]
    uint32_t hit[QUESTIONS]
    uint8_t build[65536]        # the message that is looked up
    mmsghdr rx[RX]
    iovec rx_iov[RX]
    uint8_t *rx_octets
    uint32_t out[QUEUE]
    uint32_t out_next[QUEUE]
    uint32_t tx_question[QUEUE]
    mmsghdr tx[QUEUE]
    iovec tx_iov[QUEUE]
    uint8_t tx_control[QUEUE][32]

ctypedef void (*fire_fn)(Worker *w, Forward *f, uint32_t q) noexcept nogil

cdef inline uint8_t *question_frame(Question *q) noexcept nogil:
    # Length prefix and message.
    return q.large if q.large != NULL else q.octets

cdef int inflight_open(Worker *w, Forward *f) noexcept nogil
cdef void inflight_close(Forward *f) noexcept nogil
cdef uint32_t question_take(Forward *f, uint32_t n) noexcept nogil
cdef void question_release(Forward *f, uint32_t i) noexcept nogil
cdef void same_insert(Forward *f, uint32_t i) noexcept nogil
cdef void same_remove(Forward *f, uint32_t i) noexcept nogil
cdef uint32_t ask_find(const Forward *f, uint32_t socket, uint16_t id) noexcept nogil
cdef void ask_insert(Forward *f, uint32_t entry) noexcept nogil
cdef void ask_remove(Forward *f, uint32_t entry) noexcept nogil
cdef void timer_set(Worker *w, Forward *f, uint32_t i, uint64_t when_ns) noexcept nogil
cdef void timer_clear(Forward *f, uint32_t i) noexcept nogil
cdef void timers_run(Worker *w, Forward *f, fire_fn fire) noexcept nogil
