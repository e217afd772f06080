# SPDX-License-Identifier: Apache-2.0
"""The plugin class of any: a word without arguments; all else is compiled."""

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


class Any(Plugin):
    """Answers queries of type ANY."""

    name = "any"
    directive = Directive("any", parse_one=occurrence, help="Answers ANY with one HINFO record.")

    def compiled(self) -> "CompiledStage":
        from ._any import stage

        return stage()
