# SPDX-License-Identifier: Apache-2.0
"""The micro benchmarks: every compiled module of the hot path has its file, all of them run, and a loss is noticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "bench" / "micro"
OFF_PATH = {
    "_process": "system calls at the start of a process",
    "_stage": "declarations",
    "_published": "one load a query, which plugins/bench_hosts has in its answer",
    "_signed": "signed queries alone, whose cost is _tsig's",
    "_drive": "the kit that measures",
    "_drive_chain": "the kit that measures",
    "_drive_engine": "the kit that measures",
    "_drive_micro": "the kit that measures",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)


def test_every_compiled_module_of_the_hot_path_has_a_benchmark() -> None:
    core = {path.stem for path in (ROOT / "fastdns").glob("_*.pyx")}
    assert set(OFF_PATH) <= core
    wanted = {MICRO / f"bench{stem}.py" for stem in core - set(OFF_PATH)}
    wanted |= {MICRO / "plugins" / f"bench{path.stem}.py" for path in (ROOT / "plugins").glob("*/_*.pyx")}
    assert len(wanted) > 15
    assert sorted(str(path.relative_to(ROOT)) for path in wanted if not path.exists()) == []


@pytest.mark.unsanitized
def test_every_benchmark_runs() -> None:
    done = run("bench/micro", "--benchmark-disable")
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.unsanitized
def test_a_loss_fails_the_comparison(tmp_path: Path) -> None:
    one = ("bench/micro/bench_stats.py", "-k", "add", f"--benchmark-storage=file://{tmp_path}")
    assert run(*one, "--benchmark-save=run").returncode == 0
    (kept,) = tmp_path.glob("*/*.json")
    content = json.loads(kept.read_text())
    for benchmark in content["benchmarks"]:
        benchmark["stats"]["min"] /= 100
    kept.write_text(json.dumps(content))
    done = run(*one, "--benchmark-compare", "--benchmark-compare-fail=min:10%")
    assert done.returncode != 0 and "Performance has regressed" in done.stdout + done.stderr
