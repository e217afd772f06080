# SPDX-License-Identifier: Apache-2.0
"""The contract between the server and a plugin. Authors read this file and import from nowhere else.

One query's story. A client's datagram reaches a worker's compiled loop, which checks it, finds the server block whose
zone is the longest that the name ends in, and walks the block's chain: its plugins in CoreDNS's order (order.py), each
a stage. A stage that has a compiled half (`compiled`) runs there, without Python. At a stage that has none, the loop
hands the query over to the worker's Python thread and goes on with other queries. There `serve_dns(query, next)` runs:

    class Hello(Plugin):
        name = "hello"
        directive = Directive("hello", help="Answers 192.0.2.1 to whoever asks for an address.")
        after = "cache"

        async def serve_dns(self, query, next):
            if query.type != A:
                return await next(query)
            return query.reply(aa=True).a("192.0.2.1", ttl=60)

`await next(query)` runs the rest of the chain - in the compiled loop again where the next stage is compiled - and gives
its result, which may be returned unchanged at no cost, looked into, or replaced. What `serve_dns` returns goes back
through the stages before it (loadbalance, log, metrics ...) to the client. `next(query.replace(...))` asks something
else: `log`, `prometheus` and `errors` then report what was asked last, where CoreDNS's do after its `rewrite`, unless
it was asked `aside`; `query.renamed(reply)` gives the answer the client's question back.

Results: a `Reply`; `Rcode(n)`, nothing was written, and the server writes an error reply for SERVFAIL, REFUSED, FORMERR
and NOTIMP while any other rcode leaves the client without an answer, as in CoreDNS; `DROP`, silence; a dnslib message.
For a transfer, a `Stream` of such messages: its iterator is asked for as many as the client reads, at most four ahead,
and ended (`aclose`) when the client leaves. An exception on the way closes the connection. Over UDP it is REFUSED.
Errors: `raise PluginError(rcode, text)` is the error that the `errors` plugin logs. Any other exception is a panic: the
client gets SERVFAIL, `coredns_panics_total` counts it, a log line names it, and nothing else happens.

Kept answers. `depends` says what of a query an answer depends on: `depends = {NAME, CLIENT(8)}`; an instance may say
another set in `__init__`. The compiled loop then gives an answer again to whoever asks the same with the same facts,
and the plugin runs no more for it, until the configuration or what the plugin publishes changes. Type, class, zone,
listener and the flags RD and CD are always compared. What is declared is checked: an answer for which `serve_dns` read
something else of the query, called `next` or `lookup`, waited for anything, set a gauge, observed a histogram or logged
a line is not kept; nor are errors, rcodes other than NOERROR and NXDOMAIN, answers to signed queries and to queries
with an EDNS option that no fact names. Counters that the plugin raised are raised again. Time, chance and state of its
own cannot be seen from outside: a plugin whose answer depends on them says nothing, or `query.once()` for that answer.
Stages before it (acl, view, rrl, log, prometheus) see every query.

Life. `parse` turns the directive's lines into configurations (pure); `plan` says what they ask of the server as a
whole. `__init__` sets the instance up before the workers are forked; `fastdns check` goes so far, with side effects
refused. Then `start_server`
runs once for the server, in the keeper process, and `start_worker` in every worker; queries are served; the `stop`
hooks run in the opposite order. `on_event` tells of the server's events, in the keeper. What must be watched or
fetched is so in the keeper, once, and published to all workers (`Channel`). No method that the server calls may rely
on being in the process that another one ran in, `__init__` aside: its results are copied by the fork.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from ._bridge import DROP, Query, Rcode, Reply, Stream, Tsig, use_messages
from .corefile.blocks import ZoneKey
from .corefile.dispenser import Dispenser
from .corefile.names import under
from .corefile.options import BLOCK_ZONES, Arg, Directive, Option, Settings
from .errors import ConfigError, PluginError, SetupError, StartError
from .facts import (
    AD,
    CASE,
    CD,
    CLIENT,
    DATA,
    DO,
    EDNS_SIZE,
    FAMILY,
    METADATA,
    NAME,
    OPTION,
    PORT,
    PROTO,
    RD,
    SERVER,
    Fact,
)
from .labels import Labels
from .metrics import Counter, Gauge, Histogram
from .numbers import (
    AAAA,
    ADDITIONAL,
    ANSWER,
    ANY,
    AUTHORITY,
    AXFR,
    CAA,
    CH,
    CLASS_ANY,
    CNAME,
    DNAME,
    DNSKEY,
    DS,
    FORMERR,
    HINFO,
    HTTPS,
    IN,
    IXFR,
    MX,
    NAPTR,
    NOERROR,
    NOTIMP,
    NS,
    NSEC,
    NSEC3,
    NXDOMAIN,
    PTR,
    REFUSED,
    RRSIG,
    SERVFAIL,
    SOA,
    SRV,
    SVCB,
    TXT,
    A,
)
from .tasks import end_task

if TYPE_CHECKING:
    from ._cache import Segment
    from ._filter import Filter
    from ._kept import Shelf
    from ._stage import CompiledStage
    from ._stats import Series, Stats
    from .published import Board, Packs

DEADLINE = 5.0
"""Seconds that a query may spend in Python unless its plugin says otherwise."""

T = TypeVar("T")


class Event(StrEnum):
    """What happens to a server. First start: first_startup, startup. A reload: restart to the old generation's plugins
    (restart_failed if the new one cannot start), then startup to the new one's and shutdown to the old one's. The end:
    shutdown to all, then final_shutdown to all. certrenew: a certificate was renewed, which nothing does yet. leave: an
    upgrade brought a program that cannot use this one's cache; its own begins empty when this has been handled."""

    FIRST_STARTUP = "first_startup"
    STARTUP = "startup"
    RESTART = "restart"
    RESTART_FAILED = "restart_failed"
    SHUTDOWN = "shutdown"
    FINAL_SHUTDOWN = "final_shutdown"
    CERTRENEW = "certrenew"
    LEAVE = "leave"


