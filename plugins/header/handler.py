# SPDX-License-Identifier: Apache-2.0
"""The plugin class of header: its rules as masks for the compiled half."""

from typing import TYPE_CHECKING

from fastdns.plugin import Plugin

from .config import HEADER, masks

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Header(Plugin):
    """Sets and clears header flags."""

    name = "header"
    directive = HEADER

    def compiled(self) -> "CompiledStage":
        from ._header import stage

        return stage(masks(self.config.query), masks(self.config.response))
