# SPDX-License-Identifier: Apache-2.0
"""What one supervisor leaves to the program that follows it in the same process: everything it owns, as JSON.

Strategy: descriptors keep their numbers over an exec, so the state is numbers and words: listeners, shared memory, the
generations and their processes with the ends of their channels, half-read messages included. `restore` only maps and
wraps what is there and does nothing that others could see; so a trial can run it to the end beside the living server.
The processes of before stay children of this process id and are looked after as before; those whose memory has
another layout (`foreign`) are only kept until the new ones serve.
"""

from __future__ import annotations

import base64
import json
import os
import socket
from typing import TYPE_CHECKING, Any

from .. import metrics, upstream_numbers
from ..corefile.source import Source
from ..errors import StartError
from .children import TEMPLATE, Child, adopt
from .generation import Generation
from .listen import Listener
from .memory import Memory
from .placement import Placement

if TYPE_CHECKING:
    from .supervisor import Supervisor

FORMAT = 3  # of this state and of the messages between supervisor and children
STATE_MAX = 256 << 20  # octets
State = dict[str, Any]


class Fds:
    """Collects descriptors while a state is written."""

    def __init__(self) -> None:
        self.all: set[int] = set()

    def add(self, fd: int) -> int:
        """Note one, -1 excepted; returns it."""
        if fd >= 0:
            self.all.add(fd)
        return fd

    def socks(self, socks: list[socket.socket]) -> list[int]:
        """Note those of sockets. One that is closed here, but maybe not in every process, gets a negative number."""
        return [self.add(sock.fileno()) if sock.fileno() >= 0 else -id(sock) for sock in socks]


def save(host: Supervisor, signals: list[int]) -> tuple[State, list[int]]:
    """(state, descriptors that it names). `signals` have arrived and were not yet looked at."""
    fds = Fds()
    listeners, (control, inode) = host.listeners, host.control.save()
    state: State = {
        "format": FORMAT,
        "number": host.number,
        "source": _source(host.source),
        "written": host.pidfile.written,
        "signals": signals,
        "blocks": host.blocks.save(),
        "memory": host.memory.save(fds.add),
        "listeners": [[listener.key, fds.socks(listener.udp), fds.socks(listener.tcp), listener.settled,
                       listener.steered] for listener in listeners.by_key.values()],
        "leaving": [[key, fds.socks(socks)] for key, socks in listeners.leaving.items()],
        "resting": fds.socks(listeners.resting), "wide": listeners.wide,
        "activated": [[name, fds.add(sock.fileno())] for name, sock in listeners.activated.socks],
        "doors": [[address, fds.socks(socks)] for address, socks in host.doors.by_address.items()],
        "generations": [_generation(generation, fds) for generation in host.generations],
        "current": host.generations.index(host.current) if host.current is not None else -1,
        "control": [fds.add(control), inode], "waiting": host.orders.save(),
        "level": metrics.log_level(host.memory.stats),
        "upstreams": sorted(upstream_numbers.names(host.memory.stats).items()),
    }
    return state, sorted(fds.all)


def closed() -> socket.socket:
    """Stands for a socket that is closed already."""
    sock = socket.socket()
    sock.close()
    return sock


def _source(source: Source) -> list[str]:
    return [source.filename, source.body.hex()]


def _generation(generation: Generation, fds: Fds) -> State:
    # Only the one that serves will ever start a template anew.
    words, build_fds = generation.build if generation is generation.host.current else ({}, [])
    return {
        "number": generation.number, "source": _source(generation.source), "phase": generation.phase,
        "plan": generation.plan, "placement": list(generation.placement),
        "build": [words, [fds.add(fd) for fd in build_fds]],
        "members": [_child(child, fds) for child in generation.members],
        "vacant": generation.vacant, "started": sorted(generation.started), "young_deaths": generation.young_deaths,
        "fork_at": generation.fork_at, "sockets": [[key, n] for key, n in generation.sockets.items()],
        "steering": [[key, mode] for key, mode in generation.steering.items()],
        "leaving": fds.socks(generation.leaving_sockets), "foreign": generation.foreign,
        "cache": generation.segment is not None and generation.segment is generation.host.memory.segment,
    }


def _child(child: Child, fds: Fds) -> State:
    octets, unread = child.channel.unread()
    return {
        "role": child.role, "pid": child.pid, "state": child.state, "born": child.born, "index": child.index,
        "rows": child.rows, "error": child.error, "deadline": child.deadline,
        "fd": fds.add(child.channel.fileno()), "octets": base64.b64encode(octets).decode(),
        "fds": [fds.add(fd) for fd in unread], "traceback_fd": fds.add(child.traceback_fd), "quiet": child.quiet,
    }