@dataclass
class BlockPlan:
    """What a server block asks of the server before anything exists; filled by `Plugin.plan` in order of the chain.

    `listen` are the addresses of the block (None: all), `sockets` the UDP sockets of each listener (0: unsaid), `steer`
    how packets are spread over them (flow, cpu, random), `view` the name of its view, `filtered` whether a query needs
    more than a name to come here (`RouteFilter`), `root` the folder of relative paths, `timeouts` those of connections
    (read, write, idle in seconds, queries). `asks` collects the rest as (kind, facts): "cache", "http", "reload",
    "lameduck", "kept" ...; the server knows the kinds. Facts are plain values, because they travel between processes.
    """

    index: int
    keys: tuple[ZoneKey, ...]
    directives: tuple[str, ...]
    listen: list[str] | None = None
    sockets: int = 0
    steer: str = "flow"
    view: str = ""
    filtered: bool = False
    root: str = ""
    timeouts: dict[str, float] = field(default_factory=dict)
    asks: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def ask(self, kind: str, **facts: Any) -> None:
        """Asks the server for something."""
        self.asks.append((kind, {"block": self.index, **facts}))

    def asked(self, kind: str) -> list[dict[str, Any]]:
        """What was asked for under a name, in order."""
        return [facts for one, facts in self.asks if one == kind]


