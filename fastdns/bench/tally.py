# SPDX-License-Identifier: Apache-2.0
"""What a run counted.

Strategy: plain numbers, added up by compiled code and copied here when the run ends or ticks. Each query that was
sent is completed, lost, or still under way: `sent == completed + lost` at the end of a run. The other counters say
what arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ._histogram import Histogram

__all__ = ["Histogram", "Tally"]


@dataclass
class Tally:
    """The counters of one run; of a part of it when a tick is given one. `+` adds two runs that came one after the
    other."""

    seconds: float = 0.0
    """From the first query to the moment when no more were sent; to the last answer if the questions ran out before."""
    sent: int = 0
    """Queries handed to the kernel (over a stream: to its send buffer)."""
    completed: int = 0
    """Queries answered within the timeout: id and question fit, whatever the rcode."""
    in_window: int = 0
    """Those completed within `seconds`; the others were answered while the run waited for its last queries."""
    lost: int = 0
    """Queries without an answer within the timeout, or whose connection ended before one came."""
    late: int = 0
    """Answers that came after their query was counted lost."""
    duplicates: int = 0
    """Second answers to a query."""
    wrong_id: int = 0
    """Replies whose id is that of no query under way, lost or just answered."""
    wrong_question: int = 0
    """Replies with a known id and another question. They answer nothing: their query waits on."""
    wrong_rcode: int = 0
    """Of those completed: another rcode than the question's expected one."""
    malformed: int = 0
    """What is no reply: shorter than a header, or a query."""
    truncated: int = 0
    """Of those completed: TC was set."""
    unsent: int = 0
    """Queries that the rate asked for and that could not leave: the generator, or its ids, were exhausted."""
    rcodes: dict[int, int] = field(default_factory=dict)
    """Completed queries by the rcode in their answer's header."""
    octets_sent: int = 0
    octets_received: int = 0
    """Octets of messages, without the length in front of each on a stream."""
    send_errors: int = 0
    """Queries that the kernel refused to send; they are in no other counter."""
    receive_errors: int = 0
    """Errors reported on a datagram socket (nobody listens there)."""
    connect_errors: int = 0
    """Connections that could not be made."""
    reconnects: int = 0
    """Connections that ended while the run went on, and were made again."""
    cpu_seconds: float = 0.0
    """CPU time of the generator's own thread."""
    latency: Histogram = field(default_factory=Histogram)
    """Of those completed: from sending, or at a fixed rate from the moment when the query should have left."""

    @property
    def qps(self) -> float:
        """Answers per second, of those within `seconds`."""
        return self.in_window / self.seconds if self.seconds else 0.0

    @property
    def wrong(self) -> int:
        """Replies that were not what was asked for, whichever way."""
        return self.wrong_id + self.wrong_question + self.wrong_rcode + self.malformed

    def __add__(self, other: Tally) -> Tally:
        latency = self.latency.copy()
        latency.merge(other.latency)
        rcodes = {code: self.rcodes.get(code, 0) + other.rcodes.get(code, 0) for code in {*self.rcodes, *other.rcodes}}
        numbers = {
            f.name: getattr(self, f.name) + getattr(other, f.name)
            for f in fields(self)
            if f.name not in ("rcodes", "latency")
        }
        return Tally(**numbers, rcodes=dict(sorted(rcodes.items())), latency=latency)

    def as_dict(self) -> dict[str, object]:
        """For JSON: every counter, the rate, and the latency in HdrHistogram's format with its usual percentiles."""
        numbers: dict[str, object] = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "latency"}
        numbers["rcodes"] = {str(code): count for code, count in self.rcodes.items()}
        numbers["qps"] = self.qps
        numbers["latency"] = {
            "count": self.latency.count,
            "min": self.latency.min,
            "mean": self.latency.mean,
            "max": self.latency.max,
            **{f"p{p:g}": self.latency.percentile(p) for p in (50, 90, 95, 99, 99.9, 99.99)},
            "hdr": self.latency.encode().decode(),
        }
        return numbers
