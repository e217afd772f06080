# SPDX-License-Identifier: Apache-2.0
"""Commands on the cache: flush, inspect, dump, load.

Strategy: all of them go over a block's index in pieces (`_cache.Survey`), in the control socket's one thread, and
disturb neither readers nor writers. A flush first raises the block's epoch, so that an answer that was on its way when
it came is not stored after it.
"""

from __future__ import annotations

import os
import time
from typing import Any

from .. import snapshot, upstream_numbers
from .._cache import Segment, Survey
from .._log import RCODES, TYPES
from .._wire import name_to_text
from .ctl_commands import ENTRIES_SHOWN, Going, Host, command, regular, type_number, wire
from .ctl_site import Answer, Refused

FROM_FILE = 0x80  # CACHE_MARK_FILE
CLASSES = {1: "IN", 3: "CH", 4: "HS", 255: "ANY"}
NANO = 1_000_000_000


def _what(words: Answer) -> tuple[bytes, bool, int]:
    """(name, whether names below it too, type or -1) of a request."""
    below = bool(words.get("below", False))
    if below and "name" not in words:
        raise Refused("below what name?")
    return (wire(words["name"]) if "name" in words else b"", below,
            type_number(words["type"]) if "type" in words else -1)


def _segment(host: Host) -> Segment:
    segment = host.site.segment
    if segment is None:
        raise Refused("no block has a cache")
    return segment


@command("flush", name=str, below=bool, type=str, all=bool, block=str)
async def flush(host: Host, words: Answer) -> Answer:
    """Removes entries: of a name, of all names below it, of a type, or all; of one block or of every block."""
    name, below, qtype = _what(words)
    everything = words.get("all") is True
    if everything == bool(name or qtype >= 0):
        raise Refused("flush what? A name, a type, or all")
    blocks, segment = host.site.chosen(words), _segment(host)

    def work(going: Going) -> int:
        removed = 0
        surveys = [Survey(segment, one["id"]) for one in blocks]
        for survey in surveys:
            survey.forbid()
        for one, survey in zip(blocks, surveys, strict=True):
            if everything:
                removed += sum(segment.entries(one["id"]))
                segment.flush(one["id"])
                continue
            for first, end in survey.spans():
                _check(going)
                removed += survey.remove(first, end, name, below, qtype)
        return removed

    return {"removed": await host.slowly(work)}


def _check(going: Going) -> None:
    if not going():
        raise Refused("stopped before the end")


@command("inspect", name=str, below=bool, type=str, block=str)
async def inspect(host: Host, words: Answer) -> Answer:
    """The entries of a name, at most a thousand. An entry of a file, or of a plugin, came from no upstream."""
    name, below, qtype = _what(words)
    if not name:
        raise Refused("inspect what name?")
    blocks, segment = host.site.chosen(words), _segment(host)

    def work(going: Going) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        upstreams = upstream_numbers.names(host.site.stats)
        for one in blocks:
            survey = Survey(segment, one["id"])
            for first, end in survey.spans():
                _check(going)
                room = ENTRIES_SHOWN - len(found)
                if room <= 0:
                    return found
                now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                found += [_entry(one, match, now, upstreams)
                          for match in survey.matching(first, end, name, below, qtype, room)]
        return found

    entries = await host.slowly(work)
    return {"entries": entries, "more": len(entries) >= ENTRIES_SHOWN}


def _entry(block: dict[str, Any], match: tuple[Any, ...], now: int, upstreams: dict[int, str]) -> dict[str, Any]:
    name, qtype, qclass, do, cd, aside, denial, rcode, stored_at, ttl, mark, upstream, octets, memory, ring = match
    age = max(0, now - stored_at) // NANO
    return {
        "block": block["id"],
        "zones": block["zones"],
        "name": name_to_text(name),
        "type": TYPES.get(qtype, f"TYPE{qtype}"),
        "class": CLASSES.get(qclass, f"CLASS{qclass}"),
        "do": do,
        "cd": cd,
        "aside": aside,
        "kind": "denial" if denial else "success",
        "rcode": RCODES.get(rcode, f"RCODE{rcode}"),
        "age": age,
        "ttl": ttl - age,
        "octets": octets,
        "memory": memory,
        "ring": "probation" if ring else "main",
        "source": "file" if mark & FROM_FILE else "reply",
        "upstream": upstreams.get(upstream),
    }


@command("dump", descriptor=True, block=str)
async def dump(host: Host, words: Answer, fd: int) -> Answer:
    """Writes blocks into the client's file, in the format of a snapshot."""
    blocks, segment = host.site.chosen(words), _segment(host)
    own = regular(fd, os.O_WRONLY)
    parts = [snapshot.Part(one["id"], tuple(one["zones"]), one["settings"]) for one in blocks]

    def work(going: Going) -> int:
        total = 0
        for piece in snapshot.pieces(segment, parts):
            _check(going)
            snapshot.write(own, piece)
            total += len(piece)
        return total

    try:
        return {"blocks": len(parts), "octets": await host.slowly(work, own)}
    except OSError as error:
        raise Refused(f"cannot write: {error.strerror}") from None


@command("load", descriptor=True, block=str)
async def load(host: Host, words: Answer, fd: int) -> Answer:
    """Loads the client's file: into the blocks with the same settings, else with the same zones; all into `block` where
    that is said."""
    blocks, segment = host.site.chosen(words), _segment(host)
    if "block" in words and len(blocks) > 1:
        raise Refused("several blocks are meant: say a number")
    own = regular(fd, os.O_RDONLY)

    def choose(zones: tuple[str, ...], settings: str) -> tuple[int, int] | None:
        fit = blocks if "block" in words else [one for one in blocks if one["settings"] == settings]
        fit = fit or [one for one in blocks if tuple(one["zones"]) == zones]
        return (fit[0]["id"], int(fit[0].get("stale", 0))) if fit else None

    try:
        found = await host.slowly(lambda going: snapshot.load(own, segment, choose, going), own)
    except (snapshot.SnapshotError, InterruptedError) as error:
        raise Refused(f"not loaded: {error}") from None
    except OSError as error:
        raise Refused(f"cannot read: {error.strerror}") from None
    return found._asdict()