@dataclass
class BlockContext:
    """What an instance may know of its block at set-up.

    `zones`: the block's zones in lower case with final dot, in the order of compiled code's zone indices; `keys` the
    same with scheme and port. `servers`: the label of every listener of the server, `dns://:53`, by its index;
    `listeners`: the indices of those that the block is reached by. `chain`: names of the block's chain in order, and
    `position` the place of this instance in it (None for a side directive). `stanza`: which occurrence of its own
    directive this instance is, from 0. `block_id`: the block's number in the shared cache, which is `segment` (None
    when no block asked for one). `generation`: rises with each reload. `settings`: a digest that equal blocks
    share. `members`: the instances of the block so far, see `providers`. `labels`: the metadata labels that the block
    keeps. `root`: where relative paths begin, see `path`. `common`: what the instances of this directive in all blocks
    have in common; the first one fills it. `fresh`: the shared cache has nothing of before, as at a start. `kept`:
    descriptors of memory that was asked for under "kept" (key, octets), by key: the same memory as long as
    configurations ask for it, zeros at first. None where the server does not really start. `shelf()`: where answers
    are kept, for a compiled half that keeps something of its own; None: nothing is kept.
    """

    index: int
    block_id: int
    zones: tuple[str, ...]
    keys: tuple[ZoneKey, ...]
    servers: tuple[str, ...]
    listeners: tuple[int, ...]
    chain: tuple[str, ...]
    stats: Stats
    segment: Segment | None = None
    view: str = ""
    generation: int = 0
    settings: str = ""
    position: int | None = None
    stanza: int = 0
    members: list[tuple[str, Plugin]] = field(default_factory=list)
    labels: Labels = field(default_factory=Labels)
    root: str = ""
    common: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    kept: dict[str, int] = field(default_factory=dict)
    shelf: Callable[[], Shelf] | None = None

    def path(self, name: str) -> str:
        """A file that the Corefile names: below `root` unless it is absolute."""
        return str(Path(self.root) / name) if name else name

    def providers(self, capability: type[T]) -> list[T]:
        """The block's plugin instances with a capability, in order of the chain. Complete once all are set up: ask in
        `compiled` or later, not in `__init__`."""
        return [member for _, member in self.members if isinstance(member, capability)]


class Channel:
    """The way from a plugin in the keeper to the rest of the server."""

    def __init__(
        self,
        log: Callable[[str, str], None],
        fatal: Callable[[str], None],
        publish: Callable[[bytes | Packs], int] | None = None,
    ) -> None:
        self.log = log
        """Prints a line: level (INFO, WARNING, ERROR) and text."""
        self.fatal = fatal
        """Logs a text at level FATAL and ends the whole server with status 1."""
        self._publish = publish

    def publish(self, data: bytes | Packs) -> int:
        """Gives every worker `data`, read-only, the newest version alone: the plugin's `on_update` runs there before
        the next query that the plugin serves; a compiled half follows by itself (`_published.pxd`). What is large need
        not be octets in a row before: an object that knows how many `octets` it has and `pack`s them into a buffer.
        Any thread may call. Returns the version, from 1. OSError when memory is short."""
        if self._publish is None:
            raise TypeError("the plugin publishes nothing: it has no on_update")
        return self._publish(data)


Next = Callable[[Query], Awaitable[Any]]


