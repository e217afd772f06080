# SPDX-License-Identifier: Apache-2.0
"""The plugin class of nsid: its one value becomes an EDNS option, made once."""

import socket
from typing import TYPE_CHECKING

from fastdns.plugin import BlockContext, Directive, Dispenser, Plugin, SetupError

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

DATA_MAX = 65_531  # octets of an option's data in a message of nothing else


def occurrence(d: Dispenser) -> tuple[str, ...]:
    """The words of DATA. CoreDNS takes a brace for another `nsid`."""
    return tuple(d.remaining_args())


class Nsid(Plugin):
    """Puts the server's name into replies."""

    name = "nsid"
    directive = Directive(
        "nsid", once=True, parse_one=occurrence, usage="nsid [DATA...]",
        help="Puts DATA into the replies to queries that ask for it.",
    )

    def __init__(self, config: tuple[str, ...], block: BlockContext) -> None:
        super().__init__(config, block)
        text = " ".join(config) if config else socket.gethostname()
        self.data = text.encode("utf-8", "surrogateescape")
        if len(self.data) > DATA_MAX:
            raise SetupError(self.name, f"a value of {len(self.data)} octets, and {DATA_MAX} are the most")

    def compiled(self) -> "CompiledStage":
        from ._nsid import stage

        return stage(self.data)
