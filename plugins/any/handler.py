# SPDX-License-Identifier: Apache-2.0
"""The plugin class of any: a word without arguments; all else is compiled."""

from typing import TYPE_CHECKING

from fastdns.corefile.rows import first_alone
from fastdns.plugin import Directive, Plugin

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Any(Plugin):
    """Answers queries of type ANY."""

    name = "any"
    directive = Directive("any", parse_one=first_alone, help="Answers ANY with one HINFO record.")

    def compiled(self) -> "CompiledStage":
        from ._any import stage

        return stage()
