# SPDX-License-Identifier: Apache-2.0
"""The plugin class of minimal: a word without arguments; all else is compiled."""

from typing import TYPE_CHECKING

from fastdns.corefile.rows import first_alone
from fastdns.plugin import Directive, Plugin

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Minimal(Plugin):
    """Shortens positive answers."""

    name = "minimal"
    directive = Directive(
        "minimal", parse_one=first_alone, help="Leaves authority and additional section out of positive answers."
    )

    def compiled(self) -> "CompiledStage":
        from ._minimal import stage

        return stage()
