# SPDX-License-Identifier: Apache-2.0
"""The plugin class of pprof: a side directive, the web process serves and every process looks at itself."""

from typing import Any

from fastdns.plugin import BlockPlan, Plugin

from .config import PPROF


class Pprof(Plugin):
    """Asks for /debug/pprof/."""

    name = "pprof"
    chain = False
    directive = PPROF

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Asks the web process to serve."""
        plan.ask("http", service="pprof", address=config["address"], rate=config["block"])
