# SPDX-License-Identifier: Apache-2.0
"""The plugin class of template: the block's stanzas in order, each ready to answer.

Strategy: what can be known before a query is computed before: zones in the order of their length, compiled expressions,
records that are the same for every query, whole. What is left for a query is a match, a text and its parse (`rrtext`),
and the reply is written record by record. Nothing is awaited unless a CNAME is followed, so the plugin is `eager`.
"""

from __future__ import annotations

from typing import Any

from fastdns.corefile.names import under
from fastdns.expression import ExpressionError
from fastdns.gotemplate import Budget, ExecError
from fastdns.plugin import (
    AAAA,
    ADDITIONAL,
    ANSWER,
    AUTHORITY,
    CNAME,
    SERVFAIL,
    A,
    BlockContext,
    Dispenser,
    Next,
    Plugin,
    PluginError,
    Query,
    Rcode,
    Reply,
    SetupError,
)
from fastdns.rrtext import Record, parse_record

from .config import TEMPLATE, Stanza
from .data import Data
from .facts import facts_of, kept_by, labels_of
from .follow import follow, rest_of
from .metrics import MATCHES, RR_FAILURES, TEMPLATE_FAILURES
from .stanza import Ready, RecordText, longest

FAILED = Rcode(SERVFAIL)


class Template(Plugin):
    """Answers what a pattern matches with records made from templates."""

    name = "template"
    directive = TEMPLATE
    eager = True

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for all stanzas of a block, because a query falls from one to the next."""
        return [cls.directive.parse(dispenser)]

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Whether a stanza's zones hold the name."""
        return any(under(name, zone) for stanza in config for zone in stanza.zones)

    @classmethod
    def keeps(cls, config: Any) -> bool:
        """Most answers can be kept; which ones is known once the templates are compiled."""
        return True

    def __init__(self, config: list[Stanza], block: BlockContext) -> None:
        super().__init__(config, block)
        self.stanzas = [Ready(stanza) for stanza in config]
        try:
            for label in {label for stanza in self.stanzas for label in labels_of(stanza)}:
                block.labels.read(label)
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None
        self.zones = sorted({zone for stanza in config for zone in stanza.zones}, key=len, reverse=True)
        # A stanza that nothing can be kept by takes itself out for the queries that come to it.
        kept = [kept_by(facts_of(stanza)) for stanza in self.stanzas]
        self.once = [facts is None for facts in kept]
        if not all(self.once):
            self.depends = frozenset().union(*(facts for facts in kept if facts is not None))

    def facts(self) -> frozenset[str]:
        """Which facts of a query its answer depends on besides block, class and type (facts.py)."""
        return frozenset().union(*(facts_of(stanza) for stanza in self.stanzas))

    async def serve_dns(self, query: Query, next: Next) -> Any:
        name = query.name
        if longest(name, self.zones) is None:
            return await next(query)
        for stanza, once in zip(self.stanzas, self.once, strict=True):
            zone = longest(name, stanza.zones)
            if zone is None or not stanza.asks(query.qclass, query.type):
                continue
            if once:
                query.once()
            try:
                data = stanza.match(query, name, zone)
            except ExpressionError:
                return FAILED
            if data is None:
                if not stanza.falls(name):
                    return FAILED
                continue
            MATCHES.inc(query.server, zone, self.block.view, data.qclass, data.qtype)
            if stanza.rcode == SERVFAIL or (stanza.rcode > 15 and not query.edns and stanza.ederror is None):
                # The header has no room for a larger code, and the client no OPT record.
                return FAILED
            return await self._answer(query, stanza, data)
        return await next(query)

    async def _answer(self, query: Query, stanza: Ready, data: Data) -> Reply:
        """The reply of a stanza. Where an answer is a CNAME, what its target has is looked up and stands behind it."""
        budget = Budget()
        follows = query.type in (A, AAAA)
        cut = False
        answers: list[Record] = []
        for text in stanza.records["answer"]:
            record = self._record(text, "answer", query, data, budget)
            answers.append(record)
            if follows and record.type == CNAME:
                found = await follow(query, record)
                if found is not None:
                    cut = found.tc
                    answers += rest_of(found)
        additional = [self._record(text, "additional", query, data, budget) for text in stanza.records["additional"]]
        authority = [self._record(text, "authority", query, data, budget) for text in stanza.records["authority"]]
        reply = query.reply(stanza.rcode, aa=True)
        try:
            for records, section in ((answers, ANSWER), (authority, AUTHORITY), (additional, ADDITIONAL)):
                for record in records:
                    reply.add(record.owner, record.type, record.qclass, record.ttl, record.rdata, section)
            if cut:
                wire = bytearray(reply.wire)
                wire[2] |= 2
                reply = Reply(wire)
            return stanza.with_error(reply) if stanza.ederror is not None else reply
        except ValueError as error:
            raise PluginError(SERVFAIL, str(error)) from None

    def _record(self, text: RecordText, section: str, query: Query, data: Data, budget: Budget) -> Record:
        """One record. What is wrong with it is SERVFAIL, counted, and logged by `errors`."""
        if text.record is not None:
            return text.record
        try:
            made = text.template.execute(data, budget)
        except ExecError as error:
            self._failed(TEMPLATE_FAILURES, query, data, section, text)
            raise PluginError(SERVFAIL, str(error)) from None
        try:
            return parse_record(made)
        except ValueError as error:
            self._failed(RR_FAILURES, query, data, section, text)
            raise PluginError(SERVFAIL, f"{error}: {made[:256]!r}") from None

    def _failed(self, metric: Any, query: Query, data: Data, section: str, text: RecordText) -> None:
        metric.inc(query.server, data.zone, self.block.view, data.qclass, data.qtype, section, text.template.text)
