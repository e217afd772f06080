# SPDX-License-Identifier: Apache-2.0
"""Types of the bridge (see _bridge.pyx): what a plugin holds in its hands. Import them from fastdns.plugin."""

from asyncio import AbstractEventLoop, Future
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple, TypeVar

from fastdns._chain import Program
from fastdns._stats import Stats

T = TypeVar("T")
Address = str | bytes | IPv4Address | IPv6Address

class _Drop: ...

DROP: Final[_Drop]
"""A result: the client gets no answer at all."""

class Rcode:
    """A result: nothing was written. The server writes an error reply for SERVFAIL, REFUSED, FORMERR and NOTIMP; with
    any other rcode the client gets no answer, as in CoreDNS."""

    def __init__(self, rcode: int) -> None: ...
    @property
    def rcode(self) -> int: ...

class Reply:
    """A reply in wire form, without OPT (the server adds the client's). Made by `query.reply()`, by `next`, or from
    octets or a message object. The server puts the query's id in.

    The methods that add records return the reply itself, so calls chain. `ttl` seconds; `name` the owner, None: the
    question's; `section` 0 answer, 1 authority, 2 additional, never one before that of the last record. They raise
    ValueError for what has no wire form and for a reply of more than 65,535 octets.
    """

    def __init__(self, octets: bytes | bytearray | Any) -> None: ...
    def record(self, type: int, rdata: bytes, ttl: int = 0, name: str | None = None, section: int = 0) -> Reply:
        """A record of any type, its RDATA in wire form without compressed names."""

    def add(self, owner: bytes, type: int, qclass: int, ttl: int, rdata: bytes, section: int = 0) -> Reply:
        """A record of which all is in wire form already, of any class, as `fastdns.rrtext` gives it."""

    def a(self, address: Address, ttl: int = 0, name: str | None = None, section: int = 0) -> Reply:
        """An IPv4 address."""

    def aaaa(self, address: Address, ttl: int = 0, name: str | None = None, section: int = 0) -> Reply:
        """An IPv6 address."""

    def srv(
        self,
        priority: int,
        weight: int,
        port: int,
        target: str,
        ttl: int = 0,
        name: str | None = None,
        section: int = 0,
    ) -> Reply:
        """A service (RFC 2782)."""

    def txt(self, *strings: str | bytes, ttl: int = 0, name: str | None = None, section: int = 0) -> Reply:
        """Strings; one of more than 255 octets is split."""

    @property
    def rcode(self) -> int:
        """The response code, 12 bits."""

    @property
    def aa(self) -> bool: ...
    @property
    def tc(self) -> bool: ...
    @property
    def ra(self) -> bool: ...
    @property
    def ad(self) -> bool: ...
    @property
    def has_opt(self) -> bool:
        """Whether the reply brought an OPT of its own (an upstream's)."""

    @property
    def opt(self) -> bytes | None:
        """The options of that OPT in wire form; None without one."""

    def edited(
        self,
        octets: bytes | None = None,
        *,
        rcode: int | None = None,
        options: Sequence[tuple[int, bytes]] | None = None,
        error: str | None = None,
    ) -> Reply:
        """The same reply with other octets (a message without OPT): what its OPT brought and what `errors` logs beside
        it stay. `options` (code, data) give it an OPT with these alone, `error` a text for `errors`. Raises
        ValueError for what is no reply."""

    @property
    def wire(self) -> bytes:
        """The octets."""

    @property
    def size(self) -> int:
        """Octets of the reply without name compression: what log and metrics report."""

    @property
    def counts(self) -> tuple[int, int, int]:
        """Records in answer, authority and additional section."""

    @property
    def message(self) -> Any:
        """A fastdns.message.Message, parsed anew at each call. To send a changed one, return it, or
        `Reply(message)`."""

class Stream(AsyncIterator[Reply]):
    """A result: many messages to one query, each a Reply, its octets, or a message object; what `next` gives when a
    plugin behind returned one. Iterating gives each as a Reply.

    Little is made ahead of the client: at most four messages are on their way to it. The iterator is always ended:
    `aclose` (of a plain iterator `close`) runs, also when the client leaves. A plain iterator runs where its plugin
    runs: on the event loop, or in the threads of plain functions. The first message has the question (RFC 5936 2.2).
    Over UDP the client gets REFUSED instead. The plugin's `deadline` holds for each message.
    """

    def __init__(self, messages: AsyncIterable[Any] | Iterable[Any]) -> None: ...
    def __aiter__(self) -> Stream: ...
    async def __anext__(self) -> Reply: ...
    async def aclose(self) -> None:
        """Ends the iterator; a generator's `finally` runs."""

    def threaded(self, call: Callable[..., Awaitable[Any]]) -> None:
        """The server's: has a plain iterator run by `call(function, ...)`."""

class Tsig(NamedTuple):
    """Who signed a query: the key's name in lower case with its final dot, "" unless it was verified."""

    key: str
    verified: bool

