# SPDX-License-Identifier: Apache-2.0
"""Plugins of a stranger's package: what one does with a query is the first label of its name.

Strategy: the same behaviours stand behind three classes, because each kind of plugin (a task, eager, a plain
function) has a driver of its own. `tag` and `relay` stand on both sides of the cache and say which of them ran.
"""

import asyncio
import contextvars
import ctypes
import logging
import os
import time

from fastdns.plugin import (
    AAAA,
    DROP,
    SOA,
    TXT,
    A,
    Counter,
    Directive,
    MetadataProvider,
    Plugin,
    PluginError,
    Rcode,
    Reply,
    Stream,
)

DEADLINE = 2.4 if "FASTDNS_SANITIZED" in os.environ else 0.6  # seconds
VAR = contextvars.ContextVar("VAR", default="")
KEPT = []
RELAYED = Counter("relayed_total", "Queries that relay passed on.")
made = {}  # messages that streams were asked for, by name
closed = []  # names of streams whose iterators have ended
START = b"\0\0" + b"".join(n.to_bytes(4, "big") for n in (7, 3600, 600, 86400, 300))


async def behave(plugin, query, next):
    """What a plugin whose author may do anything does."""
    word = query.name.partition(".")[0]
    return await BEHAVIOURS[word](plugin, query, next)


async def ok(plugin, query, next):
    return query.reply(aa=True).a("192.0.2.1", ttl=60)


