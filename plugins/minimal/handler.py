# SPDX-License-Identifier: Apache-2.0
"""The plugin class of minimal: a word without arguments; all else is compiled."""

from typing import TYPE_CHECKING

from fastdns.plugin import Directive, Dispenser, Plugin

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


def occurrence(d: Dispenser) -> None:
    """The first line counts; CoreDNS does not look at further ones."""
    if d.next_arg():
        raise d.arg_err()
    while d.next():
        continue


class Minimal(Plugin):
    """Shortens positive answers."""

    name = "minimal"
    directive = Directive(
        "minimal", parse_one=occurrence, help="Leaves authority and additional section out of positive answers."
    )

    def compiled(self) -> "CompiledStage":
        from ._minimal import stage

        return stage()
