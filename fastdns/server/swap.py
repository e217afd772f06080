# SPDX-License-Identifier: Apache-2.0
"""Reloads: who asked, with which text, and what is logged and counted when one succeeds or fails.

Strategy: one reload at a time; a request that arrives meanwhile waits, and of several the last one counts. The lines
are CoreDNS's, because people search for them. What was served stays untouched until the new generation serves, and a
reload is acknowledged (line, metric, `ctl reload`, service manager) when the workers of before read nothing more: a
query that is sent then is answered by the new configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import fastdns

from ..corefile.source import Source, read_source
from ..errors import ConfigError
from ..metrics import Counter
from .children import KEEPER
from .memory import supervisor_row
from .upgrade import UPGRADE

if TYPE_CHECKING:
    from .supervisor import Supervisor

SIGNAL, PLUGIN = "SIGUSR1", "plugin/reload"
FAILURES = Counter("fastdns_reload_failures_total",
                   "Reloads and upgrades that failed and changed nothing, by who asked and by the step that failed.",
                   ("by", "reason"))


class Swap:
    """`by` is who asked for the reload under way: SIGNAL or PLUGIN."""

    def __init__(self, host: Supervisor) -> None:
        self.host = host
        self.by = ""
        self.waiting: tuple[Source, str] | None = None

    @property
    def busy(self) -> bool:
        """Whether a reload that is asked for now has to wait for its turn."""
        host = self.host
        if host.adopt_by:
            return True  # a program that has taken over waits for what is saved for its first generation
        return host.current is None or host.next is not None or host.replaced is not None or host.upgrade.busy

    def from_file(self, by: str = SIGNAL) -> str:
        """Read the Corefile again (what came by standard input is kept). Why it cannot be read, or ""."""
        self.host.notify.reloading()
        source, settings = self.host.source, self.host.settings
        if settings.conf != "stdin":
            try:
                source = read_source(settings.conf, settings.port, again=True)
            except ConfigError as error:
                self.host.log("ERROR", f"{by}: loading updated Caddyfile: {error}")
                if self.host.current is not None:
                    self.count(by, "read")
                self.host.settled("reload failed")
                return str(error)
        return self.request(source, by)

    def request(self, source: Source, by: str) -> str:
        """Start a generation for `source`, or remember it until the one under way has ended. Why that fails, or ""."""
        if self.busy:
            self.waiting = source, by
            return ""
        if by != UPGRADE:
            self.host.log("INFO", "Reloading")
        self.host.notify.reloading()
        self.by = by
        self.host.listeners.widen()
        self.host.tell(KEEPER, {"event": "restart"})
        try:
            self.host.begin(source)
        except OSError as error:
            # No process can be had now. What serves goes on.
            why = f"cannot start a template: {error}"
            self.failed(why, "start")
            self.host.orders.settled(self.host.number, why)
            return why
        return ""

    def go_on(self) -> None:
        """Start what was asked for meanwhile."""
        if self.waiting is not None:
            (source, by), self.waiting = self.waiting, None
            self.request(source, by)
        else:
            self.host.upgrade.go_on()

    def count(self, by: str, reason: str) -> None:
        """Count a failure: read, parse, corefile, open, setup, start, trial or exec."""
        stats = self.host.memory.stats
        stats.add(supervisor_row(stats.rows), FAILURES.slot(by, reason, stats=stats))

    def failed(self, text: str, reason: str) -> None:
        """The new generation will not serve; `reason` is the step that failed."""
        self.count(self.by, reason)
        self.host.log("ERROR", f"Restart failed: {text}")
        cause = f"starting with listener file descriptors: {text}"
        if self.by != PLUGIN:
            self.host.log("ERROR", f"{self.by}: {cause}")
        else:
            self.host.log("ERROR", f"plugin/reload: Corefile changed but reload failed: {cause}")
            stats = self.host.memory.stats
            stats.add(supervisor_row(stats.rows), stats.intern("coredns_reload_failed_total"))
        self.host.tell(KEEPER, {"event": "restart_failed"})
        self.go_on()
        self.host.settled("reload failed")

    def done(self, digest: str, watched: bool) -> None:
        """The new generation serves and nobody else does; `digest` is its Corefile's, `watched` by the directive."""
        stats = self.host.memory.stats
        stats.clear("coredns_reload_version_info")
        if watched:
            slot = stats.intern("coredns_reload_version_info", (("hash", "sha512"), ("value", digest)), "gauge")
            stats.set(supervisor_row(stats.rows), slot, 1)
        if self.by == UPGRADE:
            self.host.log("INFO", f"SIGUSR2: Upgrading complete: fastdns-{fastdns.__version__}")
        else:
            self.host.log("INFO", "Reloading complete")
