# SPDX-License-Identifier: Apache-2.0
"""tsig: what its lines and its key files may say, and what is said of those that may not."""

from __future__ import annotations

import base64
import pickle
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastdns import chain
from fastdns._stats import Stats
from fastdns.corefile import load_source
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError
from fastdns.plugins.tsig.config import TSIG, Required
from fastdns.plugins.tsig.keys import parse_keys

SECRET = "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk="
OCTETS = base64.b64decode(SECRET)
OTHER = base64.b64encode(b"another").decode()
KEYS = ("dns://example.org.:53", "dns://10.in-addr.arpa.:53")


def parsed(text: str):
    return TSIG.parse(Dispenser("Corefile", tokenize(text), KEYS))[0]


def test_nothing_said():
    assert dict(parsed("tsig")) == {
        "zones": ("example.org.", "10.in-addr.arpa."), "secret": (), "secrets": (), "require": Required(),
        "require_opcode": Required(), "whole_mac": False,
    }


def test_everything_said():
    found = parsed(
        f"tsig Example.ORG 10.0.0.0/8 {{\nsecret Key.One {SECRET}\nsecret two. {OTHER}\nsecrets /a\nsecrets b\n"
        "require A AXFR ANY\nrequire_opcode NOTIFY UPDATE\nwhole_mac\n}"
    )
    assert found.zones == ("example.org.", "10.in-addr.arpa.") and found.whole_mac
    assert [(key.name, key.secret) for key in found.secret] == [("key.one.", OCTETS), ("two.", b"another")]
    assert [file.path for file in found.secrets] == ["/a", "b"]
    assert (found.require, found.require_opcode) == (Required(False, frozenset({1, 252, 255})),
                                                     Required(False, frozenset({4, 5})))
    assert pickle.loads(pickle.dumps(found)) == found
    assert SECRET not in repr(found) and repr(OCTETS) not in repr(found)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["A"], Required(False, frozenset({1}))),
        (["A", "MX TXT"], Required(False, frozenset({15, 16}))),
        (["all"], Required(True)),
        (["all nonsense"], Required(True)),
        (["none"], Required()),
        (["A", "none nonsense"], Required()),
        (["all", "A"], Required(True, frozenset({1}))),
        (["all", "none"], Required(True)),
        (["None Reserved HTTPS"], Required(False, frozenset({0, 65535, 65}))),
    ],
)
def test_require(lines, wanted):
    assert parsed("tsig {\n" + "".join(f"require {line}\n" for line in lines) + "}").require == wanted


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [(["QUERY IQUERY STATUS NOTIFY UPDATE"], Required(False, frozenset({0, 1, 2, 4, 5}))), (["all"], Required(True)),
     (["none"], Required()), (["QUERY", "NOTIFY"], Required(False, frozenset({4})))],
)
def test_require_opcode(lines, wanted):
    text = "tsig {\n" + "".join(f"require_opcode {line}\n" for line in lines) + "}"
    assert parsed(text).require_opcode == wanted


