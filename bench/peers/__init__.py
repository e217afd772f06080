# SPDX-License-Identifier: Apache-2.0
"""The servers that a scenario may be run against: how each is started, and with which configuration.

Strategy: a row per server. The files beside this one make each a caching forwarder with one thread, no log, no
validation and room for what the scenarios ask; a scenario that needs something else holds a file of the same name.
`$PORT`, `$UPSTREAM`, `$FOLDER` and `$USER` in them are filled in at the start; nothing outside of the folder is
written. CoreDNS reads the scenario's Corefile, the one that fastdns reads. Only what is installed is run, nothing is
fetched.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import string
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
COREFILE = "Corefile"
SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"  # where distributions put servers, outside of most users' PATH
VERSION_SECONDS = 10


def installed(program: str) -> str | None:
    """Where a program is, or None."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), SYSTEM]))


@dataclass(frozen=True)
class Peer:
    """A server. `program` is its name on PATH, `config` the name of its file, `start` and `version` are words behind
    the program, in which {config} and {folder} stand for paths; `reload` is the signal to read the file again."""

    program: str
    config: str
    start: tuple[str, ...]
    version: tuple[str, ...]
    reload: signal.Signals | None = None

    def path(self) -> str | None:
        """Where the program is, or None."""
        return installed(self.program)

    def release(self) -> str:
        """The version that the program says it has, or "unknown"."""
        program = self.path()
        if program is None:
            return "unknown"
        words = [program, *self.version]
        said = subprocess.run(
            words, capture_output=True, timeout=VERSION_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
        match = re.search(rb"\d+\.\d+[\w.+~-]*", said.stdout + said.stderr)
        return match[0].decode() if match else "unknown"

    def source(self, scenario: Path) -> Path:
        """The configuration's text: the scenario's own, or the one beside this file."""
        own = scenario / self.config
        return own if own.exists() else HERE / self.config

    def prepare(self, scenario: Path, upstream: int, folder: Path, port: int) -> list[str]:
        """Writes the configuration into `folder`; gives the command. Raises FileNotFoundError without the program."""
        program = self.path()
        if program is None:
            raise FileNotFoundError(f"{self.program} is not on PATH")
        config = folder / self.config
        config.write_text(self.text(scenario, folder, port, upstream))
        return [program, *(word.format(config=config, folder=folder) for word in self.start)]

    def text(self, scenario: Path, folder: Path, port: int, upstream: int) -> str:
        """The configuration, filled in. A Corefile stays as it is: it reads the environment. Raises KeyError for a word
        after `$` that is not known."""
        text = self.source(scenario).read_text()
        if self.config == COREFILE:
            return text
        words = {"PORT": port, "UPSTREAM": upstream, "FOLDER": folder, "USER": getpass.getuser()}
        return string.Template(text).substitute(words)


def environment(port: int, upstream: int, metrics: int) -> Mapping[str, str]:
    """What the Corefiles read as {$PORT}, {$UPSTREAM} and {$METRICS}: ports of 127.0.0.1."""
    return {"PORT": str(port), "UPSTREAM": str(upstream), "METRICS": str(metrics)}


PEERS = {
    peer.program: peer
    for peer in (
        Peer("coredns", COREFILE, ("-conf", "{config}"), ("-version",), signal.SIGUSR1),
        Peer("unbound", "unbound.conf", ("-d", "-p", "-c", "{config}"), ("-V",), signal.SIGHUP),
        Peer("kresd", "kresd.conf", ("-n", "-q", "-c", "{config}", "{folder}"), ("--version",)),
        Peer("dnsdist", "dnsdist.conf", ("--supervised", "--disable-syslog", "-C", "{config}"), ("--version",)),
        Peer("pdns_recursor", "recursor.conf", ("--config-dir={folder}",), ("--version",)),
        Peer("named", "named.conf", ("-f", "-n", "1", "-U", "1", "-c", "{config}"), ("-V",), signal.SIGHUP),
        Peer("dnsmasq", "dnsmasq.conf", ("-k", "-C", "{config}"), ("--version",), signal.SIGHUP),
    )
}
