# SPDX-License-Identifier: Apache-2.0
"""The plugin class of log: its rules become a compiled stage, its formats numbers that the formatter knows."""

from typing import TYPE_CHECKING, Any

from fastdns import metrics
from fastdns._log import format_labels
from fastdns._wire import name_from_text, name_lower
from fastdns.plugin import BlockContext, Dispenser, Plugin, SetupError

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

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        try:
            self.labels = [[block.labels.read(name) for name in format_labels(rule.format)] for rule in config]
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None

    def compiled(self) -> "CompiledStage":
        from ._log import CLASSES, stage

        return stage(
            [
                (
                    scope_wire(rule.scope),
                    sum({CLASSES[word] for word in rule.classes}),
                    metrics.log_format(self.block.stats, rule.format),
                    labels,
                )
                for rule, labels in zip(self.config, self.labels, strict=True)
            ],
            self.block.labels.place("log/type"),
            self.block.labels.place("log/class"),
        )
