# SPDX-License-Identifier: Apache-2.0
"""Runs a scenario: everything is started once, then measured turn about, round by round.

Strategy: as `fastdns.bench.turns` measures, with what a scenario needs around each turn: warming, fresh names, a flood,
a reload. All servers of a scenario stand idle beside each other while one of them is asked, so that a machine whose
clock or neighbours change deceives all alike. The first round is thrown away. Ratios are taken within a round, the
floor's turn of that round being 1, and their median is what is reported. The floor is asked over UDP in every scenario.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastdns.bench._load import Load
from fastdns.bench.cpu import CoreMeter, CpuMeter
from fastdns.bench.target import TargetError
from fastdns.bench.turns import Shape, Turn, figures

from .arms import Arm, Measured, Plan, Skipped, spins, start_arms, start_upstream
from .ask import Names
from .attack import attacked
from .flood import Flooding
from .quota import NoQuota
from .report import FLOOR, US
from .scenario import Scenario, shape_of
from .upstream import Missing, Upstream

FILL_ROUNDS = 8  # attempts to bring all warm names into a cache
FILL_SECONDS = 60.0
FILL_TIMEOUT = 1.0
FLOOD_LEAD = 0.75  # seconds that a flood lasts before the measurement begins: longer than the slow upstream takes
TIMEOUT = 0.3  # seconds: what is not answered then is lost, and the next question leaves; much shorter than a turn
WARM_TIMEOUT = 0.2
FLOOD_TIMEOUT = 1.0
FLOOD_SOCKETS = 16
FLOOD_SPARE = 1.0  # seconds that its questions last longer than they should be needed
MOST_FRESH = 400_000  # questions made for one turn


class Failed(RuntimeError):
    """A server that does not do what a scenario needs; the text says what."""


def run(scenario: Scenario, plan: Plan, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Measures a scenario; yields a result for each shape, or one that says why it was skipped."""
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastdns-bench-")))
            names = Names(scenario.questions.names, scenario.questions.fresh)
            behind = start_upstream(scenario, plan, folder, stack)
            arms, left_out = start_arms(scenario, plan, folder, behind, stack)
            for words in scenario.shapes:
                yield measure(scenario, plan, shape_of(words), arms, left_out, names, behind, say)
    except (NoQuota, Missing, Skipped) as error:
        yield without_figures(scenario, str(error), failed=False)
    except (Failed, TargetError) as error:
        yield without_figures(scenario, str(error), failed=True)


def without_figures(scenario: Scenario, why: str, failed: bool) -> dict[str, Any]:
    """The result of a scenario that was not measured; `failed`: it is not the machine's fault."""
    head = heading(scenario, scenario.shapes[0])
    return {**head, "skipped": why, "failed": failed, "left_out": {}, "noisy": [], "arms": []}


def heading(scenario: Scenario, shape: str) -> dict[str, Any]:
    """What every result begins with. `fresh`: the share of questions that a cache cannot know, None if that varies."""
    fresh = None if scenario.reload or scenario.flood or scenario.attack else scenario.questions.fresh
    head = {"name": scenario.name, "shape": shape, "about": scenario.about, "fresh": fresh}
    return {**head, "attack": scenario.attack, "holds": scenario.holds} if scenario.attack else head


