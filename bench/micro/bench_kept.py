# SPDX-License-Identifier: Apache-2.0
"""_kept: an answer of a plugin in Python that is given again, by the name, by the name and the client, and for every
name; and a name whose rewriting is kept. Kernel and clients are in it, as in bench_udp."""

import pytest

from fastdns import metrics

from .rig import Rig, wires

BATCHES = 20
BATCH = 64
CHAINS = {
    "name": 'template IN A {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}',
    "client": 'template IN A {\nanswer "{{ .Name }} 60 IN TXT {{ .Remote }}"\n}',
    "any-name": "demo",
    "rewrite": 'rewrite name regex ^(.*)[.]org[.]$ {1}.net. answer auto\n'
               'template IN A {\nanswer "{{ .Name }} 60 IN A 192.0.2.1"\n}',
}


@pytest.mark.parametrize("chain", CHAINS)
def bench_again(repeated, chain):
    queries = wires(BATCH)
    with Rig(f".:53 {{\n{CHAINS[chain]}\n}}\n", upstreams=0) as rig:
        rig.start_python(metrics.RECORDER)

        def serve() -> int:
            replies = 0
            for _ in range(BATCHES):
                rig.bench.send(queries)
                rig.bench.turn()
                replies += rig.bench.collect()
            return replies

        # Each name is answered by Python once; behind a rewritten one stands a plugin of its own.
        rig.bench.send(queries)
        for _ in range(4):
            rig.bench.turn()
            rig.engine.bridge.drain()
        rig.bench.turn()
        assert rig.bench.collect() == BATCH
        assert repeated(serve, items=BATCHES * BATCH, unit="query") == BATCHES * BATCH
        assert rig.counter("fastdns_kept_hits_total") >= BATCHES * BATCH
        assert rig.counter("fastdns_python_queries_total") <= 2 * BATCH
