# SPDX-License-Identifier: Apache-2.0
"""Corefile text to tokens: a table of readings that CoreDNS's own lexer gave, and properties of any text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.corefile.lexer import SPACE, Token, tokenize

# (text, [(word, line), ...])
READINGS = [
    ("", []),
    (" \t\r\n\n", []),
    ("a b\nc", [("a", 1), ("b", 1), ("c", 2)]),
    ("\ufeffa", [("a", 1)]),
    ("a\ufeff", [("a\ufeff", 1)]),
    ("a\r\nb\rc", [("a", 1), ("bc", 2)]),
    ("a\x85b\xa0c\u2028d\u3000e", [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]),
    ("a\x1cb\u200bc", [("a\x1cb\u200bc", 1)]),
    ("# a b\nc # d\ne", [("c", 2), ("e", 3)]),
    ("# no end", []),
    ("a#b c\nd", [("a", 1), ("c", 1), ("d", 2)]),
    ("a#b\nc", [("a", 1), ("c", 2)]),
    ("a# b # c\nd", [("a", 1), ("b", 1), ("d", 2)]),
    ('"a b" c', [("a b", 1), ("c", 1)]),
    ('"a\nb" c\nd', [("a\nb", 1), ("c", 2), ("d", 3)]),
    ('"a\r\n#b"', [("a\r\n#b", 1)]),
    (r'"a\"b"', [('a"b', 1)]),
    (r'"a\nb\\ c"', [(r"a\nb\\ c", 1)]),
    (r'"a\\" b"', [(r"a\\", 1), ('b"', 1)]),
    ('"" x', [("", 1), ("x", 1)]),
    ('"a"b', [("a", 1), ("b", 1)]),
    ('a"b c"', [('a"b', 1), ('c"', 1)]),
    ("'a b'", [("'a", 1), ("b'", 1)]),
    ('"a', [("a", 1)]),
    ('"', []),
    ('"a\\', [("a", 1)]),
    ("a{b} { }", [("a{b}", 1), ("{", 1), ("}", 1)]),
    ("a \\\nb", [("a", 1), ("\\", 1), ("b", 2)]),
    ("\x00", [("\x00", 1)]),
]


@pytest.mark.parametrize(("text", "words"), READINGS)
def test_reading(text, words):
    assert [(token.text, token.line) for token in tokenize(text)] == words


def test_octets_that_are_not_utf8_become_one_replacement_each():
    assert [token.text for token in tokenize(b"a\xff\xe2\x82x \xf0")] == ["a\ufffd\ufffd\ufffdx", "\ufffd"]


def test_columns_and_file():
    tokens = tokenize('a  "b\nc" d\n  e', "x.conf")
    assert tokens == [
        Token("a", "x.conf", 1, 1),
        Token("b\nc", "x.conf", 1, 4),
        Token("d", "x.conf", 2, 4),
        Token("e", "x.conf", 3, 3),
    ]


@given(st.binary(max_size=200))
def test_any_octets_have_a_reading(body):
    tokens = tokenize(body)
    lines = [token.line for token in tokens]
    assert lines == sorted(lines)
    assert all(1 <= token.line <= body.count(b"\n") + 1 and token.column >= 1 for token in tokens)


WORD = st.text(st.characters(exclude_characters="".join(SPACE) + '#"', codec="utf-8"), min_size=1).filter(
    lambda word: not word.startswith("\ufeff")
)
QUOTABLE = st.text(st.characters(codec="utf-8")).filter(lambda word: not word.endswith("\\") and '\\"' not in word)


@given(st.lists(st.lists(QUOTABLE, min_size=1, max_size=5), max_size=6))
def test_words_round_trip(rows):
    def written(word):
        return '"' + word.replace('"', '\\"') + '"'

    text = "\n".join(" ".join(map(written, row)) for row in rows)
    assert [token.text for token in tokenize(text)] == [word for row in rows for word in row]


@given(st.lists(st.lists(WORD, min_size=1, max_size=5), max_size=6))
def test_bare_words_keep_their_lines(rows):
    text = "\r\n".join("\t".join(row) + " # comment" for row in rows)
    expected = [(word, number) for number, row in enumerate(rows, 1) for word in row]
    assert [(token.text, token.line) for token in tokenize(text)] == expected