class Plugin:
    """A directive's behaviour. A subclass is one directive; an instance is one configuration in one block.

    name: the directive. directive: its grammar. chain: whether it takes part in answering. before, after: next to
    which plugin it runs, for one that CoreDNS does not have. any_class: its block answers classes other than IN.
    first_in_c: no stage in Python may stand before it, because what it notes of a query does not pass through Python.
    deadline: seconds a query may spend in it. eager: see below. why_python: what keeps an instance from running
    compiled, for `fastdns explain`; set in `compiled`. depends: what its answers may be kept by (above); None: they are
    not kept. It wants `eager`. covered: the server's.

    An async `serve_dns` runs in an asyncio task, because ordinary libraries need one. A class that sets `eager` is
    started without a task, which saves most of the cost of a query that is answered at once; once it awaits anything
    but `next` and `query.lookup`, a task takes over. Set it where the code before the first such await needs neither
    `asyncio.timeout` nor the current task, nor context variables of its own. A plain `def serve_dns` runs in a thread
    of a bounded pool, and its `next(query)` blocks.
    """

    name: ClassVar[str] = ""
    directive: ClassVar[Directive]
    chain: ClassVar[bool] = True
    before: ClassVar[str] = ""
    after: ClassVar[str] = ""
    any_class: ClassVar[bool] = False
    first_in_c: ClassVar[bool] = False
    eager: ClassVar[bool] = False
    deadline: float = DEADLINE
    why_python: str = ""
    depends: Iterable[Fact] | None = None
    covered: int | None = None
    board: Board | None = None

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One configuration for each instance that the directive's lines ask for: one per line, unless overridden.

        Pure, and what it returns pickles. Raises ConfigError.
        """
        return cls.directive.parse(dispenser)

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Says what a configuration asks of the server as a whole. Raises ConfigError."""

    @classmethod
    def publishes(cls, config: Any) -> bool:
        """Whether an instance publishes data from the keeper: by default one that has `on_update`. Before `compiled` it
        then has a `board`, which a compiled half follows."""
        return cls.on_update is not Plugin.on_update

    @classmethod
    def keeps(cls, config: Any) -> bool:
        """Whether an instance may want the shelf of kept answers: by default one whose class has `depends`. The memory
        that a start needs is reckoned by it; a class whose instances choose `depends` themselves says it here."""
        return cls.depends is not None

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Whether an instance may do more with a query for `name` (lower case, final dot) than pass it on: `fastdns
        explain` asks. By default the zones decide that its line names, where the grammar has them."""
        grammar: Directive | None = getattr(cls, "directive", None)
        zones = [arg.key for arg in grammar.args if arg.default is BLOCK_ZONES] if grammar is not None else []
        if not zones or not isinstance(config, Settings):
            return True
        return any(under(name, zone) for zone in config[zones[0]])

    def __init__(self, config: Any, block: BlockContext) -> None:
        self.config = config
        self.block = block
        self.log = logging.getLogger(f"plugin/{self.name}")

    def compiled(self) -> CompiledStage | None:
        """The compiled half; None: Python runs `serve_dns`. Called once, after all instances are set up."""
        return None

    async def serve_dns(self, query: Query, next: Next) -> Any:
        """Answers a query, or passes it on: `return await next(query)`."""
        return await next(query)

    def start_server(self, channel: Channel) -> Awaitable[None] | None:
        """Runs once for the server, in the keeper. May be async; raising StartError fails the start."""
        return None

    def stop_server(self) -> Awaitable[None] | None:
        """Ends what `start_server` began."""
        return None

    def start_worker(self) -> Awaitable[None] | None:
        """Runs in every worker before it serves, on its event loop. May be async."""
        return None

    def stop_worker(self) -> Awaitable[None] | None:
        """Ends what `start_worker` began, after the last query."""
        return None

    def on_update(self, data: bytes, version: int) -> None:
        """New data from `Channel.publish`, in a worker. What it raises is a panic, but the query goes on."""

    def on_event(self, event: Event) -> Awaitable[None] | None:
        """Something happened to the server; runs in the keeper. May be async."""
        return None


def _parse_message(octets: bytes) -> Any:
    # dnslib costs more than the rest of a start: only who touches a message pays for it.
    from .message import Message

    return Message.parse(octets)


use_messages(_parse_message, lambda message: bytes(message.pack()))


class MetadataProvider:
    """A plugin that says something of each query whose name lies in the zones of `metadata`, before the chain runs."""

    def metadata(self, query: Query) -> None:
        """Sets labels: `query.metadata["geoip/country/code"] = "CH"`. A value is a text, or a function without
        arguments that gives one and is called if somebody reads the label. Called for every query, so be quick. An
        exception is a panic."""
        raise TypeError(f"{type(self).__name__} has no metadata()")


class Observer:
    """A plugin whose figures are not counters: lists, say, that change. Asked in the web process, which shares what
    was mapped before the fork; of all instances of a server the first one is."""

    def observed(self, count: int) -> dict[str, Any]:
        """What `fastdns top` shows beside the counters, as JSON can have it: at most `count` of each list."""
        raise TypeError(f"{type(self).__name__} has no observed()")

    def series(self) -> list[Series]:
        """What a scrape exports beside the counters."""
        return []


class MetadataCollector:
    """The plugin that has labels collected: a filter that reads some asks it before the chain runs."""

    def collect(self, query: Query) -> None:
        """Sets the labels of all providers."""
        raise TypeError(f"{type(self).__name__} has no collect()")


class FixedLabels:
    """A plugin that says the same of each query of its block: compiled code does it, and no provider is called."""

    def labels(self) -> dict[str, str]:
        """The labels and their values."""
        raise TypeError(f"{type(self).__name__} has no labels()")


class RouteFilter:
    """A plugin that decides which queries enter its block; its `plan` sets `filtered`. Of the blocks for a zone the
    first one, in order of the Corefile, that lets a query pass has it."""

    def filter(self) -> Filter | None:
        """What compiled code can judge; None: nothing. Called once, after all instances are set up."""
        return None

    def judges(self) -> list[tuple[str, str]]:
        """What must hold, each with the reason for which Python has to be asked about it; "": compiled code knows. If
        there is any such reason, `passes` is asked about the queries that the compiled half lets pass."""
        raise TypeError(f"{type(self).__name__} has no judges()")

    def passes(self, query: Query) -> bool:
        """Whether the query enters. In Python, so be quick. An exception is a panic: no block has the query."""
        raise TypeError(f"{type(self).__name__} has no passes()")


class Way(NamedTuple):
    """An upstream as `loop` asks it: names below `zone` may be sent to it. `to` is the label of its metrics, `source`
    an address to send from, or empty. While the word `looped` of the shared table is not 0 it is asked nothing."""

    zone: str
    to: str
    address: str
    port: int
    tcp: bool
    source: str
    looped: int


class Forwards:
    """A plugin that asks other servers: `loop` finds out which of them send queries back."""

    def ways(self) -> list[Way]:
        """Its upstreams. Complete once it is set up."""
        raise TypeError(f"{type(self).__name__} has no ways()")


class AutoPather:
    """A plugin that knows a client's search path: `autopath @NAME` asks it."""

    def autopath(self, query: Query) -> list[str]:
        """The path of the query's client: zones in lower case with final dot, and at the end an empty text for the name
        as it was asked. Empty: the client has none. Called for every query, so be quick."""
        raise TypeError(f"{type(self).__name__} has no autopath()")


