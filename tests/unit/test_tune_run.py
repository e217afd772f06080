# SPDX-License-Identifier: Apache-2.0
"""`fastdns tune` as it is called: words, what it refuses before it measures, and one run for real."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fastdns import cli
from fastdns.bench import tune_cli
from fastdns.bench.tune_advice import recommend
from fastdns.bench.tune_curve import Curve, Point, Visit
from fastdns.corefile.source import Source
from fastdns.server import steer

COREFILE = """# the resolver of this host
.:53 {   # all of it
    errors
    cache 300   # seconds
    forward . 192.0.2.53 {
        max_fails 2
    }
}
"""


def tune(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return cli.main(["tune", *words], out, err), out.getvalue(), err.getvalue()


def test_help() -> None:
    status, out, err = tune("--help")
    assert (status, err) == (0, "")
    assert out.startswith("usage: fastdns tune ")
    for option in ("--conf", "--listen", "--most", "--seconds", "--rounds", "--write", "--json", "--plot"):
        assert option in out


CONF = ["-conf", "{folder}/Corefile"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--most", "0"], "argument --most: '0' is no whole number from 1 to 1024"),
        (["--seconds", "x"], "argument --seconds: 'x' is no number of seconds from 0.1 to 3600"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["-conf", "{folder}/none"], "loading Caddyfile via flag: open {folder}/none: no such file or directory"),
        ([*CONF, "--listen", ":99"], "--listen :99: the Corefile listens on dns://:53"),
        ([*CONF, "--plot", "{folder}/x.gif"], "--plot {folder}/x.gif: the name must end in .png or .svg"),
        ([*CONF, "--json", "{folder}/none/x"], "--json {folder}/none/x: cannot be written"),
        ([*CONF, "--write-steering"], "--write-steering: needs --write, and the ways to steer to be measured"),
        ([*CONF, "--data", "{folder}/none"], "{folder}/none: No such file or directory"),
        (["-conf", "{folder}/imports", "--write"],
         "{folder}/line:1 - this multisocket is imported; write `multisocket 1` there"),
        (["-conf", "{folder}/bad"], "Unknown directive 'frobnicate'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(words: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / "Corefile").write_text(COREFILE)
    (tmp_path / "line").write_text("multisocket 2\n")
    (tmp_path / "imports").write_text(".:53 {\n import line\n whoami\n}\n")
    (tmp_path / "bad").write_text(".:53 {\n frobnicate\n}\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    status, out, err = tune(*(word.replace("{folder}", str(tmp_path)) for word in words))
    assert (status, out) == (2, "")
    assert err.startswith("fastdns tune: ")
    assert text.replace("{folder}", str(tmp_path)) in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_to_write_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert tune("--write") == (2, "", "fastdns tune: --write: there is no file to write into\n")


def test_the_ways_to_steer_are_those_of_the_server() -> None:
    assert tune_cli.MODES == steer.MODES


def test_listeners_know_the_blocks_behind_them() -> None:
    text = ("a.test:53 {\n bind 127.0.0.1 127.0.0.2\n multisocket 4 {\n  steer random\n }\n whoami\n}\n"
            "b.test:53 {\n bind 127.0.0.2\n whoami\n}\nc.test:54 {\n whoami\n}\n")
    _, subjects = tune_cli.listeners(Source("Corefile", text.encode()), 53)
    assert [(at.label, at.blocks, at.zones, at.sockets, at.steer) for at in subjects] == [
        ("dns://127.0.0.1:53", (0,), ("a.test.",), 4, "random"),
        ("dns://127.0.0.2:53", (0, 1), ("a.test.", "b.test."), 4, "random"),
        ("dns://:54", (2,), ("c.test.",), 0, "flow"),
    ]


def servers() -> set[str]:
    """Command lines of servers that were started from a copy."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"fastdns-tune-" in words:
            found.add(words.decode(errors="replace"))
    return found


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A short measurement of the Corefile in a folder."""
    most = str(min(2 * len(os.sched_getaffinity(0)), 4))
    return subprocess.run(
        [sys.executable, "-m", "fastdns", "tune", "-conf", str(folder / "Corefile"), "--seconds", "0.3", "--most", most,
         *words],
        cwd=folder, capture_output=True, text=True, timeout=280)


@pytest.mark.slow
@pytest.mark.unsanitized
@pytest.mark.timeout(300)
def test_a_run_recommends_what_its_curve_shows_and_writes_it(tmp_path: Path) -> None:
    corefile = tmp_path / "Corefile"
    corefile.write_text(COREFILE)
    corefile.chmod(0o600)
    already = servers()
    cpus = len(os.sched_getaffinity(0))
    done = run(tmp_path, "--rounds", "2", "--json", "-", "--plot", str(tmp_path / "curve.png"), "--write")
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout)
    assert "1 CPU, 1 socket, flow, load 64x4\n" in done.stderr
    curve = plain["curves"][-1]
    assert curve["cpus"] == plain["cpus"]
    points = [Point(curve["cpus"], point["sockets"], visits=[Visit(**visit) for visit in point["visits"]])
              for point in curve["points"]]
    assert [point.sockets for point in points][:2] == [1, 2]
    assert all(len(point.visits) == 2 and point.qps > 0 and point.cpu_us > 0 for point in points)
    sockets = plain["recommendation"]["sockets"]
    assert sockets == recommend(Curve(points)).sockets
    if curve["cpus"] == cpus:
        # No CPU is left for the load.
        assert curve["shared"] and curve["projected"]
        assert curve["strength"].startswith("SHARED CORES")
    assert len(plain["rules"]) == 3
    if sockets > 1:
        assert {point["steer"] for row in plain["steering"] for point in row["points"]} == set(steer.MODES)
    # Only that line came, with the indentation of its neighbours.
    assert corefile.read_text() == COREFILE.replace("# all of it\n", f"# all of it\n    multisocket {sockets}\n")
    assert stat.S_IMODE(corefile.stat().st_mode) == 0o600
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Corefile", "curve.png"]
    assert servers() <= already


@pytest.mark.slow
@pytest.mark.unsanitized
@pytest.mark.timeout(300)
def test_a_corefile_that_caches_nothing_and_one_that_refuses(tmp_path: Path) -> None:
    """Without a cache the floor stands in for upstreams; questions that fit nothing are told."""
    (tmp_path / "Corefile").write_text(".:53 {\n forward . 192.0.2.53\n}\n")
    done = run(tmp_path, "--rounds", "1", "--no-steering", "--no-progress")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n  QPS by CPUs " in done.stdout and "Cache QPS" not in done.stdout
    assert "\nRecommendation: multisocket " in done.stdout
    (tmp_path / "Corefile").write_text("a.test:53 {\n whoami\n}\n")
    (tmp_path / "questions").write_text("other.test A\n")
    done = run(tmp_path, "--rounds", "1", "--no-steering", "--no-progress", "--data", str(tmp_path / "questions"))
    assert done.returncode == 0, done.stderr
    assert "100% of the answers were REFUSED: the questions do not fit the Corefile (--data)" in done.stdout