class Query:
    """A query: a lazy, read-only view. It may be kept beyond its answer, and then knows all but how to ask further."""

    @property
    def name(self) -> str:
        """The name in lower case with its final dot."""

    @property
    def qname(self) -> str:
        """The name as the client wrote it."""

    @property
    def name_octets(self) -> int:
        """Octets of the name in wire form, at most 255."""

    @property
    def type(self) -> int: ...
    @property
    def qclass(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def opcode(self) -> int: ...
    @property
    def rd(self) -> bool: ...
    @property
    def ad(self) -> bool: ...
    @property
    def cd(self) -> bool: ...
    @property
    def edns(self) -> bool:
        """Whether the query has an OPT."""

    @property
    def do(self) -> bool:
        """Whether the client wants DNSSEC records."""

    @property
    def bufsize(self) -> int:
        """Octets that a reply may have: 512 without OPT over UDP, 65,535 over TCP."""

    @property
    def size(self) -> int:
        """Octets of the query."""

    @property
    def wire(self) -> bytes:
        """The query as it came, but for what the server keeps to itself (`cookie`, `tsig`)."""

    def option(self, code: int) -> bytes | None:
        """The data of the first option with that code in the query's OPT; None: there is none."""

    def once(self) -> None:
        """What the plugin answers to this query is not kept, whatever it declares."""

    def note(self, octets: bytes) -> None:
        """Tells the compiled half of the plugin (`noted` of _stage.pxd) something, with the result. ValueError where
        the plugin's answers are kept, or for a second note."""

    @property
    def message(self) -> Any:
        """A fastdns.message.Message, parsed anew at each call."""

    @property
    def client(self) -> str:
        """The client's address."""

    @property
    def client_port(self) -> int: ...
    @property
    def family(self) -> int:
        """4 or 6."""

    @property
    def local(self) -> str:
        """The address that was asked."""

    @property
    def proto(self) -> str:
        """`udp` or `tcp`."""

    @property
    def tsig(self) -> Tsig:
        """Who signed the query (RFC 8945), as the listener's keys say, whichever block those stand in. Without keys,
        and for a signature that is missing or wrong: not verified, and no name."""

    @property
    def server(self) -> str:
        """The listener's label: `dns://:53`."""

    @property
    def zone(self) -> str:
        """The zone of the server block that the name is in."""

    @property
    def context(self) -> dict[Any, Any]:
        """Anything that plugins want to leave for each other: one dict for a query and its replacements."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Labels (`plugin/label`) and their values, texts or functions without arguments that give one: one dict for a
        query and its replacements. Where the block has no `metadata`, an empty one that keeps nothing."""

    @property
    def deadline(self) -> float | None:
        """When `cancel` wants no more to be tried for it, in seconds of `time.monotonic()`; None: it does not."""

    def reply(self, rcode: int = 0, *, aa: bool = False, ra: bool = False, ad: bool = False) -> Reply:
        """A reply to this query without records; id, opcode, RD, CD and question are copied."""

    def replace(
        self,
        *,
        name: str | None = None,
        type: int | None = None,
        qclass: int | None = None,
        do: bool | None = None,
        bufsize: int | None = None,
        options: Sequence[tuple[int, bytes]] | None = None,
        aside: bool = False,
    ) -> Query:
        """Another query of the same client, to be given to `next`; None: as the client asked. `do`, `bufsize` (octets)
        and `options` (code, data) give the query an OPT where the client sent none; the reply to the client has an OPT
        only if the client did. `aside`: `log`, `prometheus` and `errors` are not told. Raises ValueError for what the
        server would not admit."""

    def renamed(self, reply: Reply, alias: bool = False) -> Reply:
        """The reply to a replacement of this query, with this query's question. `alias`: where an answer belongs to
        another name, a CNAME record from this one to the first such name comes in front. Raises ValueError for a reply
        without question, and for one that gets too long."""

    def lookup(self, name: str, type: int) -> Awaitable[Any]:
        """Asks the server itself, as the same client, through the routing of all its blocks: awaits to a Reply (an
        error reply included), an Rcode, DROP, or over TCP a Stream. Look-ups nest at most 8 deep. Raises PluginError
        when a plugin failed."""

class Next:
    """The rest of the chain: `await next(query)` gives its result. Raises PluginError where a plugin behind failed."""

    def __call__(self, query: Query) -> Awaitable[Any]: ...

class ThreadNext:
    """The rest of the chain for a plain function, which runs in a thread: calls block."""

    def __init__(self, rest: Next, loop: AbstractEventLoop) -> None: ...
    def __call__(self, query: Query) -> Any: ...
    def run(self, query: Query, call: Callable[[Query], Awaitable[T]]) -> T:
        """Awaits `call(query)` on the event loop: `next.run(query, lambda q: q.lookup("a.test.", A))`."""

class Bridge:
    """The Python thread's end of the bridge. Everything but `stop` is for its event loop's thread."""

    @property
    def program(self) -> Program: ...
    @property
    def fd(self) -> int:
        """The eventfd that the hot thread rings."""

    @property
    def in_python(self) -> int:
        """Queries that wait in Python for something."""

    @property
    def waiting(self) -> int:
        """Queries that were put aside until there is quota again."""

    def start(
        self,
        loop: AbstractEventLoop,
        stats: Stats,
        row: int,
        log: Callable[[int, str], None],
        servers: Iterable[str],
        fatal: Callable[[int, str], bool] | None = None,
        recorder: Any = None,
    ) -> None:
        """Begins to serve. `row`: this thread's row of counters; `log` takes a level and a line; `servers`: the
        listeners' labels; `fatal` takes a panic, by its listener, and says whether it is to end the server; `recorder`
        notes what a plugin counts whose answers may be kept (fastdns.metrics.Recorder; None: none is)."""

    def limit(self, path: str, scale: int, quota_ns: int, period_ns: int, workers: int) -> None:
        """Before `start`: watches a CPU quota that `workers` share. `path`: the file that says what the control group
        has used, in units of `scale` nanoseconds (see _quota). OSError, ValueError."""

    def stop(self) -> None:
        """Ends what is still under way with SERVFAIL."""

    async def join(self) -> None:
        """After `stop`: waits until the streams' iterators have ended."""


    def drain(self) -> None: ...
    def go_on(self) -> None: ...
    def ended(self, request: Any, future: Future[Any]) -> None: ...
    def sweep(self) -> None: ...

def use_messages(parse: Callable[[bytes], Any], pack: Callable[[Any], bytes]) -> None:
    """Says how `message` is made and packed."""
