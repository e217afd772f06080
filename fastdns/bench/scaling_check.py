# SPDX-License-Identifier: Apache-2.0
"""`fastdns bench --scaling`: starts the server on 1, 2, 4 … cores and holds what is measured against the prediction.

Strategy: rounds go up and down the numbers of cores in turn, so that a machine whose clock drifts deceives none of them
more than another. The cost of a query on one core is the only figure that the prediction takes from the machine. What
is compared is capacity, cores / CPU per answer: it stays true where the load cannot fill the cores, which is said
beside it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from ..errors import FastdnsError
from .cpu import machine
from .ending import by_signals
from .scaling import Assumptions, Cost, busiest, capacity, doublings
from .scaling_run import Measured, ScalingError, measure, median, places

HOLDS = 0.15  # a capacity further from its prediction says that the model is wrong
FULL = 0.9  # of a core: below, the load does not fill it


@dataclass(frozen=True)
class Row:
    """A line of the outcome."""

    measured: Measured
    predicted: float
    """Capacity from the cost on one core."""
    imbalance: float
    """The busiest socket's load as a multiple of the mean, for flows that all ask alike."""

    @property
    def ratio(self) -> float:
        """Measured capacity to predicted."""
        return self.measured.capacity / self.predicted

    @property
    def holds(self) -> bool:
        """Within the model's tolerance."""
        return abs(self.ratio - 1) <= HOLDS

    @property
    def full(self) -> bool:
        """The load filled the server's cores, so that its rate is the server's."""
        return self.measured.busy >= FULL


def run_scaling(
    numbers: Sequence[int] = (), *, rounds: int = 3, seconds: float = 3.0, sockets: int = 64, in_flight: int = 4,
    usable: Sequence[int] = (), progress: Callable[[int, Measured], None] | None = None,
) -> list[Row]:
    """Measures each number of cores (default: 1, 2, 4 … half of what may be used) and predicts all from one core.

    `usable`: CPUs (default: the affinity of this process). `progress` is told of each round's measurement.
    ScalingError, TargetError.
    """
    usable = list(usable) or sorted(os.sched_getaffinity(0))
    wanted = sorted({1, *numbers}) if numbers else doublings(max(1, len(usable) // 2))
    where = {cores: places(cores, usable) for cores in wanted}
    found: dict[int, list[Measured]] = {cores: [] for cores in wanted}
    for number in range(rounds):
        for cores in wanted if number % 2 == 0 else wanted[::-1]:
            server, load = where[cores]
            one = measure(server, load, seconds=seconds, sockets=sockets, in_flight=in_flight)
            found[cores].append(one)
            if progress is not None:
                progress(number, one)
    return rows([median(found[cores]) for cores in wanted])


def rows(measured: Sequence[Measured]) -> list[Row]:
    """What was measured beside what one core's cost predicts; the first is the one core's."""
    cost = Cost(measured[0].cpu_us, 0.0)
    loopback = Assumptions(nic_share=0.0)
    return [
        Row(one, capacity(one.cores, cost, loopback), busiest(one.flows, one.cores).mean) for one in measured
    ]


def text(rows: Sequence[Row]) -> str:
    """The table, and what it says of the model."""
    lines = [
        "cores  load  flows  predicted qps   capacity  ratio  answered qps  µs/answer  busy  busiest (expected)  lost",
    ]
    for row in rows:
        one = row.measured
        lines.append(
            f"{one.cores:5}  {one.load_cores:4}  {one.flows:5}  {row.predicted:13,.0f}  {one.capacity:9,.0f}"
            f"  {row.ratio:5.2f}  {one.qps:12,.0f}  {one.cpu_us:9.3f}  {one.busy:4.0%}"
            f"  {one.busiest:10.2f} ({row.imbalance:4.2f})   {one.lost:4}"
        )
    wrong = [row.measured.cores for row in rows if not row.holds]
    lines.append("")
    if len(rows) == 1:
        lines.append("One core alone: nothing to compare with. More cores are needed, as many again for the load.")
    elif wrong:
        lines.append(f"The prediction fails by more than {HOLDS:.0%} at {', '.join(map(str, wrong))} cores.")
    else:
        lines.append(f"The prediction holds within {HOLDS:.0%}.")
    idle = [row.measured.cores for row in rows if not row.full]
    if idle:
        lines.append(f"The load does not fill the server's cores at {', '.join(map(str, idle))}: there the rate is the "
                     "load's; capacity is cores / CPU per answer.")
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row]) -> str:
    """Machine, figures and predictions."""
    points = [{**asdict(row.measured), "capacity": row.measured.capacity, "predicted": row.predicted,
               "ratio": row.ratio, "imbalance": row.imbalance} for row in rows]
    return json.dumps({"machine": machine(), "points": points}, indent=2) + "\n"


def numbers_of(words: str) -> list[int]:
    """`1,2,4` as numbers. ArgumentTypeError."""
    try:
        found = [int(word) for word in words.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{words!r}: numbers of cores, like 1,2,4")
    return found


def positive(word: str) -> float:
    """A number above 0. ArgumentTypeError."""
    with suppress(ValueError):
        if 0 < float(word) <= 1e6:
            return float(word)
    raise argparse.ArgumentTypeError(f"{word!r}: a number above 0")


def counted(word: str) -> int:
    """A whole number above 0. ArgumentTypeError."""
    if word.isdecimal() and 0 < int(word) <= 65536:
        return int(word)
    raise argparse.ArgumentTypeError(f"{word!r}: a whole number above 0")


def scaling_main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """`fastdns bench --scaling` with the words behind it. 0: the prediction holds; 1: it fails; 2: not measured."""
    parser = argparse.ArgumentParser(prog="fastdns bench --scaling", exit_on_error=False,
                                     description="Starts the server on 1, 2, 4 … cores, loads it from the others, and "
                                                 "holds the rates against what one core's cost predicts.")
    parser.add_argument("--cores", type=numbers_of, default=[], help="of the server, like 1,2,4 (half of the machine)")
    parser.add_argument("--rounds", type=counted, default=3, help="of each number of cores (3)")
    parser.add_argument("--seconds", type=positive, default=3.0, help="of each round (3)")
    parser.add_argument("--sockets", type=counted, default=64, help="flows of each core of load (64)")
    parser.add_argument("--in-flight", type=counted, default=4, help="queries under way of each flow (4)")
    parser.add_argument("--json", default="", help="file for machine, figures and predictions")
    try:
        options, unknown = parser.parse_known_args(list(words))
        if unknown:
            raise ScalingError(f"{unknown[0]} is no option of --scaling")

        def shown(number: int, one: Measured) -> None:
            err.write(f"round {number + 1}: {one.cores} cores: {one.qps:,.0f} qps, {one.cpu_us:.3f} µs per answer\n")

        with by_signals():
            found = run_scaling(options.cores, rounds=options.rounds, seconds=options.seconds, sockets=options.sockets,
                                in_flight=options.in_flight, progress=shown)
        out.write(text(found))
        if options.json:
            Path(options.json).write_text(as_json(found))
    except (FastdnsError, argparse.ArgumentError, OSError) as error:
        err.write(f"fastdns bench --scaling: {error}\n")
        return 2
    return 0 if all(row.holds for row in found) else 1
