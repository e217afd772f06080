# SPDX-License-Identifier: Apache-2.0
"""The plugin class of rewrite: all rules of a block in the order of their lines.

Strategy: a block whose rules need neither look-ups nor what only Python knows runs compiled (program.py). Where it has
expressions, the compiled half asks here for each name that it does not know yet, and keeps the recipe. The others are
served here: rules are prepared once. A query that none of them matches goes on as it is;
for another the rules say what to undo, and the reply is edited on its way back. Which rules match depends on what
`depends_on` names and nothing else, so whoever keeps decisions may keep them by that, and never has to keep an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from fastdns._wire import echo_option, name_from_text
from fastdns.plugin import (
    FORMERR,
    NOTIMP,
    REFUSED,
    SERVFAIL,
    BlockContext,
    Dispenser,
    Next,
    Plugin,
    PluginError,
    Query,
    Rcode,
    Reply,
    SetupError,
    Stream,
)

from .config import REWRITE
from .draft import Draft, split_options
from .edns import OptionRule, echoed
from .program import Recipes, by_expression, reason, rows
from .reply import Record, answers, edit
from .rules import Rules
from .undo import Remove, Restore, Undo

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

WRITTEN_BY_THE_SERVER = frozenset({SERVFAIL, REFUSED, FORMERR, NOTIMP})


class Rewrite(Plugin):
    """Changes queries, and their replies back."""

    name = "rewrite"
    directive = REWRITE
    eager = True

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for the block, with the rules of all its lines."""
        token = dispenser.tokens[0]
        return [Rules(tuple(super().parse(dispenser)), token.file, token.line)]

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Whether a rule may match a query for `name`: those by something else than the name may match any."""
        return any(may_match(rule, name) for rule in config.rules)

    @classmethod
    def keeps(cls, config: Any) -> bool:
        """Whether there are expressions, whose recipes lie on the shelf."""
        return by_expression(config.rules) and not reason(config.rules)

    def __init__(self, config: Rules, block: BlockContext) -> None:
        super().__init__(config, block)
        self.rules = [(rule.prepare(), rule.stop) for rule in config.rules]
        self.recipes: Recipes | None = None
        options = [rule for rule in config.rules if isinstance(rule, OptionRule)]
        self.echoes = frozenset(rule.code for rule in options if rule.kind == "local")
        for code in self.echoes:
            echo_option(code)
        try:
            for rule in options:
                if "metadata" in rule.needs:
                    block.labels.read(rule.variable[1:-1])
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None

    def compiled(self) -> CompiledStage | None:
        rules = self.config.rules
        self.why_python = reason(rules)
        expressions = by_expression(rules)
        if not self.why_python and expressions and self.block.shelf is None:
            self.why_python = "a regular expression"
        if self.why_python:
            return None
        from ._rewrite import stage

        if not expressions:
            return stage(rows(rules), self.echoes)
        assert self.block.shelf is not None
        self.recipes = Recipes(rules)
        return stage(rows(rules), self.echoes, self, self.block.shelf())

    def depends_on(self) -> frozenset[str]:
        """What of a query decides which rules match and what they ask: of `name`, `type`, `class`, `options`, `client`
        (address, port, transport), `server` and `metadata`."""
        return frozenset().union(*(rule.needs for rule in self.config.rules))

    async def serve_dns(self, query: Query, next: Next) -> Any:
        draft = Draft(query)
        undo: list[Undo] = []
        if self.recipes is not None and (recipe := self.recipes.of(draft.name)) is not None:
            query.note(recipe)
        matched = False
        for apply, stop in self.rules:
            steps = apply(draft)
            if steps is not None:
                matched = True
                undo.extend(steps)
                if stop:
                    break
        asked = draft.asked()
        if not matched and asked is query:
            return await next(query)
        undo.reverse()
        try:
            result = await next(asked)
        except PluginError as error:
            if error.rcode not in WRITTEN_BY_THE_SERVER:
                raise
            result = self.failed(draft, asked, error.rcode).edited(error=error.text)
        if isinstance(result, Rcode) and result.rcode in WRITTEN_BY_THE_SERVER:
            result = self.failed(draft, asked, result.rcode)
        if isinstance(result, Stream):
            return Stream(self.streamed(draft, asked, result, undo))
        if not isinstance(result, Reply):
            return result if not hasattr(result, "pack") else await self.answered(draft, asked, Reply(result), undo)
        return await self.answered(draft, asked, result, undo)

    def failed(self, draft: Draft, asked: Query, rcode: int) -> Reply:
        """The reply of a chain that wrote none: written here, because rules may change it."""
        reply = asked.reply(rcode)
        return reply.edited(options=self.repeated(draft, draft.options)) if asked.edns else reply

    def repeated(self, draft: Draft, options: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Those options of the query that go back."""
        return echoed(options, self.echoes, draft.query.proto == "udp")

    async def streamed(self, draft: Draft, asked: Query, stream: Stream, undo: Sequence[Undo]) -> AsyncIterator[Reply]:
        """A transfer, message by message."""
        async for reply in stream:
            yield await self.answered(draft, asked, reply, undo)

    async def answered(self, draft: Draft, asked: Query, reply: Reply, undo: Sequence[Undo]) -> Reply:
        """The reply as the client gets it."""

        async def looked_up(name: str) -> tuple[list[Record], bool] | None:
            try:
                name_from_text(name)
                found = await asked.lookup(name, asked.type)
            except ValueError:
                self.log.error("upstream lookup failed: %s is no name", name)
                return None
            except PluginError as error:
                self.log.error("upstream lookup failed: %s", error.text)
                return None
            if not isinstance(found, Reply):
                self.log.error("upstream lookup returned nil")
                return None
            return answers(found)

        if undo or asked is not draft.query:
            reply = await edit(draft.query, reply, undo, looked_up)
        if draft.touched:
            reply = reply.edited(options=self.options(draft, reply, undo))
        return reply

    def options(self, draft: Draft, reply: Reply, undo: Sequence[Undo]) -> list[tuple[int, bytes]]:
        """The options of the reply's OPT: its own, or those of the query that are repeated; reverted where a rule
        says so."""
        own = reply.opt
        options = list(draft.options) if own is None else split_options(own)
        for step in undo:
            if isinstance(step, Remove):
                options = [option for option in options if option[0] != step.code]
            elif isinstance(step, Restore):
                at = next((at for at, option in enumerate(options) if option[0] == step.code), None)
                if at is not None:
                    options[at] = (step.code, step.data)
        return options if own is not None else self.repeated(draft, options)


def may_match(rule: Any, name: str) -> bool:
    """Whether a rule may match a query for a name, in lower case with final dot."""
    matches = getattr(rule, "matches", None)
    return matches is None or bool(matches(name))
