# SPDX-License-Identifier: Apache-2.0
"""The tuner's judgement on curves that were made up: flat, rising, with a knee, with a peak, with noise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench import tune_advice as tune
from fastdns.bench import tune_search
from fastdns.bench.tune_curve import Curve, Point, Visit

Shape = Callable[[int], float]


def flat(_sockets: int) -> float:
    return 100_000.0


def knee(cpus: int) -> Shape:
    return lambda sockets: 100_000.0 * min(sockets, cpus)


def peak(at: int) -> Shape:
    return lambda sockets: 100_000.0 * (sockets if sockets <= at else at * 0.93 ** (sockets - at))


def falling(sockets: int) -> float:
    return 100_000.0 / sockets


def measured(shape: Shape, numbers: list[int], cpus: int = 64, noise: float = 0.0, seed: int = 0) -> Curve:
    """A curve of runs with cores of their own, three visits a point."""
    dice = random.Random(seed)
    points = []
    for sockets in numbers:
        rates = [shape(sockets) * (1 + noise * dice.uniform(-1, 1)) for _ in range(3)]
        points.append(Point(cpus, sockets, visits=[Visit(rate, 10.0, float(min(sockets, cpus))) for rate in rates]))
    return Curve(points)


@pytest.mark.parametrize(
    ("shape", "cpus", "most", "answer"),
    [
        (flat, 8, 16, 1),
        (falling, 8, 16, 1),
        (knee(1), 1, 2, 1),
        (knee(2), 2, 4, 2),
        (knee(8), 8, 16, 8),
        (knee(10), 10, 20, 10),
        (knee(64), 64, 128, 64),
        (peak(3), 8, 16, 3),
        (peak(4), 8, 16, 4),
        (peak(5), 8, 16, 5),
        (peak(7), 16, 32, 7),
        (peak(20), 64, 128, 20),
    ],
)
def test_search_and_recommendation_find_it(shape: Shape, cpus: int, most: int, answer: int) -> None:
    asked: list[int] = []

    def measure(sockets: int) -> float:
        asked.append(sockets)
        return shape(sockets)

    found = tune_search.search(measure, cpus, most)
    assert sorted(asked) == list(found) and len(set(asked)) == len(asked)
    assert all(1 <= sockets <= most for sockets in asked)
    assert tune.recommend(measured(shape, list(found), cpus), most).sockets == answer


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("shape", "cpus", "answer"), [(flat, 8, 1), (knee(4), 4, 4), (peak(4), 8, 4), (knee(2), 2, 2)])
def test_noise_does_not_change_it(shape: Shape, cpus: int, answer: int, seed: int) -> None:
    dice = random.Random(seed)
    found = tune_search.search(lambda sockets: shape(sockets) * (1 + 0.02 * dice.uniform(-1, 1)), cpus, 2 * cpus)
    assert tune.recommend(measured(shape, list(found), cpus, 0.02, seed)).sockets == answer


def test_the_search_stops_when_more_does_not_help() -> None:
    asked: list[int] = []
    tune_search.search(lambda sockets: asked.append(sockets) or min(sockets, 4) * 1.0, 4, 1024)
    assert max(asked) <= 8
    asked.clear()
    # All CPUs are tried even where the first steps help nothing, and not the thousand above them.
    tune_search.search(lambda sockets: asked.append(sockets) or 1.0, 16, 1024)
    assert max(asked) == 16


@given(st.integers(1, 1024), st.integers(1, 1024))
def test_the_ladder(cpus: int, most: int) -> None:
    steps = tune_search.ladder(cpus, most)
    assert steps == sorted(set(steps))
    assert steps[0] == 1 and steps[-1] <= most
    assert cpus in steps or cpus > most
    assert len(steps) <= 2 * math.log2(most) + 3


@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=12))
def test_the_recommendation_is_one_of_the_curve_and_no_point_is_clearly_better(values: list[float]) -> None:
    curve = measured(lambda sockets: values[sockets - 1], list(range(1, len(values) + 1)))
    advice = tune.recommend(curve)
    chosen = curve.at(advice.sockets)
    assert chosen is not None
    assert curve.capacity(chosen) >= max(values) * (1 - curve.tolerance)
    assert all(value < max(values) * (1 - curve.tolerance) for value in values[:advice.sockets - 1])


def test_reasons_say_what_the_curve_shows() -> None:
    assert tune.recommend(measured(knee(2), [1, 2, 3, 4])).reasons == (
        "2 sockets serve 100.0% more than 1", "3 and 4 serve no more (differences up to 3.0% count as none)")
    assert tune.recommend(measured(peak(2), [1, 2, 3, 4])).reasons == (
        "2 sockets serve 100.0% more than 1", "3 serve 7.0% less")
    assert tune.recommend(measured(flat, [1, 2])).reasons == ("2 serve no more (differences up to 3.0% count as none)",)
    rising = tune.recommend(measured(knee(64), [1, 2, 3, 4]), most=4)
    assert rising.rising
    assert rising.reasons[-1] == "no larger number was tried: the curve may go on rising"
    assert not tune.recommend(measured(flat, [1]), most=1).rising


def test_a_noisy_machine_is_told() -> None:
    curve = measured(flat, [1, 2, 3], noise=0.5, seed=3)
    assert curve.tolerance == curve.noise > tune.NOISY
    assert "quieter machine" in tune.recommend(curve).reasons[-1]
    assert tune.recommend(curve).sockets == 1


def shared(sockets: int, cpu_us: float, qps: float = 70_000.0) -> Point:
    return Point(2, sockets, visits=[Visit(qps, cpu_us, 0.9, 1.1, 2, shared=True)])


def test_on_shared_cores_the_cpu_per_answer_decides() -> None:
    """The rate is that of two cores which load and server divide; one socket looks as good as two."""
    curve = Curve([shared(1, 10.0, 75_000), shared(2, 10.4), shared(3, 12.0)])
    assert curve.projected
    assert curve.capacity(curve.points[0]) == 100_000
    assert round(curve.capacity(curve.points[1])) == 192_308
    assert tune.recommend(curve).sockets == 2
    # If the second socket doubled the cost there would be nothing to gain.
    assert tune.recommend(Curve([shared(1, 10.0), shared(2, 20.0)])).sockets == 1


def test_a_load_that_is_too_weak_is_not_believed() -> None:
    weak = Point(2, 2, visits=[Visit(110_000, 10.0, 1.1, 0.99, 1)])
    strong = Point(2, 1, visits=[Visit(99_000, 10.0, 0.99, 0.8, 1)])
    assert weak.load_bound and not weak.server_bound
    assert strong.server_bound and not strong.load_bound
    curve = Curve([strong, weak])
    assert curve.projected
    assert curve.capacity(weak) == 200_000
    # A server that idles beside a load that idles is limited by something else; its rate is what it serves.
    idle = Point(2, 2, visits=[Visit(110_000, 10.0, 1.1, 0.5, 1)])
    assert not idle.load_bound and not idle.server_bound
    assert not Curve([strong, idle]).projected


@pytest.mark.parametrize(
    ("flow", "cpu", "random_", "answer"),
    [(100, 100, 100, "flow"), (100, 102, 102, "flow"), (100, 110, 105, "cpu"), (100, 50, 104, "random"),
     (100, 20, 30, "flow")],
)
def test_steering_is_by_flow_unless_another_is_clearly_better(flow: int, cpu: int, random_: int, answer: str) -> None:
    points = [Point(2, 2, steer, visits=[Visit(qps, 10.0, 2.0)])
              for steer, qps in (("flow", flow), ("cpu", cpu), ("random", random_))]
    assert tune.choose_steering(points) == answer


def test_rules_of_thumb() -> None:
    as_many, used, harm = tune.rules_of_thumb(measured(knee(4), [1, 2, 3, 4, 6, 8], 4), 4)
    assert (as_many.says, as_many.agrees, as_many.verdict) == ("4", True, "4 serve 100.0% of the best")
    assert (used.says, used.agrees) == ("4 / 1.00 = 4", True)
    assert (harm.says, harm.agrees) == ("tried: 1, 2, 3, 4, 6, 8", True)
    as_many, used, harm = tune.rules_of_thumb(measured(peak(2), [1, 2, 3, 4, 8], 8), 8)
    assert (as_many.agrees, as_many.verdict) == (False, "8 serve only 64.7% of what 2 serve")
    assert (harm.agrees, harm.verdict) == (False, "3 serve 7.0% less than 2")
    assert tune.rules_of_thumb(measured(flat, [1], 8), 8)[0].agrees is None
    assert tune.rules_of_thumb(measured(flat, [2, 3], 3), 3)[1].agrees is None


def test_the_cpus_of_one_socket_are_those_it_had_alone() -> None:
    curve = Curve([shared(1, 10.0), shared(2, 10.0)])
    rule = tune.rules_of_thumb(curve, 2)[1]
    assert (rule.agrees, rule.says) == (None, "-")
    alone = Point(1, 1, visits=[Visit(1e5, 10.0, 0.97)])
    rule = tune.rules_of_thumb(curve, 2, alone)[1]
    assert (rule.agrees, rule.says) == (True, "2 / 0.97 = 2")


def test_coredns_s_own_examples_of_the_rule() -> None:
    """4 CPUs used and 8 available: 2 sockets; 8 used and 64 available: 8."""
    for used, available, sockets in ((4.0, 8, 2), (8.0, 64, 8)):
        points = [Point(available, number, visits=[Visit(1e5, 10.0, used)]) for number in (1, sockets)]
        assert tune.rules_of_thumb(Curve(points), available)[1].says == f"{available} / {used:.2f} = {sockets}"
