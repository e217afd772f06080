# SPDX-License-Identifier: Apache-2.0
"""The plugin class of errors: a compiled stage that reports, and the number of its patterns for the formatter."""

import json
from typing import TYPE_CHECKING

from fastdns import metrics
from fastdns.plugin import Plugin

from .config import ERRORS

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage


class Errors(Plugin):
    """Logs errors."""

    name = "errors"
    directive = ERRORS

    @property
    def stacktrace(self) -> bool:
        """Whether the line about a plugin that raised shows its traceback."""
        return bool(self.config["stacktrace"])

    def site(self) -> int:
        """The number of this directive's patterns in the table of counters; 0: there are none.

        The block is part of the text, so that equal directives of two blocks count by themselves.
        """
        patterns = [list(pattern) for pattern in self.config["patterns"]]
        if not patterns:
            return 0
        text = json.dumps({"block": self.block.index, "patterns": patterns}, separators=(",", ":"))
        return metrics.errors_site(self.block.stats, text)

    def compiled(self) -> "CompiledStage":
        from ._errors import stage

        return stage(self.site())