class KeySource:
    """A plugin that knows TSIG keys. Every listener of its block verifies with them what is signed, whatever its name;
    replies to what was verified are signed where the block covers the name. Whoever signs queries of the server's own
    asks it too."""

    def keys(self) -> dict[str, bytes]:
        """Names of keys, in lower case with final dot, and their secrets. Complete once it is set up."""
        raise TypeError(f"{type(self).__name__} has no keys()")

    def signed_zones(self) -> tuple[str, ...]:
        """Zones of its block for whose names replies are signed; none of them: all."""
        return ()


class ReadyCheck:
    """A plugin that is not ready from the start: `/ready` waits for it."""

    def ready(self) -> bool:
        """Whether it is ready. Asked in the keeper, about each second, until it is."""
        raise TypeError(f"{type(self).__name__} has no ready()")


__all__ = [
    "AAAA",
    "AD",
    "ADDITIONAL",
    "ANSWER",
    "ANY",
    "AUTHORITY",
    "AXFR",
    "CAA",
    "CASE",
    "CD",
    "CH",
    "CLASS_ANY",
    "CLIENT",
    "CNAME",
    "DATA",
    "DEADLINE",
    "DNAME",
    "DNSKEY",
    "DO",
    "DROP",
    "DS",
    "EDNS_SIZE",
    "FAMILY",
    "FORMERR",
    "HINFO",
    "HTTPS",
    "IN",
    "IXFR",
    "METADATA",
    "MX",
    "NAME",
    "NAPTR",
    "NOERROR",
    "NOTIMP",
    "NS",
    "NSEC",
    "NSEC3",
    "NXDOMAIN",
    "OPTION",
    "PORT",
    "PROTO",
    "PTR",
    "RD",
    "REFUSED",
    "RRSIG",
    "SERVER",
    "SERVFAIL",
    "SOA",
    "SRV",
    "SVCB",
    "TXT",
    "A",
    "Arg",
    "AutoPather",
    "BlockContext",
    "BlockPlan",
    "Channel",
    "ConfigError",
    "Counter",
    "Directive",
    "Dispenser",
    "Event",
    "Fact",
    "FixedLabels",
    "Forwards",
    "Gauge",
    "Histogram",
    "KeySource",
    "MetadataCollector",
    "MetadataProvider",
    "Next",
    "Observer",
    "Option",
    "Plugin",
    "PluginError",
    "Query",
    "Rcode",
    "ReadyCheck",
    "Reply",
    "RouteFilter",
    "Settings",
    "SetupError",
    "StartError",
    "Stream",
    "Tsig",
    "Way",
    "ZoneKey",
    "end_task",
]
