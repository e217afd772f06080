# SPDX-License-Identifier: Apache-2.0
"""Instructions per query, counted by callgrind, and what a change may add to them.

Strategy: time differs from run to run and from machine to machine; instructions hardly do, so a change that makes the
path dearer is seen at once and anywhere. They depend on compiler, Python, C library and architecture, so the committed
numbers are kept by these four (`key`). libc's vector variants are switched off: which of them runs depends on the CPU.
A count says nothing about cache misses or the kernel; the load benchmarks do.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fastdns import _drive_engine, _udp

from .drive import PHASES, WIDE

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = Path(__file__).resolve().parent
TOLERANCE = 0.03
SECONDS = 300.0
LINE = 64  # octets
# The caches that the lines are counted by: a usual nearest cache (32 KiB), and 2 MiB as a core's second one.
CACHES = ("--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=2097152,16,64")
PLAIN_LIBC = "glibc.cpu.hwcaps=-AVX2,-AVX,-AVX512F,-AVX512VL,-ERMS,-FSRM,-SSSE3"


class CannotCountError(RuntimeError):
    """There is no valgrind here, or it failed."""


@dataclass(frozen=True)
class Verdict:
    """What became of one path: instructions per query then and now."""

    path: str
    was: float
    now: float

    @property
    def change(self) -> float:
        """As a part of what it was: 0.03 is three per cent dearer."""
        return self.now / self.was - 1

    @property
    def dearer(self) -> bool:
        """Beyond the tolerance."""
        return self.change > TOLERANCE

    def __str__(self) -> str:
        return f"{self.path:12} {self.was:9.1f} -> {self.now:9.1f} instructions per query ({self.change:+.1%})"


def compiler(module: Path) -> str:
    """The compiler of a compiled module, by the note that it leaves: `gcc-12.2.0`, `clang-14.0.6`."""
    note = re.search(rb"GCC: \([^)\0]*\) ([\d.]+)|clang version ([\d.]+)", module.read_bytes())
    if note is None:
        return "unknown"
    return f"gcc-{note[1].decode()}" if note[1] else f"clang-{note[2].decode()}"


def key() -> str:
    """What the numbers depend on: `gcc-12.2.0_python-3.11_glibc-2.36_x86_64`."""
    libc = "-".join(part for part in platform.libc_ver() if part) or "libc-unknown"
    python = f"python-{sys.version_info[0]}.{sys.version_info[1]}"
    return "_".join([compiler(Path(_udp.__file__)), python, libc, platform.machine()])


def valgrind() -> str:
    """The program. CannotCountError where there is none."""
    found = shutil.which("valgrind")
    if found is None:
        raise CannotCountError("valgrind is not here (Debian: apt-get install valgrind)")
    return found


def _phases(arguments: list[str], options: tuple[str, ...]) -> list[dict[str, int]]:
    """Runs the driver under callgrind; the events of each phase after the warm-up."""
    with tempfile.TemporaryDirectory(prefix="fastdns-callgrind-") as directory:
        out = Path(directory) / "out"
        watched = [f"--toggle-collect={name}" for name in (_drive_engine.TURN, _drive_engine.STAGES)]
        command = [valgrind(), "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no", *watched,
                   f"--dump-before={_drive_engine.MARK}", *options, sys.executable, "-m", "bench.instructions.drive"]
        environ = {**os.environ, "GLIBC_TUNABLES": PLAIN_LIBC, "PYTHONDONTWRITEBYTECODE": "1"}
        command += arguments
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False,
                              timeout=SECONDS)
        if done.returncode != 0:
            raise CannotCountError(f"valgrind ended with {done.returncode}: {done.stderr[-2000:]}")
        texts = [part.read_text() for part in sorted(out.parent.glob("out.*"), key=lambda p: int(p.suffix[1:]))]
    return [_events(text) for text in texts][1:]


def _events(text: str) -> dict[str, int]:
    # callgrind leaves zeros at the end of a line out.
    names = re.search(r"^events: (.*)$", text, re.M)
    totals = re.search(r"^totals: (.*)$", text, re.M)
    if names is None or totals is None:
        raise CannotCountError("valgrind's output is not understood")
    values = [int(value) for value in totals[1].split()]
    every = names[1].split()
    return dict(zip(every, values + [0] * (len(every) - len(values)), strict=True))


def count() -> dict[str, float]:
    """Instructions per query by path, the paths of drive.PHASES. CannotCountError."""
    phases = _phases([], ())
    if len(phases) != len(PHASES):
        raise CannotCountError(f"{len(phases)} phases, not {len(PHASES)}: the symbols of the driver were not found")
    return {path: phase["Ir"] / queries for (path, queries), phase in zip(PHASES.items(), phases, strict=True)}


def lines() -> dict[str, float]:
    """Cache lines per hit that the nearest cache, and 2 MiB, did not hold: `beyond_l1`, `beyond_l2`. For ## Scaling."""
    (phase,) = _phases(["wide"], CACHES)
    queries = WIDE["wide_hit"]
    near = phase["D1mr"] + phase["D1mw"] + phase["I1mr"]
    far = phase["DLmr"] + phase["DLmw"] + phase["ILmr"]
    return {"beyond_l1": near / queries, "beyond_l2": far / queries}


def file_of(name: str) -> Path:
    """Where the numbers of a key are committed."""
    return NUMBERS / f"{name}.json"


def committed(name: str) -> dict[str, float] | None:
    """The instructions per query that are committed for a key; None: none are."""
    path = file_of(name)
    if not path.exists():
        return None
    return {path: float(value) for path, value in json.loads(path.read_text())["instructions"].items()}


def compare(was: dict[str, float], now: dict[str, float]) -> list[Verdict]:
    """Path by path. KeyError when a path is in one of them alone."""
    return [Verdict(path, was[path], now[path]) for path in sorted(was.keys() | now.keys())]


def record(path: Path, name: str, instructions: dict[str, float], lines: dict[str, float] | None = None) -> None:
    """Writes numbers down, rounded to a tenth."""
    content: dict[str, object] = {"key": name, "instructions": {k: round(v, 1) for k, v in instructions.items()}}
    if lines is not None:
        content["lines"] = {k: round(v, 1) for k, v in lines.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