ARGS = "Wrong argument count or unexpected line ending after '{}'"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tsig\ntsig", "plugin/tsig: this plugin can only be used once per Server Block"),
        ("tsig {\nsecret\n}", "Corefile:2 - Error during parsing: " + ARGS.format("secret")),
        ("tsig {\nsecret a\n}", "Corefile:2 - Error during parsing: " + ARGS.format("a")),
        (f"tsig {{\nsecret a {SECRET} b\n}}", "Corefile:2 - Error during parsing: " + ARGS.format("b")),
        (f"tsig {{\nsecret a..b {SECRET}\n}}", 'Corefile:2 - Error during parsing: invalid key name "a..b"'),
        (f"tsig {{\nsecret {'a' * 64} {SECRET}\n}}", f'invalid key name "{"a" * 64}"'),
        ("tsig {\nsecret a what?\n}", 'Corefile:2 - Error during parsing: the secret of key "a." is not base 64'),
        ("tsig {\nsecret a YQ\n}", 'the secret of key "a." is not base 64'),
        ('tsig {\nsecret a ""\n}', 'the secret of key "a." has 0 octets; 1 to 1024 are allowed'),
        (f"tsig {{\nsecret a {base64.b64encode(bytes(1025)).decode()}\n}}", "has 1025 octets; 1 to 1024 are allowed"),
        (f"tsig {{\nsecret a {SECRET}\nsecret A. {OTHER}\n}}", 'plugin/tsig: key "a." redefined'),
        ("tsig {\nsecrets\n}", ARGS.format("secrets")),
        ("tsig {\nsecrets a b\n}", ARGS.format("b")),
        ("tsig {\nrequire\n}", ARGS.format("require")),
        ("tsig {\nrequire a\n}", "Corefile:2 - Error during parsing: unknown query type 'a'"),
        ("tsig {\nrequire A all\n}", "unknown query type 'all'"),
        ("tsig {\nrequire TYPE65\n}", "unknown query type 'TYPE65'"),
        ("tsig {\nrequire_opcode\n}", ARGS.format("require_opcode")),
        ("tsig {\nrequire_opcode query\n}", "Corefile:2 - Error during parsing: unknown opcode 'query'"),
        ("tsig {\nrequire_opcode QUERY none\n}", "unknown opcode 'none'"),
        ("tsig {\nwhole_mac x\n}", ARGS.format("x")),
        ("tsig {\nfudge 300\n}", "Corefile:2 - Error during parsing: unknown property 'fudge'"),
        ("tsig a..b {\n}", "Corefile:1 - Error during parsing: invalid zone 'a..b'"),
    ],
)
def test_lines_that_are_refused(text, error):
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert error in str(caught.value) and str(caught.value).startswith("plugin/tsig: ")
    assert SECRET not in str(caught.value) and "what?" not in str(caught.value)


# ---- key files

GOOD = f'key "Example." {{\n    algorithm hmac-sha256;\n    secret "{SECRET}";\n}};\n'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", " "),
        GOOD.replace("\n", "\r\n\r\n"),
        GOOD.replace('"', ""),
        GOOD.replace(";", ""),
        GOOD.replace("{", ""),
        GOOD.replace('" {', '"{'),
        GOOD.replace("};\n", ""),
        GOOD.replace("algorithm hmac-sha256;", ""),
        GOOD.replace("algorithm hmac-sha256;", "algorithm nobody-knows;"),
        GOOD.replace("algorithm", f'secret "{OTHER}";\nalgorithm'),
        "# one\n// two\n/* three\n key x */" + GOOD.replace(";", "; # four\n").replace("{", "{ /* five */"),
    ],
)
def test_a_file_of_named(text):
    assert parse_keys(text) == {"example.": OCTETS}


def test_several_keys_and_none():
    assert parse_keys("") == parse_keys("\n# nothing\n") == {}
    text = GOOD + GOOD.replace("Example", "a.b") + f"key c {{ secret {OTHER}; }}"
    assert parse_keys(text) == {"example.": OCTETS, "a.b.": OCTETS, "c.": b"another"}


def test_slashes_in_a_secret_without_quotes():
    text = base64.b64encode(b"\x03\xff\xff\xff\x00").decode()
    assert "//" in text and parse_keys(f"key a {{ secret {text}; }};") == {"a.": b"\x03\xff\xff\xff\x00"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("options { };", 'line 1: unexpected token "options"'),
        ("\n}\n", 'line 2: unexpected token "}"'),
        (GOOD + "x", 'line 5: unexpected token "x"'),
        (GOOD.replace("algorithm", "\nalgo"), 'line 3: unexpected token "algo"'),
        (GOOD.replace("algorithm hmac-sha256;", "{"), 'line 2: unexpected token "{"'),
        ("key", "line 1: expected a key's name"),
        ("key {\n secret x; };", "line 1: expected a key's name"),
        ('key "" { }', "line 1: expected a key's name"),
        ('key "a..b" { }', 'invalid key name "a..b"'),
        ("key a { };", 'expected secret for key "a."'),
        ("key a { secret };", 'line 1: expected the secret of key "a."'),
        ('key a {\nsecret "";\n};', 'line 2: expected the secret of key "a."'),
        ("key a { algorithm };", "line 1: expected an algorithm"),
        ("key a { secret what?; };", 'the secret of key "a." is not base 64'),
        (GOOD + GOOD.replace("Example.", "EXAMPLE"), 'key "example." redefined'),
        (GOOD + '\n"open', 'line 6: " has no end'),
        (GOOD + "/* open\n\n", "line 5: /* has no end"),
    ],
)
def test_files_that_are_refused(text, error):
    with pytest.raises(ValueError) as caught:
        parse_keys(text)
    assert str(caught.value) == error
    assert SECRET not in str(caught.value) and "what?" not in str(caught.value)


