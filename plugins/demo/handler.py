# SPDX-License-Identifier: Apache-2.0
"""The plugin class of demo, the worked example of plugins/README.md.

Strategy: the sender's address decides, and nothing is awaited; so the answer costs a comparison and a record. It
depends on the first octet of the address and, for IPv6, on nothing but that it is no IPv4: `depends` says so, and the
server gives an answer again to all whose address begins in the same way, without asking this plugin.
"""

from fastdns.plugin import CLIENT, A, Counter, Directive, Next, Plugin, Query, Reply

QUERIES = Counter("coredns_demo_queries_total", "Queries that demo answered.", ("server",))

INSIDE, OUTSIDE = "1.1.1.1", "8.8.8.8"


class Demo(Plugin):
    """Answers 1.1.1.1 to clients in 172.0.0.0/8 and 127.0.0.0/8, and 8.8.8.8 to all others."""

    name = "demo"
    directive = Directive("demo", block=False, help="Answers by where the client is.")
    # CoreDNS does not have this directive, so it says where it runs: behind cache, before what asks other servers.
    before = "forward"
    eager = True
    depends = (CLIENT(8, 0),)

    async def serve_dns(self, query: Query, next: Next) -> Reply:
        QUERIES.inc(query.server)
        reply = query.reply()
        if query.type == A:
            reply.a(INSIDE if query.client.startswith(("127.", "172.")) else OUTSIDE)
        return reply
