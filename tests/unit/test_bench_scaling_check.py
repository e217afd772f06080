# SPDX-License-Identifier: Apache-2.0
"""`fastdns bench --scaling`: verdicts on measured figures, words, and one measurement of the real thing."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from fastdns.bench import scaling_check
from fastdns.bench.scaling_check import Row, as_json, rows, run_scaling, scaling_main, text
from fastdns.bench.scaling_run import Measured, ScalingError, median, places

CPUS = sorted(os.sched_getaffinity(0))


def measured(cores: int, cpu_us: float, busy: float = 1.0, qps: float = 500e3, lost: int = 0) -> Measured:
    return Measured(cores, cores, 64 * cores, qps, cpu_us, busy, 1.0, lost)


def test_one_cores_cost_predicts_the_others() -> None:
    found = rows([measured(1, 2.0), measured(4, 2.0), measured(8, 3.0)])
    assert [row.measured.capacity for row in found] == pytest.approx([500e3, 2e6, 8e6 / 3])
    assert [row.predicted for row in found] == pytest.approx([500e3, 2e6 / 1.006, 4e6 / 1.014])
    assert [row.holds for row in found] == [True, True, False]
    assert found[0].imbalance == 1.0 < found[1].imbalance


def test_a_rate_that_the_load_limits_fails_nothing_and_is_said() -> None:
    said = text(rows([measured(1, 2.0), measured(2, 2.02, busy=0.5, qps=400e3)]))
    assert "The prediction holds within 15%." in said
    assert "does not fill the server's cores at 2:" in said


def test_a_prediction_that_fails_is_said() -> None:
    assert "fails by more than 15% at 2, 4 cores" in text(rows([measured(1, 2.0), measured(2, 3.0), measured(4, 1.0)]))
    assert "nothing to compare with" in text(rows([measured(1, 2.0)]))


def test_rounds_are_joined_by_their_medians() -> None:
    one = median([measured(2, 2.0, qps=1.0, lost=1), measured(2, 9.0, qps=2.0), measured(2, 3.0, qps=7.0, lost=2)])
    assert (one.cpu_us, one.qps, one.lost, one.cores, one.flows) == (3.0, 2.0, 3, 2, 128)


def test_server_and_load_share_no_core() -> None:
    assert places(2, [0, 1, 4, 5, 6, 7, 8]) == ([0, 1], [4, 5, 6, 7])
    assert places(1, [3, 9]) == ([3], [9])
    for cores, usable in ((1, [0]), (2, [0, 1]), (0, [0, 1])):
        with pytest.raises(ScalingError, match="leave none"):
            places(cores, usable)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cores", "two"], "numbers of cores"),
        (["--cores", "0"], "numbers of cores"),
        (["--seconds", "0"], "above 0"),
        (["--seconds", "nan"], "above 0"),
        (["--rounds", "1.5"], "whole number"),
        (["--no-such"], "--no-such is no option"),
        (["--cores", "9999"], "leave none"),
    ],
)
def test_words_that_are_refused(words: list[str], said: str) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert scaling_main(words, out, err) == 2
    assert said in err.getvalue() and out.getvalue() == ""


@pytest.mark.parametrize(("cost", "status"), [(2.0, 0), (3.0, 1)])
def test_status_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cost: float, status: int) -> None:
    def given(*numbers: object, **options: object) -> list[Row]:
        return rows([measured(1, 2.0), measured(2, cost)])

    monkeypatch.setattr(scaling_check, "run_scaling", given)
    out = io.StringIO()
    file = tmp_path / "scaling.json"
    assert scaling_main(["--json", str(file)], out, io.StringIO()) == status
    assert out.getvalue().startswith("cores  load")
    content = json.loads(file.read_text())
    assert [point["cores"] for point in content["points"]] == [1, 2] and content["machine"]["cores"] >= 1


@pytest.mark.unsanitized
@pytest.mark.skipif(len(CPUS) < 2, reason="two CPUs are needed")
def test_a_measurement() -> None:
    seen: list[tuple[int, Measured]] = []
    found = run_scaling([1], rounds=2, seconds=0.3, sockets=8, progress=lambda n, one: seen.append((n, one)))
    assert [n for n, _ in seen] == [0, 1]
    assert all(one.qps > 0 and 0 < one.cpu_us < 1e4 and one.flows == 8 for _, one in seen)
    (row,) = found
    assert row.ratio == 1.0 and json.loads(as_json(found))["points"][0]["predicted"] == row.predicted
