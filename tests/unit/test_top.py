# SPDX-License-Identifier: Apache-2.0
"""`fastdns top`: figures out of two answers, the texts made of them, and the live view."""

from __future__ import annotations

import copy
import io
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastdns.top import cli, live, tables
from fastdns.top.figures import COUNTS_MISSING, LISTS_MISSING, another_server, between, quantile

BOUNDS = [0.001, 0.01, 0.1]


def histogram(*counts: int, total: float = 0.0) -> dict[str, Any]:
    return {"bounds": BOUNDS, "counts": list(counts), "sum": total}


BEFORE: dict[str, Any] = {
    "ok": True, "at": 100.0, "generation": 1, "uptime_seconds": 61, "counted": True,
    "processes": [
        {"role": "worker", "pid": 11, "index": 0, "cpu_seconds": 1.0, "queries": 1000},
        {"role": "worker", "pid": 12, "index": 1, "cpu_seconds": 2.0, "queries": 50},
        {"role": "web", "pid": 20, "cpu_seconds": None},
        {"role": "supervisor", "pid": 10, "cpu_seconds": 0.5},
    ],
    "responses": {"NOERROR": 1000, "NXDOMAIN": 10},
    "durations": histogram(900, 100, 0, 0, total=1.0),
    "cache_hits": 500, "cache_misses": 100,
    "upstreams": [
        {"to": "192.0.2.1:53", "failed_checks": 0, "drained": False, "checks_failed": 3, "servfails": 5,
         "times": histogram(0, 10, 0, 0, total=0.05)},
        {"to": "192.0.2.2:53", "failed_checks": 0, "drained": False, "checks_failed": 0, "servfails": 0,
         "times": histogram(10, 0, 0, 0, total=0.005)},
    ],
    "observed": None,
}  # fmt: skip
OBSERVED: dict[str, Any] = {
    "seconds": 12.5, "queries": 1000, "nxdomain": 200,
    "clients": [{"client": "192.0.2.9", "least": 500, "most": 520}],
    "names": [{"name": "www.test.", "least": 250, "most": 250}],
    "suffixes": [{"suffix": "lan.", "least": 100, "most": 125}],
}  # fmt: skip


def later(**changes: Any) -> dict[str, Any]:
    """An answer two seconds after BEFORE."""
    after = copy.deepcopy(BEFORE)
    after |= {"at": 102.0, "uptime_seconds": 63, "responses": {"NOERROR": 1200, "NXDOMAIN": 10, "SERVFAIL": 4},
              "durations": histogram(1100, 100, 0, 4, total=1.4), "cache_hits": 680, "cache_misses": 120,
              "observed": OBSERVED}
    for place, (cpu, queries) in enumerate(((2.0, 1200), (2.1, 54))):
        after["processes"][place] |= {"cpu_seconds": cpu, "queries": queries}
    after["processes"][3]["cpu_seconds"] = 0.6
    after["upstreams"][0] |= {"servfails": 6, "times": histogram(0, 14, 0, 0, total=0.07)}
    after["upstreams"][1] |= {"failed_checks": 2, "checks_failed": 2, "times": histogram(10, 0, 1, 0, total=0.055)}
    return after | changes


# ---- figures


def test_rates_are_of_the_time_between():
    found = between(BEFORE, later())
    assert (found["seconds"], found["generation"], found["uptime_seconds"]) == (2.0, 1, 63)
    assert [(one["index"], one["queries_per_second"], one["cpu"]) for one in found["workers"]] == [
        (0, 100.0, 0.5), (1, 2.0, 0.05)]
    assert [(one["role"], one["cpu"]) for one in found["others"]] == [("web", None), ("supervisor", 0.05)]
    assert found["queries_per_second"] == 102.0
    assert found["hit_ratio"] == 0.9
    assert found["rcodes"] == {"NOERROR": 100.0, "NXDOMAIN": 0.0, "SERVFAIL": 2.0}
    assert found["notes"] == []


def test_latency_is_read_out_of_the_buckets_of_the_time_between():
    latency = between(BEFORE, later())["latency"]
    assert latency["answers"] == 204 and latency["mean"] == round(0.4 / 204, 6)
    assert latency["p50"] == round(0.001 * 102 / 200, 6)
    assert latency["p99"] == 0.1, "above all bounds: at the last one"


