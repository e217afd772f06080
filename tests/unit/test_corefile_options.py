# SPDX-License-Identifier: Apache-2.0
"""Rows, dispenser and errors apart from any real directive: each way to read a line, each wording."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import errors
from fastdns.corefile.dispenser import Dispenser
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.options import (
    ARGERR,
    UNKNOWN_OPTION,
    UNKNOWN_PROPERTY,
    Arg,
    Directive,
    Located,
    Option,
    zones_arg,
)
from fastdns.corefile.tables import markdown_table
from fastdns.corefile.types import Addr, Choice, Duration, Int, Name, Percent, Text, Zone


def run(directive: Directive, text: str):
    return directive.parse(Dispenser("Corefile", tokenize(text), ("dns://a.:53",)))


def refusal(directive: Directive, text: str) -> str:
    with pytest.raises(errors.SetupError) as caught:
        run(directive, text)
    return str(caught.value)


PLACE = "plugin/x: Corefile:{} - Error during parsing: "
COUNT = PLACE + "Wrong argument count or unexpected line ending after '{}'"
BRACE = PLACE + "Unexpected token '{{', expecting argument"


def test_a_bare_directive():
    bare = Directive("x")
    assert [dict(found) for found in run(bare, "x\nx")] == [{}, {}]
    assert refusal(bare, "x y z") == COUNT.format(1, "z")
    assert refusal(bare, "x {\n}") == BRACE.format(1)
    assert refusal(Directive("x", surplus="word"), "x y z") == COUNT.format(1, "y")
    assert refusal(Directive("x", once=True), "x\nx") == "plugin/x: this plugin can only be used once per Server Block"


@pytest.mark.parametrize(
    ("surplus", "none", "two"),
    [
        ("line", COUNT.format(2, "o"), COUNT.format(2, "3")),
        ("word", COUNT.format(2, "o"), COUNT.format(2, "2")),
        ("leave", COUNT.format(2, "o"), PLACE.format(2) + "unknown property '2'"),
        ("ignore", COUNT.format(2, "o"), None),
    ],
)
def test_surplus(surplus, none, two):
    directive = Directive("x", options=(Option("o", Int(), 7, surplus=surplus),))
    assert run(directive, "x")[0].o == 7
    assert run(directive, "x {\n o 1\n}")[0].o == 1
    assert refusal(directive, "x {\n o\n}") == none
    if two is None:
        assert run(directive, "x {\n o 1 2 3\n}")[0].o == 1
    else:
        assert refusal(directive, "x {\n o 1 2 3\n}") == two


@pytest.mark.parametrize(
    ("wording", "text"),
    [
        (UNKNOWN_PROPERTY, PLACE.format(2) + "unknown property 'q'"),
        (UNKNOWN_OPTION, PLACE.format(2) + "unknown option: q"),
        (ARGERR, COUNT.format(2, "q")),
        ("no {text} here", "plugin/x: no q here"),
    ],
)
def test_an_unknown_option_is_an_error(wording, text):
    assert refusal(Directive("x", block=True, unknown=wording), "x {\n q 1\n}") == text


def test_a_word_with_braces_is_shown_as_it_is():
    assert refusal(Directive("x", block=True), "x {\n {text}\n}") == PLACE.format(2) + "unknown property '{text}'"
    choice = Directive("x", args=(Arg("c", Choice(("a",), bad="no {text}")),))
    assert refusal(choice, "x {text}") == "plugin/x: no {text}"


def test_rest_and_repeat():
    directive = Directive(
        "x",
        args=(zones_arg(),),
        options=(
            Option("j", Text(), rest=True, repeat="join"),
            Option("l", Text(), rest=True, optional=True, default=("d",)),
            Option("n", Text(), repeat="once"),
        ),
    )
    (found,) = run(directive, "x B c:53 {\n j 1 2\n j 3\n l 1\n l\n}")
    assert dict(found) == {"zones": ("b.", "c."), "j": ("1", "2", "3"), "l": ("1",), "n": None}
    assert dict(run(directive, "x")[0]) == {"zones": ("a.",), "j": (), "l": ("d",), "n": None}
    assert refusal(directive, "x {\n j\n}") == COUNT.format(2, "j")
    assert refusal(directive, "x {\n n 1\n n 2\n}") == "plugin/x: n can only be specified once"


def test_a_probe_skips_a_word_of_another_form():
    directive = Directive("x", args=(Arg("d", Duration(1), 9.0, probe=True), Arg("t", Text(), "-", optional=True)))
    assert [(found.d, found.t) for found in run(directive, "x 2s a\nx a\nx 2s\nx")] == [
        (2.0, "a"), (9.0, "a"), (2.0, "-"), (9.0, "-")]  # fmt: skip
    assert refusal(directive, "x 0s") == "plugin/x: duration out of range: 0s"


def test_parse_one_reads_an_odd_grammar():
    def pairs(d: Dispenser):
        words = d.remaining_args()
        if len(words) % 2:
            raise d.err("odd")
        return list(zip(words[::2], words[1::2], strict=True))

    directive = Directive("x", parse_one=pairs)
    assert run(directive, "x a b c d\nx") == [[("a", "b"), ("c", "d")], []]
    assert refusal(directive, "x a b\nx c") == PLACE.format(2) + "odd"


def test_check_may_change_or_refuse():
    def check(settings, d):
        if settings.n > 9:
            raise d.fail("too much")
        return settings.replace(n=settings.n * 2) if "n" in settings.given else None

    directive = Directive("x", options=(Option("n", Int(), 1),), check=check)
    assert [found.n for found in run(directive, "x\nx {\n n 3\n}")] == [1, 6]
    assert refusal(directive, "x {\n n 10\n}") == "plugin/x: too much"


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (Int(2, 4), "3", 3),
        (Int(2, 4), "5", "value out of range: 5"),
        (Int(2, 4, above="more than {value}"), "5", "more than 5"),
        (Int(2, 4, below=Located("less")), "1", "Corefile:1 - Error during parsing: less"),
        (Int(bad="not {quoted}"), "x", 'not "x"'),
        (Int(unsigned=16), "65536", 'strconv.ParseUint: parsing "65536": value out of range'),
        (Duration(1, 2), "1500ms", 1.5),
        (Duration(1, 2), "2001ms", "duration out of range: 2.001s"),
        (Duration(positive=True, below="{value}"), "0", "0"),
        (Duration(bad=ARGERR), "x", "Corefile:1 - Error during parsing: Wrong argument count or unexpected line "
         "ending after 'x'"),
        (Percent(1, 9), "5%", 5),
        (Choice(("A", "b")), "b", "b"),
        (Choice(("A", "b"), fold=True), "a", "A"),
        (Choice(("A", "b")), "a", "invalid value: a"),
        (Name(), "A.b", "a.b."),
        (Name(), "a..b", "invalid domain name a..b"),
        (Name(), "\\300.b", "invalid domain name \\300.b"),
        (Zone(), "10.0.0.0/31", ["0.0.0.10.in-addr.arpa.", "1.0.0.10.in-addr.arpa."]),
        (Zone(), "a..b", []),
        (Zone(bad="bad {text}"), "a..b", "bad a..b"),
        (Addr(), "::1", "::1"),
        (Addr(), "::1%lo", "invalid IP address: ::1%lo"),
        (Addr(port=53), "::1", "[::1]:53"),
        (Addr(port=53), "x", "must specify an IP address: `x'"),
        (Text(), "", ""),
    ],
)  # fmt: skip
def test_types(kind, word, value):
    d = Dispenser("Corefile", tokenize(f'"{word}"'))
    assert d.next()
    try:
        found = kind.read(word, d)
    except errors.ConfigError as error:
        found = str(error)
        assert (error.line, error.column) == (1, 1)
    assert found == value


def test_bounds_in_the_table():
    directive = Directive(
        "x",
        options=(
            Option("a", Int(1, 9), 5, "A | sentence."),
            Option("b", Duration(high=60), 1.5),
            Option("c", Duration(positive=True), 90.0),
            Option("d", args=(Arg("p", Int(high=3), default=1), Arg("q", Percent(1, 2), optional=True))),
            Option("e", Choice(("u", "v")), "u", optional=True),
        ),
    )
    assert markdown_table(directive).splitlines()[2:] == [
        "| `a A` | 5 | 1 to 9 | A \\| sentence. |",
        "| `b B` | 1.5s | at most 1m0s | – |",
        "| `c C` | 1m30s | more than 0s | – |",
        "| `d P [Q]` | 1, – | P at most 3; Q 1% to 2% | – |",
        "| `e [E]` | u | `u` or `v` | – |",
    ]


def test_the_block_of_a_directive_must_open_on_its_line():
    d = Dispenser("Corefile", tokenize("x a {\n b c\n d\n}\nx { }\nx"))
    assert d.next()
    assert d.remaining_args() == ["a"]
    lines = []
    while d.next_block():
        lines.append([d.val, *d.remaining_args()])
    assert lines == [["b", "c"], ["d"]]
    assert d.next()
    assert (d.val, d.line, d.next_block()) == ("x", 5, False)
    assert d.next()
    assert (d.val, d.line, d.next_block(), d.next(), d.next_arg()) == ("x", 6, False, False, False)


def test_dispenser_outside_its_tokens():
    d = Dispenser("f", [])
    assert (d.val, d.line, d.file, d.next(), d.next_arg(), d.remaining_args()) == ("", 0, "f", False, False, [])
    assert str(d.eof_err()) == "f:0 - Error during parsing: Unexpected EOF"
    assert str(d.syntax_err("{")) == "f:0 - Syntax error: Unexpected token '', expecting '{'"


@given(st.text(st.sampled_from('xo {}\n"1'), max_size=40))
def test_any_tokens_are_settings_or_a_setup_error(text):
    directive = Directive(
        "x", args=(Arg("n", Int(), probe=True), zones_arg()), options=(Option("o", Int(), surplus="leave"), Option("x"))
    )
    try:
        for found in run(directive, text):
            assert set(found) == {"n", "zones", "o", "x"}
    except errors.SetupError as error:
        assert str(error).startswith("plugin/x: ")


@pytest.mark.parametrize(
    "error",
    [
        errors.CorefileError("f", 3, "m", 4, errors.SYNTAX),
        errors.OptionError("m", "f", 3, 4),
        errors.KeysError("m"),
        errors.SetupError("x", errors.CorefileError("f", 3, "m", 4)),
        errors.SetupError("x", "plain"),
        errors.PluginError(2, "text"),
        errors.StartError("text"),
    ],
)
def test_errors_pickle(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again).keys() == vars(error).keys()
    assert all(str(vars(again)[key]) == str(value) for key, value in vars(error).items())


def test_a_setup_error_keeps_the_place_of_its_cause():
    error = errors.SetupError("x", errors.CorefileError("f", 3, "m", 4))
    assert (str(error), error.file, error.line, error.column) == ("plugin/x: f:3 - Error during parsing: m", "f", 3, 4)
