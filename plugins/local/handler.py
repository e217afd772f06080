# SPDX-License-Identifier: Apache-2.0
"""The plugin class of local: one switch for the compiled half, and its counter."""

from typing import TYPE_CHECKING, Any

from fastdns.corefile.options import Located
from fastdns.corefile.types import Choice
from fastdns.plugin import Counter, Directive, Dispenser, Option, Plugin

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

LOCALHOST = Counter("coredns_local_localhost_requests_total", "Queries for localhost names.")


class Local(Plugin):
    """Answers for the local host."""

    name = "local"
    directive = Directive(
        "local",
        options=(
            Option(
                "localhost_prefix",
                Choice(("on", "off"), bad=Located("localhost_prefix expects 'on' or 'off', got {quoted}")),
                default="on",
                help="Whether names that begin with `localhost.` are answered as well.",
            ),
        ),
        help="Answers for localhost.",
    )

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block: of several lines the last that says something counts."""
        prefix = True
        for line in super().parse(dispenser):
            if line.given:
                prefix = line.localhost_prefix == "on"
        return [prefix]

    def compiled(self) -> "CompiledStage":
        from ._local import stage

        return stage(self.config, LOCALHOST.slot(stats=self.block.stats))
