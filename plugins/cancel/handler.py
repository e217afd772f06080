# SPDX-License-Identifier: Apache-2.0
"""The plugin class of cancel: one duration for the compiled half."""

from typing import TYPE_CHECKING, Any

from fastdns.corefile.types import Duration
from fastdns.plugin import Directive, Dispenser, Plugin

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

DEFAULT = 5.001  # seconds: just over forward's own five
TIMEOUT = Duration(bad="invalid duration: {quoted}", below='invalid negative duration: "{text}"', positive=True)


def occurrence(d: Dispenser) -> float:
    """Seconds. CoreDNS takes a brace for another `cancel`, and so for the default."""
    words = d.remaining_args()
    if len(words) > 1:
        raise d.arg_err()
    return TIMEOUT.read(words[0], d) if words else DEFAULT


class Cancel(Plugin):
    """Gives queries a deadline."""

    name = "cancel"
    directive = Directive(
        "cancel", parse_one=occurrence, usage="cancel [TIMEOUT]",
        help="Gives each query TIMEOUT, after which no more is tried for it.",
    )

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block: the last line counts."""
        return super().parse(dispenser)[-1:]

    def compiled(self) -> "CompiledStage":
        from ._cancel import stage

        return stage(self.config)
