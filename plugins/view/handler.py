# SPDX-License-Identifier: Apache-2.0
"""The plugin class of view: its expressions decide whether a query enters the block.

Strategy: what can be translated becomes a filter that the router runs; the rest is asked here, and only about queries
that the filter lets pass. The plugin is a stage of the chain too, for CoreDNS has it there: it passes everything on.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastdns.expression import FUNCTIONS, Expression, ExpressionError, compile_expression, environment
from fastdns.expression.bytecode import Untranslated, translate
from fastdns.plugin import BlockContext, BlockPlan, Directive, Dispenser, FixedLabels, Plugin, Query, RouteFilter

if TYPE_CHECKING:
    from fastdns._filter import Filter
    from fastdns._stage import CompiledStage


@dataclass(frozen=True)
class Config:
    """One `view`: its name and its expressions as they were written."""

    view: str
    expressions: tuple[str, ...]
    file: str
    line: int


def occurrence(d: Dispenser) -> Config:
    """The directive with its block; each expression must compile."""
    file, line, expressions = d.file, d.line, []
    words = d.remaining_args()
    if len(words) != 1:
        raise d.arg_err()
    while d.next_block():
        if d.val != "expr":
            raise d.err(f"unknown property '{d.val}'")
        start, parts = d.mark(), d.remaining_args()
        text = " ".join(parts)
        try:
            compile_expression(text, FUNCTIONS)
        except ExpressionError as error:
            d.rewind(start)
            left = error.at
            for part in parts:
                d.next_arg()
                if left <= len(part):
                    break
                left -= len(part) + 1
            raise d.fail(str(error)) from None
        expressions.append(text)
    return Config(words[0], tuple(expressions), file, line)


class View(Plugin, RouteFilter, FixedLabels):
    """Decides which queries enter its block."""

    name = "view"
    directive = Directive(
        "view", once=True, parse_one=occurrence, usage="view NAME",
        help="Lets queries into the block if expressions about them are true.",
    )

    @classmethod
    def plan(cls, config: Config, plan: BlockPlan) -> None:
        """Names the view; the block may share its zones."""
        plan.view = config.view
        plan.filtered = True

    def __init__(self, config: Config, block: BlockContext) -> None:
        super().__init__(config, block)
        self.here: list[Expression] = []
        self.translated: list[Expression] = []
        self.reasons: list[tuple[str, str]] = []
        for text in config.expressions:
            expression = compile_expression(text, FUNCTIONS)
            try:
                translate([expression])
                self.translated.append(expression)
                why = ""
            except Untranslated as reason:
                self.here.append(expression)
                why = str(reason)
            self.reasons.append((text, why))

    def compiled(self) -> "CompiledStage":
        from fastdns._stage import passing

        return passing(self.name)

    def filter(self) -> "Filter | None":
        """What the router decides by itself."""
        return translate(self.translated) if self.translated else None

    def judges(self) -> list[tuple[str, str]]:
        """The expressions, and why Python evaluates them."""
        return self.reasons

    def passes(self, query: Query) -> bool:
        """Whether the expressions that were left to Python are all true. An error is a no, as is any other value."""
        env = environment(query)
        try:
            return all(expression.evaluate(env) is True for expression in self.here)
        except ExpressionError:
            return False

    def labels(self) -> dict[str, str]:
        """The view's name for who reads it."""
        return {"view/name": self.config.view}
