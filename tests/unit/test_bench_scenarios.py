# SPDX-License-Identifier: Apache-2.0
"""The load scenarios: their files, what they ask, what they run beside a server, and whole runs that are very short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.load import __main__ as command
from bench.load import report, scenario
from bench.load.arms import Plan, Skipped, plan_for, write_hosts, write_prefixes
from bench.load.ask import Names
from bench.load.quota import NoQuota, quota
from bench.load.upstream import Knot, Nsd, Slow
from bench.load.upstream.slow import is_late, reply
from bench.peers import COREFILE, PEERS, Peer, environment, installed
from fastdns import chain
from fastdns.bench.turns import Shape
from fastdns.corefile import load_source, read_source
from fastdns.testing import Answer, exchange, question
from tests.machine import needs, program

ROOT = Path(__file__).resolve().parents[2]
A = 1
SCENARIOS = scenario.names()
HITS = f'about = "hits"\nupstream = "zone"\npeers = {json.dumps([*PEERS, "no-such-server"])}\n[questions]\nnames = 50\n'
HERE = [name for name in PEERS if PEERS[name].path()]
WHOAMI = 'about = "whoami"\nupstream = "none"\n[questions]\nnames = 10\n'
CHECKS = {
    "unbound": ["unbound-checkconf", "{config}"],
    "named": ["named-checkconf", "{config}"],
    "dnsmasq": ["dnsmasq", "--test", "-C", "{config}"],
    "dnsdist": ["dnsdist", "--check-config", "-C", "{config}"],
}


# ---- the files


def test_there_are_the_scenarios_that_the_page_names():
    page = (ROOT / "bench" / "README.md").read_text()
    assert len(SCENARIOS) >= 13
    assert [name for name in SCENARIOS if f"`{name}`" not in page] == []
    assert [name for name in PEERS if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_and_corefile_can_be_read(name, monkeypatch, tmp_path):
    one = scenario.load(name, PEERS)
    files = {"HOSTS": write_hosts(tmp_path / "hosts", 3), "ACL": write_prefixes(tmp_path / "acl", 3)}
    for word, value in {**environment(1053, 2053, 3053), **files}.items():
        monkeypatch.setenv(word, value)
    generation = chain.load(load_source(read_source(str(one.folder / COREFILE))))
    assert [(at.address, at.port) for at in generation.listeners] == [("127.0.0.1", 1053)]
    directives = generation.plan()["blocks"][0]["directives"]
    assert ("forward" in directives) == (one.upstream != "none")


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_peer_has_a_configuration_without_gaps(name, tmp_path):
    one = scenario.load(name, PEERS)
    for peer in one.peers:
        text = PEERS[peer].text(one.folder, tmp_path, 1053, 2053)
        assert ("1053" in text) == (PEERS[peer].config != COREFILE)
        if PEERS[peer].config != COREFILE:
            assert "$" not in text and "2053" in text


def test_a_configuration_that_asks_for_something_unknown_is_an_error(tmp_path):
    (tmp_path / "unbound.conf").write_text("port: $PROT\n")
    with pytest.raises(KeyError, match="PROT"):
        PEERS["unbound"].text(tmp_path, tmp_path, 1, 2)


@pytest.mark.unsanitized
@pytest.mark.parametrize("folder", ["hits", "observed"])
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_servers_accept_their_configuration(name, folder, tmp_path):
    program = installed(CHECKS[name][0])
    if PEERS[name].path() is None or program is None:
        pytest.skip(f"{name} is not installed")
    PEERS[name].prepare(scenario.HERE / folder, 2053, tmp_path, 1053)
    words = [word.format(config=tmp_path / PEERS[name].config) for word in CHECKS[name][1:]]
    said = subprocess.run([program, *words], capture_output=True, text=True, timeout=30)
    assert said.returncode == 0, said.stdout + said.stderr


WRONG = [
    ("", "about must say"),
    ('about = "x"', "questions is missing"),
    ('about = "x"\nsahpes = ["64x4"]\n[questions]\nnames = 1', "unknown key sahpes"),
    ('about = "x"\n[questions]\nnames = "1"', "questions.names must be int"),
    ('about = "x"\n[questions]\nnames = true', "questions.names must be int"),
    ('about = "x"\nreload = 1\n[questions]\nnames = 1', "reload must be bool"),
    ('about = "x"\nshapes = [1]\n[questions]\nnames = 1', "shapes must be a list of str"),
    ('about = "x"\nshapes = []\n[questions]\nnames = 1', "shapes is empty"),
    ('about = "x"\nshapes = ["64"]\n[questions]\nnames = 1', "'64' is no shape"),
    ('about = "x"\npeers = ["bind"]\n[questions]\nnames = 1', "unknown peers: bind"),
    ('about = "x"\nupstream = "root"\n[questions]\nnames = 1', "upstream must be one of"),
    ('about = "x"\nquota = -1\n[questions]\nnames = 1', "quota must be between"),
    ('about = "x"\n[questions]\nnames = 1\nfresh = 1.5', "questions.fresh must be between"),
    ('about = "x"\n[questions]\nnames = 0', "questions.names must be positive"),
    ('about = "x"\n[questions]\nnames = 1\n[flood]\ngone = true', "flood.rate is missing"),
    ('about = "x"\n[questions]\nnames = 1\n[flood]\nrate = 0', "flood.rate must be positive"),
    ("about =", "Invalid value"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_mistakes_are_named(text, words, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / scenario.FILE).write_text(text)
    with pytest.raises(scenario.ScenarioError) as error:
        scenario.load("x", PEERS, tmp_path)
    assert words in str(error.value) and scenario.FILE in str(error.value)


def test_a_scenario_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(scenario.ScenarioError, match=r"'hit'.*hits"):
        scenario.load("hit", PEERS)


def test_shapes():
    assert scenario.shape_of("512x1") == Shape("512x1", 512, 1)
    assert scenario.shape_of("8x128 segmented") == Shape("8x128 segmented", 8, 128, segment=True)
    assert scenario.shape_of("16x16 tcp") == Shape("16x16 tcp", 16, 16, protocol="tcp")
    for words in ("", "x", "1x", "8x8 fast", "8x8 tcp tcp", "8x8 tcp segmented", "99999x1"):
        with pytest.raises(ValueError, match="no shape"):
            scenario.shape_of(words)


# ---- what is asked


def asked(questions) -> list[bytes]:
    return [questions.wire(index)[12:] for index in range(len(questions))]


def test_fresh_names_are_never_asked_twice_and_have_their_share():
    names = Names(warm=20, fresh=0.25)
    first, second = asked(names.measured(4000)), asked(names.measured(4000))
    warm = set(asked(names.warm))
    assert len(warm) == 20
    new = [wire for wire in first + second if wire not in warm]
    assert len(set(new)) == len(new) == 2000
    assert len(first) == len(second) == pytest.approx(4000, abs=5)
    assert warm <= set(first) and len({len(wire) for wire in first}) == 1
    flood = asked(names.flood(100, gone=True))
    assert len(set(flood)) == 100 and all(b"\4gone\7example" in wire for wire in flood)


def test_warm_names_alone_are_packed_once():
    names = Names(warm=20, fresh=0.0)
    assert names.measured(1000) is names.measured(10) is names.warm
    assert Names(warm=0, fresh=1.0).warm is None


# ---- the servers behind


@pytest.mark.real_servers
@pytest.mark.parametrize(
    "kind", [pytest.param(Knot, marks=needs("knotd", "knotc")), pytest.param(Nsd, marks=needs("nsd", "nsd-control"))])
def test_upstream_counts_what_it_was_asked(kind, tmp_path):
    with kind(tmp_path, "") as server:
        before = server.asked()
        for number in range(3):
            assert Answer.of(exchange(question(f"f{number}.example.org", A), server.port)).answer
        gone = Answer.of(exchange(question("f0.gone.example.org", A), server.port))
        assert (gone.rcode, gone.answer) == (3, [])
        assert server.asked() - before == 4


def test_the_slow_upstream_answers_all_the_same():
    with Slow("") as server:
        for name in ("h0.example.org", "f0.example.org"):
            assert Answer.of(exchange(question(name, A), server.port)).answer == [f"{name}. 3600 IN A 192.0.2.1"]
        assert server.asked() is None


@given(st.binary(max_size=80))
def test_the_slow_upstream_survives_any_octets(octets):
    made = reply(octets)
    assert made is None or (made[:2] == octets[:2] and made[2] & 0x80)
    is_late(octets)


def test_the_slow_upstream_answers_questions_only():
    wire = question("f.example.org", A, do=True)
    assert Answer.of(reply(wire)).answer == ["f.example.org. 3600 IN A 192.0.2.1"]
    assert is_late(wire) and not is_late(question("h.example.org", A))
    for cut in range(12, len(question("f.example.org", A))):
        assert reply(wire[:cut]) is None
    assert reply(reply(wire)) is None


def test_a_quota_holds_its_processes_and_leaves_nothing():
    try:
        with quota("test", 0.5) as words:
            group = Path(words[-1]).parent
            said = subprocess.run([*words, "cat", "/proc/self/cgroup"], capture_output=True, text=True, timeout=10)
            limits = [group / name for name in ("cpu.max", "cpu.cfs_quota_us")]
            text = next(file.read_text() for file in limits if file.exists())
    except NoQuota as error:
        pytest.skip(str(error))
    assert f"/{group.name}\n" in said.stdout and said.returncode == 0
    assert text.split()[0] == "50000"
    assert not group.exists()


# ---- whole runs


def two_cpus() -> Plan:
    try:
        return plan_for(rounds=1, seconds=0.1, warm=0.05)
    except Skipped as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> dict:
    """Two scenarios, run for real, with the peers that this machine has and one that no machine has."""
    if not (program("knotd") or program("nsd")):
        pytest.skip("needs knotd or nsd")
    plan = two_cpus()
    folder = tmp_path_factory.mktemp("scenarios")
    peers = {**PEERS, "no-such-server": Peer("no-such-server", "none.conf", (), ())}
    chosen = []
    for name, text in (("hits", HITS), ("whoami", WHOAMI)):
        (folder / name).mkdir()
        (folder / name / scenario.FILE).write_text(text)
        (folder / name / COREFILE).write_text((scenario.HERE / name / COREFILE).read_text())
        chosen.append(scenario.load(name, peers, folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PEERS, "no-such-server", peers["no-such-server"])
        return command.measured(chosen, plan, "python -m bench.load hits whoami")


@pytest.mark.real_servers
@pytest.mark.unsanitized
def test_a_run_is_well_formed(result):
    hits, whoami = result["scenarios"]
    assert (hits["skipped"], whoami["skipped"]) == (None, None)
    assert [arm["name"] for arm in hits["arms"]] == ["floor", "fastdns", *HERE]
    assert [arm["name"] for arm in whoami["arms"]] == ["floor", "fastdns"]
    for arm in hits["arms"] + whoami["arms"]:
        assert 0 < arm["cpu_us_low"] <= arm["cpu_us"] <= arm["cpu_us_high"]
        assert 0 < arm["ratio_low"] <= arm["ratio"] <= arm["ratio_high"]
        assert arm["qps"] >= 0 and 0 < arm["p50_us"] <= arm["p99_us"] and arm["wrong"] <= report.WRONG_TOO_MUCH
    assert hits["arms"][0]["ratio"] == 1
    assert json.loads(json.dumps(result)) == result
    assert result["machine"]["usable_cores"] >= 2 and os.uname().nodename not in result["machine"].values()


@pytest.mark.real_servers
@pytest.mark.unsanitized
def test_hits_come_from_the_cache(result):
    """Nearly all: a server that lost a packet to the upstream may ask again later, whoever is measured then, and a turn
    here has few answers. Without a cache it would be one question for each."""
    floor, *arms = result["scenarios"][0]["arms"]
    assert floor["asked_upstream"] is None
    assert [arm["name"] for arm in arms if arm["asked_upstream"] > 0.5] == []


@pytest.mark.real_servers
@pytest.mark.unsanitized
def test_who_is_missing_is_named(result):
    assert result["missing"] == sorted({*PEERS, "no-such-server"} - set(HERE))
    said = report.summary(result)
    assert f"Not installed, so not measured: {', '.join(result['missing'])}." in said
    assert sorted(result["releases"]) == sorted(HERE) and all(f"{name}: " in said for name in HERE)


@pytest.mark.real_servers
@pytest.mark.unsanitized
def test_what_is_saved_can_be_shown_again(result, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n")
    command.save(result, tmp_path, readme)
    once = readme.read_text()
    command.save(result, tmp_path, readme)
    assert readme.read_text() == once
    assert once.startswith("# Before\n") and once.endswith("After.\n") and "old" not in once
    assert once.count("| hits, 64x4 |") + once.count("| ~hits, 64x4 |") == 1
    capsys.readouterr()
    assert command.main(["--table", str(tmp_path / f"{result['date']}.json")]) == 0
    assert capsys.readouterr().out.rstrip("\n") == (tmp_path / f"{result['date']}.md").read_text().rstrip("\n")


@pytest.mark.real_servers
@pytest.mark.unsanitized
def test_a_scenario_that_cannot_run_is_skipped_with_its_reason(tmp_path):
    plan = two_cpus()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / scenario.FILE).write_text(WHOAMI)
    (tmp_path / "x" / COREFILE).write_text(".:{$PORT} {\n    who\n}\n")
    found = command.measured([scenario.load("x", PEERS, tmp_path)], plan, "x")
    assert "who" in found["scenarios"][0]["skipped"] and found["scenarios"][0]["arms"] == []
    assert found["scenarios"][0]["failed"] and "Skipped: x (" in report.summary(found)


@pytest.mark.real_servers
@pytest.mark.unsanitized
@needs("unbound")
def test_a_peer_that_does_not_start_is_left_out_with_its_reason(tmp_path):
    plan = two_cpus()
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / scenario.FILE).write_text(WHOAMI.replace("[", 'peers = ["unbound"]\n[', 1))
    (tmp_path / "x" / COREFILE).write_text((scenario.HERE / "whoami" / COREFILE).read_text())
    (tmp_path / "x" / PEERS["unbound"].config).write_text("nonsense: yes\n")
    found = command.measured([scenario.load("x", PEERS, tmp_path)], plan, "x")
    one = found["scenarios"][0]
    assert [arm["name"] for arm in one["arms"]] == ["floor", "fastdns"] and not one["failed"]
    assert "unbound" in one["left_out"]["unbound"] and "Left out: unbound in x, 64x4 (" in report.summary(found)


# ---- what is written


def made(**changes: object) -> dict:
    arm = {
        "name": "floor", "cpu_us": 1.0, "cpu_us_low": 1.0, "cpu_us_high": 1.0, "ratio": 1.0, "qps": 1e6, "p50_us": 9.0,
        "p99_us": 99.0, "lost": 0.0, "wrong": 0.0, "asked_upstream": None, "noisy": [],
    }
    us = {**arm, "name": "fastdns", "cpu_us": 1.25, "ratio": 1.25, "asked_upstream": 0.0}
    hits = {"name": "hits", "shape": "64x4", "about": "x", "fresh": 0.0, "skipped": None, "left_out": {}, "noisy": []}
    whole = {
        "schema": report.SCHEMA, "date": "2026-01-01", "command": "c", "rounds": 1, "seconds": 1.0, "releases": {},
        "missing": [], "machine": {"cpu": "CPU", "usable_cores": 2, "kernel": "6", "python": "CPython 3"},
    }
    return {**whole, "scenarios": [{**hits, "arms": [arm, us], **changes}]}


def test_a_noisy_run_says_that_it_is_not_to_be_quoted():
    assert "Too noisy" not in report.summary(made())
    noisy = report.summary(made(noisy=["fastdns: CPU per answer spreads over 9.0% of its median"]))
    assert "Too noisy to quote" in noisy and "| ~hits, 64x4 | 1.00 | 1.25 |" in noisy and "9.0%" in noisy


def test_a_cache_that_does_not_keep_and_wrong_answers_are_said():
    result = made()
    result["scenarios"][0]["arms"][1].update(asked_upstream=0.5, wrong=0.03)
    said = report.summary(result)
    assert "asked its upstream 0.50 times per answer, where 0.00 were new" in said
    assert "gave 3.00 % answers that were not what was asked for" in said


@pytest.mark.parametrize("text", ["", report.BEGIN, report.END, f"{report.END} {report.BEGIN}"])
def test_a_document_without_markers_is_left_alone(text, tmp_path):
    (tmp_path / "x.md").write_text(text)
    with pytest.raises(report.MarkerError, match=r"x\.md"):
        report.put_between_markers(tmp_path / "x.md", "table")
    assert (tmp_path / "x.md").read_text() == text


def test_the_readme_has_its_markers():
    text = (ROOT / "README.md").read_text()
    assert text.count(report.BEGIN) == text.count(report.END) == 1 and text.index(report.BEGIN) < text.index(report.END)


def test_another_schema_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema"):
        report.read_json(tmp_path / "x.json")


# ---- the command line and the peers


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--seconds", "0"], ["--fast"], ["hits", "--save"]])
def test_words_that_make_no_sense(words, capsys):
    with pytest.raises(SystemExit) as ending:
        command.main(words)
    assert ending.value.code == 2 and "usage" in capsys.readouterr().err


def test_an_unknown_scenario_is_an_error(capsys):
    assert command.main(["hit"]) == 1
    assert "no scenario 'hit'" in capsys.readouterr().err


def test_the_list(capsys):
    assert command.main(["--list"]) == 0
    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(named) == SCENARIOS and named[0] == "hits"


@pytest.mark.unsanitized
@pytest.mark.parametrize("name", sorted(PEERS))
def test_an_installed_peer_says_its_version(name):
    if PEERS[name].path() is None:
        pytest.skip(f"{name} is not installed")
    assert PEERS[name].release()[0].isdigit()


def test_a_peer_that_is_not_installed():
    nobody = Peer("no-such-server", "none.conf", (), (), signal.SIGHUP)
    assert nobody.path() is None and nobody.release() == "unknown"
    with pytest.raises(FileNotFoundError, match="no-such-server"):
        nobody.prepare(ROOT, 1, ROOT, 1)
