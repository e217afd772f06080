# SPDX-License-Identifier: Apache-2.0
"""Attacks of the load scenarios: very short ones of each kind, and what is said of their figures."""

from __future__ import annotations

import pytest

from bench.load import __main__ as command
from bench.load import attack, report, scenario
from bench.load.arms import Plan, Skipped, plan_for
from bench.peers import COREFILE, PEERS

HEAD = 'about = "x"\nupstream = "{}"\nattack = "{}"\nholds = 0.5\n[questions]\nnames = 10\n'


def plan() -> Plan:
    try:
        return plan_for(1, 0.3, 0.1)
    except Skipped as error:
        pytest.skip(str(error))


@pytest.mark.unsanitized
@pytest.mark.parametrize(("kind", "upstream", "corefile"), [
    ("overload", "none", "demo"), ("names", "slow", "slow"), ("trickle", "slow", "slow"),
])  # fmt: skip
def test_a_turn_has_a_figure(kind, upstream, corefile, tmp_path, monkeypatch):
    monkeypatch.setattr(attack, "CONNECTIONS", 20)
    monkeypatch.setattr(attack, "LEAD", 0.2)
    monkeypatch.setattr(attack, "NAMES_RATE", 50.0)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / scenario.FILE).write_text(HEAD.format(upstream, kind))
    (tmp_path / "x" / COREFILE).write_text((scenario.HERE / corefile / COREFILE).read_text())
    found = command.measured([scenario.load("x", PEERS, tmp_path)], plan(), "x")
    (one,) = found["scenarios"]
    floor, us = one["arms"]
    assert "held" not in floor and us["held"] > 0
    assert (one["attack"], one["holds"], one["fresh"]) == (kind, 0.5, None)
    if kind == "names":
        assert us["held"] > 0.5  # of the queries: a share, whatever the machine
    assert f"x, 64x4: fastdns {us['held']:.2f} (" in report.summary(found)


@pytest.mark.parametrize(("kind", "figure", "words"), [
    ("overload", 0.9, "fastdns 0.90 (holds at least 0.9)."),
    ("overload", 0.89, "fastdns 0.89 (**does not hold** at least 0.9)."),
    ("trickle", 0.5, "fastdns 0.50 (holds at most 0.9)."),
    ("trickle", 1.0, "fastdns 1.00 (**does not hold** at most 0.9)."),
])  # fmt: skip
def test_whether_it_holds(kind, figure, words):
    arms = [{"name": "floor"}, {"name": "fastdns", "held": figure}]
    assert report.attacks({"name": "x", "shape": "y", "attack": kind, "holds": 0.9, "arms": arms}) == [f"x, y: {words}"]


def test_a_scenario_without_an_attack_has_none():
    assert report.attacks({"name": "x", "shape": "y", "arms": [{"name": "fastdns"}]}) == []


@pytest.mark.parametrize(("text", "words"), [
    ('attack = "flood"\nholds = 1\n', "attack must be one of overload, names, trickle"),
    ('attack = "names"\n', "attack and a positive holds go together"),
    ("holds = 1\n", "attack and a positive holds go together"),
    ('attack = "names"\nholds = 1\nfresh', "an attack is measured with names that are cached"),
])  # fmt: skip
def test_mistakes_are_named(text, words, tmp_path):
    fresh = "fresh = 0.5\n" if text.endswith("fresh") else ""
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / scenario.FILE).write_text(
        f'about = "x"\n{text.removesuffix("fresh")}[questions]\nnames = 10\n{fresh}')
    with pytest.raises(scenario.ScenarioError, match=words):
        scenario.load("x", PEERS, tmp_path)
