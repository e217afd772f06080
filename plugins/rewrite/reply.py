# SPDX-License-Identifier: Apache-2.0
"""Replies that are given back the client's question, and what the rules do to their records.

Strategy: where only type, class or options differ, the question is overwritten where it stands. Else the message is
written anew, every name spelled out but for owners that are the question; the server compresses what is too long. Names
are changed as texts, each different one once. A change that gives no name leaves the record as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastdns._wire import expand, name_from_text, name_to_text
from fastdns.plugin import ANSWER, CNAME, DNAME, MX, NAPTR, NS, PTR, SOA, SRV, Query, Reply

from .undo import Code, Owners, Target, Ttl, Undo, Values

Record = tuple[int, bytes, int, int, int, bytes]
Lookup = Callable[[str], Awaitable[tuple[list[Record], bool] | None]]

HEADER = 12
LARGEST = 65_535
QUESTION_POINTER = b"\xc0\x0c"
TC = 0x02  # in the header's third octet
NAME_OFFSETS = {CNAME: 0, NS: 0, PTR: 0, DNAME: 0, SOA: 0, MX: 2, SRV: 6}


def question(query: Query) -> bytes:
    """The question section as the client wrote it."""
    return query.wire[HEADER : HEADER + query.name_octets + 4]


def rcode_of(reply: Reply, undo: Sequence[Undo]) -> int:
    """The response code in the end. `undo` is in the order in which it is done."""
    code = reply.rcode
    for step in undo:
        if isinstance(step, Code) and code == step.old:
            code = step.new
    return code


def patched(wire: bytes, asked: bytes) -> bytes | None:
    """The message with another question of the same length; None where that does not do."""
    end = HEADER + len(asked)
    same = wire[4:6] == b"\0\1" and wire[HEADER : end - 4].lower() == asked[:-4].lower()
    return wire[:HEADER] + asked + wire[end:] if same else None


def written(wire: bytes, asked: bytes, records: Sequence[Record], truncated: bool) -> bytes:
    """A message with the header of another one. Records that do not fit are left out from the first on, with TC."""
    name, parts, counts = asked[:-4], [asked], [0, 0, 0]
    size = HEADER + len(asked)
    for section, owner, kind, rclass, ttl, rdata in records:
        head = QUESTION_POINTER if owner == name else owner
        size += len(head) + 10 + len(rdata)
        if size > LARGEST:
            truncated = True
            break
        counts[section] += 1
        parts.append(head + b"".join((kind.to_bytes(2, "big"), rclass.to_bytes(2, "big"), ttl.to_bytes(4, "big"),
                                      len(rdata).to_bytes(2, "big"), rdata)))
    flags = bytes([wire[2] | TC if truncated else wire[2] & ~TC, wire[3]])
    numbers = b"".join(count.to_bytes(2, "big") for count in (1, *counts))
    return wire[:2] + flags + numbers + b"".join(parts)


def name_in(kind: int, rdata: bytes) -> tuple[int, int] | None:
    """Where the name lies that `answer value` changes; None where the type has none."""
    start = NAME_OFFSETS.get(kind)
    if kind == NAPTR:
        start = 4
        for _ in range(3):
            start += 1 + rdata[start]
    if start is None or not rdata:
        return None
    end = start
    while rdata[end]:
        end += 1 + rdata[end]
    return start, end + 1


class Editor:
    """Does the steps of one reply to its records. `looked_up`: resolves a CNAME's new target."""

    def __init__(self, undo: Sequence[Undo], looked_up: Lookup) -> None:
        self.undo = undo
        self.looked_up = looked_up
        self.known: dict[tuple[int, bytes], bytes] = {}
        self.truncated: bool | None = None

    def changed(self, step: int, change: Callable[[str], str], name: bytes) -> bytes:
        """A name in wire form after the change of the step of that number."""
        key = step, name
        if key not in self.known:
            before = name_to_text(name)
            after = change(before)
            try:
                self.known[key] = name if after == before else name_from_text(after)
            except ValueError:
                self.known[key] = name
        return self.known[key]

    def plain(self, record: Record) -> Record:
        """A record after all steps but those that look up."""
        for number, step in enumerate(self.undo):
            record = self.step(number, step, record)
        return record

    def step(self, number: int, step: Undo, record: Record) -> Record:
        """A record after one step."""
        section, owner, kind, rclass, ttl, rdata = record
        if isinstance(step, Owners):
            owner = self.changed(number, step.change, owner)
        elif isinstance(step, Ttl):
            ttl = min(max(ttl, step.low), step.high)
        elif isinstance(step, Values) and (place := name_in(kind, rdata)):
            start, end = place
            rdata = rdata[:start] + self.changed(number, step.change, rdata[start:end]) + rdata[end:]
        return section, owner, kind, rclass, ttl, rdata

    async def records(self, before: list[Record]) -> list[Record]:
        """The records after all steps. The first CNAME whose target a rule changes ends the answer; what its new
        target resolves to follows."""
        if not any(isinstance(step, Target) for step in self.undo):
            return [self.plain(record) for record in before]
        answer: list[Record] = []
        rest = [self.plain(record) for record in before if record[0] != ANSWER]
        for old in before:
            if old[0] != ANSWER:
                continue
            record, follow = old, None
            for number, step in enumerate(self.undo):
                if isinstance(step, Target) and record[2] == CNAME and follow is None:
                    record, follow = await self.retarget(step, record)
                else:
                    record = self.step(number, step, record)
            answer.append(record)
            if follow is not None:
                return [*(kept for kept in answer if kept[2] == CNAME), *follow, *rest]
        return [*answer, *rest]

    async def retarget(self, step: Target, record: Record) -> tuple[Record, list[Record] | None]:
        """A CNAME with its new target, and the records of that; the same one and None where it stays."""
        target = step.rename(name_to_text(record[5]))
        if target is None:
            return record, None
        found = await self.looked_up(target)
        if found is None:
            return record, None
        records, self.truncated = found
        return (*record[:5], name_from_text(target)), records


async def edit(query: Query, reply: Reply, undo: Sequence[Undo], looked_up: Lookup) -> Reply:
    """The reply to the client's query. `undo` is in the order in which it is done."""
    wire, asked = reply.wire, question(query)
    deep = any(isinstance(step, Owners | Values | Ttl | Target) for step in undo)
    octets = None if deep and any(reply.counts) else patched(wire, asked)
    if octets is None:
        editor = Editor(undo, looked_up)
        records = await editor.records(expand(wire))
        truncated = bool(wire[2] & TC) if editor.truncated is None else editor.truncated
        octets = written(wire, asked, records, truncated)
    return reply.edited(octets, rcode=rcode_of(reply, undo))


def answers(reply: Any) -> tuple[list[Record], bool]:
    """The answer section of a looked-up reply, and whether it was cut."""
    return [record for record in expand(reply.wire) if record[0] == ANSWER], reply.tc
