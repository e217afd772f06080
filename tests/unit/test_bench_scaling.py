# SPDX-License-Identifier: Apache-2.0
"""The scaling model: its draws against exact expectations, its limits, and that the page shows what it says."""

from __future__ import annotations

import itertools
import statistics

import pytest

from fastdns.bench.scaling import Assumptions, Cost, busiest, capacity, doublings, octets, predict

FREE = Assumptions(nic_share=0.0, slowing=0.0, kernel_lines=0.0, memory_gb=1e9)


def exact(flows: int, sockets: int) -> float:
    """The expected maximum over the mean, by going through every placement."""
    placements = itertools.product(range(sockets), repeat=flows)
    greatest = [max(placement.count(socket) for socket in range(sockets)) for placement in placements]
    return statistics.fmean(greatest) * sockets / flows


@pytest.mark.parametrize(("flows", "sockets"), [(1, 1), (2, 2), (4, 2), (6, 3), (8, 3), (5, 4)])
def test_the_busiest_socket_has_its_exact_expectation(flows: int, sockets: int) -> None:
    assert busiest(flows, sockets, trials=20_000).mean == pytest.approx(exact(flows, sockets), rel=0.02)


def test_one_flow_is_one_socket() -> None:
    assert busiest(1, 8) == (8.0, 8.0)
    assert busiest(0, 8, [1.0]) == (8.0, 8.0)


def test_many_flows_are_nearly_even_and_few_are_not() -> None:
    few, some, many = (busiest(n, 16).mean for n in (16, 1000, 100_000))
    assert few > some > many > 1.0
    assert few > 2.5 and some < 1.4 and many < 1.04
    assert busiest(1000, 16).p95 >= some


def test_a_heavy_client_is_on_one_socket_whatever_their_number() -> None:
    # A tenth of everything from one flow: its socket has that tenth and a part of the rest.
    assert busiest(100_000, 32, [0.1]).mean == pytest.approx(0.1 * 32 + 0.9, rel=0.03)
    assert busiest(100_000, 1, [0.1]).mean == pytest.approx(1.0)


def test_the_same_seed_the_same_figures() -> None:
    assert busiest(500, 8, seed=3) == busiest(500, 8, seed=3) != busiest(500, 8, seed=4)


@pytest.mark.parametrize("arguments", [(0, 4), (-1, 4), (5, 0), (5, 4, [1.5]), (5, 4, [-0.1])])
def test_draws_that_make_no_sense(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="flows and the shares"):
        busiest(*arguments)


def test_cores_multiply_where_nothing_is_assumed_away() -> None:
    cost = Cost(cpu_us=2.0, far_lines=4.0)
    assert [capacity(n, cost, FREE) for n in (1, 2, 64)] == pytest.approx([500e3, 1e6, 32e6])
    assert predict(64, cost, FREE).saturated == pytest.approx(32e6)


def test_each_assumption_takes_its_part() -> None:
    cost = Cost(cpu_us=2.0, far_lines=4.0)
    assert capacity(1, cost, Assumptions(nic_share=0.25)) == pytest.approx(400e3)
    assert capacity(65, cost, Assumptions(nic_share=0.0, slowing=0.01)) == pytest.approx(65 * 500e3 / 1.64)
    assert octets(cost, Assumptions(kernel_lines=12.0)) == 16 * 64
    starved = predict(64, cost, Assumptions(nic_share=0.0, slowing=0.0, kernel_lines=12.0, memory_gb=1.024))
    assert starved.saturated == pytest.approx(1e6) and starved.memory_gb == pytest.approx(1.024)


def test_a_prediction_by_flows_and_with_a_heavy_client() -> None:
    cost = Cost(cpu_us=2.0, far_lines=4.0)
    found = predict(8, cost, FREE, flows=(1, 100, 100_000), heavy_share=0.5)
    assert found.lossless[0] == pytest.approx(500e3)
    assert found.lossless[0] < found.lossless[1] < found.lossless[2] < found.saturated == pytest.approx(4e6)
    assert found.heavy == pytest.approx(4e6 / 4.5)
    assert predict(8, cost, FREE, heavy_share=1.0).heavy == pytest.approx(500e3)


def test_costs_and_cores_that_make_no_sense() -> None:
    for arguments in ((0.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="a query costs something"):
            Cost(*arguments)
    with pytest.raises(ValueError, match="0 cores"):
        capacity(0, Cost(1.0, 1.0), FREE)
    with pytest.raises(ValueError, match="0 cores"):
        doublings(0)


def test_doublings() -> None:
    assert [doublings(n) for n in (1, 2, 3, 8, 12)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 12]]
