# SPDX-License-Identifier: Apache-2.0
"""The server behind the caches: knotd or nsd with one zone, or one of ours that is slow on purpose.

Strategy: whichever is installed, as a process of its own on a CPU that the measured server does not use. Its counter
of queries tells how many questions a cache did not answer by itself.
"""

from __future__ import annotations

import re
import shutil
import string
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.peers import installed
from fastdns.bench.questions import query
from fastdns.bench.target import Target
from fastdns.ports import free_port

HERE = Path(__file__).resolve().parent
ZONE = "example.org.zone"
A = 1
CONTROL_SECONDS = 10


class Missing(RuntimeError):
    """No program that can be the upstream is installed."""


class Upstream(Target):
    """An upstream on 127.0.0.1, a context manager. `cpus` as taskset(1) reads it."""

    def __init__(self, argv: Sequence[str], port: int, cpus: str) -> None:
        super().__init__(argv, port, cpus=cpus, question=query("up.example.org", A))

    def asked(self) -> int | None:
        """Queries received so far, or None where nothing counts them."""
        return None


class Knot(Upstream):
    """knotd, whose module `stats` counts."""

    def __init__(self, folder: Path, cpus: str) -> None:
        port = free_port()
        self._config = fill("knot.conf", folder, port)
        super().__init__([needed("knotd"), "-c", str(self._config)], port, cpus)

    def asked(self) -> int | None:
        """Queries received so far."""
        control = str(self._config.parent / "control")
        words = [needed("knotc"), "-c", str(self._config), "-s", control, "stats", "mod-stats"]
        return number(words, r"\[query\] = (\d+)")


class Nsd(Upstream):
    """nsd, asked by nsd-control."""

    def __init__(self, folder: Path, cpus: str) -> None:
        port = free_port()
        self._config = fill("nsd.conf", folder, port)
        super().__init__([needed("nsd"), "-d", "-c", str(self._config)], port, cpus)

    def asked(self) -> int | None:
        """Queries received so far."""
        return number([needed("nsd-control"), "-c", str(self._config), "stats_noreset"], r"num\.queries=(\d+)")


class Slow(Upstream):
    """`slow.py`: names of a flood are answered late. Nothing counts."""

    def __init__(self, cpus: str) -> None:
        port = free_port()
        super().__init__([sys.executable, str(HERE / "slow.py"), str(port)], port, cpus)


def needed(program: str) -> str:
    """Where a program is. Raises Missing."""
    path = installed(program)
    if path is None:
        raise Missing(f"{program} is not installed")
    return path


def fill(name: str, folder: Path, port: int) -> Path:
    """Writes a configuration and the zone into the folder; gives the configuration's path."""
    shutil.copy(HERE / ZONE, folder / ZONE)
    config = folder / name
    config.write_text(string.Template((HERE / name).read_text()).substitute(PORT=port, FOLDER=folder))
    return config


def number(command: Sequence[str], pattern: str) -> int | None:
    """The number that a command prints after a pattern, or None."""
    said = subprocess.run(command, capture_output=True, text=True, timeout=CONTROL_SECONDS, check=False)
    match = re.search(pattern, said.stdout)
    return int(match[1]) if match else None


def upstream(kind: str, folder: Path, cpus: str) -> Upstream:
    """An upstream of the kind "zone" or "slow", not yet started. Raises Missing."""
    if kind == "slow":
        return Slow(cpus)
    if installed("knotd") and installed("knotc"):
        return Knot(folder, cpus)
    if installed("nsd") and installed("nsd-control"):
        return Nsd(folder, cpus)
    raise Missing("neither knotd nor nsd is installed")