def test_the_slowest_upstream_is_first():
    found = between(BEFORE, later())["upstreams"]
    assert [(one["to"], one["mean"], one["answers_per_second"]) for one in found] == [
        ("192.0.2.2:53", 0.05, 0.5), ("192.0.2.1:53", 0.005, 2.0)]
    assert (found[0]["failing_checks"], found[0]["checks_failed"]) == (2, 2)
    assert found[1]["servfails_per_second"] == 0.5
    idle = between(later(), later(at=104.0))["upstreams"]
    assert [(one["mean"], one["p99"], one["answers_per_second"]) for one in idle] == [(None, None, 0.0)] * 2
    assert idle[0]["to"] == "192.0.2.2:53", "of those that answered nothing the failing one"


def test_lists_have_rates_of_their_own_time():
    found = between(BEFORE, later())["lists"]
    assert found["clients"] == [
        {"client": "192.0.2.9", "least": 500, "most": 520, "queries_per_second": 40.0, "share": 0.5}]
    assert found["names"][0]["share"] == 0.25
    assert found["suffixes"][0]["share"] == 0.5, "of the names that do not exist"


def test_a_worker_that_is_new_has_no_rate_yet():
    after = later()
    after["processes"][1] |= {"pid": 13, "queries": 99999}
    found = between(BEFORE, after)
    assert (found["workers"][1]["queries_per_second"], found["workers"][1]["cpu"]) == (None, None)
    assert found["queries_per_second"] == 100.0


def test_nothing_counted_is_no_figure():
    same = between(BEFORE, later(cache_hits=500, cache_misses=100, durations=BEFORE["durations"]))
    assert same["hit_ratio"] is None
    assert same["latency"] == {"answers": 0, "mean": None, "p50": None, "p99": None}
    bare = between(BEFORE, later(counted=False, observed=None, durations=None))
    assert (bare["latency"], bare["rcodes"], bare["lists"]) == (None, None, None)
    assert bare["notes"] == [COUNTS_MISSING, LISTS_MISSING]


def test_counters_that_began_anew_are_no_negative_rates():
    after = later(responses={"NOERROR": 3}, cache_hits=1, cache_misses=0, durations=histogram(1, 0, 0, 0, total=0.1))
    after["processes"][0]["queries"] = 7
    found = between(BEFORE, after)
    assert found["workers"][0]["queries_per_second"] == 0.0 and found["rcodes"] == {"NOERROR": 0.0}
    assert found["latency"]["answers"] == 0 and found["hit_ratio"] is None


def test_another_server_is_known_by_its_supervisor():
    assert not another_server(BEFORE, later())
    after = later()
    after["processes"][3]["pid"] = 99
    assert another_server(BEFORE, after)
    assert another_server(BEFORE, later(at=1.0)), "the machine was started again"


@pytest.mark.parametrize(
    ("counts", "part", "value"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, 0.0005),
        ([0, 10, 0, 0], 0.5, 0.0055),
        ([5, 0, 5, 0], 0.5, 0.001),
        ([5, 0, 5, 0], 0.9, 0.082),
        ([0, 0, 0, 3], 0.5, 0.1),
    ],
)
def test_quantiles(counts, part, value):
    assert quantile(BOUNDS, counts, part) == (None if value is None else pytest.approx(value))


# ---- texts


def test_everything_as_text():
    lines = tables.text(between(BEFORE, later()), 10)
    assert lines[0] == ("fastdns: up 1m 3s, generation 1, 102 queries/s, hits 90.0%, "
                        "p50 0.51 ms, p99 100 ms (from buckets)")
    words = [line.split() for line in lines]
    assert ["worker", "0", "11", "100", "50.0%"] in words and ["web", "20", "-"] in words
    assert ["NOERROR", "100"] in words and ["SERVFAIL", "2.0"] in words
    assert ["192.0.2.2:53", "failing", "50.00", "99.10", "0.5", "0.0", "2"] in words
    assert ["192.0.2.9", "40.0", "50.0%", "41.6"] in words
    assert ["lan.", "8.0", "50.0%", "10.0"] in words
    assert "busiest clients, 12 s" in lines


