# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The compiled half of prometheus: counts each query of the block and its reply.

Strategy: all series of a (listener, zone) are known at set-up and lie at fixed places of the worker's row, so that a
query costs a look-up in an array and eleven additions. The `plugin` label of a written reply is the name of the stage
after this one, whoever wrote it: that is what CoreDNS's writer chain records.
"""

from libc.stdint cimport uint32_t
from fastdns._count cimport Cell, cell_fill, count_clock, count_query
from fastdns._stage cimport NEXT, CompiledStage, Memory, Query, Stage, StageOps, Worker, compiled_stage, zeroed
from fastdns._wire cimport RCODE_FORMERR, RCODE_NOERROR, RCODE_NOTIMP, RCODE_REFUSED, RCODE_SERVFAIL


cdef struct Config:
    uint32_t listeners
    uint32_t zones
    Cell *cells                 # [listener][zone]; a cell of zeros counts nothing


cdef int request(Worker *w, Stage *s, Query *q) noexcept nogil:
    return NEXT


cdef void response(Worker *w, Stage *s, Query *q) noexcept nogil:
    cdef const Config *c = <const Config *>s.config
    cdef int rcode = q.rcode
    if q.background or q.listener >= c.listeners or q.zone >= c.zones:
        return
    # The label says the rcode of the reply that was written, or of the one that the server is going to write.
    if not q.written and rcode != RCODE_SERVFAIL and rcode != RCODE_REFUSED and rcode != RCODE_FORMERR \
            and rcode != RCODE_NOTIMP:
        rcode = RCODE_NOERROR
    count_query(w, &c.cells[<size_t>q.listener * c.zones + q.zone], q, rcode, q.written, count_clock(w, q.detached))


cdef StageOps OPS
OPS.name = b"prometheus"
OPS.frame_size = 0
OPS.request = request
OPS.response = response
OPS.start = NULL
OPS.stop = NULL


def stage(listeners: int, zones: int, cells: dict) -> CompiledStage:
    """The counting stage. `cells` maps (listener index, zone index) to what fastdns.metrics.cell returned."""
    cdef Memory memory = zeroed(sizeof(Config))
    cdef Config *config = <Config *>memory.at
    cdef uint32_t listener, zone
    if not 0 < listeners < 65536 or not 0 < zones < 65536:
        raise ValueError(f"{listeners} listeners and {zones} zones")
    config.listeners = listeners
    config.zones = zones
    config.cells = <Cell *>memory.room(<size_t>listeners * <size_t>zones, sizeof(Cell))
    for (listener, zone), slots in cells.items():
        if listener >= config.listeners or zone >= config.zones:
            raise ValueError(f"no cell for listener {listener}, zone {zone}")
        cell_fill(&config.cells[<size_t>listener * config.zones + zone], slots)
    return compiled_stage(&OPS, config, memory)