def spend(seconds):
    """Takes so much CPU."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        continue


async def burn(plugin, query, next):
    spend(0.001)
    return query.reply(aa=True).a("192.0.2.1", ttl=60)


async def murmur(plugin, query, next):
    plugin.log.debug("a word of %s", query.name)
    logging.getLogger("asyncio").debug("a library's word")
    return query.reply(aa=True)


async def deadline(plugin, query, next):
    left = query.deadline
    return query.reply().txt("None" if left is None else f"{left - time.monotonic():.3f}")


async def error(plugin, query, next):
    raise PluginError(5, "no luck today")


async def panic(plugin, query, next):
    raise ValueError("out of order")


async def leave(plugin, query, next):
    raise SystemExit(3)


async def nothing(plugin, query, next):
    return None


async def nonsense(plugin, query, next):
    return 42


async def silent(plugin, query, next):
    return DROP


async def refused(plugin, query, next):
    return Rcode(5)


async def unwritten(plugin, query, next):
    return Rcode(3)


async def libraries(plugin, query, next):
    """What ordinary asyncio code does."""
    VAR.set(query.name)
    found = []

    async def child(n):
        await asyncio.sleep(0.001 * n)
        found.append(f"{n}:{VAR.get() == query.name}")

    async with asyncio.timeout(2):
        async with asyncio.TaskGroup() as group:
            for n in range(3):
                group.create_task(child(n))
    try:
        async with asyncio.timeout(0.01):
            await asyncio.sleep(5)
    except TimeoutError:
        found.append("timeout")
    return query.reply().txt(*sorted(found))


async def sleep(plugin, query, next):
    await asyncio.sleep(0.01)
    return query.reply().txt(VAR.get() or "clean")


async def yielding(plugin, query, next):
    await asyncio.sleep(0)
    return query.reply().txt("yielded")


async def hang(plugin, query, next):
    await asyncio.sleep(3600)


async def cancelled(plugin, query, next):
    asyncio.current_task().cancel()
    await asyncio.sleep(1)


async def unchanged(plugin, query, next):
    return await next(query)


async def through(plugin, query, next):
    reply = await next(query)
    return query.reply(reply.rcode).txt(f"next said {reply.rcode} {reply.counts} {reply.message.header.aa}")


async def renamed(plugin, query, next):
    first = await next(query.replace(name="ok.other.test"))
    second = await next(query.replace(name="Ok2.other.test", type=TXT))
    return query.reply().txt(str(first.message.q.qname), str(second.message.q.qname), str(second.message.q.qtype))


async def caught(plugin, query, next):
    try:
        await next(query.replace(name="error.inner.test"))
    except PluginError as problem:
        return query.reply().txt(f"{problem.rcode} {problem.text}")


async def inner(plugin, query, next):
    return await next(query.replace(name="panic.inner.test"))


async def innererror(plugin, query, next):
    return await next(query.replace(name="error.inner.test"))


async def lookup(plugin, query, next):
    reply = await query.lookup("ok.look.test", A)
    refused = await query.lookup("nobody.serves.this", A)
    return query.reply().txt(f"{reply.rcode} {reply.counts} {refused.rcode}")


async def gathered(plugin, query, next):
    replies = await asyncio.gather(*[query.lookup(f"ok.n{n}.look.test", A) for n in range(20)])
    return query.reply().txt(f"{sum(reply.counts[0] for reply in replies)}")


async def deep(plugin, query, next):
    """Asks for itself, one label more each time, until the server says no."""
    if query.name.count("deep") > 20:
        return query.reply().txt("no end")
    reply = await query.lookup("deep." + query.name, TXT)
    if reply.rcode == 2 and not reply.counts[0]:
        return query.reply().txt(f"depth {query.name.count('deep')}")
    return reply


async def message(plugin, query, next):
    from fastdns.message import QTYPE, RDMAP, RR

    reply = query.message.reply(aa=1)
    reply.add_answer(RR(query.qname, QTYPE.A, rdata=RDMAP["A"]("192.0.2.9"), ttl=9))
    return reply


async def rewrapped(plugin, query, next):
    found = (await next(query)).message
    found.rr = found.rr * 2
    return Reply(found)


async def appended(plugin, query, next):
    """Adds to replies that were made elsewhere."""
    bare = Reply(query.wire[:4] + bytes(8))
    try:
        bare.a("192.0.2.1")
    except ValueError as problem:
        said = str(problem)
    bare.a("192.0.2.2", name="named.test")
    found = await next(query.replace(name="Other.test"))
    found.txt("more", section=2)
    try:
        found.txt("too late", section=0)
    except ValueError as problem:
        said += "; " + str(problem)
    empty = Reply(query.reply().wire).a("192.0.2.3").txt("b", section=1)
    return query.reply().txt(said, f"{bare.counts} {bare.size}", f"{found.counts} {found.size}",
                             f"{empty.counts} {empty.size}", str(empty.message.rr[0].rname))


async def unpackable(plugin, query, next):
    from fastdns.message import RD, RR

    reply = query.message.reply()
    reply.add_answer(RR("x" * 70 + ".example.", 65280, rdata=RD(b"x")))
    return reply


async def large(plugin, query, next):
    reply = query.reply()
    for _ in range(200):
        reply.txt("x" * 250)
    return reply


async def toolarge(plugin, query, next):
    reply = query.reply()
    for _ in range(300):
        reply.txt("x" * 250)
    return reply


async def keep(plugin, query, next):
    KEPT.append(query)
    KEPT.append(query.replace(name="derived.test"))
    KEPT.append(next)
    return query.reply().txt("kept")


async def kept(plugin, query, next):
    """Looks at a query that was answered long ago."""
    old, derived, old_next = KEPT[-3:]
    facts = [old.name, derived.name, old.client, len(old.wire) == old.size, bool(old.message.q)]
    for late in (lambda: old_next(old), lambda: old.lookup("a.", 1)):
        try:
            await late()
        except RuntimeError as problem:
            facts.append(problem)
    return query.reply().txt(*map(str, facts))


async def facts(plugin, query, next):
    query.context["seen"] = query.metadata["probe/seen"] = "yes"
    other = query.replace(name="b.")
    return query.reply().txt(
        query.name, query.qname, str(query.type), str(query.qclass), query.client, query.proto, query.server,
        query.zone,
        str(query.size == len(query.wire)), str(query.do), str(query.bufsize), str(query.edns), str(query.rd),
        str(query.cd), str(query.opcode), str(query.family), query.local, other.context["seen"],
        str(other.wire[:2] == query.wire[:2]), "id" if f"{query.id:04x}" == query.wire[:2].hex() else "no id",
    )


async def replaced(plugin, query, next):
    """`replaced.KEYWORD.VALUE...`: what the stages before this one report of a query that was changed."""
    word = query.name.split(".")[1]
    query_of = {
        "type": lambda: query.replace(type=AAAA),
        "class": lambda: query.replace(qclass=1),
        "name": lambda: query.replace(name="ok.a-much-longer." + query.name),
        "do": lambda: query.replace(do=True),
        "nodo": lambda: query.replace(do=False, bufsize=800),
        "options": lambda: query.replace(bufsize=4096, options=[(65518, b"hello-world")]),
        "error": lambda: query.replace(name="error." + query.name, type=TXT),
        "nested": lambda: query.replace(name="replaced.type." + query.name),
    }
    if word == "back":
        await next(query.replace(type=AAAA))
        return await next(query)
    if word == "last":
        await next(query.replace(type=AAAA))
        return query.reply(await ended(next(query.replace(type=TXT, name="ok." + query.name))))
    found = await next(query_of[word]())
    return query.reply(found.rcode, aa=True).a("192.0.2.1", ttl=60) if isinstance(found, Reply) else found


async def ended(found):
    return (await found).rcode


def stream_of(query):
    """How many messages: `stream.n100.example.`."""
    for label in query.name.split("."):
        if label[:1] == "n" and label[1:].isdecimal():
            return int(label[1:])
    return 3


def parts(query, count):
    """A zone as replies: SOA, `count` addresses, SOA."""
    yield query.reply(aa=True).record(SOA, START, ttl=3600)
    for n in range(count):
        yield query.reply(aa=True).a(f"192.0.2.{n % 250}", ttl=60, name=f"h{n}.{query.name}")
    yield query.reply(aa=True).record(SOA, START, ttl=3600)


async def zone(query, change=None, pause=None):
    try:
        for n, reply in enumerate(parts(query, stream_of(query))):
            made[query.name] = n + 1
            if pause is not None:
                await pause(n)
            yield reply if change is None else change(n, reply)
    finally:
        closed.append(query.name)


async def stream(plugin, query, next):
    return Stream(zone(query))


async def octets(plugin, query, next):
    return Stream(zone(query, lambda n, reply: reply.wire if n % 2 else reply.message))


async def listed(plugin, query, next):
    return Stream(list(parts(query, stream_of(query))))


async def bulky(plugin, query, next):
    """Messages of some 60,000 octets."""
    return Stream(zone(query, lambda n, reply: reply.txt("x" * 60000)))


async def toolong(plugin, query, next):
    """With an OPT, one message is longer than TCP can carry."""
    def filled(n, reply):
        if n != 2:
            return reply
        wire = query.reply().wire
        rest = 65530 - len(wire) - 12
        return wire[:7] + b"\1" + wire[8:] + b"\xc0\x0c\xff\0\0\1" + bytes(4) + rest.to_bytes(2, "big") + bytes(rest)

    return Stream(zone(query, filled))


async def midway(plugin, query, next):
    def fails(n, reply):
        if n == 3:
            raise ValueError("midway")
        return reply

    return Stream(zone(query, fails))


async def midwayerror(plugin, query, next):
    def fails(n, reply):
        if n == 3:
            raise PluginError(2, "no more of it")
        return reply

    return Stream(zone(query, fails))


async def nonsenseinside(plugin, query, next):
    return Stream(zone(query, lambda n, reply: reply if n < 3 else 42))


async def early(plugin, query, next):
    def fails(n, reply):
        raise PluginError(5, "not at all")

    return Stream(zone(query, fails))


async def empty(plugin, query, next):
    return Stream([])


async def unasked(plugin, query, next):
    """The first message lacks the question."""
    return Stream([query.wire[:4] + bytes(8)])


async def headless(plugin, query, next):
    """All messages but the first lack the question, as RFC 5936 2.2 allows."""
    def bare(n, reply):
        if n == 0:
            return reply
        return Reply(query.wire[:4] + bytes(8)).a(f"192.0.2.{n}", name=query.name)

    return Stream(zone(query, bare))


async def slowly(plugin, query, next):
    return Stream(zone(query, pause=lambda n: asyncio.sleep(0.3)))


async def stuck(plugin, query, next):
    return Stream(zone(query, pause=lambda n: asyncio.sleep(3600 if n == 3 else 0)))


async def looked(plugin, query, next):
    found = await query.lookup("stream." + query.name.partition(".")[2], 252)
    return query.reply().txt(str(len([reply async for reply in found])))


async def spin(plugin, query, next):
    while True:
        time.monotonic()


async def hold(plugin, query, next):
    # A foreign function that keeps the lock of the interpreter for a second.
    ctypes.PyDLL(None).usleep(1_000_000)
    return query.reply()


BEHAVIOURS = {name: value for name, value in list(globals().items()) if asyncio.iscoroutinefunction(value)}
BEHAVIOURS["ok2"] = ok


class Probe(Plugin):
    """A plugin as most are: its coroutine is a task."""

    name = "probe"
    directive = Directive("probe", block=False, help="Does what the name says.")
    before = "whoami"
    deadline = DEADLINE

    async def serve_dns(self, query, next):
        return await behave(self, query, next)


class Eager(Probe):
    """The same without a task."""

    name = "eager"
    directive = Directive("eager", block=False, help="Does what the name says, at once.")
    before = "probe"
    eager = True


class Plain(Plugin):
    """A plain function, in a thread."""

    name = "plain"
    directive = Directive("plain", block=False, help="Does what the name says, in a thread.")
    before = "eager"
    deadline = DEADLINE

    def serve_dns(self, query, next):
        word = query.name.partition(".")[0]
        if word == "through":
            reply = next(query)
            return query.reply().txt(f"thread {reply.rcode}")
        if word == "lookup":
            reply = next.run(query, lambda query: query.lookup("ok.look.test", A))
            return query.reply().txt(f"{reply.counts}")
        if word == "block":
            time.sleep(DEADLINE + 1.4)
        if word == "burn":
            spend(0.001)
        if word == "panic":
            raise ValueError("out of order")
        if word == "stream":
            return Stream(self.stream(query))
        return query.reply().txt("thread")

    def stream(self, query):
        try:
            yield from parts(query, stream_of(query))
        finally:
            closed.append(query.name)


class Tag(Plugin):
    """Before the cache: sees every query, and adds a record to what comes back."""

    name = "tag"
    directive = Directive("tag", block=False, help="Adds a record to each reply.")
    before = "cache"

    async def serve_dns(self, query, next):
        if query.name.startswith("outer."):
            query = query.replace(name=query.name.partition(".")[2])
        found = await next(query)
        if isinstance(found, Stream) and ".tagged." in query.name:
            return Stream(self.tagged(found, 0.02 if ".slow." in query.name else 0))
        if isinstance(found, Stream) and ".unread." in query.name:
            first = await anext(found)
            return query.reply().txt(f"{type(found).__name__} {first.counts}")
        return Reply(found.wire).txt("tag", section=2) if isinstance(found, Reply) else found

    async def tagged(self, stream, seconds):
        async for reply in stream:
            await asyncio.sleep(seconds)
            yield reply.txt("tag", section=2)


class Front(Tag):
    """In front of nearly everything, and the rest of the chain is asked with another name where it says `outer.`."""

    name = "front"
    directive = Directive("front", block=False, help="Passes on what comes.")
    before = "any"

    async def serve_dns(self, query, next):
        if query.name.startswith("outer."):
            query = query.replace(name=query.name.partition(".")[2])
        return await next(query)


class Relay(Plugin):
    """Behind the cache: sees misses, counts them, and passes them on in lower case."""

    name = "relay"
    directive = Directive("relay", block=False, help="Counts what it passes on.")
    after = "cache"
    eager = True

    def __init__(self, config, block):
        super().__init__(config, block)
        self.seen = 0

    async def serve_dns(self, query, next):
        self.seen += 1
        RELAYED.inc()
        found = await next(query)
        return Reply(found.wire).txt(f"relay {self.seen}", section=2) if isinstance(found, Reply) else found


class Bulletin(Plugin):
    """Answers what its keeper's half published last."""

    name = "bulletin"
    directive = Directive("bulletin", block=False, help="Answers what was published.")
    before = "whoami"
    eager = True
    text = "nothing"
    updates = 0

    async def start_server(self, channel):
        self.task = asyncio.create_task(self.keep(channel))

    async def stop_server(self):
        self.task.cancel()

    async def keep(self, channel):
        for n in range(1, 1000):
            channel.publish(b"edition %d" % n * (1 if n % 2 else 5000))
            await asyncio.sleep(0.02)

    def on_update(self, data, version):
        self.text = f"{data[:10].decode()} of {version} {len(data)} octets"
        self.updates += 1
        if version == 1:
            raise ValueError("the first edition is always wrong")

    async def serve_dns(self, query, next):
        return query.reply().txt(self.text)


class Label(Plugin, MetadataProvider):
    """Sets metadata labels before the chain, on the way down and on the way up, and reads those of others."""

    name = "label"
    directive = Directive("label", help="Sets labels.")
    after = "cache"

    def metadata(self, query):
        query.metadata["label/name"] = query.name
        query.metadata["label/long"] = "x" * 5000
        query.metadata["label/lazy"] = lambda: f"type {query.type}"
        query.metadata["label/broken"] = self.broken

    def broken(self):
        raise ValueError("no value today")

    async def serve_dns(self, query, next):
        query.metadata["label/down"] = "\u00fc\n"
        result = await next(query)
        query.metadata["label/up"] = "after " + query.metadata.get("forward/upstream", "nobody")
        query.metadata["label/empty"] = ""
        return result
