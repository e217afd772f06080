# SPDX-License-Identifier: Apache-2.0
"""What only the supervisor can do for the web process: reload, level of the log, who its processes are, asking all of
them for a profile.

Strategy: the web process has checked client and words, and asks with a number; the answer carries that number. A reload
is answered when its generation alone serves or has failed. Nothing here waits, and an asker that is gone costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import metrics
from . import control, logs
from .children import FORMATTER, KEEPER, WEB, WORKER, Child

if TYPE_CHECKING:
    from .generation import Generation
    from .supervisor import Supervisor

WAITING_MAX = 64  # clients that wait for a reload
LOOKED_INTO = (WORKER, KEEPER, FORMATTER)
ASKABLE = ("ready", "serving", "leaving")


class Orders:
    """`host` is the supervisor."""

    def __init__(self, host: Supervisor) -> None:
        self.host = host
        self.waiting: list[tuple[int, Child, int]] = []  # (generation, who asked, number of the question)

    def serve(self, generation: Generation) -> None:
        """Give a generation's web process the socket; one that had it before takes no more clients."""
        for other in self.host.generations:
            if other is not generation and (web := other.member(WEB)) is not None:
                web.send({"control": False})
        web, sock = generation.member(WEB), self.host.control.sock
        if web is not None and sock is not None:
            web.send({"control": True}, [sock.fileno()])

    def asked(self, child: Child, words: control.Message, fds: Sequence[int] = ()) -> None:
        """A web process asks."""
        number, do = int(words["ask"]), words.get("do")
        if do == "workers":
            self._tell(child, number, {"processes": self.processes()})
        elif do == "level" and words.get("level") in logs.NAMES:
            self._level(str(words["level"]))
            self._tell(child, number, {})
        elif do == "reload":
            self._reload(child, number)
        elif do == "profile" and len(fds) == 1:
            self._profile(child, words.get("words"), fds)
        else:
            self._tell(child, number, {"error": "the supervisor does not know this"})

    @staticmethod
    def _tell(child: Child, number: int, answer: dict[str, Any]) -> None:
        if not child.channel.closed:
            child.send({"told": number, "answer": answer})

    def _profile(self, asker: Child, words: Any, fds: Sequence[int]) -> None:
        # Answered to the descriptor by whoever runs Python, the asker aside. Spares wait for their first order.
        for generation in self.host.generations:
            for child in generation.members:
                spare = child.role == WORKER and child.index < 0
                if child is not asker and child.role in LOOKED_INTO and child.state in ASKABLE and not spare:
                    child.send({"profile": words}, list(fds))

    def processes(self) -> list[dict[str, Any]]:
        """Every process of the server but the supervisor."""
        return [{"role": child.role, "pid": child.pid, "state": child.state, "index": child.index, "row": child.rows,
                 "generation": generation.number}
                for generation in self.host.generations for child in generation.members]

    def _level(self, name: str) -> None:
        self.host.output.least = logs.NAMES.index(name)
        metrics.set_log_level(self.host.memory.stats, logs.NAMES.index(name))
        self.host.tell(KEEPER, {"level": name})

    def _reload(self, child: Child, number: int) -> None:
        host = self.host
        if host.script is not None or host.current is None:
            self._tell(child, number, {"error": "the server is starting or stopping"})
        elif len(self.waiting) >= WAITING_MAX:
            self._tell(child, number, {"error": "too many wait for a reload"})
        else:
            busy = host.swap.busy
            if why := host.swap.from_file():
                self._tell(child, number, {"error": why})
            else:
                # One that waits for its turn is the next but one.
                self.waiting.append((host.number + busy, child, number))

    def save(self) -> list[list[int]]:
        """Who waits, for the program that follows: (generation, descriptor of who asked, number of the question)."""
        return [[at, child.channel.fileno(), number] for at, child, number in self.waiting
                if not child.channel.closed]

    def restore(self, saved: list[list[int]]) -> None:
        """Go on where `save` was called; the generations are there."""
        children = {child.channel.fileno(): child for one in self.host.generations for child in one.members}
        self.waiting = [(at, children[fd], number) for at, fd, number in saved]

    def settled(self, generation: int, why: str) -> None:
        """The generation with this number serves (no `why`), or will not."""
        due = [entry for entry in self.waiting if entry[0] <= generation]
        self.waiting = [entry for entry in self.waiting if entry[0] > generation]
        for _, child, number in due:
            self._tell(child, number, {"error": why} if why else {"generation": generation})
