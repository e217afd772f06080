# SPDX-License-Identifier: Apache-2.0
"""The configuration hash: CoreDNS's own value for a Corefile with every odd character, and its JSON form."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fastdns.corefile import Source, load_source
from fastdns.corefile.digest import sha512, to_json
from fastdns.corefile.lexer import Token
from fastdns.corefile.parser import RawBlock

ODD = (
    b'# comment\n(snip) {\n  errors { # none\n  }\n  log . "{combined} <a&b>\\"q\\" \\x \xc3\xa9 \xff \xe2\x80\xa8 \x01'
    b'\x7f\x08\x0c {$FDT} {$FDB}" {\n    class denial\n  }\n}\nexample.org:5399, 10.0.0.0/30:5399 {\n  import snip\n'
    b'  template ANY ANY "{$FDT}.test" { # a\n    answer "{{ .Name }} 60 IN TXT \\"a\nb\\""\n  }\n  whoami#glued\n'
    b"  reload 10s\n}\n"
)
# What CoreDNS 1.14.7 logged for it with FDT="env value" and FDB set to the octets 78 ff 79.
ODD_SHA512 = (
    "a57ca01f96582b62f71bcbb450007af7063e4258f69d2d72eed363da19047ba8"
    "08c25a6896809006d270cab896091f54b6c1798b10238057d143aafd62cea473"
)
ENV = {"FDT": "env value", "FDB": b"x\xffy".decode("utf-8", "surrogateescape")}


def test_the_hash_is_that_of_coredns():
    assert load_source(Source("Corefile", ODD), environ=ENV).sha512() == ODD_SHA512


def test_a_comment_counts_only_if_it_moves_a_line():
    assert load_source(Source("Corefile", ODD.replace(b"# none", b"")), environ=ENV).sha512() == ODD_SHA512
    assert load_source(Source("Corefile", b"# more\n" + ODD), environ=ENV).sha512() != ODD_SHA512


def test_no_block_is_null():
    assert to_json([]) == b"null"
    assert sha512([]).startswith("04f8ff2682604862")


def test_form():
    block = RawBlock(["a", "b"], {"log": [Token("log", "", 2, 1)], "cache": [Token("<&>\u2028\x0b\udcff", "/x", 3, 1)]})
    assert to_json([block, RawBlock(["c"])]) == (
        b'[{"Keys":["a","b"],"Tokens":{"cache":[{"File":"/x","Line":3,"Text":"\\u003c\\u0026\\u003e\\u2028\\u000b\\ufffd"}],'
        b'"log":[{"File":"","Line":2,"Text":"log"}]}},{"Keys":["c"],"Tokens":{}}]'
    )


TEXT = st.text(st.characters(codec="utf-8"))
TOKENS = st.lists(st.builds(Token, TEXT, TEXT, st.integers(0, 10**6)), max_size=3)
BLOCKS = st.lists(
    st.builds(RawBlock, st.lists(TEXT, max_size=3), st.dictionaries(TEXT, TOKENS, max_size=3)), max_size=3
)


@given(BLOCKS)
def test_it_is_json_that_says_the_same(blocks):
    read = json.loads(to_json(blocks))
    expected = [
        {
            "Keys": block.keys,
            "Tokens": {
                name: [{"File": t.file, "Line": t.line, "Text": t.text} for t in tokens]
                for name, tokens in block.tokens.items()
            },
        }
        for block in blocks
    ]
    assert read == (expected or None)


@given(BLOCKS, BLOCKS)
def test_equal_hash_means_equal_blocks(one, other):
    assert (to_json(one) == to_json(other)) == (one == other)
