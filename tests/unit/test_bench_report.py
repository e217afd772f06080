# SPDX-License-Identifier: Apache-2.0
"""Reports: JSON there and back, refusals by path, CSV, Markdown, .hgrm, the summary, the remarks."""

import csv
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest

from fastdns.bench import formats
from fastdns.bench.errors import BenchError
from fastdns.bench.remarks import judge
from fastdns.bench.report import SCHEMA, Report, figures
from fastdns.bench.summary import summary
from tests.made_reports import report

README = (Path(__file__).resolve().parents[2] / "bench" / "README.md").read_text()


def plain(text: str) -> dict:
    """What a report's JSON counts: without the computed block, which the histogram's three digits blur."""
    found = json.loads(text)
    found.pop("figures")
    return found


@pytest.mark.parametrize("floor", [True, False])
@pytest.mark.parametrize("server_cpu", [3.5, None])
def test_json_there_and_back(floor, server_cpu):
    made = report(floor=floor, server_cpu=server_cpu)
    made.remarks = judge(made)
    text = formats.to_json(made)
    again = formats.from_json(text, "x.json")
    assert plain(formats.to_json(again)) == plain(text)
    assert again.server.rounds[0].tally.rcodes == {0: 1_000_000}
    for name, found in figures(made).items():
        assert figures(again)[name] == pytest.approx(found, rel=2e-3)


def change(text: str, path: str, value: object) -> str:
    """The JSON with one value replaced, or removed where `value` is None."""
    found = json.loads(text)
    *way, last = re.findall(r"[^.\[\]]+", path)
    at = found
    for part in way:
        at = at[int(part) if isinstance(at, list) else part]
    if value is None:
        del at[last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return json.dumps(found)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("schema", "fastdns-bench/0", "schema 'fastdns-bench/0'; this program reads 'fastdns-bench/1'"),
        ("schema", 1, "no report of fastdns bench"),
        ("machine.cpu", None, "machine.cpu: missing"),
        ("machine.colour", "red", "machine.colour: no such field"),
        ("machine", [], "machine: not an object"),
        ("scenario.sockets", "64", "scenario.sockets: not of type int"),
        ("scenario.sockets", True, "scenario.sockets: not of type int"),
        ("scenario.segment", 1, "scenario.segment: not of type bool"),
        ("scenario.rate", "fast", "scenario.rate: not a finite number"),
        ("scenario.rate", 1e400, "scenario.rate: not a finite number"),
        ("scenario.load_cpus", 1, "scenario.load_cpus: not a list"),
        ("scenario.load_cpus[0]", 0.5, "scenario.load_cpus[0]: not of type int"),
        ("server.rounds", {"a": 1}, "server.rounds: not a list"),
        ("server.rounds", [], "server.rounds: empty"),
        ("server.rounds[1].tally.sent", None, "server.rounds[1].tally.sent: missing"),
        ("server.rounds[1].tally.sent", -1, "server.rounds[1].tally.sent: negative"),
        ("server.rounds[0].tally.rcodes", {"OK": 1}, "server.rounds[0].tally.rcodes.OK: the name is no number"),
        ("server.rounds[0].tally.latency", 5, "server.rounds[0].tally.latency: not a text"),
        ("floor.rounds[0].course[2].qps", "many", "floor.rounds[0].course[2].qps: not a finite number"),
        ("remarks", [{"kind": "noisy"}], "remarks[0].text: missing"),
    ],
)
def test_reading_refuses_what_was_not_written(path, value, why):
    with pytest.raises(BenchError) as error:
        formats.from_json(change(formats.to_json(report()), path, value), "x.json")
    assert str(error.value) == f"x.json: {why}"


