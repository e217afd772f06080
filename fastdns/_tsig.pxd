# SPDX-License-Identifier: Apache-2.0
#
# TSIG (RFC 8945): is a query signed by a key that we share, and the signature of its reply.
#
# Strategy: free functions over octets and a parsed packet; they know no query, no transport and no plugin. A signature
# is verified once, on the untouched octets, before anything else looks at the query; what the reply's needs of it is
# kept in a Signature, because the query's octets may have been changed or replaced when the reply leaves.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastdns._hmac cimport HASH_MAX, HASHES, HmacKey
from fastdns._wire cimport Packet

cdef enum:
    TSIG_FUDGE = 300            # seconds that our clock and a client's may differ (RFC 8945 10)
    TSIG_KEYS_MAX = 16384       # keys of a listener
    TSIG_SECRET_MAX = 1024      # octets of a secret
    TSIG_FORMERR = -1

    # extended errors (RFC 8945 3)
    BADSIG = 16
    BADKEY = 17
    BADTIME = 18
    BADTRUNC = 22

cdef enum:                      # Query.tsig: what is known of a query's signature; 0: it has none that anyone looked at
    TSIG_SEEN = 1               # it has one, and the listener has keys
    TSIG_GOOD = 2               # it was verified
    TSIG_CUT = 4                # ... by a part of its MAC
    TSIG_SIGN = 8               # the reply is to be signed, or to say why it is not
    TSIG_SIZED = 16             # Query.ulen counts the record

cdef struct TsigKey:
    uint8_t name[256]           # lower-cased wire form
    uint16_t name_len
    HmacKey macs[HASHES]

cdef struct TsigKeys:
    TsigKey *keys               # in order of length and octets of their names
    uint32_t count

cdef struct Signature:
    # What the reply needs of the query's. A stream's messages are a chain: `mac` is then that of the one before.
    const TsigKey *key          # NULL: not known
    uint64_t time               # that the client signed at
    uint16_t error              # of the reply's record, 0: none
    uint8_t hash
    uint8_t mac_len
    uint8_t mac[HASH_MAX]

cdef int tsig_verify(const TsigKeys *keys, const Packet *pkt, uint64_t now, Signature *s) noexcept nogil
    # Judges the TSIG record of an admitted packet, at the second `now`. 0: good, and s.mac_len octets of the MAC were
    # there; an extended error, which s.error is then too; or TSIG_FORMERR, for what cannot be understood.

cdef uint32_t tsig_hash_size(const Signature *s) noexcept nogil
    # Octets of a whole MAC of the query's algorithm.

cdef uint32_t tsig_room(const Signature *s, const Packet *pkt) noexcept nogil
    # Octets of the record that tsig_sign appends. pkt is read where the key is not known: its name goes back.

cdef uint32_t tsig_sign(Signature *s, const Packet *pkt, uint8_t *msg, uint32_t n, uint64_t now,
                        bint later) noexcept nogil
    # Appends the record to a finished reply of n octets, which has room for tsig_room more. `later`: it is not the
    # first message of a stream. Octets of the reply.

cdef class KeyTable:
    cdef TsigKeys table
