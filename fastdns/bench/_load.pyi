# SPDX-License-Identifier: Apache-2.0
"""The load generator: questions out, answers judged and timed."""

from collections.abc import Callable, Iterable

from .tally import Tally

COMPILER: str
"""The C compiler's words for its version, when this module was built."""
TRANSPORTS: tuple[str, ...]
"""The protocols that `Load` speaks."""

class Questions:
    """Queries in wire form, packed: what a generator asks, in this order. Immutable.

    `rcodes`: the expected response code of each (0 .. 15, as in a header), -1 for any. ValueError names the first
    query that is not one: no header, no question, more than one, over 512 octets."""

    def __init__(self, wires: Iterable[bytes], rcodes: Iterable[int] | None = None) -> None: ...
    def __len__(self) -> int: ...
    def wire(self, index: int) -> bytes:
        """The query at `index` (from 0), with the id it was given. IndexError."""

    def rcode(self, index: int) -> int:
        """The rcode expected for the query at `index`, -1 for any. IndexError."""

class Load:
    """One thread of load on one address.

    rate 0: closed loop, `sockets` times `in_flight` queries under way. rate > 0 (queries per second): open loop, in
    which only the ids limit what is under way. `segment`: equal-sized queries leave as segmented datagrams (UDP).
    `timeout`, in seconds: when a query is lost. `first`: the question to begin with; each run continues where the
    last one stopped (`next_index`). `loop` False: each question is asked at most once. `cpu`: where the calling
    thread runs meanwhile, -1 anywhere. `spin`: it never sleeps, and needs a core for itself: on one machine the sender
    of an answer pays for waking the one who waits for it, which no server does for its clients in a network.

    ValueError for values that make no sense, OSError when sockets cannot be had."""

    def __init__(
        self,
        address: str,
        port: int,
        questions: Questions,
        *,
        protocol: str = "udp",
        sockets: int = 64,
        in_flight: int = 4,
        rate: float = 0.0,
        segment: bool = False,
        timeout: float = 2.0,
        first: int = 0,
        loop: bool = True,
        cpu: int = -1,
        spin: bool = False,
    ) -> None: ...
    @property
    def next_index(self) -> int:
        """The question to be asked next; the number of questions when all were asked and they are not repeated."""

    @property
    def questions(self) -> Questions: ...
    @property
    def protocol(self) -> str: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def cpu(self) -> int: ...
    @property
    def sockets(self) -> int: ...
    @property
    def segmenting(self) -> bool:
        """Whether segmented datagrams are asked for and the kernel has refused none so far."""

    def close(self) -> None:
        """Close every socket; a later run opens them again. RuntimeError during a run."""

    def run(self, seconds: float, tick: Callable[[Tally], bool | None] | None = None, interval: float = 0.5) -> Tally:
        """Load for so many seconds, then wait for what is under way (a timeout at most).

        `tick` is called with the tally so far every `interval` seconds; returning False, it ends the run. The sockets
        of UDP stay open between runs, connections are made anew. ValueError, OSError; RuntimeError when it runs
        already."""
