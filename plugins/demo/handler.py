# SPDX-License-Identifier: Apache-2.0
"""The plugin class of demo, the worked example of plugins/README.md.

Strategy: the sender's address decides, and nothing is awaited; so the answer costs a comparison and a record.
"""

from fastdns.plugin import A, Counter, Directive, Next, Plugin, Query, Reply

QUERIES = Counter("coredns_demo_queries_total", "Queries that demo answered.", ("server",))

INSIDE, OUTSIDE = "1.1.1.1", "8.8.8.8"


class Demo(Plugin):
    """Answers 1.1.1.1 to clients in 172.0.0.0/8 and 127.0.0.0/8, and 8.8.8.8 to all others."""

    name = "demo"
    directive = Directive("demo", block=False, help="Answers by where the client is.")
    # CoreDNS does not have this directive, so it says where it runs: behind cache, before what asks other servers.
    before = "forward"
    eager = True

    async def serve_dns(self, query: Query, next: Next) -> Reply:
        QUERIES.inc(query.server)
        reply = query.reply()
        if query.type == A:
            reply.a(INSIDE if query.client.startswith(("127.", "172.")) else OUTSIDE)
        return reply
