# SPDX-License-Identifier: Apache-2.0
"""The plugin class of on: commands run in the keeper, once for the whole server, with its standard streams.

Strategy: the keeper tells of every event and waits until it was handled, so a command that is waited for holds up what
comes after it, and nothing else: queries are answered by other processes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import uuid
from typing import Any

from fastdns.plugin import BlockContext, BlockPlan, Channel, ConfigError, Dispenser, Event, Plugin, SetupError

from .config import ON, Command

PLAIN = logging.getLogger()  # CoreDNS's lines about commands do not name the plugin


def _ordinary() -> None:
    # Runs in the child before the command: what the keeper ignores, and its niceness, are not the command's.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


class On(Plugin):
    """Runs a command at an event."""

    name = "on"
    chain = False
    directive = ON

    @classmethod
    def parse(cls, dispenser: Dispenser) -> list[Any]:
        """One instance for each line. CoreDNS's errors do not name the plugin here."""
        try:
            return super().parse(dispenser)
        except SetupError as error:
            raise (error.cause if isinstance(error.cause, ConfigError) else error) from None

    @classmethod
    def plan(cls, config: Any, plan: BlockPlan) -> None:
        """A command that is waited for at the end may take its time."""
        if config.event == "shutdown" and config.wait:
            plan.ask("slow_end", seconds=None)

    def __init__(self, config: Command, block: BlockContext) -> None:
        super().__init__(config, block)
        self.id = str(uuid.uuid4())
        self.restarting = False
        self.running: set[asyncio.Task[int]] = set()

    def start_server(self, channel: Channel) -> None:
        """Says of what is accepted, as CoreDNS accepts it, that it will never be run."""
        if self.config.event == "certrenew":
            channel.log("WARNING", "plugin/on: certrenew: no directive renews certificates: "
                                   f"{self.config.command} is never run")

    async def on_event(self, event: Event) -> None:
        """Runs the command if this is its event. A server that is replaced in a reload does not shut down."""
        if event in (Event.RESTART, Event.RESTART_FAILED):
            self.restarting = event is Event.RESTART
        happened = {
            "startup": event is Event.STARTUP,
            "shutdown": event is Event.SHUTDOWN and not self.restarting,
            "certrenew": event is Event.CERTRENEW,
        }
        if happened[self.config.event]:
            await self.run()

    async def run(self) -> None:
        """Runs the command; what goes wrong is logged, and nothing else happens."""
        how = "Blocking" if self.config.wait else "Nonblocking"
        shown = f"{self.config.command} {' '.join(self.config.arguments)}"
        PLAIN.info('%s Command "%s" with ID %s', how, shown, self.id)
        try:
            process = await asyncio.create_subprocess_exec(
                self.config.command, *self.config.arguments, preexec_fn=_ordinary)
        except (OSError, ValueError) as error:
            self.failed(self.refusal(error))
            return
        if not self.config.wait:
            # Nobody waits for it, but somebody has to take its exit status.
            task = asyncio.ensure_future(process.wait())
            self.running.add(task)
            task.add_done_callback(self.running.discard)
            return
        status = await process.wait()
        if status:
            name = signal.strsignal(-status) if status < 0 else ""
            self.failed(f"signal: {name or -status}".lower() if status < 0 else f"exit status {status}")

    def refusal(self, error: Exception) -> str:
        """Why a command cannot be run, in Go's words."""
        name = self.config.command
        if isinstance(error, FileNotFoundError) and "/" not in name:
            return f'exec: "{name}": executable file not found in $PATH'
        why = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
        return f"fork/exec {name}: {why}"

    def failed(self, why: str) -> None:
        """Says why the command did not do its work."""
        PLAIN.error("error on 'on-%s' hook: %s", self.id, why)
