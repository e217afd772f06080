# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of metadata, for a block in which no provider has to be asked before the chain runs.

Strategy: the place of a label is made by the block's program and compiled stages set their own while they serve. What
is left to do here is labels of which the value is known at set-up (`view/name`), for names in the zones.
"""

from libc.stdint cimport uint8_t, uint32_t

from fastdns._stage cimport (
    NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, label_set, zeroed,
)
from fastdns._sys cimport memcpy
from fastdns._wire cimport wire_name_under

cdef enum:
    LABELS_MOST = 64
    ZONES_MOST = 65535

cdef struct Zone:
    uint8_t name[256]
    uint32_t octets

cdef struct Fixed:
    const char *text
    uint32_t octets
    int place

cdef struct Config:
    Zone *zones
    uint32_t zone_count
    uint32_t label_count
    Fixed labels[LABELS_MOST]


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef uint32_t i, k
    if c.label_count == 0:
        return NEXT
    for i in range(c.zone_count):
        if wire_name_under(q.pkt.qname, q.pkt.qname_len, c.zones[i].name, c.zones[i].octets):
            for k in range(c.label_count):
                label_set(q, c.labels[k].place, c.labels[k].text, c.labels[k].octets)
            break
    return NEXT


cdef StageOps OPS
OPS.name = b"metadata"
OPS.frame_size = 0
OPS.request = request
OPS.response = NULL
OPS.start = NULL
OPS.stop = NULL


def stage(zones=(), labels=()) -> CompiledStage:
    """The stage. `labels` (place, value) are set for names below `zones` (lower-cased wire form)."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef bytes zone, text
    if len(labels) > LABELS_MOST or len(zones) > ZONES_MOST:
        raise ValueError(f"at most {LABELS_MOST} labels and {ZONES_MOST} zones")
    config.zones = <Zone *>memory.room(len(zones), sizeof(Zone))
    for i, zone in enumerate(zones):
        if not 0 < len(zone) <= 255:
            raise ValueError(f"{zone!r} is no name in wire form")
        memcpy(config.zones[i].name, <const uint8_t *>zone, len(zone))
        config.zones[i].octets = <uint32_t>len(zone)
    config.zone_count = <uint32_t>len(zones)
    for i, (place, text) in enumerate(labels):
        config.labels[i].place = place
        config.labels[i].text = text
        config.labels[i].octets = <uint32_t>len(text)
    config.label_count = <uint32_t>len(labels)
    return compiled_stage(&OPS, config, (memory, [text for _, text in labels]))
