# SPDX-License-Identifier: Apache-2.0
"""A plugin that answers with what it reads of a query, to show what is kept by which facts.

    mirror NAME CLIENT(24,64) DO named      # facts in capitals: declared; `named`: the first label says what is read
    mirror case                             # nothing declared: never kept
"""

import re

from fastdns import facts
from fastdns.plugin import (
    CNAME,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    A,
    Counter,
    Directive,
    Gauge,
    Histogram,
    Plugin,
    PluginError,
    Rcode,
    Reply,
)

COUNTED = Counter("mirror_counted_total", "Queries that were to be counted.", ("server", "word"))
GAUGE = Gauge("mirror_gauge", "What was set last.")
SEEN = Histogram("mirror_seen_bytes", "Sizes.", buckets=(100, 1000))
runs = []  # names of queries that a mirror ran for

READ = {
    "name": lambda query: query.name,
    "case": lambda query: query.qname,
    "client": lambda query: query.client,
    "family": lambda query: query.family,
    "port": lambda query: query.client_port,
    "proto": lambda query: query.proto,
    "local": lambda query: query.local,
    "ad": lambda query: query.ad,
    "do": lambda query: query.do,
    "edns": lambda query: query.edns,
    "bufsize": lambda query: query.bufsize,
    "rd": lambda query: query.rd,
    "cd": lambda query: query.cd,
    "server": lambda query: query.server.partition(":")[0],
    "listener": lambda query: query.server,
    "zone": lambda query: query.zone,
    "type": lambda query: query.type,
    "option": lambda query: query.option(65001),
    "other": lambda query: query.option(65002),
    "label": lambda query: query.metadata.get("marker/mark", "none"),
    "id": lambda query: query.id,
    "size": lambda query: query.size,
    "wire": lambda query: query.wire.hex(),
    "context": lambda query: query.context.get("seen"),
    "note": lambda query: refused(query, bytes(41)),
    "long": lambda query: refused(query, bytes(4097)),
}


def refused(query, octets):
    """What `note` says."""
    try:
        query.note(octets)
    except ValueError as error:
        return error
    return "taken"


class Mirror(Plugin):
    """Answers what it reads."""

    name = "mirror"
    directive = Directive("mirror", block=False, help="Answers what it reads.")
    before = "whoami"
    eager = True

    @classmethod
    def parse(cls, dispenser):
        found = []
        while dispenser.next():
            found.append(dispenser.remaining_args())
        return found

    def __init__(self, config, block):
        super().__init__(config, block)
        declared = [fact(word) for word in config if word[0].isupper()]
        self.words = [word for word in config if word.islower()]
        block.labels.read("marker/mark")
        if "nothing" in self.words or declared:
            self.depends = declared

    async def serve_dns(self, query, next):
        words = self.words
        if "named" in words:
            runs.append(query.name)
            words = query.name.partition(".")[0].split("-")
        return await answered(self, query, next, words)


def fact(word):
    """NAME, CLIENT(24,64), METADATA(marker/mark) ..."""
    name, arguments = re.fullmatch(r"(\w+)(?:\((.*)\))?", word).groups()
    made = getattr(facts, name)
    given = (int(text) if text.isdecimal() else text for text in arguments.split(",")) if arguments else ()
    return made(*given) if callable(made) else made


async def answered(plugin, query, next, words):
    lines = [f"{word}={READ[word](query)}" for word in words if word in READ]
    if "count" in words:
        COUNTED.inc(query.server, "once")
        COUNTED.inc(query.server, "thrice", by=3)
    if "gauge" in words:
        GAUGE.set(len(lines))
    if "histogram" in words:
        SEEN.observe(120)
    if "say" in words:
        plugin.log.warning("said for %s", query.name)
    if "set" in words:
        query.metadata["marker/mark"] = "set"
    if "error" in words:
        raise PluginError(SERVFAIL, "an error")
    if "bare" in words:
        return Rcode(REFUSED)
    if "once" in words:
        query.once()
    if "behind" in words:
        await next(query)
    if "lookup" in words:
        await query.lookup("rd.elsewhere.test", A)
    reply = query.reply(NXDOMAIN if "nx" in words else SERVFAIL if "fail" in words else 0, aa=True, ad="adset" in words)
    if "owner" in words:
        reply.add(b"\1x\4test\0", 1, 1, 60, bytes(4))
        reply.add(b"".join(len(part).to_bytes(1, "big") + part.encode() for part in query.name.split(".")), 1, 1, 60,
                  b"\1\2\3\4")
    if "upper" in words:
        reply.add(b"\5UPPER\4name\4test\0", 1, 1, 60, bytes(4))
    reply.txt(*(lines or ["nothing"]), ttl=30)
    if "pointer" in words:
        reply.record(CNAME, b"\xc0\x0c")
    if "many" in words:
        for n in range(6):
            reply.txt("x" * 250, str(n))
    if "huge" in words:
        for _ in range(40):
            reply.txt("x" * 250)
    if "octets" in words:
        reply = Reply(reply.wire)
    if "opt" in words:
        reply = reply.edited(options=[(65003, b"of the reply")])
    return reply


class Marker(Plugin):
    """In front: a label by the client's last octet."""

    name = "marker"
    directive = Directive("marker", block=False, help="Sets a label.")
    after = "cache"
    eager = True

    async def serve_dns(self, query, next):
        if query.client.endswith(("2", "3")):
            query.metadata["marker/mark"] = query.client
        return await next(query)
