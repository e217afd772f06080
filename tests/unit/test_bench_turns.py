# SPDX-License-Identifier: Apache-2.0
"""Turn about: the order of turns, medians and ratios, and when figures are too noisy to quote."""

import json

import pytest

from fastdns.bench.questions import synthetic
from fastdns.bench.tally import Tally
from fastdns.bench.target import Address, Target
from fastdns.bench.turns import SHAPES, Arm, Shape, Turn, figures, measure, turn
from tests.planted import Planted

SMALL = Shape("small", 2, 2)


def made(cpu_us: float, qps: float = 1000, stolen: float = 0.0, unsent: int = 0) -> Turn:
    tally = Tally(seconds=1.0, sent=int(qps), completed=int(qps), in_window=int(qps), unsent=unsent)
    tally.latency.record(0.001, int(qps))
    return Turn(tally, cpu_us * qps / 1e6, stolen)


def test_figures_are_medians_and_ratios_are_per_round():
    # The machine halves its speed in the last round: the ratio does not notice.
    floor = [made(1.0, 4000), made(1.01, 4000), made(2.0, 2000)]
    server = [made(3.0, 1000), made(3.03, 1000), made(6.0, 500)]
    shown = figures("server", server, floor)
    assert shown.cpu_us_per_answer == pytest.approx((3.03, 3.0, 6.0))
    assert shown.ratio_cpu == pytest.approx((3.0, 3.0, 3.0))
    assert shown.ratio_qps == pytest.approx((0.25, 0.25, 0.25))
    assert shown.qps == (1000, 500, 1000)
    assert shown.server_share == pytest.approx((0.003, 0.003, 0.00303))
    assert shown.p50.median == pytest.approx(0.001, rel=1e-3)
    assert shown.noisy == ["CPU per answer spreads over 99.0% of its median"]


@pytest.mark.parametrize(
    ("turns", "cause"),
    [
        ([made(1.0), made(1.04)], None),
        ([made(1.0), made(1.06)], "spreads"),
        ([made(1.0), made(1.0, stolen=0.03)], "hypervisor took 3.0% of a core"),
        ([made(1.0), made(1.0, unsent=7)], "7 queries could not be sent"),
        ([made(1.0), made(1.0, qps=0)], "without any answer"),
    ],
    ids=["quiet", "spread", "stolen", "unsent", "silent"],
)
def test_what_is_too_noisy_to_quote(turns, cause):
    noisy = figures("server", turns, turns).noisy
    assert (noisy == []) if cause is None else any(cause in one for one in noisy)


def test_turn_about():
    told = []
    with Target.floor() as one, Target.floor(segment=True) as two:
        result = measure(
            {"floor": one, "segmented": two},
            SMALL,
            rounds=2,
            seconds=0.1,
            warm=0.05,
            questions=synthetic(100, rcode=0),
            load_cpu=-1,
            progress=lambda name, number, turn: told.append((name, number, turn)),
        )
    order = [(name, number) for name, number, _ in told]
    assert order == [
        ("floor", 0),
        ("segmented", 0),
        ("segmented", 1),
        ("floor", 1),
        ("floor", 2),
        ("segmented", 2),
    ]
    floor, segmented = result.figures
    assert (floor.name, segmented.name) == ("floor", "segmented") and result["segmented"] is segmented
    assert floor.turns == [told[3][2], told[4][2]]
    assert floor.ratio_cpu == floor.ratio_qps == (1, 1, 1)
    for shown in result.figures:
        assert shown.cpu_us_per_answer.low > 0.01
        assert all(turn.tally.completed == turn.tally.sent > 100 for turn in shown.turns)
        assert shown.cpu_us_per_answer.low <= shown.cpu_us_per_answer.median <= shown.cpu_us_per_answer.high
    exported = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert exported["shape"]["name"] == "small" and len(exported["arms"]) == 2


def test_questions_asked_once_go_on_from_turn_to_turn():
    with Planted() as server:
        arm = Arm("planted", Address("127.0.0.1", server.port), synthetic(400), once=True)
        limited = Shape("slow", 1, 1, rate=100)
        first = turn(arm, limited, 0.2, load_cpu=-1)
        second = turn(arm, limited, 0.2, load_cpu=-1)
    assert (first.tally.sent, second.tally.sent, arm.next_index) == (20, 20, 40)
    assert len({wire[12:] for wire in server.asked}) == 40
    assert first.cpu_seconds == 0.0 and first.cpu_us_per_answer == 0.0


def test_a_server_that_dies_has_no_figures():
    with Target.floor() as floor:
        arm = Arm("floor", floor, synthetic(10))

        assert turn(arm, SMALL, 0.05, load_cpu=-1).tally.completed
        pids = floor.pids()
        floor.stop()

        class Dead:
            address, port = floor.address, floor.port

            def pids(self) -> list[int]:
                return pids

        with pytest.raises(RuntimeError, match="ended while it was measured"):
            turn(Arm("dead", Dead(), synthetic(10)), SMALL, 0.05, load_cpu=-1)


@pytest.mark.parametrize("protocol", ["udp", "tcp"])
def test_the_usual_shapes_run(protocol):
    with Planted() as server:
        for shape in SHAPES.values():
            if shape.protocol == protocol:
                arm = Arm("planted", Address("127.0.0.1", server.port), synthetic(10))
                tally = turn(arm, shape, 0.1, load_cpu=-1).tally
                assert tally.completed > 0 and tally.wrong == 0


@pytest.mark.parametrize(
    ("arms", "rounds", "cause"),
    [([], 1, "0 arms"), ({"a": Address("127.0.0.1")}, 1, "need questions"), (["twice", "twice"], 1, "same name")],
)
def test_a_measurement_that_makes_no_sense(arms, rounds, cause):
    if isinstance(arms, list):
        arms = [Arm(name, Address("127.0.0.1"), synthetic(1)) for name in arms]
    with pytest.raises(ValueError, match=cause):
        measure(arms, SMALL, rounds=rounds)
