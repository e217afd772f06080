# SPDX-License-Identifier: Apache-2.0
"""The supervisor: opens the sockets, maps the memory, starts generations of processes, and looks after them.

Strategy: one thread, one poll loop that wakes every 100 ms; no plugin is imported here and no query is read, so
nothing that a client or a plugin does can take the sockets along. Everything slow happens in another process and
arrives as a message. What it owns - listeners, counters, log rings, the cache - outlives every worker and every
configuration.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .. import metrics
from .._process import set_child_subreaper
from ..corefile.source import Source
from ..errors import StartError
from . import banner, children, control, handover, shutdown, traceback_of
from .children import FORMATTER, KEEPER, WEB, WORKER, Child
from .ctl_orders import Orders
from .ctl_socket import ControlSocket
from .doors import Doors
from .generation import Generation
from .heartbeat import TICK_SECONDS, Heartbeats
from .listen import Listeners
from .memory import BlockIds, Memory
from .output import Output
from .pidfile import Pidfile
from .signals import Signals
from .swap import PLUGIN, Swap
from .systemd import Notify, listen_fds
from .upgrade import UPGRADE, Upgrade

LEAVE_SECONDS = 60.0  # for what a program of before saves when its successor cannot use its cache
FORCED = 2  # exit status of a second SIGINT


@dataclass(frozen=True)
class Settings:
    """What the command line says of every generation."""

    conf: str = ""
    port: int = 53
    pidfile: str = ""
    quiet: bool = False
    control: str = ""


class Supervisor:
    """`run` returns the exit status; StartError or ConfigError where the start fails."""

    def __init__(self, settings: Settings, source: Source, state: handover.State | None = None) -> None:
        self.state = state
        self.settings = settings
        self.source = source
        self.output = Output()
        self.log = self.output.log
        self.listeners = Listeners()
        self.doors = Doors()
        self.memory: Memory
        self.blocks = BlockIds()
        self.current: Generation | None = None
        self.next: Generation | None = None
        self.replaced: Generation | None = None  # what served before, as long as that is not acknowledged
        self.generations: list[Generation] = []
        self.number = 0
        self.exit_status: int | None = None
        self.failure = ""
        self.pending_event = ""
        self.adopt_by = 0.0  # when a program that was upgraded begins at the latest; 0: it has
        self.hook_failed = False
        self.swap = Swap(self)
        self.upgrade = Upgrade(self)
        self.notify = Notify(os.environ)
        self.pending_signals: list[int] = []
        self.pidfile = Pidfile(settings.pidfile)
        self.control = ControlSocket(settings.control)
        self.orders = Orders(self)
        self.script: Iterator[shutdown.Step] | None = None
        self.step: tuple[Callable[[], bool], float] | None = None
        self.interrupts = 0
        self.poller = select.poll()
        self.watched: dict[int, tuple[Child, Generation]] = {}
        self.heartbeats = Heartbeats(self._beat, self._worker_fds)

    # -- the loop

    def run(self) -> int:
        """Serve until told to stop."""
        if self.state is None:
            self.control.open()
        self.signals = Signals()
        set_child_subreaper()
        raise_descriptor_limit()
        self.poller.register(self.signals.fd, select.POLLIN)
        if self.state is None:
            self._activate()
            self.begin(self.source)
        else:
            self._adopt(self.state)
        next_tick = time.monotonic() + TICK_SECONDS
        try:
            while self.exit_status is None:
                for fd, _ in self.poller.poll(max(0, int((next_tick - time.monotonic()) * 1000) + 1)):
                    if fd == self.signals.fd:
                        self._signals()
                    elif fd in self.watched:
                        self._messages(*self.watched[fd])
                    else:
                        self.upgrade.readable()
                now = time.monotonic()
                if now >= next_tick:
                    self._tick(now)
                    next_tick = now + TICK_SECONDS
                self.upgrade.finish()
                self._advance(now)
        finally:
            self._end()
        if self.failure:
            raise StartError(self.failure)
        return self.exit_status

    def _activate(self) -> None:
        found, problems = listen_fds(os.environ)
        self.listeners.activated.socks = found
        for text in filter(None, [*problems, self.notify.problem]):
            self.log("WARNING", text)

    def _adopt(self, state: handover.State) -> None:
        """Go on where the program before this one stopped, and have a generation of this one take over."""
        for note in handover.restore(self, state):
            self.log("WARNING", f"SIGUSR2: {note}")
        self.state = None
        if not self.control.named():
            try:
                self.control.open()
            except StartError as error:
                self.log("ERROR", f"SIGUSR2: {error}")
            if self.current is not None:
                self.orders.serve(self.current)
        self.pending_signals = list(state["signals"])
        # The end of a child while nobody watched is told once for all of them, or not at all.
        self._reap()
        if self.memory.left and self.tell(KEEPER, {"event": "leave"}):
            # What is to outlive the cache is saved first; whoever serves serves on.
            self.pending_event, self.adopt_by = "leave", time.monotonic() + LEAVE_SECONDS
        else:
            self._take_over()

    def _go_on_adopting(self, now: float) -> None:
        keeper = self.current.member(KEEPER) if self.current is not None else None
        if not self.pending_event or keeper is None or now >= self.adopt_by:
            self.pending_event, self.adopt_by = "", 0.0
            self._take_over()

    def _take_over(self) -> None:
        # Who waits for a reload was promised the next generation: the one that begins here, or what waits its turn.
        if why := self.swap.from_file(UPGRADE):
            if self.swap.waiting is None:
                self.orders.settled(self.number + 1, why)
            self.swap.go_on()

    def begin(self, source: Source) -> Generation:
        """Start a generation; it reports by itself."""
        self.number += 1
        generation = Generation(self, self.number, source)
        self.next = generation
        self.generations.append(generation)
        return generation

    def watch(self, child: Child, generation: Generation) -> None:
        """Poll a child's channel."""
        fd = child.channel.fileno()
        self.watched[fd] = child, generation
        self.poller.register(fd, select.POLLIN)

    def _unwatch(self, child: Child) -> None:
        fd = child.channel.fileno()
        if fd in self.watched:
            del self.watched[fd]
            self.poller.unregister(fd)

    def _messages(self, child: Child, generation: Generation) -> None:
        try:
            for words, fds in child.channel.receive():
                generation.handle(child, words, fds)
        except control.Closed:
            # Reaped later, unless it died before it could say its process id.
            self._unwatch(child)
            if not child.pid:
                child.close()
                generation.died(child, "it ended before it began")

    def _signals(self) -> None:
        numbers = self.pending_signals + self.signals.take()
        self.pending_signals = []
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGUSR1 and self.script is None:
                self.log("INFO", "SIGUSR1: Reloading")
                self.swap.from_file()
            elif number == signal.SIGUSR2 and self.script is None:
                self.upgrade.request()
            elif number == signal.SIGTERM and self.script is None:
                self.log("INFO", "SIGTERM: Shutting down servers then terminating")
                self._begin_end()
            elif number == signal.SIGQUIT:
                self.log("INFO", "SIGQUIT: Quitting process immediately")
                self.exit_status = 0
            elif number == signal.SIGINT:
                self._interrupt()

    def _interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts > 1:
            self.log("INFO", "SIGINT: Force quit")
            self.exit_status = FORCED
            return
        self.log("INFO", "SIGINT: Shutting down")
        self.pidfile.remove()
        if self.script is None:
            self._begin_end()

    def _begin_end(self) -> None:
        if self.current is None:
            # Nothing serves yet, so there is nothing to finish.
            self.exit_status = 0
            return
        self.upgrade.cancel()
        self.swap.waiting = None
        if self.next is not None and self.next.phase in ("loading", "building", "starting"):
            # It has read nothing yet; one that has takes over first, and then ends like any other.
            self.next.fail("the server ends")
        self.replaced, self.adopt_by = None, 0.0
        self.notify.stopping()
        self.script, self.step = shutdown.end(self), None
        self._advance(time.monotonic())

    def _advance(self, now: float) -> None:
        while self.script is not None and self.exit_status is None:
            if self.step is not None and not self.step[0]() and now < self.step[1]:
                return
            found = next(self.script, None)
            self.step = (found[0], now + found[1]) if found else None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.upgrade.died(pid, status):
                continue
            for generation in list(self.generations):
                for child in [c for c in generation.members if c.pid == pid]:
                    self._dead(child, generation, status)

    def _dead(self, child: Child, generation: Generation, status: int) -> None:
        if child.channel.fileno() in self.watched:
            # Its last words say why.
            self._messages(child, generation)
        self._unwatch(child)
        child.close()
        generation.died(child, children.exit_text(status))
        child.pid = 0
        if child.index == 0:
            self._rested()  # whoever was to read it has gone

    def _tick(self, now: float) -> None:
        if self.pending_signals:
            self._signals()
        self.upgrade.tick(now)
        if self.adopt_by:
            self._go_on_adopting(now)
        self._watchdog(now)
        if self.current is not None and not self.current.foreign:
            hung, stuck = self.heartbeats.look(now, self.current.workers())
            if hung and not self.current.vacant:
                # One at a time: killed and reaped before the spare reads.
                self.log("ERROR", f"{hung[0]} is hung: its socket is readable and it does not turn; replacing it")
                hung[0].stale = 0
                hung[0].kill(signal.SIGKILL)
            for worker in stuck[:1]:
                worker.python_stale = 0
                traceback_of.ask(worker)
                self.log("ERROR", f"{worker}: its Python thread is stuck; replacing it\n" + traceback_of.read(worker))
                self.current.replace(worker)
        for generation in list(self.generations):
            generation.tick(now)

    def _watchdog(self, now: float) -> None:
        if self.current is None:
            return
        rows = [row for worker in self.current.workers() for row in (worker.rows, worker.rows + 1)]
        self.notify.watchdog.tick(now, None if self.current.foreign else {row: self._beat(row) for row in rows})

    def _beat(self, row: int) -> int:
        return self.memory.stats.get_row(row, metrics.beat_slot(self.memory.stats, row))

    def _worker_fds(self, index: int) -> list[int]:
        # Of what it reads. A listener that was opened for the next generation is readable before anybody reads it.
        counts = self.current.sockets.items() if self.current is not None else ()
        return [fd for key, count in counts if index < count and key in self.listeners.by_key
                for fd in self.listeners.by_key[key].fds(index) if fd >= 0]

    # -- what a generation asks for

    def wants_formatter(self, generation: Generation) -> bool:
        """Whether a formatter is to be forked with this generation: only one process may read the rings."""
        alone = self.current is None or (self.current.foreign and not self.memory.adopted)
        return alone and generation is self.next

    def up(self, generation: Generation) -> None:
        """All workers of a generation serve."""
        old, self.current, self.next = self.current, generation, None
        self.source = generation.source
        self.memory.segment, self.memory.left = generation.segment, False
        self.memory.kept.settle(generation.plan["asks"].get("kept", []))
        generation.opened()
        self.doors.keep(facts["address"] for facts in generation.plan["http"])
        self._steer()
        self.orders.serve(generation)
        watch = generation.plan.get("reload")
        self._watch_corefile(generation, generation.member(KEEPER))
        self.tell(KEEPER, {"event": "startup" if old is not None else "first_startup"})
        if old is None:
            self._print_start(watch, generation.plan)
            self._acknowledge(generation)
        else:
            self._replace(old, generation, watch)

    def _replace(self, old: Generation, generation: Generation, watch: dict[str, Any] | None) -> None:
        if watch is not None:
            self.log("INFO", f"plugin/reload: Running configuration SHA512 = {generation.plan['hash']}")
        if self.pidfile.written and (why := self.pidfile.write()):
            self.log("ERROR", f"Could not write pidfile: {why}")
        last = self.listeners.last(old.sockets, generation.sockets)
        for text in self.listeners.surplus(generation.sockets):
            self.log("WARNING", text)
        old.leaving_sockets = self.listeners.retire(generation.sockets.items())
        self._steer()
        self.replaced = old
        old.retire((WORKER,), last=last)
        self.calmed()

    def calmed(self) -> None:
        """A worker of before reads nothing more, or has ended: after the last one a reload is acknowledged."""
        old, current = self.replaced, self.current
        others = [child for one in self.generations if one is not current for child in one.members]
        if old is None or current is None or any(child.reads() for child in others):
            return
        self.replaced = None
        self.listeners.refuse(old.leaving_sockets)
        self.swap.done(current.plan["hash"], current.plan.get("reload") is not None)
        self._acknowledge(current)
        old.retire()

    def _acknowledge(self, generation: Generation) -> None:
        self.orders.settled(generation.number, "")
        self.swap.go_on()
        self.settled(f"{generation.placement.workers} workers serve")

    def settled(self, status: str) -> None:
        """What was asked for is done, or failed: tell the service manager, unless more is to come."""
        for text in self.listeners.idle():
            self.log("WARNING", text)
        self._read_rest()
        if not self.swap.busy:
            self.listeners.narrow()
            self.notify.ready(status)

    def _read_rest(self) -> None:
        # Sockets that nobody read: they get nothing new from now on, and a worker reads what they have.
        rest, self.listeners.rest = self.listeners.rest, []
        if not rest or self.current is None:
            return
        self._steer()
        self.listeners.resting += [sock for _, sock in rest]
        keys = list(self.current.sockets)
        words = {"rest": [[keys.index(key), sock.type == socket.SOCK_STREAM] for key, sock in rest]}
        worker = next((child for child in self.current.workers() if child.index == 0), None)
        if worker is None or not worker.send(words, [sock.fileno() for _, sock in rest]):
            self._rested()

    def _rested(self) -> None:
        if self.listeners.resting:
            self.listeners.rested()
            self._steer()

    def _steer(self) -> None:
        """Steer every group as the generation that serves wants it; a group in motion later, when it has settled."""
        if self.current is not None:
            place = self.current.placement
            self.listeners.steer(self.current.steering, self.current.sockets, place.cpus or range(place.workers))
            self.say_notes()

    def say_notes(self) -> None:
        """Log what the listeners noted."""
        for note in self.listeners.notes:
            self.log("INFO", note)
        self.listeners.notes.clear()

    def _print_start(self, watch: dict[str, Any] | None, plan: dict[str, Any]) -> None:
        lines: list[str] = []
        if not self.settings.quiet:
            for at in plan["listeners"]:
                lines += banner.zone_lines(at["scheme"], at["address"], at["port"], at["zones"])
        if watch is not None:
            lines.append(f"[INFO] plugin/reload: Running configuration SHA512 = {plan['hash']}")
        if why := self.pidfile.write():
            lines.append(f"[ERROR] Could not write pidfile: {why}")
        if not self.settings.quiet:
            lines += banner.version_lines()
        if lines:
            self.output.write("\n".join(lines) + "\n")
        if self.control.why:
            self.log("INFO", f"off: {self.control.why}")

    def left(self, generation: Generation) -> None:
        """A member of a generation that ends has ended."""
        self.calmed()
        if self.next is not None:
            self.next.retry()
        if generation.members and not (len(generation.members) == 1 and generation.member(FORMATTER)):
            return
        for sock in generation.leaving_sockets:
            sock.close()
        if self.script is None and generation.members and self.current is not None:
            # The rings have one reader: the old formatter ends before the new one starts.
            generation.retire((FORMATTER,))
        elif not generation.members and generation in self.generations:
            self.generations.remove(generation)
            generation.forget()
            self.listeners.forget(generation.leaving_sockets)
            self._steer()
            ends = self.script is not None or self.exit_status is not None
            if not ends and self.current is not None and not self.alive(FORMATTER):
                self.current.fork(FORMATTER)

    def failed(self, generation: Generation, text: str, reason: str) -> None:
        """A generation will not serve: the start ends, or a reload changes nothing."""
        self.listeners.undo(generation.added)
        self.doors.drop(generation.doors)
        self.next = None
        self._steer()
        if self.current is None:
            self.failure, self.exit_status = text, 1
            return
        self.memory.kept.settle(self.current.plan["asks"].get("kept", []))
        self.orders.settled(generation.number, text)
        self.swap.failed(text, reason)

    def helper_up(self, generation: Generation, child: Child) -> None:
        """A keeper that was forked anew is told again to watch the Corefile, a web process gets the control socket."""
        if child.role == KEEPER:
            self._watch_corefile(generation, child)
        elif child.role == WEB and generation is self.current:
            self.orders.serve(generation)

    def _watch_corefile(self, generation: Generation, keeper: Child | None) -> None:
        watch = generation.plan.get("reload")
        # What came by standard input cannot be read again.
        if watch is not None and keeper is not None and self.settings.conf != "stdin":
            keeper.send({"watch": {"conf": self.settings.conf, "port": self.settings.port,
                                   "hash": generation.plan["hash"], **watch}})

    def told(self, generation: Generation, child: Child, words: control.Message, fds: Sequence[int]) -> None:
        """A keeper or web process reports. The descriptors stay the caller's."""
        if "log" in words:
            level, text = words["log"]
            self.log(str(level), str(text))
        elif "done" in words:
            self.hook_failed = self.hook_failed or (bool(words.get("failed")) and self.script is not None)
            if words.get("failed"):
                self.log("ERROR", str(words["failed"]))
            if words["done"] == self.pending_event:
                self.pending_event = ""
        elif "rested" in words:
            self._rested()
        elif "ask" in words:
            self.orders.asked(child, words, fds)
        elif "fatal" in words:
            self.log("FATAL", str(words["fatal"]))
            self.exit_status = 1
        elif "unparsed" in words:
            self.log("WARNING", f"plugin/reload: Corefile parse failed: {words['unparsed']}")
            self.swap.count(PLUGIN, "parse")
        elif "changed" in words and generation is self.current and self.script is None:
            self.swap.request(Source(str(words["filename"]), bytes.fromhex(words["body"])), PLUGIN)

    # -- the end

    def tell(self, role: str, words: control.Message) -> bool:
        """Send to the current generation's process of a role; False if there is none."""
        child = self.current.member(role) if self.current is not None else None
        return child is not None and child.send(words)

    def alive(self, *roles: str) -> bool:
        """Whether any process of these roles lives."""
        return any(child.role in roles for generation in self.generations for child in generation.members)

    def kill(self, *roles: str) -> None:
        """SIGKILL to all processes of these roles, or to all processes."""
        for generation in self.generations:
            for child in generation.members:
                if not roles or child.role in roles:
                    child.state = "leaving"
                    child.kill(signal.SIGKILL)

    def _end(self) -> None:
        self.replaced = None
        self.pidfile.remove()
        self.notify.stopping()
        self.upgrade.cancel()
        self.kill()
        deadline = time.monotonic() + 2.0
        while (any(g.members for g in self.generations) or self.upgrade.trial) and time.monotonic() < deadline:
            self._kill_unborn()
            self._reap()
            time.sleep(0.002)
        self.listeners.close()
        self.doors.keep(())
        self.control.close()

    def _kill_unborn(self) -> None:
        """Kill processes that were asked for and say only now who they are."""
        for generation in self.generations:
            for child in [child for child in generation.members if not child.pid]:
                try:
                    for words, fds in child.channel.receive():
                        control.close_all(fds)
                        child.pid = child.pid or int(words.get("born", 0))
                    child.kill(signal.SIGKILL)
                except control.Closed:
                    self._unwatch(child)
                    generation.members.remove(child)


def raise_descriptor_limit() -> None:
    """As many descriptors as the hard limit allows: connections and upstream sockets are many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return