def test_a_spoilt_histogram_is_refused():
    text = change(formats.to_json(report()), "server.rounds[0].tally.latency", "HISTFAAAAA")
    with pytest.raises(BenchError, match=r"^x\.json: server\.rounds\[0\]\.tally\.latency: no histogram: "):
        formats.from_json(text, "x.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "[" * 100_000])
def test_other_files_are_refused(text):
    with pytest.raises(BenchError, match=r"^x\.json: (not JSON|no report of fastdns bench)"):
        formats.from_json(text, "x.json")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(BenchError, match=r"no\.json: No such file or directory"):
        formats.read_report(str(tmp_path / "no.json"))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BenchError, match="not UTF-8"):
        formats.read_report(str(tmp_path / "binary.json"))


def fields(value: object, path: str = "") -> set[str]:
    """Every path in a report's JSON, with [] for the elements of lists and {} for the keys of objects that vary."""
    if isinstance(value, list):
        return fields(value[0], path + "[]") if value else set()
    if isinstance(value, dict):
        varying = path.endswith((".rcodes", ".cores"))
        names = {key: f"{path}.{'{}' if varying else key}".lstrip(".") for key in value}
        return set().union(*(fields(one, names[key]) for key, one in value.items()))
    return {path}


def test_the_readme_documents_every_field():
    made = report()
    made.remarks = judge(made)
    made.remarks += judge(report(lost=9_000))
    found = json.loads(formats.to_json(made))
    found["floor"] = None       # the same as `server`
    section = README.split("## fastdns bench")[1].split("\n## ")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", section, re.M))
    written = {re.sub(r"^figures\.(?:floor_)?latency\..*", "figures.latency", path) for path in fields(found)}
    written = {re.sub(r"^figures\.(\w+)\.(?:median|low|high)$", r"figures.\1", path) for path in written}
    assert written == documented
    assert f"`{SCHEMA}`" in section


def test_no_value_of_a_person_or_a_host(monkeypatch):
    import getpass
    import socket

    text = formats.to_json(report())
    for secret in (socket.gethostname(), getpass.getuser(), str(Path.home())):
        assert f'"{secret}"' not in text


def test_csv():
    rows = list(csv.DictReader(io.StringIO(formats.to_csv(report()))))
    assert [(row["arm"], row["round"]) for row in rows] == [(a, str(n)) for a in ("server", "floor") for n in (1, 2, 3)]
    assert rows[0]["sent"] == "1000000" and rows[0]["cpu_us_per_answer"] == "4.8000" and rows[0]["qps"] == "200000.0"
    assert next(csv.DictReader(io.StringIO(formats.to_csv(report(server_cpu=None)))))["cpu_us_per_answer"] == ""


def test_markdown():
    text = formats.to_markdown(report())
    assert "| Queries per second | 200,000 | 198,000 | 202,000 |\n" in text
    assert "| CPU, ratio to the floor | 2.00 | 1.98 | 2.02 |\n" in text
    assert text.startswith("A Processor 3 GHz, 2 cores, Linux 6.1.0")


def test_hgrm():
    pytest.importorskip("hdrh")
    lines = formats.to_hgrm(report()).splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert lines[-2].startswith("#[Max") and "TotalCount     =     9000.000" in lines[-2]


def test_summary_speaks_dnsperf():
    made = report(lost=10_000, rcodes={0: 900_000, 3: 100_000})
    made.remarks = judge(made)
    lines = summary(made).splitlines()
    for line in (
        "  Queries sent:         3000000",
        "  Queries completed:    3000000 (100.00%)",
        "  Queries lost:         30000 (1.00%)",
        "  Response codes:       NOERROR 2700000 (90.00%), NXDOMAIN 300000 (10.00%)",
        "  Average packet size:  request 45, response 61",
        "  Run time (s):         15.000000",
        "  Queries per second:   200000.000000",
        "  Do not quote these figures:",
    ):
        assert line in lines
    assert lines[0] == "Statistics:"


def kinds(made: Report, short: str = "") -> list[str]:
    return [remark.kind for remark in judge(made, short)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"lost": 9_000}, ["lost"]),
        ({"lost": 900}, []),
        ({"late": 1}, ["late"]),
        ({"rcodes": {0: 998_000, 5: 2_000}}, ["failures"]),
        ({"rcodes": {0: 500_000, 3: 500_000}}, []),
        ({"wrong_id": 1}, ["wrong"]),
        ({"wrong_question": 2}, ["wrong"]),
        ({"wrong_rcode": 3}, ["wrong"]),
        ({"malformed": 3}, ["wrong"]),
        ({"duplicates": 3}, ["wrong"]),
        ({"send_errors": 3}, ["errors"]),
        ({"receive_errors": 3}, ["errors"]),
        ({"connect_errors": 3}, ["errors"]),
        ({"reconnects": 3}, ["reconnects"]),
        ({"truncated": 3}, ["truncated"]),
        ({"server_cpu": None}, ["cpu"]),
        ({"server_cpu": 2.0, "cpu_seconds": 4.95, "cores": {0: 0.4, 1: 0.99}}, ["generator"]),
        ({"server_cpu": None, "cpu_seconds": 4.95}, ["generator", "cpu"]),
        ({"server_cpu": 4.9, "cpu_seconds": 4.95}, []),
        ({"stolen": 0.03}, ["noisy"]),
        ({"server_cpu": 4.0}, ["crowded"]),
        ({"cores": {0: 0.99, 1: 0.97}}, ["crowded"]),
    ],
    ids=str,
)
def test_remarks(changes, expected):
    assert kinds(report(floor=False, **changes)) == expected


def test_remarks_on_noise_and_shared_cpus():
    noisy = report(floor=False)
    noisy.server.rounds[1].server_cpu *= 1.2
    assert kinds(noisy) == ["noisy"] and not dataclasses.replace(noisy, remarks=judge(noisy)).quotable
    shared = report()
    shared.scenario.load_cpus = [0, 1]
    assert kinds(shared) == ["shared"]
    assert kinds(report(), "interrupted") == ["short"]
    single = report(floor=False)
    del single.server.rounds[1:]
    assert kinds(single) == ["single"] and dataclasses.replace(single, remarks=judge(single)).quotable


def test_a_load_that_spins_is_judged_by_the_server():
    spinning = report(floor=False, cpu_seconds=5.0, cores={0: 0.99, 1: 1.0})
    spinning.scenario.spin = True
    assert kinds(spinning) == []
    idle = report(floor=False, cpu_seconds=5.0, cores={0: 0.4, 1: 1.0}, server_cpu=2.0)
    idle.scenario.spin = True
    assert kinds(idle) == ["generator"]


def test_an_open_loop_that_fell_behind():
    behind = report(floor=False)
    behind.scenario.rate = 250_000
    assert kinds(behind) == ["generator"]
    assert judge(behind)[0].text.startswith("the generator sent 200,000 of 250,000 queries per second to the server")
    behind.scenario.rate = 200_000
    assert kinds(behind) == []
    behind.server.rounds[1].tally.in_window //= 2
    assert kinds(behind) == ["behind"] and not dataclasses.replace(behind, remarks=judge(behind)).quotable
