# SPDX-License-Identifier: Apache-2.0
"""Look-ups in the shared cache by one process and by two at once, each pinned to a CPU, without sockets.

usage: python -m bench.micro.cache_scaling [NAMES [SECONDS]]

Strategy: hits take no lock and write no shared line, so two processes should do twice the work of one. Each round
measures one process on either CPU, two on one segment, and as a control two on a segment each, in changing order; its
ratios compare what was measured within seconds, and their medians are judged. Rates are per second of CPU time, which
what else runs on the machine does not take. Where the control scales no better, the machine is the limit (CPUs
that are threads of one core, a shared clock), not what the processes share. Exits with 1 when the shared segment
is below 1.9 and below 0.95 of the control, or with 2 where there are not two CPUs to use.
"""

import os
import random
import statistics
import struct
import sys
import time

from fastdns._cache import Look, Segment

ROUNDS = 9
WANTED = 1.9
OF_CONTROL = 0.95


def name_of(number: int) -> bytes:
    """A lower-cased name in wire form."""
    label = b"host%d" % number
    return bytes([len(label)]) + label + b"\7example\3net\0"


def filled(names: list[bytes]) -> Segment:
    """A segment with an answer for each name."""
    segment = Segment.create([(1, 9984, 9984)])
    look = Look(segment, 1)
    for name in names:
        look.put(name, bytes(12) + name + bytes(4 + 3 * 16), offsets=(40, 56, 72), ttl=3600)
    return segment


def work(segment: Segment, names: list[bytes], cpu: int, start: float, seconds: float, out: int) -> None:
    """Looks names up from `start` on (monotonic), for `seconds`; writes look-ups per CPU second to a descriptor."""
    os.sched_setaffinity(0, {cpu})
    look = Look(segment, 1)
    batch = max(1, 20000 // len(names))
    look.time_gets(names, batch)
    while time.monotonic() < start:
        pass
    done, begin = 0, time.thread_time()
    while time.monotonic() < start + seconds:
        done += look.time_gets(names, batch)
    os.write(out, struct.pack("d", done / (time.thread_time() - begin)))


def measure(places: list[tuple[Segment, int]], names: list[bytes], seconds: float) -> float:
    """Look-ups per CPU second of one process on each (segment, CPU), together."""
    there, out = os.pipe()
    start = time.monotonic() + 0.2
    children = []
    for segment, cpu in places:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(segment, names, cpu, start, seconds, out)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    rate = 0.0
    for child in children:
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit("a process failed")
    for _ in places:
        rate += struct.unpack("d", os.read(there, 8))[0]
    os.close(there)
    os.close(out)
    return rate


def spread(values: list[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main(names: int = 1000, seconds: float = 0.3) -> int:
    """Prints the rates and their ratios."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print("two CPUs are needed")
        return 2
    wires = [name_of(number) for number in range(names)]
    shared, own = filled(wires), filled(wires)
    first, second = cpus
    places = {
        "first": [(shared, first)],
        "second": [(shared, second)],
        "shared": [(shared, first), (shared, second)],
        "control": [(shared, first), (own, second)],
    }
    rounds = []
    for _ in range(ROUNDS):
        order = random.sample(sorted(places), len(places))
        rounds.append({what: measure(places[what], wires, seconds) for what in order})
    alone = [(rates["first"] + rates["second"]) / 2 for rates in rounds]
    shares = [rates["shared"] / one for rates, one in zip(rounds, alone, strict=True)]
    against = [rates["shared"] / rates["control"] for rates in rounds]
    print(f"{names} names, {seconds} s, medians of {ROUNDS} rounds (quartiles)")
    print(f"one process: {statistics.median(alone) / 1e6:.2f} M look-ups per CPU second, "
          f"{1e9 / statistics.median(alone):.1f} ns each")
    print(f"two processes, one segment: {spread(shares)} times as many")
    print(f"... compared with two on a segment each: {spread(against)}")
    return 0 if statistics.median(shares) >= WANTED or statistics.median(against) >= OF_CONTROL else 1


if __name__ == "__main__":
    sys.exit(main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:], strict=False))))
