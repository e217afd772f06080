# SPDX-License-Identifier: Apache-2.0
"""What a client of the control socket may ask, and the answers.

Strategy: a table of commands, each with the words that it takes and the type of each. A word that is not in the table,
or has another type, is refused before anything runs. What the shared memory tells is read here; what only the
supervisor knows or may do is asked of it (`Host.ask`). Commands of other modules enter
`COMMANDS` at their import (`ctl.MODULES`).
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from .._log import TYPES
from .._wire import name_from_text, name_lower
from .ctl_site import Answer, Refused, Site

T = TypeVar("T")
Going = Callable[[], bool]
TYPE_NUMBERS = {name: number for number, name in TYPES.items()}
ENTRIES_SHOWN = 1000


class Host(Protocol):
    """What commands need of `ctl.Control`."""

    site: Site

    async def ask(self, do: str, **words: Any) -> Answer:
        """Asks the supervisor."""

    async def slowly(self, work: Callable[[Going], T], fd: int = -1) -> T:
        """Runs work on the whole cache."""


class Command(NamedTuple):
    """`words`: the types of the words that it takes beside `do`. `descriptor`: whether one must come along."""

    run: Callable[..., Awaitable[Answer]]
    words: dict[str, type]
    descriptor: bool = False


COMMANDS: dict[str, Command] = {}


def command(name: str, /, *, descriptor: bool = False, **words: type) -> Callable[[T], T]:
    """Enters a function into the table."""

    def enter(run: T) -> T:
        COMMANDS[name] = Command(run, words, descriptor)  # type: ignore[arg-type]
        return run

    return enter


async def prepare(host: Host, request: bytes, fd: int) -> Answer:
    """Checks a request and runs it. Refused."""
    try:
        words = json.loads(request)
    except (ValueError, RecursionError):
        raise Refused("a request is a JSON object in a line") from None
    if not isinstance(words, dict) or not isinstance(words.get("do"), str):
        raise Refused('a request is an object with "do"')
    name = words.pop("do")
    found = COMMANDS.get(name)
    if found is None:
        raise Refused(f"unknown command {name[:40]!r}: one of {', '.join(sorted(COMMANDS))}")
    for key, value in words.items():
        if key not in found.words:
            raise Refused(f"{name} takes no {key[:40]!r}")
        if type(value) is not found.words[key]:
            raise Refused(f"{key} of {name} is a {found.words[key].__name__}")
    if found.descriptor != (fd >= 0):
        raise Refused(f"{name} needs a descriptor" if found.descriptor else f"{name} takes no descriptor")
    return await (found.run(host, words, fd) if found.descriptor else found.run(host, words))


def type_number(text: str) -> int:
    """The number of a type's name, TYPE65280 among them. Refused."""
    upper = text.upper()
    if upper in TYPE_NUMBERS:
        return TYPE_NUMBERS[upper]
    digits = upper.removeprefix("TYPE")
    if digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) < 65536:
        return int(digits)
    raise Refused(f"{text[:40]!r} is no type")


def wire(text: str) -> bytes:
    """A name in lower-cased wire form. Refused."""
    try:
        return name_lower(name_from_text(text))
    except ValueError:
        raise Refused(f"{text[:300]!r} is no domain name") from None


def regular(fd: int, mode: int) -> int:
    """A copy of a client's descriptor, which must be a file's: anything else could block. Refused."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise Refused("the descriptor is not a file's")
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE not in (mode, os.O_RDWR):
        raise Refused("the descriptor is open the wrong way")
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


@command("workers")
async def workers(host: Host, _words: Answer) -> Answer:
    """The processes, with their CPU time (seconds) and, of workers, the seconds since their threads last turned."""
    from . import ctl_report

    answer = await host.ask("workers")
    return {"processes": [ctl_report.process(host.site.stats, one) for one in answer["processes"]]}


@command("log", level=str)
async def log(host: Host, words: Answer) -> Answer:
    """Chooses the least level of the server's and its plugins' own lines, or says which it is."""
    from .. import metrics
    from . import logs

    if "level" in words:
        name = words["level"].upper()
        if name not in logs.NAMES:
            raise Refused(f"a level is one of {', '.join(logs.NAMES).lower()}")
        await host.ask("level", level=name)
        logs.follow(host.site.stats)
    chosen = metrics.log_level(host.site.stats)
    return {"level": (logs.NAMES[chosen] if chosen is not None else "INFO").lower()}


@command("reload")
async def reload(host: Host, _words: Answer) -> Answer:
    """Reads the Corefile again; answers when it is served, or is Refused with the reason why it is not."""
    return await host.ask("reload")


@command("stats")
async def stats(host: Host, _words: Answer) -> Answer:
    """Sums of the counters and the state of the cache."""
    from . import ctl_report

    return await host.slowly(lambda _going: ctl_report.stats(host.site))


@command("report")
async def report(host: Host, _words: Answer) -> Answer:
    """Everything that a bug report needs, and nothing of a client."""
    from . import ctl_report

    processes = await workers(host, {})
    facts = await host.slowly(lambda _going: ctl_report.report(host.site))
    return {**facts, **processes}


@command("upstreams")
async def upstreams(host: Host, _words: Answer) -> Answer:
    """The upstreams of `forward`: health, whether drained, answers and their mean time in milliseconds."""
    from . import ctl_report

    return {"upstreams": ctl_report.upstreams(host.site)}


@command("drain", to=str)
async def drain(host: Host, words: Answer) -> Answer:
    """Asks an upstream nothing more, in all blocks, until `resume`. Refused for the last one of a stanza."""
    return _mark(host.site, words, True)


@command("resume", to=str)
async def resume(host: Host, words: Answer) -> Answer:
    """Asks an upstream again."""
    return _mark(host.site, words, False)


def _mark(site: Site, words: Answer, drained: bool) -> Answer:
    from . import ctl_report

    to = words.get("to", "")
    known = ctl_report.upstreams(site)
    if to not in {one["to"] for one in known}:
        raise Refused(f"{to[:80]!r} is no upstream")
    for one in known:
        # Nobody may ask for a server that has nobody left to ask.
        others = [other for other in known if (other["block"], other["stanza"]) == (one["block"], one["stanza"])
                  and other["to"] != to and not other["drained"] and not other["looping"]]
        if drained and one["to"] == to and not others:
            raise Refused(f"{to} is the last upstream of a stanza that is not drained")
    site.stats.set_shared(site.stats.intern("forward_drained", (("to", to),), "word"), int(drained))
    return {"to": to, "drained": drained}
