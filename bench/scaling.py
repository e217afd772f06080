# SPDX-License-Identifier: Apache-2.0
"""The table of `## Scaling` in bench/README.md: measures what it rests on, makes it, writes it.

usage: python -m bench.scaling [measure] [write]

`measure` takes the cost of a hit on one core (two CPUs are needed) and the cache lines that callgrind counted for this
compiler, into bench/scaling.json. `write` puts the table of bench/scaling.json into the page. Without a word the table
is printed. tests/unit/test_scaling_page.py sees to it that the page shows what the model says.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from fastdns.bench.scaling import Assumptions, Cost, doublings, predict

HERE = Path(__file__).resolve().parent
INPUTS = HERE / "scaling.json"
PAGE = HERE / "README.md"
BEGIN, END = "<!-- python -m bench.scaling write -->", "<!-- end of the table -->"
CORES = doublings(64)
FLOWS = (100, 1000, 100_000)
HEAVY = 0.1
ROUNDS, SECONDS = 5, 3.0


def measure() -> None:
    """Writes bench/scaling.json: machine, cost of a hit, its cache lines. ScalingError, CannotCountError."""
    from bench.instructions.count import file_of, key, lines
    from fastdns.bench import scaling_run
    from fastdns.bench.cpu import machine
    from fastdns.bench.scaling_check import FULL

    server, load = scaling_run.places(1, sorted(os.sched_getaffinity(0)))
    rounds = [scaling_run.measure(server, load, seconds=SECONDS) for _ in range(ROUNDS)]
    numbers = file_of(key())
    counted = json.loads(numbers.read_text())["lines"] if numbers.exists() else lines()
    for one in rounds:
        if one.busy < FULL:
            said = f"the load filled {one.busy:.0%} of the core: a query costs more there than on a full one"
            print(said, file=sys.stderr)
    facts = machine()
    content = {
        "machine": {name: facts[name] for name in ("cpu", "usable_cores", "python", "compiler")}
        | {"kernel": str(facts["kernel"]).partition("-")[0]},
        "rounds": [asdict(one) for one in rounds],
        "cpu_us": round(scaling_run.median(rounds).cpu_us, 3),
        "far_lines": counted["beyond_l2"],
    }
    INPUTS.write_text(json.dumps(content, indent=2) + "\n")


def table() -> str:
    """The page's table in Markdown, from bench/scaling.json."""
    inputs = json.loads(INPUTS.read_text())
    cost, assumed = Cost(inputs["cpu_us"], inputs["far_lines"]), Assumptions()
    flows = " | ".join(f"{count:,} flows" for count in FLOWS)
    where = f"{inputs['machine']['cpu']}, Linux {inputs['machine']['kernel']}"
    out = [
        f"A hit on one core ({where}): {cost.cpu_us:.2f} µs of CPU, and {cost.far_lines:g} cache lines that",
        f"the core's own caches do not hold. Assumed: the card costs {assumed.nic_share:.0%} more; each further core",
        f"makes a query {assumed.slowing:.1%} dearer; kernel and card move {assumed.kernel_lines:g} lines a query;",
        f"memory gives {assumed.memory_gb:g} GB/s.",
        "",
        f"| cores | all busy | {flows} | one flow asks {HEAVY:.0%} | memory, GB/s |",
        "| ---: | ---: | " + "---: | " * len(FLOWS) + "---: | ---: |",
    ]
    for cores in CORES:
        found = predict(cores, cost, assumed, FLOWS, HEAVY)
        rates = [found.saturated, *found.lossless, found.heavy]
        shown = " | ".join(f"{rate / 1e6:.2f}" for rate in rates)
        out.append(f"| {cores} | {shown} | {found.memory_gb:.2f} |")
    return "\n".join(out)


def page(text: str) -> str:
    """The page with the table of now. ValueError when it has no place for one."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no place for the table")
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


def main(words: list[str]) -> int:
    """Does what the words say."""
    if set(words) - {"measure", "write"}:
        print(__doc__)
        return 2
    if "measure" in words:
        measure()
    if "write" in words:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        print(table())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
