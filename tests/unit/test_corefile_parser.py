# SPDX-License-Identifier: Apache-2.0
"""Tokens to server blocks: snippets, imports, environment; every bad text with what CoreDNS says to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.corefile import parser
from fastdns.corefile.environment import replace_env
from fastdns.corefile.parser import Parsed, parse
from fastdns.errors import CorefileError

KNOWN = {"log", "errors"}


def shape(parsed: Parsed) -> list[tuple[list[str], dict[str, list[str]]]]:
    return [
        (block.keys, {name: [token.text for token in tokens] for name, tokens in block.tokens.items()})
        for block in parsed.blocks
    ]


GOOD = [
    ("", []),
    ("# nothing\n", []),
    ("x", [(["x"], {})]),
    ("x {\n}", [(["x"], {})]),
    ("x\n{\n}", [(["x"], {})]),
    ("x {\n log\n}", [(["x"], {"log": ["log"]})]),
    ("x\nlog\nerrors a", [(["x"], {"log": ["log"], "errors": ["errors", "a"]})]),
    ("a, b,\nc d {\n log\n}", [(["a", "b", "c", "d"], {"log": ["log"]})]),
    ("a,b {\n}", [(["a,b"], {})]),
    ("x { log\n errors }", None),
    ("x { log\n}", [(["x"], {"log": ["log"]})]),
    ("a {\n}\nb {\n}", [(["a"], {}), (["b"], {})]),
    ("a {\n}\n}", [(["a"], {}), (["}"], {})]),
    ("x {\n log a {\n  b c\n }\n log d\n}", [(["x"], {"log": ["log", "a", "{", "b", "c", "}", "log", "d"]})]),
    ("x {\n log {\n a {\n b\n }\n }\n}", [(["x"], {"log": ["log", "{", "a", "{", "b", "}", "}"]})]),
    ("x {\n log \"a\nb\" c\n errors\n}", [(["x"], {"log": ["log", "a\nb", "c"], "errors": ["errors"]})]),
    ('"" x {\n}', [(["x"], {})]),
    ('"" {\n log\n}', []),
    ("(s) {\n log a\n}\nx {\n import s\n}", [(["x"], {"log": ["log", "a"]})]),
    ("(s) {\n}\nx {\n import s\n}", [(["x"], {})]),
    ("(s) {\n a b\n}\nx {\n log {\n  import s\n }\n}", [(["x"], {"log": ["log", "{", "a", "b", "}"]})]),
    ("(s) {\n log\n}\n(t) {\n import s\n errors\n}\nx {\n import t\n import s\n}",
     [(["x"], {"log": ["log", "log"], "errors": ["errors"]})]),
    ("(s) x {\n log\n}", [(["(s)", "x"], {"log": ["log"]})]),
    ("{$A} {%A%}z {\n log {$A}{$B} {$NONE} {$}\n}", [(["a1", "a1z"], {"log": ["log", "a1b 2", "", "{$}"]})]),
    ("x {\n {$LOG} \"{$B}\"\n}", [(["x"], {"log": ["{$LOG}", "b 2"]})]),
    ("x {\n log {$NEST} {$A\n}", [(["x"], {"log": ["log", "a1", "{$A"]})]),
]  # fmt: skip
ENV = {
    "A": "a1",
    "B": "b 2",
    "LOG": "log",
    "NEST": "{$A}",
    "E": "bogus",
    "SELF": "{$SELF}",
    "TWICE": "{$TWICE}{$TWICE}",
}


@pytest.mark.parametrize(("text", "blocks"), GOOD)
def test_good(text, blocks):
    if blocks is None:
        with pytest.raises(CorefileError):
            parse("Corefile", text, KNOWN, environ=ENV)
    else:
        assert shape(parse("Corefile", text, KNOWN, environ=ENV)) == blocks


P = "Error during parsing: "
S = "Syntax error: Unexpected token "
BAD = [
    ("x {\n bogus\n}", 2, P + "Unknown directive 'bogus'"),
    ("x {\n{$E}\n}", 2, P + "Unknown directive 'bogus'"),
    ("x {\n import bad.conf\n}", 2, P + "Unknown directive 'bogus'"),
    ("x {\n log \"a\nb\"\n bogus\n}", 4, P + "Unknown directive 'bogus'"),
    ("x {\n log\n}}\n", 3, P + "Unknown directive '}}'"),
    ("a\nb {\n log\n}", 2, P + "Unknown directive 'b'"),
    ("{ {\n}", 1, P + "Unknown directive '{'"),
    ("x {\n log", 2, S + "'log', expecting '}'"),
    ("x {\n log\n", 2, S + "'log', expecting '}'"),
    ("(s)\nlog", 2, S + "'log', expecting '{'"),
    ("(s) {\n log", 2, S + "'log', expecting '}'"),
    ("x {\n log {\n  a\n", 3, P + "Unexpected EOF"),
    ("a,", 1, P + "Unexpected EOF"),
    ("x {\n log }\n}", 2, P + "Unexpected '}' because no matching opening brace"),
    ("a, {\n log\n}", 1, P + "Expected another address but had '{' - check for extra comma"),
    ("(s) {\n}\n(s) {\n}", 3, P + "redeclaration of previously declared snippet s"),
    ("(s) {\n import s\n}", 3, P + "maximum snippet import depth (10000) exceeded"),
    ("(s) {\n import t\n}\n(t) {\n import s\n}\nx {\n import s\n}", 5,
     P + "maximum snippet import depth (10000) exceeded"),
    ("x {\n import\n}", 2, P + "Wrong argument count or unexpected line ending after 'import'"),
    ("x {\n import {$NONE}\n}", 2, P + "Import requires a non-empty filepath"),
    ("x {\n import a b\n}", 2, P + "Import takes only one argument (glob pattern or file)"),
    ("x {\n import nope\n}", 2, P + "File to import not found: nope"),
    ("import nope", 1, P + "File to import not found: nope"),
    ("x {\n log {\n  import nope\n }\n}", 3, P + "File to import not found: nope"),
    ("x {\n import */*\n}", 2, P + "Glob pattern may only contain one wildcard (*), but has others: DIR/*/*"),
    ("x {\n import [a]\n}", 2, P + "Glob pattern may only contain one wildcard (*), but has others: DIR/[a]"),
    ("x {\n import a[\n}", 2, P + "Failed to use import pattern a[: syntax error in pattern"),
    ("x {\n import d\n}", 2, P + "Could not import DIR/d: is a directory"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), BAD)
def test_bad(text, line, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "bad.conf").write_text("log\nbogus x")
    with pytest.raises(CorefileError) as caught:
        parse("Corefile", text, KNOWN, environ=ENV)
    file = str(tmp_path / "bad.conf") if "bad.conf" in text else "Corefile"
    assert str(caught.value) == f"{file}:{line} - " + message.replace("DIR", str(tmp_path))
    assert (caught.value.file, caught.value.line) == (file, line)


def test_a_directive_that_is_not_built_is_refused_by_name():
    with pytest.raises(CorefileError) as caught:
        parse("Corefile", "x {\n log\n  kubernetes\n}", KNOWN, {"kubernetes"})
    assert str(caught.value) == "Corefile:3 - Error during parsing: directive 'kubernetes' is not built yet"
    assert caught.value.column == 3


def test_any_directive_where_none_are_named():
    assert shape(parse("Corefile", "x {\n what ever\n}")) == [(["x"], {"what": ["what", "ever"]})]


def test_import_of_files(tmp_path):
    (tmp_path / "b.conf").write_text("log b\n")
    (tmp_path / ".a.conf").write_text("errors a {\n import inner/c\n}\n")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "c").write_text("x\ny")
    parsed = parse(str(tmp_path / "Corefile"), "x {\n log 1\n import *.conf\n log 2\n}", KNOWN)
    names = ["errors", "a", "{", "x", "y", "}"]
    assert shape(parsed) == [(["x"], {"log": ["log", "1", "log", "b", "log", "2"], "errors": names})]
    assert parsed.files == [str(tmp_path / name) for name in (".a.conf", "b.conf", "inner/c")]
    assert [token.file for token in parsed.blocks[0].tokens["log"]] == [
        "", "", str(tmp_path / "b.conf"), str(tmp_path / "b.conf"), "", ""]  # fmt: skip


def test_import_at_top_level(tmp_path):
    (tmp_path / "site").write_text("a {\n log\n}\nb {\n}\n")
    (tmp_path / "empty").write_text("# nothing")
    text = "import site\nimport empty\nc {\n}\nimport empty"
    assert shape(parse(str(tmp_path / "Corefile"), text, KNOWN)) == [
        (["a"], {"log": ["log"]}),
        (["b"], {}),
        (["c"], {}),
    ]


def test_a_pattern_without_a_match_only_warns(tmp_path):
    parsed = parse(str(tmp_path / "Corefile"), "x {\n import no*\n log\n}", KNOWN)
    assert shape(parsed) == [(["x"], {"log": ["log"]})]
    assert parsed.warnings == ["No files matching import glob pattern: no*"]


def test_a_file_that_imports_itself_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(parser, "MAX_FILES", 50)
    (tmp_path / "loop").write_text("log\nimport loop\n")
    with pytest.raises(CorefileError, match=r"loop:2 .* maximum file import depth \(10000\) exceeded"):
        parse(str(tmp_path / "Corefile"), "x {\n import loop\n}", KNOWN)


def test_snippets_that_multiply_end(monkeypatch):
    monkeypatch.setattr(parser, "MAX_TOKENS", 1000)
    snippets = ["(s0) {\n log a b c\n}"]
    snippets += [f"(s{n}) {{\n" + f" import s{n - 1}\n" * 10 + "}" for n in range(1, 5)]
    with pytest.raises(CorefileError, match="imports expand to more than 1000 tokens"):
        parse("Corefile", "\n".join([*snippets, "x {\n import s4\n}"]), KNOWN)


@pytest.mark.parametrize("name", ["SELF", "TWICE"])
def test_a_variable_that_names_itself_is_refused(name):
    with pytest.raises(CorefileError) as caught:
        parse("Corefile", f"x {{\n log {{${name}}}\n}}", KNOWN, environ=ENV)
    assert str(caught.value) == "Corefile:2 - Error during parsing: environment variables expand without end"


PLAIN = st.text(st.characters(exclude_characters="{}$%", codec="utf-8"))


@given(st.lists(st.tuples(PLAIN, st.sampled_from("ABC"), st.booleans())), PLAIN, PLAIN)
def test_environment_replaces_each_reference(parts, first, last):
    environ = {"A": first, "B": "{$A}", "{$A}": "never"}
    values = {"A": first, "B": first, "C": ""}
    text = "".join(f"{plain}{{%{name}%}}" if percent else f"{plain}{{${name}}}" for plain, name, percent in parts)
    assert replace_env(text + last, environ) == "".join(plain + values[name] for plain, name, _ in parts) + last


FRAGMENTS = ["\n", " ", "{", "}", "{\n", "\n}\n", "x", ",", "import", "import s\n", "(s) {\n", "(s)", "log", "bogus",
             '"', '\\"', "#", "{$A}", "{$E}", '""', "a,", "x {\n log\n}\n"]  # fmt: skip


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_any_text_parses_or_says_where_it_is_wrong(parts):
    text = "".join(parts)
    try:
        parsed = parse("Corefile", text, KNOWN, environ=ENV)
    except CorefileError as error:
        assert str(error).startswith(f"Corefile:{error.line} - ")
        assert 0 <= error.line <= text.count("\n") + 1
    else:
        assert all(block.keys for block in parsed.blocks)
        assert all(set(block.tokens) <= KNOWN for block in parsed.blocks)
