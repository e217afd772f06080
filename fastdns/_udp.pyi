# SPDX-License-Identifier: Apache-2.0
"""Types of the worker's loop."""

from collections.abc import Iterable, Mapping

from fastdns._bridge import Bridge
from fastdns._cache import Segment
from fastdns._chain import Program
from fastdns._log import RingHandle
from fastdns._stats import Stats

class Engine:
    program: Program
    stats: Stats
    segment: Segment | None
    ring: RingHandle | None
    bridge: Bridge
    row: int
    def __init__(
        self, program: Program, stats: Stats, segment: Segment | None, options: Mapping[str, int] | None = None
    ) -> None: ...
    def listener(self, index: int, udp_fd: int, tcp_fd: int) -> None: ...
    def start(self, index: int, row: int, ring: RingHandle | None = None) -> None: ...
    def run(self) -> None: ...
    def stop(self, drain_seconds: float = 5.0, last: Iterable[int] = ()) -> None: ...
    def rest(self, index: int, fd: int, stream: bool) -> None: ...
    @property
    def rest_fd(self) -> int: ...
    @property
    def quiet_fd(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