@given(st.text(st.sampled_from('key "{};a/*#\n\\=secrtloihm'), max_size=80))
@example('key a{secret"aaaa"}')
def test_any_file(text):
    """It is a file of keys, or the error is a ValueError."""
    try:
        found = parse_keys(text)
    except ValueError as error:
        assert str(error)
        return
    assert all(name.endswith(".") and secret for name, secret in found.items())


# ---- the set-up


def built(corefile: str):
    generation = chain.load(load_source(Source("Corefile", corefile.encode()), chain.known(), chain.not_built()))
    stats = Stats.create(4)
    generation.build(stats, None, list(range(1, len(generation.blocks) + 1)), 1)
    return generation


def test_keys_of_a_listener_are_those_of_all_its_blocks(tmp_path):
    (tmp_path / "keys").write_text(GOOD)
    generation = built(
        f"a.test a.example {{\ntsig {{\nsecret one {SECRET}\nsecrets {tmp_path}/keys\n}}\nwhoami\n}}\n"
        f"b.test {{\ntsig {{\nsecret one {OTHER}\n}}\nwhoami\n}}\n"
        f"c.test:1053 {{\ntsig {{\nsecret three {SECRET}\n}}\nwhoami\n}}\nd.test:2053 {{\nwhoami\n}}\n"
    )
    keys = [generation.keys(at) for at in generation.listeners]
    assert keys == [{"one.": b"another", "example.": OCTETS}, {"three.": OCTETS}, None]


@pytest.mark.parametrize(("zones", "signed"), [
    ("", ()), ("a.test", ("a.test.",)), ("a.test b.test", ()), ("b.test a.test c.test", ()),
    ("x.a.test y.", ("x.a.test.", "y.")),
])  # fmt: skip
def test_zones(zones, signed):
    generation = built(f"a.test b.test {{\ntsig {zones}\nwhoami\n}}\n")
    ((_, plugin),) = [member for member in generation.members() if member[0] == "tsig"]
    assert plugin.signed_zones() == signed


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "open {path}: no such file or directory"),
        ("folder", "open {path}: is a directory"),
        ("key {", "{path}: line 1: expected a key's name"),
        (GOOD.replace("Example", "one"), 'key "one." redefined'),
        ("#" * (1 << 20) + "\n", "{path}: more than 1,048,576 octets"),
        ("".join(f"key k{n} {{ secret YQ==; }}\n" for n in range(16384)), "there are more than 16,384 keys"),
    ],
)
def test_files_that_stop_the_start(tmp_path: Path, content, error):
    path = tmp_path / "keys"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        built(f". {{\ntsig {{\nsecret one {SECRET}\nsecrets {path}\n}}\nwhoami\n}}\n")
    wanted = f"plugin/tsig: Corefile:4 - Error during parsing: {error.format(path=path)}"
    assert str(caught.value) == wanted and (caught.value.line, caught.value.file) == (4, "Corefile")


def test_a_path_does_not_depend_on_root(tmp_path: Path, monkeypatch):
    (tmp_path / "keys").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    generation = built(". {\nroot /nowhere\ntsig {\nsecrets keys\n}\nwhoami\n}\n")
    assert generation.keys(generation.listeners[0]) == {"example.": OCTETS}


def test_too_many_keys_on_one_listener(tmp_path: Path):
    lines = ["".join(f"key {letter}{n} {{ secret YQ==; }}\n" for n in range(10000)) for letter in "ab"]
    for letter, text in zip("ab", lines, strict=True):
        (tmp_path / letter).write_text(text)
    blocks = "".join(f"{at}.test {{\ntsig {{\nsecrets {tmp_path}/{at}\n}}\nwhoami\n}}\n" for at in "ab")
    with pytest.raises(ConfigError, match="a listener has at most 16,384 keys"):
        built(blocks)
