# SPDX-License-Identifier: Apache-2.0
#
# Log records: one shared ring per writing thread, formatted and written by another process.
#
# Strategy: a worker never writes to stdout. It copies a fixed binary record (or a line of text) into its own
# single-producer ring in shared memory; when the ring is full the record is dropped and counted. The formatter
# process drains all rings, renders lines and write()s large blocks. A ring outlives its worker.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:                      # kinds of record
    LOG_PAD = 0
    LOG_QUERY = 1               # struct QueryRecord, then qname (wire form, lower case), then text values of the labels
    LOG_ERROR = 2               # struct ErrorRecord, then qname, then text: a line of the errors plugin
    LOG_TEXT = 3                # level octet, then the line without level and newline

cdef enum:
    LOG_ABSENT = 0xFFFF         # the length of a label that is not set
    LOG_LABEL_MAX = 1024        # octets of one that is; the rest is cut

cdef struct Ring:
    # Process-private view of a ring in the shared mapping.
    uint64_t *head              # written by the producer
    uint64_t *tail              # written by the consumer
    uint64_t *dropped           # records that found no room
    uint32_t *sleeping          # the consumer waits on the eventfd
    uint8_t *data
    uint64_t mask
    uint64_t pending            # octets reserved and not yet published (ring_reserve)
    uint64_t seen_tail          # the consumer's position when last looked at
    bint dirty                  # something was published since the last ring_wake
    int wake_fd                 # the consumer's eventfd

cdef struct QueryRecord:
    # What `log` keeps of one query (compat 4.28). Addresses are 16 octets, IPv4 in the first four.
    uint64_t duration_ns
    uint32_t rsize              # length of the reply before OPT and truncation; sum for transfers; 0 none
    uint32_t size               # query re-encoded uncompressed
    uint32_t format             # the format's word in the table of counters (fastdns/metrics.py: log_format)
    uint16_t id
    uint16_t qtype
    uint16_t qclass
    uint16_t rcode
    uint16_t rflags             # header word of the reply
    uint16_t client_port
    uint16_t qname_len
    uint32_t bufsize
    uint8_t opcode
    uint8_t proto               # 0 udp, 1 tcp
    uint8_t family              # 4 or 6
    uint8_t do_bit
    uint8_t written             # there is a reply to speak of (else `-`)
    uint8_t local_family
    uint8_t labels              # text values that follow, each uint16 length (LOG_ABSENT: none) + octets, in the
                                # format's order
    uint8_t spare
    uint8_t client[16]
    uint8_t local[16]

cdef struct ErrorRecord:
    uint32_t site               # the errors directive's word in the table of counters; 0: nothing to consolidate
    uint16_t rcode
    uint16_t qtype
    uint16_t qname_len
    uint16_t text_len

cdef void *ring_reserve(Ring *r, uint16_t kind, uint32_t octets) noexcept nogil
    # Room for one record of octets, contiguous; NULL (and one more in *dropped) when there is none. One producer.
cdef void ring_commit(Ring *r) noexcept nogil
    # Publishes what ring_reserve gave (release).
cdef void ring_wake(Ring *r) noexcept nogil
    # Wakes a sleeping consumer: called once per batch.
cdef bint ring_text(Ring *r, uint8_t level, const char *text, uint32_t n) noexcept nogil
    # A line of text at a level (LEVEL_*); cut at TEXT_MAX octets. Also wakes.

cdef enum:
    LEVEL_DEBUG = 0
    LEVEL_INFO = 1
    LEVEL_WARNING = 2
    LEVEL_ERROR = 3
    LEVEL_FATAL = 4
    TEXT_MAX = 16384

cdef class RingHandle:
    # One thread's producing end; keeps the mapping alive.
    cdef Ring ring
    cdef readonly object owner
    cdef readonly object stats

cdef class Rings:
    # All rings of the server, one per row of the table of counters.
    cdef readonly int fd
    cdef readonly uint32_t rows
    cdef readonly uint32_t octets       # of a hot thread's ring (odd rows)
    cdef readonly uint32_t text_octets  # of the others
    cdef uint8_t *map
    cdef size_t size
    cdef uint8_t *_base(self, uint32_t row) noexcept nogil
    cdef uint32_t _octets(self, uint32_t row) noexcept nogil