def test_what_is_missing_is_said():
    lines = tables.text(between(BEFORE, later(counted=False, observed=None, durations=None)), 10)
    assert lines[1:3] == [COUNTS_MISSING, LISTS_MISSING]
    assert not any(line.startswith("busiest") for line in lines)


def test_a_name_cannot_steer_a_terminal():
    hostile = copy.deepcopy(OBSERVED)
    hostile["names"][0]["name"] = "a\x1b[2Jb\n\u202e[bold]x."
    figures = between(BEFORE, later(observed=hostile))
    text = "\n".join(tables.text(figures, 10))
    assert "\x1b" not in text and "a?[2Jb??[bold]x." in text
    out = io.StringIO()
    view = live.View(out, 10)
    view.console.print(view.render(figures))
    assert "\x1b[2J" not in out.getvalue() and "a?[2Jb??[bold]x." in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h"), (864000, "10d 0h")],
)
def test_spans(seconds, text):
    assert tables.span(seconds) == text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "130"), ("LINES", "40")):
        monkeypatch.setenv(name, value)
    return Terminal()


def test_the_live_view_shows_what_the_text_shows(terminal):
    out = terminal
    figures = between(BEFORE, later())
    with live.View(out, 10) as view:
        view.show(figures)
    for table in tables.tables(figures, 10):
        for row in table.rows:
            assert all(cell in out.getvalue() for cell in row)


def test_without_rich_there_is_no_live_view(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(live.NoRichError, match=r'pip install "fastdns\[top\]"'):
        live.View(io.StringIO(), 10)


# ---- the command


class FakeServer:
    """Gives out answers, one for each request."""

    def __init__(self, path: Path, answers: list[dict[str, Any]]) -> None:
        self.path = path
        self.requests: list[dict[str, Any]] = []
        self.answers = answers
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        for answer in self.answers:
            one, _ = self.sock.accept()
            with one:
                self.requests.append(json.loads(one.recv(4096)))
                one.sendall(json.dumps(answer).encode() + b"\n")
                one.recv(1)  # until the client has gone
        self.sock.close()
        self.path.unlink()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Any]:
    servers = []

    def serve(*answers: dict[str, Any]) -> FakeServer:
        servers.append(FakeServer(tmp_path / f"s{len(servers)}", list(answers)))
        return servers[-1]

    yield serve
    for one in servers:
        one.thread.join()


def run(*words: str, out: io.StringIO | None = None) -> tuple[int, str, str]:
    out, err = out or io.StringIO(), io.StringIO()
    status = cli.main(words, out, err)
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("dash", ["-", "--"])
def test_once_as_text_and_as_json(served, dash):
    server = served(BEFORE, later())
    words = [f"{dash}socket", str(server.path), f"{dash}interval", "0.1", f"{dash}once"]
    status, out, err = run(*words, f"{dash}count", "7")
    assert (status, err) == (0, "") and out.startswith("fastdns: up 1m 3s") and "lan." in out
    assert server.requests == [{"do": "top", "count": 7}] * 2
    server = served(BEFORE, later())
    words[1] = str(server.path)
    status, out, err = run(*words, f"{dash}json")
    assert (status, err) == (0, "") and json.loads(out) == between(BEFORE, later())


def test_a_line_for_each_set_until_the_server_ends(served):
    server = served(BEFORE, later(), later(at=103.0))
    status, out, err = run("--socket", str(server.path), "--interval", "0.1", "--json")
    assert status == 1 and err.startswith(f"fastdns top: {server.path}: ")
    assert [json.loads(line)["seconds"] for line in out.splitlines()] == [2.0, 1.0]


def test_a_server_that_took_anothers_place_begins_anew(served):
    other = later(at=103.0)
    other["processes"][3]["pid"] = 99
    again = copy.deepcopy(other) | {"at": 104.0}
    server = served(BEFORE, other, again)
    status, out, _ = run("--socket", str(server.path), "--interval", "0.1", "--json", "--once")
    assert status == 0 and json.loads(out)["seconds"] == 1.0


