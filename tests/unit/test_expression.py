# SPDX-License-Identifier: Apache-2.0
"""expr-lang: tables of behaviour, places of mistakes, and what a hostile query may cost."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.expression import (
    ANY,
    BUILTINS,
    FUNCTIONS,
    STRING,
    ExpressionError,
    compile_expression,
    environment,
    function,
    is_identifier,
)
from fastdns.expression.environment import incidr
from fastdns.expression.frame import WORK
from fastdns.expression.parser import DEPTH_MAX, LENGTH_MAX, NODES_MAX
from fastdns.expression.values import go_text

from .expression_rows import FAILED, REFUSED, VALUES


def itself(thing: object) -> object:
    return thing


WHAT = {**FUNCTIONS, "group": function((ANY,), STRING)}
ENV = {
    "incidr": incidr,
    "metadata": lambda label: "v" if label == "a/b" else "",
    "group": lambda name: "g" + go_text(name),
    **{name: partial(itself, value) for name, value in {
        "type": "A", "name": "www.example.org.", "class": "IN", "proto": "udp", "size": 33, "client_ip": "192.0.2.7",
        "port": "5353", "id": 17, "opcode": 0, "do": True, "bufsize": 1232, "server_ip": "127.0.0.1",
        "server_port": "53"}.items()},
}  # fmt: skip


def value(text: str, **more: object) -> object:
    return compile_expression(text, WHAT).evaluate({**ENV, **more})


def test_the_tables_are_tables():
    assert len(VALUES) > 400 and len(REFUSED) > 150 and len(FAILED) > 25


@pytest.mark.parametrize(("text", "printed"), VALUES)
def test_values(text, printed):
    assert go_text(value(text)) == printed


@pytest.mark.parametrize(("text", "words"), REFUSED)
def test_what_is_refused_and_where(text, words):
    with pytest.raises(ExpressionError) as error:
        compile_expression(text, WHAT)
    assert str(error.value).split("\n")[0] == words


@pytest.mark.parametrize(("text", "words"), FAILED)
def test_what_fails_on_a_query(text, words):
    expression = compile_expression(text, WHAT)
    with pytest.raises(ExpressionError) as error:
        expression.evaluate(ENV)
    assert str(error.value).split("\n")[0] == words


def test_a_mistake_is_drawn():
    with pytest.raises(ExpressionError) as error:
        compile_expression("name() ==\n\t1 + nope", WHAT)
    assert (error.value.line, error.value.column) == (2, 6)
    assert str(error.value) == "unknown name nope (2:6)\n |  1 + nope\n | .....^"


def test_variables_and_functions_of_the_environment():
    expression = compile_expression("x + 1", {**WHAT, "x": compile_expression("len(name())", WHAT).result})
    assert expression.evaluate({**ENV, "x": 4}) == 5
    with pytest.raises(ExpressionError, match="mismatched types int and string"):
        compile_expression("x + ''", {**WHAT, "x": compile_expression("len(name())", WHAT).result})


def test_what_a_function_of_the_environment_raises_has_a_place():
    def broken() -> str:
        raise KeyError("nothing")

    with pytest.raises(ExpressionError) as error:
        value("'a' + name()", name=broken)
    assert (error.value.message, error.value.column) == ("'nothing'", 7)


def test_names_that_template_refuses():
    assert is_identifier("a_1") and is_identifier("$x") and not is_identifier("1a") and not is_identifier("")
    assert {"len", "now", "get", "all", "reduce"} <= BUILTINS and "type" not in BUILTINS


class Asked:
    """A query as far as the environment looks."""

    name, type, qclass, proto, client, client_port = "a.example.", 28, 3, "tcp", "2001:db8::1", 99
    local, server, size, id, opcode, bufsize, do = "::1", "dns://[::1]:1053", 40, 7, 4, 65535, False

    def __init__(self) -> None:
        self.metadata = {"a/b": "text", "a/c": lambda: "lazy"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[name(), type(), class(), proto()]", ["a.example.", "AAAA", "CH", "tcp"]),
        ("[client_ip(), port(), server_ip(), server_port()]", ["2001:db8::1", "99", "::1", "1053"]),
        ("[size(), id(), opcode(), bufsize(), do()]", [40, 7, 4, 65535, False]),
        ("[metadata('a/b'), metadata('a/c'), metadata('x')]", ["text", "lazy", ""]),
        ("incidr(client_ip(), '2001:db8::/32')", True),
        ("keys($env) | sort() | first()", "bufsize"),
    ],
)
def test_the_functions_of_a_query(text, wanted):
    assert compile_expression(text, FUNCTIONS).evaluate(environment(Asked())) == wanted


@pytest.mark.parametrize(("qtype", "text"), [(0, "None"), (65535, "Reserved"), (65280, "TYPE65280"), (255, "ANY")])
def test_types_have_coredns_names(qtype, text):
    asked = Asked()
    asked.type = qtype
    assert compile_expression("type()", FUNCTIONS).evaluate(environment(asked)) == text


# ---- bounds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1" * (LENGTH_MAX + 1), "the expression has more than 16384 characters"),
        ("(" * 5000 + "1", f"the expression is nested more than {DEPTH_MAX} deep"),
        ("not " * 4000 + "true", f"the expression is nested more than {DEPTH_MAX} deep"),
        ("[" * 60, f"the expression is nested more than {DEPTH_MAX} deep"),
        ("1" + " + 1" * 400, "the expression is nested more than 150 deep"),
        ("name()" + "[0]" * 400, "the expression is nested more than 150 deep"),
        ("[" + "1," * NODES_MAX + "]", "compilation failed: expression exceeds maximum allowed nodes"),
        ("1..1000000", "memory budget exceeded"),
        ("map(1..300, map(1..#, #))", "memory budget exceeded"),
        ("repeat('abcdefgh', 1000000)", "memory budget exceeded"),
        ("replace(repeat('a', 60000), 'a', repeat('b', 60000))", "memory budget exceeded"),
    ],
)
def test_bounds(text, words):
    with pytest.raises(ExpressionError) as error:
        compile_expression(text, WHAT)
    assert error.value.message == words


def test_a_long_conjunction_is_flat():
    assert value(" or ".join(["name() == 'x'"] * 500 + ["do()"])) is True
    assert value(" and ".join(["do()"] * 800)) is True


@pytest.mark.parametrize(
    "text",
    [
        "all(split(name(), ''), any(split(name(), ''), none(split(name(), ''), # == 'x')))",
        "let a = map(split(name(), ''), name()); let b = map(a, a); let c = map(b, b); len(string(c)) > 0",
        "len(repeat(name(), id() * 100)) > 0",
        "len(replace(name(), '', name())) > 0",
        "let a = split(name(), ''); let b = [a,a,a,a,a,a,a,a]; let c = [b,b,b,b,b,b,b]; c == [c] or flatten(c) == []",
        "uniq(concat(split(name(), ''), 1..500 | map(string(#) + name()))) == []",
        "len(0..(id() * 100000)) > 0",
        "any(1..2000, name() matches string(#))",
        "sort(map(split(name(), ''), # + name())) == []",
    ],
)
def test_a_query_cannot_make_an_expression_dear(text):
    expression = compile_expression(text, WHAT)
    try:
        assert expression.evaluate({**ENV, "name": lambda: "a." * 500}) in (True, False)
    except ExpressionError as error:
        assert error.message == "memory budget exceeded"


def test_work_is_counted_anew_for_each_query():
    expression = compile_expression(f"len(map(1..{WORK // 10}, name()))", WHAT)
    for _ in range(3):
        assert expression.evaluate(ENV) == WORK // 10


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_an_error(text):
    try:
        expression = compile_expression(text, WHAT)
    except ExpressionError as error:
        assert 0 <= error.at <= len(text) + 1 and error.line >= 1 and error.column >= 1
        return
    try:
        expression.evaluate(ENV)
    except ExpressionError as error:
        assert error.message


WORDS = (
    "name() do() 1 2.5 'a' \"b\" nil true not in and or == != < > + - * / % ** .. | ?? ? : ( ) [ ] { } , . ?. # let x"
    " = ; map( any( len( filter( matches contains startsWith upper( now() duration('1h') [1,2] {a:1} .a // /* incidr("
)
PIECES = st.sampled_from(WORDS.split())


@given(st.lists(PIECES, max_size=14))
def test_pieces_of_the_language_never_break_it(pieces):
    try:
        compile_expression(" ".join(pieces), WHAT).evaluate(ENV)
    except ExpressionError as error:
        assert str(error)
