# SPDX-License-Identifier: Apache-2.0
"""rewrite: what rules cost a query that none matches, and one that is changed and changed back."""

import pytest

from fastdns._drive import Bench
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.plugins.rewrite import Rewrite
from fastdns.plugins.rewrite._rewrite import stage
from fastdns.plugins.rewrite.program import rows

from ..kept import QUERY, reply

TURNS = 200_000


def rules(text: str):
    (config,) = Rewrite.parse(Dispenser("Corefile", tokenize(text, "Corefile"), ("dns://.:53",), "rewrite"))
    return stage(rows(config.rules), [])


@pytest.mark.parametrize(
    "text",
    ["rewrite name another-name.test a.test", "rewrite name suffix .another.test .a.test",
     "rewrite name suffix .another.test .a.test\n" * 16, "rewrite type HINFO TXT"],
    ids=["exact", "suffix", "suffixes", "type"],
)  # fmt: skip
def bench_no_match(repeated, text):
    bench = Bench(rules(text))
    done = repeated(bench.run, QUERY, reply=reply(1), repeat=TURNS, items=TURNS, unit="query")
    assert done == ("next", True, 0, reply(1))


@pytest.mark.parametrize(
    ("text", "records"),
    [("rewrite type A AAAA", 1), ("rewrite ttl suffix . 7", 1), ("rewrite name suffix . .test.", 1),
     ("rewrite name suffix . .test. answer auto", 1), ("rewrite name suffix . .test. answer auto", 8)],
    ids=["type", "ttl", "name", "name-back", "name-back-8"],
)  # fmt: skip
def bench_match(repeated, text, records):
    bench = Bench(rules(text))
    done = repeated(bench.run, QUERY, reply=reply(records), repeat=TURNS, items=TURNS, unit="query")
    assert done[:3] == ("next", True, 0)
