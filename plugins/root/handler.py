# SPDX-License-Identifier: Apache-2.0
"""The plugin class of root: a folder that the plan of the block carries, for every directive that reads files.

Strategy: `root` comes first in the order of the chain, so the plan has it before any other directive asks.
"""

from pathlib import Path
from typing import Any

from fastdns.errors import CorefileError
from fastdns.plugin import BlockContext, BlockPlan, Directive, Dispenser, Plugin, Settings, SetupError


def occurrence(d: Dispenser) -> Settings:
    """One path. CoreDNS takes a further word for another `root`, and so for the name before its path."""
    if not d.next_arg():
        raise d.arg_err()
    return Settings({"path": d.val, "column": d.token.column}, (), d.file, d.line)


class Root(Plugin):
    """Names the folder of relative paths."""

    name = "root"
    chain = False
    directive = Directive(
        "root", parse_one=occurrence, usage="root PATH", help="Relative paths of the block begin at PATH.")

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block: the last line counts."""
        return super().parse(dispenser)[-1:]

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """Says where paths begin."""
        plan.root = config.path

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        try:
            # An empty path is no folder, but Path makes it the one that the server runs in.
            missing = not config.path or not Path(config.path).stat()
        except FileNotFoundError:
            missing = True
        except (OSError, ValueError) as error:
            why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
            text = f"unable to access root path '{config.path}': stat {config.path}: {why}"
            raise SetupError(self.name, CorefileError(config.file, config.line, text, config.column)) from None
        if missing:
            # It may appear later.
            self.log.warning("Root path does not exist: %s", config.path)
