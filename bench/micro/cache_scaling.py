# SPDX-License-Identifier: Apache-2.0
"""Look-ups in the shared cache by one process and by two at once, each pinned to a CPU, without sockets.

usage: python -m bench.micro.cache_scaling [NAMES [SECONDS]]

Strategy: hits take no lock and write no shared line, so two processes should do twice the work of one. Rounds with one
process (on either CPU) and with two alternate, so that a machine whose clock changes deceives neither; the
medians are compared. Exits with 1 below 1.9, or with 2 where there are not two CPUs to use.
"""

import os
import statistics
import struct
import sys
import time

from fastdns._cache import Look, Segment

ROUNDS = 7
WANTED = 1.9


def name_of(number: int) -> bytes:
    """A lower-cased name in wire form."""
    label = b"host%d" % number
    return bytes([len(label)]) + label + b"\7example\3net\0"


def work(segment: Segment, names: list[bytes], cpu: int, start: float, seconds: float, out: int) -> None:
    """Looks names up from `start` on (monotonic), for `seconds`; writes look-ups per second to a descriptor."""
    os.sched_setaffinity(0, {cpu})
    look = Look(segment, 1)
    batch = max(1, 20000 // len(names))
    look.time_gets(names, batch)
    while time.monotonic() < start:
        pass
    done, begin = 0, time.monotonic()
    while (now := time.monotonic()) < start + seconds:
        done += look.time_gets(names, batch)
    os.write(out, struct.pack("d", done / (now - begin)))


def measure(segment: Segment, names: list[bytes], cpus: list[int], seconds: float) -> float:
    """Look-ups per second of one process on each of the CPUs, together."""
    there, out = os.pipe()
    start = time.monotonic() + 0.2
    children = []
    for cpu in cpus:
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
    for _ in cpus:
        rate += struct.unpack("d", os.read(there, 8))[0]
    os.close(there)
    os.close(out)
    return rate


def main(names: int = 1000, seconds: float = 0.5) -> int:
    """Prints the rates and their ratio."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        print("two CPUs are needed")
        return 2
    segment = Segment.create([(1, 9984, 9984)])
    look = Look(segment, 1)
    wires = [name_of(number) for number in range(names)]
    for wire in wires:
        look.put(wire, bytes(12) + wire + bytes(4 + 3 * 16), offsets=(40, 56, 72), ttl=3600)
    one, two = [], []
    for turn in range(ROUNDS):
        one.append(measure(segment, wires, [cpus[turn % 2]], seconds))
        two.append(measure(segment, wires, cpus, seconds))
    alone, both = statistics.median(one), statistics.median(two)
    print(f"{names} names, {seconds} s, medians of {ROUNDS}")
    print(f"one process   {alone / 1e6:7.2f} M look-ups/s  {1e9 / alone:6.1f} ns each")
    print(f"two processes {both / 1e6:7.2f} M look-ups/s  ratio {both / alone:.2f}")
    return 0 if both / alone >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main(*(kind(word) for kind, word in zip((int, float), sys.argv[1:], strict=False))))
