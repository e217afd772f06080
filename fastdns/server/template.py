# SPDX-License-Identifier: Apache-2.0
"""The template: a fresh interpreter for one configuration. It imports, sets up, freezes and forks everything else.

Strategy: three phases over one channel. `load`: parse the Corefile, import the plugins it names, report a plan (or the
error, and end). `build`: take the descriptors, set the plugins up, make the C program. Then it has one thread and a
frozen heap, and forks on request for as long as its generation lives: a replacement costs a fork, not a start. It
never reads a query. When the supervisor's end of the channel closes, it ends.
"""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..corefile.source import Source, load_source
from ..errors import FastdnsError, StartError
from . import children, control, signals
from .memory import LAYOUTS
from .shared import Shared


def main(fd: int) -> None:
    """The interpreter's entry point: `fd` is the inherited end of the channel."""
    signals.child_defaults()
    name_process("template")
    os.set_inheritable(fd, False)
    # Nothing is garbage before the freeze; a collection now would only cost time.
    gc.disable()
    channel = children.adopt(fd)
    try:
        shared = prepare(channel)
    except FastdnsError as error:
        refuse(channel, str(error))
    except control.Closed:
        os._exit(0)
    except BaseException:
        refuse(channel, "unexpected error while starting:\n" + traceback.format_exc().rstrip())
    gc.collect()
    gc.freeze()
    gc.enable()
    http, fds = shared.opened()
    channel.send({"built": True, "http": http}, fds)
    serve(channel, shared)


def refuse(channel: control.Channel, text: str) -> NoReturn:
    """Report an error and end."""
    try:
        channel.send({"error": text})
    except control.Closed:
        os._exit(1)
    os._exit(1)


def prepare(channel: control.Channel) -> Shared:
    """Load, plan, wait for the descriptors, build."""
    from .. import chain
    from . import logs

    # What plugins have to say while they are set up; there is no ring yet.
    logs.setup(None)
    load, _ = channel.wait()
    if load["layouts"] != LAYOUTS:
        raise StartError("another fastdns was installed since this server started, with another layout of shared "
                         "memory: upgrade with SIGUSR2 or restart")
    corefile = load_source(
        Source(load["filename"], bytes.fromhex(load["body"])), chain.known(), chain.not_built(), load["port"])
    generation = chain.load(corefile)
    plan = generation.plan()
    plan["hash"] = corefile.sha512()
    logs.setup(None, "debug" in plan["asks"])
    if any(facts["service"] == "pprof" for facts in plan["http"]):
        # Before the fork: the program on disk may be another one when the first profile is asked for.
        from . import look  # noqa: F401
    channel.send({"plan": plan, "warnings": list(corefile.warnings)})
    words, fds = channel.wait()
    shared = Shared.attach(words, fds, plan, generation)
    one_thread()
    return shared


def one_thread() -> None:
    """A fork copies one thread: refuse a configuration whose set-up started another."""
    others = sum(1 for _ in Path("/proc/self/task").iterdir()) - 1
    if others:
        raise StartError(f"set-up left {others} threads running: a plugin or a library started them before the fork")


def serve(channel: control.Channel, shared: Shared) -> NoReturn:
    """Fork on request until the supervisor goes."""
    while True:
        try:
            words, fds = channel.wait()
        except control.Closed:
            os._exit(0)
        if "stop" in words:
            os._exit(0)
        fork(channel, shared, words, fds)


def fork(channel: control.Channel, shared: Shared, words: dict[str, Any], fds: list[int]) -> None:
    """Fork a child of the supervisor: a process between the two ends at once, so that the child is handed up."""
    sys.stdout.flush()
    sys.stderr.flush()
    between = os.fork()
    if between == 0:
        if os.fork():
            os._exit(0)
        # Another process that held the template's channel would hide its death.
        channel.close()
        run_child(shared, words, children.adopt(fds[0]))
    control.close_all(fds)
    os.waitpid(between, 0)


def run_child(shared: Shared, words: dict[str, Any], channel: control.Channel) -> NoReturn:
    """Everything a child does, from its first message to its end."""
    role = words["fork"]
    try:
        channel.send({"born": os.getpid()})
        name_process(role)
        if role != children.WEB:
            shared.release_http()
        entry(role)(shared, channel, words)
    except control.Closed:
        os._exit(0)
    except FastdnsError as error:
        refuse(channel, str(error))
    except BaseException:
        refuse(channel, f"unexpected error in {role}:\n" + traceback.format_exc().rstrip())
    os._exit(0)


def entry(role: str) -> Callable[[Shared, control.Channel, dict[str, Any]], None]:
    """The function that is a role's life."""
    if role == children.WORKER:
        from . import worker

        return worker.run
    if role == children.KEEPER:
        from . import keeper

        return keeper.run
    from . import helpers

    return helpers.run_web if role == children.WEB else helpers.run_formatter


def name_process(role: str) -> None:
    """The name that ps shows: at most 15 octets."""
    try:
        Path("/proc/self/comm").write_text(f"fastdns:{role}"[:15], encoding="ascii")
    except OSError:
        # A sandbox without /proc: only the name is lost.
        return
