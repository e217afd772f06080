# SPDX-License-Identifier: Apache-2.0
"""The plugin class of whoami.

Strategy: it answers at once from what the view of the query knows, so it is eager and builds its reply in wire form.
"""

from typing import Any

from fastdns.plugin import ADDITIONAL, Directive, Dispenser, Next, Plugin, Query, Reply

WIRE_NAME_MAX = 255


class Whoami(Plugin):
    """Answers every query with its sender's address and port. It ends the chain: `next` is never called."""

    name = "whoami"
    directive = Directive("whoami", block=False, help="Tells clients who they are.")
    # Nothing is awaited, so no task is needed.
    eager = True

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, however often its name is written."""
        return super().parse(dispenser)[:1]

    async def serve_dns(self, query: Query, next: Next) -> Reply:
        # The answer section stays empty whatever was asked: who the client is stands in the additional section.
        reply = query.reply(aa=True)
        # Names are repeated as the client spelled them: resolvers that vary the case check it.
        if query.family == 4:
            reply.a(query.client, section=ADDITIONAL)
        else:
            reply.aaaa(query.client, section=ADDITIONAL)
        # The port is a service record, with the transport in its owner name: _udp.example.org. or _tcp.example.org.
        service = f"_{query.proto}." if query.qname == "." else f"_{query.proto}.{query.qname}"
        # A name of the greatest length leaves no room for a label in front of it.
        if query.name_octets + len(query.proto) + 2 <= WIRE_NAME_MAX:
            reply.srv(0, 0, query.client_port, ".", name=service, section=ADDITIONAL)
        return reply