def measure(
    scenario: Scenario,
    plan: Plan,
    shape: Shape,
    arms: Sequence[Arm],
    left_out: Mapping[str, str],
    names: Names,
    behind: Upstream | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """All rounds of one shape. Each arm has one turn in each; the order alternates. A peer that fails is left out from
    there on; raises Failed when the floor or our own server does."""
    out = dict(left_out)

    def attempt(arm: Arm, what: Callable[[], None]) -> None:
        if arm.name in out:
            return
        try:
            what()
        except (Failed, OSError, RuntimeError) as error:
            if arm.name in (FLOOR, US):
                raise Failed(f"{arm.name}: {error}") from error
            out[arm.name] = str(error)

    def one_turn(arm: Arm, counts: bool) -> None:
        try:
            measured = turn(arm, scenario, plan, shape, names, behind)
        except Failed:  # once may be the machine's fault
            measured = turn(arm, scenario, plan, shape, names, behind)
        if counts:
            arm.turns.append(measured)

    for arm in arms:
        arm.turns.clear()
        if behind is not None and arm.name != FLOOR:
            attempt(arm, functools.partial(fill, arm, plan, names))
    for number in range(plan.rounds + 1):
        say(f"{scenario.name} {shape.name}: round {number} of {plan.rounds}")
        for arm in arms if number % 2 == 0 else arms[::-1]:
            attempt(arm, functools.partial(one_turn, arm, number > 0))
    base = next(arm.turns for arm in arms if arm.name == FLOOR)
    found = [summary(arm, base) for arm in arms if arm.name not in out]
    noisy = [f"{arm['name']}: {cause}" for arm in found if arm["name"] in (FLOOR, US) for cause in arm["noisy"]]
    head = {**heading(scenario, shape.name), "spin": spins(scenario, plan)}
    return {**head, "skipped": None, "failed": False, "left_out": out, "noisy": noisy, "arms": found}


def fill(arm: Arm, plan: Plan, names: Names) -> None:
    """Asks for every warm name until all were answered in one pass. Raises Failed when that does not succeed."""
    if names.warm is None:
        return
    for _ in range(FILL_ROUNDS):
        load = arm.generator(names.warm, Shape("fill", 4, 16), plan, FILL_TIMEOUT, loop=False)
        tally = load.run(FILL_SECONDS)
        load.close()
        if tally.completed - tally.wrong_rcode == len(names.warm):
            return
    raise Failed(f"it answers {tally.completed} of {len(names.warm)} names, with rcodes {tally.rcodes}")


def turn(
    arm: Arm, scenario: Scenario, plan: Plan, shape: Shape, names: Names, behind: Upstream | None
) -> Measured:
    """Warms a server, prepares what the scenario asks for, and measures it once."""
    spin = spins(scenario, plan)
    if scenario.attack and arm.name != FLOOR:
        return attacked(arm, scenario, plan, shape, names)
    if names.warm is not None:
        warming = arm.generator(names.warm, shape, plan, WARM_TIMEOUT, spin=spin)
        warming.run(plan.warm)
        warming.close()
    count = min(MOST_FRESH, round(1.5 * arm.rate * plan.seconds))
    load = arm.generator(names.measured(count), shape, plan, TIMEOUT, loop=names.all_warm, spin=spin)
    before = behind.asked() if behind else None
    with flooding(arm, scenario, plan, names) as others:
        if scenario.reload and arm.reload is not None and arm.target.process is not None:
            os.kill(arm.target.process.pid, arm.reload)
        answered = others.answered
        with CoreMeter() as cores, CpuMeter(arm.target.pids()) as cpu:
            tally = load.run(plan.seconds)
        answered = others.answered - answered
    load.close()
    after = behind.asked() if behind else None
    arm.forget_log()
    arm.rate = max(tally.qps, 1000.0)
    if not tally.completed:
        raise Failed(f"it answered nothing in a turn of {plan.seconds:g} s")
    asked = None
    if before is not None and after is not None and scenario.flood is None and arm.name != FLOOR:
        asked = (after - before) / tally.completed
    stolen = max((core.stolen for core in cores.cores.values()), default=0.0)
    return Measured(tally, cpu.seconds, stolen, answered, asked)


def flooding(arm: Arm, scenario: Scenario, plan: Plan, names: Names) -> Flooding:
    """The flood of a scenario against one server, not yet begun; one of nothing where the scenario has none."""
    if scenario.flood is None:
        return Flooding(None)
    count = round(scenario.flood.rate * (FLOOD_LEAD + plan.seconds + TIMEOUT + FLOOD_SPARE))
    load = Load(
        arm.target.address,
        arm.target.port,
        names.flood(count, scenario.flood.gone),
        sockets=FLOOD_SOCKETS,
        rate=scenario.flood.rate,
        timeout=FLOOD_TIMEOUT,
        loop=False,
        cpu=plan.upstream_cpu,
    )
    return Flooding(load, FLOOD_LEAD)


def summary(arm: Arm, floor: Sequence[Turn]) -> dict[str, Any]:
    """One server's figures: medians over the rounds; times in microseconds. `lost` is a share of what was sent, `wrong`
    (id, question or rcode) of what was answered."""
    found = figures(arm.name, arm.turns, floor)
    asked = [turn.asked for turn in arm.turns if turn.asked is not None]
    held = [turn.held for turn in arm.turns if turn.held is not None]
    return {
        "name": arm.name,
        "cpu_us": found.cpu_us_per_answer.median,
        "cpu_us_low": found.cpu_us_per_answer.low,
        "cpu_us_high": found.cpu_us_per_answer.high,
        "ratio": found.ratio_cpu.median,
        "ratio_low": found.ratio_cpu.low,
        "ratio_high": found.ratio_cpu.high,
        "qps": found.qps.median,
        "p50_us": 1e6 * found.p50.median,
        "p99_us": 1e6 * found.p99.median,
        "lost": statistics.median(turn.tally.lost / max(1, turn.tally.sent) for turn in arm.turns),
        "wrong": sum(turn.tally.wrong for turn in arm.turns) / sum(turn.tally.completed for turn in arm.turns),
        "asked_upstream": statistics.median(asked) if asked else None,
        "noisy": found.noisy,
        **({"held": statistics.median(held)} if held else {}),
    }
