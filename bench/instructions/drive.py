# SPDX-License-Identifier: Apache-2.0
"""What is counted: a worker's loop, turned by hand, through hits and misses. Runs under callgrind.

usage: python -m bench.instructions.drive [wide]

Strategy: after a warm-up each phase begins behind a mark, at which callgrind writes out what it has counted and starts
anew. Only what the loop does is collected (`--toggle-collect`), not the clients and upstreams around it. PHASES says
how many queries each phase has; the sizes are such that making a socket once per batch vanishes.
"""

import sys

from bench.micro.rig import Rig, wires

BATCH = 64
NAMES = 1024
WIDE_NAMES = 8192  # of the cache's 9,984: index and entries exceed a core's nearest cache
PHASES = {"hit": 64 * BATCH, "hit_stages": 4 * NAMES, "miss": 32 * BATCH}
"""hit: over UDP, from receive to send. hit_stages: ingress, chain, cache and egress alone. miss: over UDP, question and
reply of the upstream, store and reply to the client."""
WIDE = {"wide_hit": WIDE_NAMES}
"""As hit, each of many names once, so that nothing of an entry is near: for the lines that a hit touches."""


def main(wide: bool = False) -> None:
    """The warm-up, then the phases in their order."""
    names = WIDE_NAMES if wide else NAMES
    with Rig() as rig:
        bench, queries = rig.bench, wires(names)
        # Asked for, and once more: the first hit on an entry moves it to the ring of entries that are asked for again.
        for _ in range(3):
            bench.run(queries, names // BATCH)
        bench.mark()
        if wide:
            bench.run(queries, WIDE["wide_hit"] // BATCH)
        else:
            bench.run(queries, PHASES["hit"] // BATCH)
            bench.mark()
            bench.run_stages(queries, PHASES["hit_stages"] // NAMES)
            bench.mark()
            bench.run(queries, PHASES["miss"] // BATCH, fresh=True)
        bench.mark()


if __name__ == "__main__":
    main("wide" in sys.argv[1:])
