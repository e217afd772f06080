# SPDX-License-Identifier: Apache-2.0
"""The Corefile: lexer, parser and keys of a small one and of one with a thousand blocks, and options into settings."""

import pytest

from fastdns import chain
from fastdns.corefile import load_source
from fastdns.corefile.source import Source

BLOCK = """{zone} {{
    errors
    log
    prometheus
    cache 3600 {{
        success 5000
        denial 2500 30
    }}
    forward . 192.0.2.1 192.0.2.2 {{
        policy sequential
        max_fails 3
    }}
}}
"""


def text(blocks: int) -> bytes:
    return "".join(BLOCK.format(zone=f"z{number}.example.org") for number in range(blocks)).encode()


@pytest.mark.parametrize("blocks", [1, 1000])
def bench_parse(repeated, blocks):
    known, missing = chain.known(), chain.not_built()
    source = Source("Corefile", text(blocks))
    assert len(repeated(load_source, source, known, missing, items=blocks, unit="block").blocks) == blocks


@pytest.mark.parametrize("blocks", [1, 100])
def bench_settings(repeated, blocks):
    """What `check` does after the parse: every directive's rows read its tokens."""
    known, missing = chain.known(), chain.not_built()
    source = Source("Corefile", text(blocks))

    def load() -> int:
        return len(chain.load(load_source(source, known, missing)).blocks)

    assert repeated(load, items=blocks, unit="block") == blocks