def write(state: State) -> int:
    """Put a state into a memory file; returns its descriptor. OSError."""
    fd = os.memfd_create("fastdns-handover", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(json.dumps(state, separators=(",", ":")).encode())
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> State:
    """The state in a memory file. StartError for one that this program cannot adopt."""
    try:
        size = os.fstat(fd).st_size
        state = json.loads(os.pread(fd, size, 0)) if 0 < size <= STATE_MAX else None
    except (OSError, ValueError) as error:
        raise StartError(f"what the running server hands over cannot be read: {error}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise StartError(f"the running server hands over in another format than {FORMAT}: restart it")
    return state


def restore(host: Supervisor, state: State) -> list[str]:
    """Make `host` the owner of everything in `state`; returns notes for the log. StartError."""
    made: dict[int, socket.socket] = {}

    def wrapped(numbers: list[int]) -> list[socket.socket]:
        for fd in numbers:
            if fd not in made:
                made[fd] = socket.socket(fileno=fd) if fd >= 0 else closed()
        return [made[fd] for fd in numbers]

    try:
        host.number = state["number"]
        host.pidfile.written = state["written"]
        host.blocks.restore(state["blocks"])
        host.memory, notes = Memory.adopt(state["memory"])
        listeners = host.listeners
        for (scheme, address, port), udp, tcp, settled, steered in state["listeners"]:
            listener = Listener(scheme, address, port, wrapped(udp), wrapped(tcp), settled, steered)
            listeners.by_key[listener.key] = listener
        listeners.leaving = {(key[0], key[1], key[2]): wrapped(numbers) for key, numbers in state["leaving"]}
        listeners.resting, listeners.wide = wrapped(state["resting"]), bool(state["wide"])
        listeners.activated.socks = [(name, wrapped([fd])[0]) for name, fd in state["activated"]]
        host.doors.by_address = {address: wrapped(numbers) for address, numbers in state["doors"]}
        for words in state["generations"]:
            generation = _restored(host, words)
            generation.leaving_sockets = wrapped(words["leaving"])
            host.generations.append(generation)
        host.current = host.generations[state["current"]] if state["current"] >= 0 else None
        if host.current is not None:
            host.source = host.current.source
        host.control.adopt(*state["control"])
        host.orders.restore(state["waiting"])
        if (level := state["level"]) is not None:
            metrics.set_log_level(host.memory.stats, level)  # whose table may be a new one
            host.output.least = level
        upstream_numbers.restore(host.memory.stats, {int(one): str(to) for one, to in state.get("upstreams", [])})
        for fd in save(host, [])[1]:
            os.set_inheritable(fd, False)
    except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
        raise StartError(f"what the running server hands over cannot be adopted: {error!r}") from None
    return notes


def _restored(host: Supervisor, words: State) -> Generation:
    filename, body = words["source"]
    generation = Generation(host, words["number"], Source(filename, bytes.fromhex(body)), adopted=True)
    generation.phase, generation.plan = words["phase"], words["plan"]
    workers, cpus, why = words["placement"]
    generation.placement = Placement(workers, None if cpus is None else tuple(cpus), why)
    generation.build = words["build"][0], words["build"][1]
    # Where opening.py has put them.
    before = sum(generation.build[0].get(kind, 0) for kind in ("shared", "kept"))
    generation.boards = generation.build[1][before:before + len(generation.build[0].get("boards", ()))]
    generation.vacant, generation.started = words["vacant"], set(words["started"])
    generation.young_deaths, generation.fork_at = words["young_deaths"], words["fork_at"]
    generation.sockets = {(key[0], key[1], key[2]): count for key, count in words["sockets"]}
    generation.steering = {(key[0], key[1], key[2]): mode for key, mode in words["steering"]}
    generation.segment = host.memory.segment if words["cache"] else None
    counted = host.memory.adopted
    generation.foreign = words["foreign"] or not counted or (words["cache"] and generation.segment is None)
    if generation.foreign:
        generation.build = {}, []  # no template of it will be started any more
        generation.forget()
    for child in map(_restored_child, words["members"]):
        generation.adopt(child)
        if not counted:
            child.rows = -1  # a row of counters that are no longer ours
        if child.role == TEMPLATE and child.state != "leaving":
            generation.template = child
    return generation


def _restored_child(words: State) -> Child:
    channel = adopt(words["fd"])
    channel.unread(base64.b64decode(words["octets"]), words["fds"])
    child = Child(words["role"], channel, words["pid"])
    child.state, child.born, child.index, child.rows = words["state"], words["born"], words["index"], words["rows"]
    child.error, child.deadline, child.traceback_fd = words["error"], words["deadline"], words["traceback_fd"]
    child.quiet = words["quiet"]
    return child
