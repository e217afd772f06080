# SPDX-License-Identifier: Apache-2.0
"""The plugin class of loadbalance: all that it does to a query is compiled."""

from typing import TYPE_CHECKING, Any

from fastdns.plugin import Dispenser, Plugin

from .config import LOADBALANCE

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Loadbalance(Plugin):
    """Shuffles the address and MX records of each reply."""

    name = "loadbalance"
    directive = LOADBALANCE

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, whatever the number of lines: as in CoreDNS the last one counts."""
        return super().parse(dispenser)[-1:]

    def compiled(self) -> "CompiledStage":
        from ._loadbalance import stage

        return stage()
