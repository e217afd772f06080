# SPDX-License-Identifier: Apache-2.0
"""The plugin class of log: its rules become a compiled stage, its formats numbers that the formatter knows."""

from typing import TYPE_CHECKING, Any

from fastdns import metrics
from fastdns._wire import name_from_text, name_lower
from fastdns.plugin import Dispenser, Plugin

from .config import LOG, rules

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


def scope_wire(name: str) -> bytes:
    """A scope in lower-cased wire form; empty for what is no name, so that it matches nothing."""
    try:
        return name_lower(name_from_text(name))
    except ValueError:
        return b""


class Log(Plugin):
    """Logs queries."""

    name = "log"
    directive = LOG

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance with the rules of all lines of the block."""
        return [rules(super().parse(dispenser))]

    def compiled(self) -> "CompiledStage":
        from ._log import CLASSES, stage

        return stage(
            [
                (
                    scope_wire(rule.scope),
                    sum({CLASSES[word] for word in rule.classes}),
                    metrics.log_format(self.block.stats, rule.format),
                )
                for rule in self.config
            ]
        )