@pytest.mark.parametrize("columns", ["130", "80", "30"])
def test_tables_stand_beside_each_other_as_there_is_room(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)
    view = live.View(terminal, 10)
    view.console.print(view.render(between(BEFORE, later())))
    lines = terminal.getvalue().splitlines()
    beside = [line for line in lines if "busiest clients" in line and ("response" in line or "names" in line)]
    assert len(beside) == (0 if columns == "30" else 1)
    assert sum("busiest names" in line for line in lines) == 1


def test_a_terminal_gets_the_live_view(served, terminal):
    server = served(BEFORE, later())
    out = terminal
    status, _, err = run("--socket", str(server.path), "--interval", "0.1", out=out)
    assert status == 1 and err.startswith(f"fastdns top: {server.path}: ")
    assert "\x1b[?1049h" in out.getvalue() and "\x1b[?1049l" in out.getvalue(), "the alternate screen, and back"
    assert "www.test." in out.getvalue()


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_cannot_be_drawn_on_gets_text(served, terminal, monkeypatch, name):
    monkeypatch.setenv("TERM", name)
    server = served(BEFORE, later())
    run("--socket", str(server.path), "--interval", "0.1", out=terminal)
    assert "www.test." in terminal.getvalue() and "\x1b" not in terminal.getvalue()


def test_a_view_that_is_terminated_gives_the_terminal_back(served, terminal, monkeypatch):
    server = served(BEFORE)
    monkeypatch.setattr(cli.time, "sleep", lambda _seconds: signal.raise_signal(signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # without the mending, nothing would end the test run
    try:
        with pytest.raises(SystemExit, match=str(128 + signal.SIGTERM)):
            run("--socket", str(server.path), out=terminal)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "\x1b[?1049l" in terminal.getvalue()


def test_a_terminal_without_rich_is_told_how(served, monkeypatch):
    server = served(BEFORE, later())
    monkeypatch.setitem(sys.modules, "rich.live", None)
    status, _, err = run("--socket", str(server.path), "--interval", "0.1", out=Terminal())
    assert status == 1 and 'pip install "fastdns[top]"' in err and "--once" in err
    # The server of this test still waits for its two questions.
    assert run("--socket", str(server.path), "--interval", "0.1", "--once", out=Terminal())[0] == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_a_view_that_never_ends_is_ended_without_complaint(served, monkeypatch, error):
    server = served(BEFORE)

    def end(_seconds: float) -> None:
        raise error

    monkeypatch.setattr(cli.time, "sleep", end)
    assert run("--socket", str(server.path), "--json") == (0, "", "")


def documented(figures: dict[str, Any]) -> Iterator[str]:
    """The names of all fields."""
    for name, value in figures.items():
        yield name
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict) and name != "rcodes":
                yield from documented(one)


def test_every_field_is_in_the_manual():
    manual = (Path(__file__).resolve().parents[2] / "plugins" / "top" / "README.md").read_text()
    part = manual.split("## JSON")[1].split("## Examples")[0]
    names = set(documented(between(BEFORE, later())))
    assert len(names) > 30 and {name for name in names if name not in part} == set()


def test_a_refusal_is_said(served):
    server = served({"ok": False, "error": "unknown command 'top'"})
    assert run("--socket", str(server.path), "--once") == (1, "", "fastdns top: unknown command 'top'\n")


def test_no_server(tmp_path):
    status, out, err = run("--socket", str(tmp_path / "none"), "--once")
    assert (status, out) == (1, "") and "no such file or directory" in err


def test_no_server_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    status, _, err = run("--once")
    assert status == 1 and "no server has a control socket" in err and "--socket PATH" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--interval", "0"], "0.1 to 3600 seconds, not 0"),
        (["--interval", "soon"], "invalid seconds value: 'soon'"),
        (["--count", "101"], "1 to 100 rows, not 101"),
        (["word"], "unrecognized arguments: word"),
        (["--jso"], "unrecognized arguments: --jso"),
    ],
)
def test_words_that_make_no_sense(words, text):
    status, out, err = run(*words)
    assert (status, out) == (2, "") and text in err


def test_help(capsys):
    assert run("--help")[0] == 0
    assert "--interval SECONDS" in capsys.readouterr().out
