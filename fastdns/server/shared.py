# SPDX-License-Identifier: Apache-2.0
"""What a template hands to the processes it forks: mapped memory, descriptors, the program.

Strategy: attached once in the template, before the fork, so that every child inherits the mappings and pays for none.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import metrics

if TYPE_CHECKING:
    from fastdns._cache import Segment
    from fastdns._chain import Program
    from fastdns._log import Rings
    from fastdns._stats import Stats


def attach_cache(fds: list[int]) -> Segment | None:
    """The cache behind the first descriptor; it takes over what is alive in the one behind the second."""
    if not fds:
        return None
    from fastdns._cache import Segment

    segment = Segment.attach(fds[0])
    for fd in fds[1:]:
        segment.move_from(Segment.attach(fd))
        os.close(fd)
    return segment


@dataclass
class Shared:
    """`sockets[l]` are (UDP, TCP) descriptors of listener l, by worker; `words` what the supervisor decided."""

    plan: dict[str, Any]
    words: dict[str, Any]
    generation: Any
    stats: Stats
    rings: Rings
    log_wake: int
    segment: Segment | None
    sockets: list[tuple[list[int], list[int]]]
    program: Program
    http: dict[str, Any]
    dropped: Any

    @classmethod
    def attach(cls, words: dict[str, Any], fds: list[int], plan: dict[str, Any], generation: Any) -> Shared:
        """Map the memory behind `fds` (see memory.Memory.fds), set the plugins up, build the program."""
        from fastdns._count import bind_dropped
        from fastdns._log import Rings
        from fastdns._stats import Stats

        from . import web

        take = iter(fds)
        stats = Stats.attach(next(take))
        rings = Rings.attach(next(take))
        log_wake = next(take)
        segment = attach_cache([next(take) for _ in range(words["shared"] - 3)])
        kept = [next(take) for _ in range(words.get("kept", 0))]
        boards = {name: next(take) for name in words.get("boards", ())}
        sockets = [([next(take) for _ in range(udp)], [next(take) for _ in range(tcp)])
                   for udp, tcp in words["listeners"]]
        # Set-up counts as the keeper does: nobody else uses that row yet.
        metrics.attach(stats, stats.rows - 1)
        generation.fresh = bool(words.get("fresh"))
        program = generation.build(stats, segment, words["block_ids"], words["generation"], kept, boards)
        for fd in kept:
            os.close(fd)  # whoever wants it has mapped it
        dropped = bind_dropped(program, metrics.dropped_cells(stats, [at["server"] for at in plan["listeners"]]))
        given = {address: [socket.socket(fileno=next(take)) for _ in range(count)] for address, count in words["http"]}
        http = web.listen(plan["http"], given)
        return cls(plan, words, generation, stats, rings, log_wake, segment, sockets, program, http, dropped)

    def opened(self) -> tuple[list[list[Any]], list[int]]:
        """What the supervisor keeps from now on: the web's addresses that it had not given, and their sockets."""
        given = {address for address, _ in self.words["http"]}
        new = {address: place.socks for address, place in self.http.items() if address not in given}
        return ([[address, len(socks)] for address, socks in new.items()],
                [sock.fileno() for socks in new.values() for sock in socks])

    def become(self, row: int | None) -> None:
        """In a forked process that takes up its role: log to the ring of `row` (None: stdout)."""
        from . import logs

        handle = None if row is None else self.rings.handle(row, self.log_wake, self.stats)
        logs.setup(handle, "debug" in self.plan["asks"])
        logs.follow(self.stats)

    def release_http(self) -> None:
        """In a process that was just forked and is not the web's. A socket that anybody holds, a spare among them,
        goes on listening when nobody asks for its address any more: connections would wait for nobody."""
        from . import web

        web.release(self.http)

    def fds(self, listener: int, index: int) -> tuple[int, int]:
        """The sockets of worker `index` at a listener, -1 where it has none."""
        udp, tcp = self.sockets[listener]
        return udp[index] if index < len(udp) else -1, tcp[index] if index < len(tcp) else -1
