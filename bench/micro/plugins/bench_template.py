# SPDX-License-Identifier: Apache-2.0
"""template, which runs in Python: a record that is the same for all, the name's own, one made of groups of a match, and
one that is computed. Beside bench_bridge's answer, whose ring, kernel and clients are in it as well."""

import pytest

from ..rig import Rig, wires

BATCHES = 10
BATCH = 64
IP = '"{{ .Name }} 60 IN A {{ .Group.a }}.{{ .Group.b }}.{{ .Group.a }}.{{ .Group.b }}"'
HEX = '"{{ .Name }} 60 IN A 10.{{ parseInt .Group.a 16 8 }}.{{ if eq .Type `A` }}0{{ else }}1{{ end }}.1"'
STANZAS = {
    "same": 'answer "www.example.org. 60 IN A 192.0.2.1"',
    "name": 'answer "{{ .Name }} 60 IN A 192.0.2.1"',
    "match": f"match ^h[0-9]*(?P<a>[0-9])(?P<b>[0-9])[.]example[.]org[.]$\nanswer {IP}",
    "computed": f"match ^h[0-9]*(?P<a>[0-9])[.]example[.]org[.]$\nanswer {HEX}",
    "expression": "expr name() startsWith 'h' && client_ip() != ''\nanswer \"{{ .Name }} 60 IN A 192.0.2.1\"",
}


@pytest.mark.parametrize("stanza", STANZAS)
def bench_answer(repeated, stanza):
    queries = wires(BATCH)
    with Rig(f"example.org:53 {{\ntemplate IN A {{\n{STANZAS[stanza]}\n}}\n}}\n", upstreams=0) as rig:
        rig.start_python()

        def serve() -> int:
            replies = 0
            for _ in range(BATCHES):
                rig.bench.send(queries)
                for _ in range(3):
                    rig.bench.turn()
                    rig.engine.bridge.drain()
                rig.bench.turn()
                replies += rig.bench.collect()
            return replies

        assert repeated(serve, items=BATCHES * BATCH, unit="query") == BATCHES * BATCH
        assert rig.counter("coredns_template_matches_total", zone="example.org.") >= BATCHES * BATCH
