# SPDX-License-Identifier: Apache-2.0
"""--compare: what is a regression, what cannot be compared, and the sentences for it."""

import dataclasses

import pytest

from fastdns.bench.compare import compare, text
from fastdns.bench.errors import BenchError
from fastdns.bench.remarks import judge
from tests.made_reports import report


@pytest.mark.parametrize(
    ("new", "threshold", "regression", "verdicts"),
    [
        ({}, 5.0, False, {"qps": "same", "cpu": "same"}),
        ({"qps": 188_000}, 5.0, True, {"qps": "worse", "cpu": "same"}),
        ({"qps": 192_000}, 5.0, False, {"qps": "same", "cpu": "same"}),
        ({"qps": 192_000}, 3.0, True, {"qps": "worse", "cpu": "same"}),
        ({"cpu_us": 5.2}, 5.0, True, {"qps": "same", "cpu": "worse"}),
        ({"cpu_us": 4.0}, 5.0, False, {"qps": "same", "cpu": "better"}),
        ({"qps": 240_000, "cpu_us": 4.0}, 5.0, False, {"qps": "better", "cpu": "better"}),
        ({"lost": 5_000}, 5.0, True, {"qps": "same", "cpu": "same"}),
        ({"wrong_rcode": 5_000}, 5.0, True, {"qps": "same", "cpu": "same"}),
        ({"lost": 500}, 5.0, False, {"qps": "same", "cpu": "same"}),
    ],
    ids=str,
)
def test_verdicts(new, threshold, regression, verdicts):
    found = compare(report(), report(**new), threshold)
    assert found.regression is regression
    assert {change.key: change.verdict for change in found.changes if change.verdict} == verdicts
    assert ("REGRESSION" in text(found, threshold)) is regression


@pytest.mark.parametrize(
    ("part", "name", "value", "why"),
    [
        ("machine", "cpu", "Another", "machine.cpu: 'A Processor 3 GHz' then, 'Another' now"),
        ("machine", "cores", 64, "machine.cores: 2 then, 64 now"),
        ("machine", "kernel", "6.6.0", "machine.kernel: '6.1.0' then, '6.6.0' now"),
        ("scenario", "sockets", 512, "scenario.sockets: 64 then, 512 now"),
        ("scenario", "protocol", "tcp", "scenario.protocol: 'udp' then, 'tcp' now"),
        ("scenario", "questions", "e" * 64, f"scenario.questions: '{'d' * 64}' then, '{'e' * 64}' now"),
    ],
)
def test_other_machines_and_scenarios_need_force(part, name, value, why):
    other = report()
    setattr(getattr(other, part), name, value)
    with pytest.raises(BenchError) as error:
        compare(report(), other)
    assert str(error.value) == f"cannot compare (--force does it nevertheless):\n  {why}"
    found = compare(report(), other, force=True)
    assert found.notes == [f"forced although {why}"] and not found.regression


@pytest.mark.parametrize("name", ["fastdns", "python", "compiler", "libc"])
def test_versions_may_differ_and_are_shown(name):
    other = report()
    setattr(other.machine, name, "9.9")
    found = compare(report(), other)
    assert found.notes == [f"{name}: {getattr(report().machine, name)} then, 9.9 now"]


def test_rounds_of_another_length_compare():
    other = report()
    other.scenario = dataclasses.replace(other.scenario, duration=60.0, warm=1.0)
    assert compare(report(), other).notes == []


def test_without_cpu_queries_per_second_decide():
    found = compare(report(server_cpu=None), report(qps=150_000), 5.0)
    assert found.regression and [change.key for change in found.changes] == ["qps", "p50", "p99"]


def test_a_run_that_is_not_to_be_quoted_is_named():
    noisy = report(lost=9_000)
    noisy.remarks = judge(noisy)
    (note,) = compare(noisy, report()).notes
    assert note.startswith("the old run is not to be quoted: the server left 27000 of 3000000 queries")
