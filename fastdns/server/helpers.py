# SPDX-License-Identifier: Apache-2.0
"""The web and formatter processes' way from the fork to their own modules.

Strategy: each gets what it needs from Shared and nothing else; what they do is in web.py and formatter.py.
"""

from __future__ import annotations

from typing import Any

from . import control
from .memory import web_row
from .shared import Shared


def run_web(shared: Shared, channel: control.Channel, _words: dict[str, Any]) -> None:
    """/metrics, /health, /ready and the control socket."""
    from . import web
    from .ctl_site import Site

    row = web_row(shared.stats.rows)
    shared.become(row)
    site = Site(shared.stats, shared.segment, shared.words["generation"], shared.plan, shared.words["block_ids"],
                shared.generation.observer(), shared.generation.shelf)
    web.run(shared.plan["http"], shared.http, shared.stats, shared.segment, channel, row,
            shared.words["generation"], listeners=[max(shape) for shape in shared.words["listeners"]],
            site=site)


def run_formatter(shared: Shared, channel: control.Channel, _words: dict[str, Any]) -> None:
    """Log records to lines on stdout."""
    from . import formatter

    row = web_row(shared.stats.rows)
    shared.become(None)
    formatter.run(shared.rings, shared.stats, shared.log_wake, channel, row)
