# SPDX-License-Identifier: Apache-2.0
"""One configuration and its processes, as the supervisor sees them: template, keeper, web, formatter, workers, a spare.

Strategy: a state machine fed with messages and deaths. Phases: loading (the template parses), building (it has the
descriptors), starting (keeper and web start; workers wait as spares), taking (workers take their sockets), serving,
leaving. Before `serving` any failure is the generation's failure: nothing else changes, and there is no fork loop. From
then on a dead process is replaced: a worker by the warm spare at once, then a new spare is forked, with a
back-off of at most a second if they die young.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..corefile.source import Source
from ..errors import StartError
from . import children, control
from .children import FORMATTER, KEEPER, TEMPLATE, WEB, WORKER, Child
from .listen import Key, Listener
from .memory import LAYOUTS
from .opening import NotYetError, open_for
from .placement import Placement

if TYPE_CHECKING:
    from fastdns._cache import Segment

    from .supervisor import Supervisor

YOUNG_SECONDS = 1.0
FREE_DEATHS = 3  # so many die young before the next has to wait
BACKOFF_FIRST, BACKOFF_MAX = 0.05, 1.0
BACKOFF_ALONE = 0.1  # while no worker serves at all
DRAIN_SECONDS = 5.0
STUCK_DRAIN_SECONDS = 6.5  # longer than a query's deadline in Python: each that waits gets its SERVFAIL
GRACE_SECONDS = 3.0  # after the drain: a process that still lives is killed
QUIET_SECONDS = 4.0  # for a worker that is told to stop: one that may read queries even then is killed
# What a generation was at when it failed, for the counter; one that has no plan yet: its Corefile.
STEPS = {"loading": "open", "building": "setup", "starting": "start", "taking": "start"}
SHARED = 4  # descriptors of shared memory: counters, rings, the rings' wake-up, the cache
HELPERS = (FORMATTER, KEEPER, WEB)


class Generation:
    """`host` is the supervisor: poll set, memory, listeners, log."""

    def __init__(self, host: Supervisor, number: int, source: Source, adopted: bool = False) -> None:
        self.host = host
        self.number = number
        self.source = source
        self.phase = "loading"
        self.plan: dict[str, Any] = {}
        self.placement = Placement(0, None, "")
        self.build: tuple[dict[str, Any], list[int]] = ({}, [])
        self.members: list[Child] = []
        self.vacant: list[int] = []
        self.started: set[str] = set()
        self.young_deaths = 0
        self.fork_at: dict[str, float] = {}  # role -> moment at which to fork one
        self.sockets: dict[Key, int] = {}
        self.steering: dict[Key, str] = {}
        self.added: list[tuple[Listener, int]] = []
        self.doors: list[str] = []  # addresses that its template has opened
        self.leaving_sockets: list[socket.socket] = []
        self.segment: Segment | None = None
        self.boards: list[int] = []  # files of published data, which outlive its template
        self.foreign = False  # it uses memory that this supervisor has not: nothing can join it
        self.template = Child(TEMPLATE, control.gone()) if adopted else self._start_template()

    # -- starting

    def adopt(self, child: Child) -> None:
        """Take over a process that the supervisor before this one started."""
        self._add(child)

    def _start_template(self) -> Child:
        template = children.start_template(self.phase == "loading" and self.host.current is not None)
        self._add(template)
        template.send({"load": True, "filename": self.source.filename, "body": self.source.body.hex(),
                       "port": self.host.settings.port, "layouts": LAYOUTS})
        return template

    def _add(self, child: Child) -> Child:
        self.members.append(child)
        self.host.watch(child, self)
        return child

    def handle(self, child: Child, words: control.Message, fds: list[int]) -> None:
        """One message of a member."""
        if "error" in words:
            child.error = str(words["error"])
        elif "born" in words:
            child.pid = int(words["born"])
            if self.phase == "failed" and child.role != WEB:
                child.kill(9)  # `fail` did not know whom
        elif child.state == "leaving" and child.role != TEMPLATE and not {"started", "serving"}.isdisjoint(words):
            control.close_all(fds)  # it was told to go before it could say so
            return
        elif child.role == TEMPLATE:
            fds = self._handle_template(words, fds)
        elif "started" in words:
            self._handle_started(child, fds)
            fds = []
        elif "quiet" in words:
            child.quiet = True
            child.deadline = max(child.deadline or 0.0, time.monotonic() + DRAIN_SECONDS + GRACE_SECONDS)
            self.host.calmed()
        elif "serving" in words:
            child.state, child.born = "serving", time.monotonic()
            self._check_up()
        else:
            self.host.told(self, child, words, fds)
        control.close_all(fds)

    def _handle_template(self, words: control.Message, fds: list[int]) -> list[int]:
        # Returns the descriptors that nobody took.
        if "plan" in words:
            for line in words["warnings"]:
                self.host.log("WARNING", line)
            if self.phase == "loading":
                self._open(words["plan"])
            elif self.phase != "failed":
                self._send_build()
        elif "built" in words:
            self.template.state = "ready"
            if self.phase != "failed":
                self.doors += self.host.doors.take(words["http"], fds)
                fds = []
            if self.phase == "building":
                self.phase = "starting"
                roles = [role for role in HELPERS if role != FORMATTER or self.host.wants_formatter(self)]
                for role in roles + [WORKER] * (self.placement.workers + 1):
                    if self.phase == "starting":
                        self.fork(role)
            elif self.phase == "serving":
                self.fork_missing()
        return fds

    def _send_build(self) -> None:
        words, fds = self.build
        http, doors = self.host.doors.given(facts["address"] for facts in self.plan["http"])
        self.template.send({**words, "http": http}, [*fds, *doors])

    def retry(self) -> None:
        """A worker of before has ended: what waited for its counter rows may go on."""
        if self.phase == "loading" and self.plan:
            self._open(self.plan)

    def _open(self, plan: dict[str, Any]) -> None:
        try:
            self.plan = plan
            self.placement, self.build = open_for(self.host, self, plan)
        except NotYetError:
            return  # each of those who leave has a deadline
        except StartError as error:
            self.fail(str(error))
        except (KeyError, TypeError, ValueError, OSError) as error:
            # A plan of another version's shape, since the program was replaced on disk; or descriptors are short.
            self.fail(f"{type(error).__name__}: {error}")
        else:
            self.phase = "building"
            self._send_build()

    def opened(self) -> None:
        """It serves: a template that is started again must not take entries out of the cache of before once more."""
        words, fds = self.build
        if words.get("shared", 0) > SHARED:
            self.build = {**words, "shared": SHARED}, fds[:SHARED] + fds[words["shared"]:]

    def fork(self, role: str) -> None:
        """Have the template fork one: one that is gone, or not ready yet, by its successor. Before the generation
        serves nothing is tried again, so one that cannot be forked is its failure."""
        self.fork_at.pop(role, None)
        child = None
        try:
            if self.template.state == "ready":
                child = children.ask_fork(self.template, role)
        except OSError as error:
            if self.phase == "starting":
                self.fail(f"cannot fork a {role}: {error}")
                return
        if child is not None:
            self._add(child)
        else:
            self.fork_at[role] = time.monotonic()
            if self.phase == "starting":
                self.template.kill(9)  # it does not hear: its death says why

    def _handle_started(self, child: Child, fds: list[int]) -> None:
        child.state, child.born = "ready", time.monotonic()
        if child.role == WORKER:
            if fds:
                child.traceback_fd = fds.pop(0)
            control.close_all(fds)
            self.give()
            return
        control.close_all(fds)
        self.started.add(child.role)
        if self.phase == "serving":
            self.host.helper_up(self, child)
        self._check_take()

    def _check_take(self) -> None:
        if self.phase == "starting" and {KEEPER, WEB} <= self.started:
            self.phase = "taking"
            self.vacant = list(range(self.placement.workers))
            self.give()

    def give(self) -> None:
        """Hand vacant indices to spares that wait."""
        if self.foreign:
            return
        for spare in self.members:
            if not self.vacant:
                break
            if spare.role == WORKER and spare.state == "ready":
                self._take(spare, self.vacant.pop(0))
        if self.phase == "serving" and not self._spares() and WORKER not in self.fork_at:
            self.fork_at[WORKER] = time.monotonic() + self._backoff()
            self.fork_due(time.monotonic())

    def _take(self, spare: Child, index: int) -> None:
        try:
            spare.rows = self.host.memory.rows.take()
        except StartError as error:
            self.fail(str(error))
            return
        spare.index, spare.state, spare.born = index, "taking", time.monotonic()
        cpus = self.placement.cpus
        spare.send({"take": index, "row": spare.rows, "cpu": cpus[index] if cpus else None})

    def _spares(self) -> list[Child]:
        return [c for c in self.members if c.role == WORKER and c.state in ("starting", "ready")]

    def workers(self) -> list[Child]:
        """Workers that read sockets."""
        return [c for c in self.members if c.role == WORKER and c.state == "serving"]

    def _check_up(self) -> None:
        if self.phase == "taking" and len(self.workers()) == self.placement.workers:
            self.phase = "serving"
            self.host.up(self)

    # -- deaths

    def died(self, child: Child, how: str) -> None:
        """A member is gone and reaped."""
        self.members.remove(child)
        if child.rows >= 0:
            self.host.memory.release(child.rows)
            child.rows = -1
        if child.state == "leaving" or self.phase in ("leaving", "failed"):
            self.host.left(self)
            return
        if self.phase != "serving":
            self.fail(child.error or f"{child} ended while starting: {how}")
            return
        self.host.log("ERROR", f"{child} died: {child.error or how}")
        young = not child.born or time.monotonic() - child.born < YOUNG_SECONDS
        self.young_deaths = self.young_deaths + 1 if young else 0
        if child.role == TEMPLATE:
            self.fork_at[TEMPLATE] = time.monotonic() + self._backoff()
        elif child.role == WORKER:
            if child.index >= 0:
                self.vacant.append(child.index)
            self.give()
        else:
            self.started.discard(child.role)
            self.fork_at[child.role] = time.monotonic() + self._backoff()

    def _backoff(self) -> float:
        """Seconds to wait before the next fork."""
        if self.young_deaths <= FREE_DEATHS:
            return 0.0
        most = BACKOFF_MAX if self.workers() else BACKOFF_ALONE
        return min(most, BACKOFF_FIRST * 2.0 ** min(self.young_deaths - FREE_DEATHS - 1, 10))

    def tick(self, now: float) -> None:
        """Fork what is due, kill what outlived its deadline."""
        self.fork_due(now)
        for child in self.members:
            if child.deadline is not None and now >= child.deadline:
                child.deadline = now + GRACE_SECONDS
                if child.reads():
                    self.host.log("ERROR", f"{child} was told to stop and may still read queries: killed")
                child.kill(9)

    def fork_due(self, now: float) -> None:
        """Fork what is due, if the template can."""
        for role, at in list(self.fork_at.items()):
            if self.phase != "serving" or self.foreign or now < at:
                continue
            if role == TEMPLATE:
                del self.fork_at[TEMPLATE]
                try:
                    self.template = self._start_template()
                except OSError as error:
                    # The program may just be replaced on disk, or processes be short.
                    self.host.log("ERROR", f"cannot start a template: {error}")
                    self.fork_at[TEMPLATE] = now + BACKOFF_MAX
            elif self.template.state == "ready" and not self.template.channel.closed:
                self.fork(role)

    def fork_missing(self) -> None:
        """A new template has come up: fork what waited for it."""
        for role in list(self.fork_at):
            if role != TEMPLATE:
                self.fork(role)
        self.give()

    def replace(self, worker: Child) -> None:
        """A fresh worker takes the sockets while `worker` drains: both read meanwhile, nothing is lost."""
        self.vacant.append(worker.index)
        self._leave(worker, {"stop": STUCK_DRAIN_SECONDS}, STUCK_DRAIN_SECONDS + GRACE_SECONDS)
        self.give()

    # -- ends

    def fail(self, text: str) -> None:
        """This generation will never serve."""
        if self.phase != "failed":
            reason = STEPS.get(self.phase, "start") if self.plan or self.phase != "loading" else "corefile"
            self.phase = "failed"
            for child in self.members:
                if child.reads() or child.role == WEB:
                    # It shares sockets with those who serve: what it has taken it answers.
                    self._leave(child, {"stop": DRAIN_SECONDS}, QUIET_SECONDS)
                else:
                    child.kill(9)
                child.state = "leaving"
            self.host.failed(self, text, reason)

    def retire(self, roles: tuple[str, ...] = (WORKER, KEEPER, WEB, TEMPLATE), seconds: float = DRAIN_SECONDS,
               last: Mapping[int, list[int]] | None = None) -> None:
        """Stop the members of `roles`: workers drain for `seconds`. `last`: by worker, the listeners whose sockets
        nobody reads after it."""
        self.phase = "leaving"
        for child in list(self.members):
            if child.role in roles and child.state != "leaving":
                words = {"stop": seconds, "last": (last or {}).get(child.index, [])}
                self._leave(child, words, QUIET_SECONDS if child.reads() else seconds + GRACE_SECONDS)

    def _leave(self, child: Child, words: control.Message, seconds: float) -> None:
        child.state = "leaving"
        child.deadline = time.monotonic() + seconds
        if not child.send(words):
            child.kill(9)

    def forget(self) -> None:
        """Nothing of it is left: neither will anybody read what its plugins published."""
        control.close_all(self.boards)
        self.boards = []

    def member(self, role: str) -> Child | None:
        """The living member of a role that has one."""
        return next((c for c in self.members if c.role == role and c.state != "leaving"), None)
