# SPDX-License-Identifier: Apache-2.0
"""The code of routing filters: what is translated, that it agrees with Python on every query, and what is refused."""

from __future__ import annotations

import ipaddress
import struct
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastdns._filter import COMPARISONS, OPERATIONS, Filter
from fastdns._log import CLASSES, type_name
from fastdns.expression import FUNCTIONS, ExpressionError, compile_expression
from fastdns.expression.bytecode import Untranslated, translate
from fastdns.expression.environment import incidr
from fastdns.testing import question

# ---- agreement

NAMES = [".", "a.", "www.example.org.", "WWW.Example.ORG.", r"\001\255.x\.y.", "x" * 60 + ".y.", r"a\ b.",
         ".".join([r"\255" * 62] * 4) + "."]
ADDRESSES = ["127.0.0.1", "192.0.2.7", "10.255.3.4", "0.0.0.0", "255.255.255.255", "::1", "2001:db8::1:2", "fe80::7"]
NETS = ["0.0.0.0/0", "192.0.2.0/24", "10.0.0.0/9", "127.0.0.1/32", "192.0.2.6/31", "::/0", "2001:db8::/33", "::1/128",
        "fe80::/10", "::ffff:10.0.0.0/104"]  # fmt: skip
TEXTS = ["", ".", "a.", "www", "example", ".org.", "www.example.org.", "A", "AAAA", "TYPE65280", "TYPE1", "None",
         "udp", "tcp", "IN", "CLASS7", "53", "053", "5353", "127.0.0.1", "::1", "0::1", "é", "x" * 300]  # fmt: skip
NUMBERS = [0, 1, 17, 33, 512, 1232, 65535, -1, 9223372036854775807]


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\") + "'"


texts = st.sampled_from(TEXTS).map(quoted)
numbers = st.sampled_from(NUMBERS).map(str)
coded = st.sampled_from(["type()", "class()", "proto()", "port()", "server_port()", "client_ip()", "server_ip()"])
text_values = st.one_of(texts, st.just("name()"))
number_values = st.recursive(
    st.one_of(numbers, st.sampled_from(["size()", "id()", "opcode()", "bufsize()", "len(name())"])),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner)
    | st.builds("-{}".format, inner), max_leaves=4)  # fmt: skip
order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
same = st.sampled_from(["==", "!="])
inside = st.sampled_from(["in", "not in"])


def array(of):
    return st.lists(of, min_size=1, max_size=5).map(lambda values: f"[{', '.join(values)}]")


leaves = st.one_of(
    st.builds("(name() matches {})".format, st.lists(st.sampled_from(
        ["^", "$", "a", "www", ".", "\\\\.", "[.]", "x", "\\\\\\\\", " ", "org", "\\\\$"]), max_size=4).map(
            lambda parts: f"'{''.join(parts)}'")),
    st.sampled_from(["true", "false", "do()"]),
    st.builds("({} {} {})".format, text_values, order, text_values),
    st.builds("({} {} {})".format, number_values, order, number_values),
    st.builds("({} {} {})".format, coded, same, texts),
    st.builds("({} {} {})".format, texts, same, coded),
    st.builds("({} {} {})".format, coded, inside, array(texts)),
    st.builds("({} {} {})".format, text_values, inside, array(texts)),
    st.builds("({} {} {})".format, number_values, inside, array(numbers)),
    st.builds("({} {} {})".format, text_values, st.sampled_from(
        ["contains", "startsWith", "endsWith", "not contains", "not endsWith"]), text_values),
    st.builds("incidr({}, {})".format, st.sampled_from(["client_ip()", "server_ip()"]),
              st.sampled_from(NETS).map(quoted)),
    st.builds("any({}, incidr(client_ip(), #))".format, array(st.sampled_from(NETS).map(quoted))),
)
expressions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["and", "or", "&&", "||", "==", "!="]), inner),
        st.builds("(not {})".format, inner),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("(({} ? {} : {}) == {})".format, inner, numbers, number_values, numbers),
        st.builds("({} and {} and {} or {})".format, inner, inner, inner, inner),
    ), max_leaves=8)  # fmt: skip

queries = st.fixed_dictionaries({
    "name": st.sampled_from(NAMES), "qtype": st.sampled_from([0, 1, 28, 65280, 65535]),
    "qclass": st.sampled_from([1, 3, 7, 255]), "id": st.sampled_from([0, 17, 65535]), "do": st.booleans(),
    "bufsize": st.sampled_from([0, 512, 1232, 65535]), "client": st.sampled_from(ADDRESSES),
    "local": st.sampled_from(["", *ADDRESSES]), "client_port": st.sampled_from([53, 5353, 0]),
    "port": st.sampled_from([53, 5353]), "tcp": st.booleans(),
})  # fmt: skip


def wire(asked: dict) -> bytes:
    return question(asked["name"], asked["qtype"], qclass=asked["qclass"], id=asked["id"], do=asked["do"],
                    bufsize=asked["bufsize"])


def in_c(code: Filter, asked: dict) -> bool:
    local = ipaddress.ip_address(asked["local"]).packed if asked["local"] else b""
    return code.passes(wire(asked), client=ipaddress.ip_address(asked["client"]).packed, local=local,
                       client_port=asked["client_port"], tcp=asked["tcp"], port=asked["port"])


def itself(thing: object) -> object:
    return thing


def in_python(text: str, asked: dict) -> bool:
    edns = asked["do"] or asked["bufsize"]
    facts = {
        "name": asked["name"].lower(), "type": type_name(asked["qtype"]),
        "class": CLASSES.get(asked["qclass"], f"CLASS{asked['qclass']}"), "proto": "tcp" if asked["tcp"] else "udp",
        "size": len(wire(asked)), "id": asked["id"], "opcode": 0, "do": asked["do"],
        "bufsize": 65535 if asked["tcp"] else max(512, asked["bufsize"] or 1232) if edns else 512,
        "client_ip": asked["client"], "port": str(asked["client_port"]), "server_ip": asked["local"] or "::",
        "server_port": str(asked["port"]),
    }  # fmt: skip
    env = {"incidr": incidr, **{name: partial(itself, value) for name, value in facts.items()}}
    try:
        return compile_expression(text, FUNCTIONS).evaluate(env) is True
    except ExpressionError:
        return False


@settings(max_examples=600)
@given(expressions, queries)
def test_compiled_code_agrees_with_python(text, asked):
    try:
        code = translate([compile_expression(text, FUNCTIONS)])
    except Untranslated as reason:
        assert str(reason) == "'matches'"
        return
    assert in_c(code, asked) == in_python(text, asked), text


@pytest.mark.parametrize(
    "text",
    ["name() == 'www.example.org.'", r"name() endsWith '\\001\\255.x\\.y.'", "server_ip() == '::'", "type() == 'None'",
     "incidr(server_ip(), '::/0')", "client_ip() in ['127.0.0.1', '::1']", "bufsize() == 512", "id() + 1 == 18",
     "9223372036854775807 + id() < 0", "not (do() and proto() == 'udp') or false", "len(name()) > 3"],
)  # fmt: skip
def test_agreement_one_by_one(text):
    code, yes = translate([compile_expression(text, FUNCTIONS)]), 0
    base = {"name": "a.", "qtype": 1, "qclass": 1, "id": 17, "do": False, "bufsize": 0, "client": "127.0.0.1",
            "local": "", "client_port": 53, "port": 53, "tcp": False}  # fmt: skip
    for change in [{}, *({"name": name} for name in NAMES), *({"client": ip} for ip in ADDRESSES), {"qtype": 0},
                   *({"local": ip} for ip in ADDRESSES), {"bufsize": 4096}, {"do": True}, {"tcp": True}]:  # fmt: skip
        asked = {**base, **change}
        assert in_c(code, asked) == in_python(text, asked)
        yes += in_c(code, asked)
    assert yes


def test_all_expressions_must_hold():
    code = translate([compile_expression(text, FUNCTIONS) for text in ("id() > 1", "id() < 5", "id() != 3")])
    assert [code.passes(question("a.", 1, id=n)) for n in range(1, 6)] == [False, True, False, True, False]
    assert translate([]).passes(question("a.", 1))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"^www\.", ["www.a."], ["xwww.a.", "wwwa."]),
        ("^www[.]", ["www.a."], ["wwwxa."]),
        (r"\.org\.$", ["a.org."], ["a.org.b.", "a.orgx."]),
        (r"^a\.b\.$", ["a.b."], ["a.b.c.", "xa.b."]),
        ("b-c", ["a.b-c.d."], ["a.bc."]),
        ("^$", [], ["a."]),
        ("", ["a.", "."], []),
        ("$", ["a."], []),
        (r"\$\^", [r"a\$^."], ["a."]),
    ],
)
def test_expressions_that_are_no_more_than_a_text(pattern, yes, no):
    expression = compile_expression("name() matches '" + pattern.replace("\\", "\\\\") + "'", FUNCTIONS)
    code = translate([expression])
    for name in (*yes, *no):
        asked = code.passes(question(name, 1))
        assert asked == (name in yes) == expression.evaluate({"name": lambda name=name: name}), name


# ---- what is not translated, and why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("1", "a value that is no boolean"),
        ("name() matches '^a+'", "'matches'"),
        ("name() matches '(?i)a'", "'matches'"),
        ("name() matches 'a.b'", "'matches'"),
        ("name() matches '^[ab]'", "'matches'"),
        ("name() matches '^a|b'", "'matches'"),
        ("name() matches type()", "'matches'"),
        ("type() matches '^A'", "type() in this place"),
        ("metadata('a/b') == 'x'", "metadata()"),
        ("split(name(), '.')[0] == 'a'", "an element or a member"),
        ("let x = do(); x", "'let'"),
        ("name() + 'x' == 'y'", "'+'"),
        ("type() startsWith 'A'", "type() in this place"),
        ("client_ip() < '1'", "'<' with client_ip(), which is compared with constants alone"),
        ("type() == name()", "'==' with type(), which is compared with constants alone"),
        ("incidr(client_ip(), 'x')", "incidr() that fails"),
        ("incidr(name(), '10.0.0.0/8')", "incidr() of another address than the client's or the server's"),
        ("incidr(client_ip(), name())", "incidr() in this place"),
        ("any(['10.0.0.0/8', 'x'], incidr(client_ip(), #))", "incidr() that fails"),
        ("any(split(name(), '.'), # == 'a')", "any()"),
        ("now() > date('2020-01-01')", "now()"),
        ("id() / 2 == 1", "'/'"),
        ("id() in [1, 2.5]", "'in' an array of other values"),
        ("name() in {a: 1}", "'in' what is no constant array"),
        ("do() ?? true", "'??'"),
    ],
)
def test_what_is_left_to_python(text, why):
    with pytest.raises(Untranslated) as reason:
        translate([compile_expression(text, FUNCTIONS)])
    assert str(reason.value) == why


def test_too_many_networks_are_left_to_python():
    nets = ", ".join(["'10.0.0.0/8'"] * 900)
    one = compile_expression(f"any([{nets}], incidr(client_ip(), #))", FUNCTIONS)
    assert translate([one] * 9)
    with pytest.raises(Untranslated, match="more than 8192 networks"):
        translate([one] * 10)


# ---- the verifier

BEYOND = "a constant beyond the constants"
OTHERS = "other values on the stack than it takes"
TWO_WAYS = "two ways meet with different values"

OP = OPERATIONS


def code(*instructions: tuple[str, int, int] | tuple[str, int] | tuple[str]) -> bytes:
    out = b""
    for name, *rest in instructions:
        operand, flag = (*rest, 0, 0)[:2]
        out += struct.pack("=BBHI", OP.get(name, 200), flag, 0, operand)
    return out


LIST = struct.pack("=II2q", 2, 0, 5, 9)
UNSORTED = struct.pack("=II2q", 2, 0, 9, 5)


@pytest.mark.parametrize(
    ("program", "data", "words"),
    [
        (b"", b"", "a filter has 1 to 8192 instructions"),
        (b"1234567", b"", "a filter has 1 to 8192 instructions"),
        (code(("true",)) * 8193, b"", "a filter has 1 to 8192 instructions"),
        (code(("true",), ("end",)), bytes((1 << 20) + 1), "the constants of a filter have at most 1048576 octets"),
        (code(("nothing",)), b"", "instruction 0: no operation 200"),
        (code(("true",)), b"", "a filter has an end"),
        (code(("end",)), b"", "instruction 0: a filter ends once, with a boolean"),
        (code(("size",), ("end",)), b"", "instruction 1: a filter ends once, with a boolean"),
        (code(("true",), ("true",), ("end",)), b"", "instruction 2: a filter ends once, with a boolean"),
        (code(("true",), ("end",), ("true",)), b"", "instruction 1: a filter ends once, with a boolean"),
        (code(("true", 0, 1), ("end",)), b"", "instruction 0: no flag 1"),
        (code(("size",), ("size",), ("compare_int", 0, 6), ("end",)), b"", "instruction 2: no flag 6"),
        (code(("do",), ("do",), ("compare_bool", 0, 2), ("end",)), b"", "instruction 2: no flag 2"),
        (code(("int", 0), ("end",)), b"1234567", f"instruction 0: {BEYOND}"),
        (code(("int", 4), ("end",)), bytes(16), f"instruction 0: {BEYOND}"),
        (code(("int", 0xFFFFFFF8), ("end",)), bytes(16), f"instruction 0: {BEYOND}"),
        (code(("text", 0), ("end",)), struct.pack("=I", 9) + b"12345678", f"instruction 0: {BEYOND}"),
        (code(("text", 0), ("end",)), b"\xff\xff\xff\xff", f"instruction 0: {BEYOND}"),
        (code(("size",), ("in_int", 0), ("end",)), LIST[:-1], f"instruction 1: {BEYOND}"),
        (code(("size",), ("in_int", 0), ("end",)), UNSORTED, "instruction 1: a list that is not sorted"),
        (code(("size",), ("in_int", 0), ("end",)), b"\xff\xff\xff\xff\0\0\0\0", f"instruction 1: {BEYOND}"),
        (code(("name",), ("in_text", 0), ("end",)), struct.pack("=II", 1, 400), f"instruction 1: {BEYOND}"),
        (code(("name",), ("in_text", 0), ("end",)), struct.pack("=IIII", 2, 12, 12, 0),
         "instruction 1: a list that is not sorted"),
        (code(("networks", 0), ("end",)), struct.pack("=IBB16s", 1, 1, 33, b""), "instruction 0: no network"),
        (code(("networks", 0), ("end",)), struct.pack("=IBB16s", 1, 3, 0, b""), "instruction 0: no network"),
        (code(("networks", 0), ("end",)), struct.pack("=I", 1), f"instruction 0: {BEYOND}"),
        (code(("not",), ("end",)), b"", f"instruction 0: {OTHERS}"),
        (code(("size",), ("not",), ("end",)), b"", f"instruction 1: {OTHERS}"),
        (code(("size",), ("name",), ("compare_int",), ("end",)), b"", f"instruction 2: {OTHERS}"),
        (code(("pop",), ("end",)), b"", "instruction 0: the stack is empty"),
        (code(*[("true",)] * 33, ("end",)), b"", "instruction 32: more than 32 values on the stack"),
        (code(("true",), ("if_true", 1), ("end",)), b"", "instruction 1: a jump to 1"),
        (code(("true",), ("if_true", 0), ("end",)), b"", "instruction 1: a jump to 0"),
        (code(("true",), ("if_true", 3), ("end",)), b"", "instruction 1: a jump to 3"),
        (code(("size",), ("if_true", 2), ("end",)), b"", "instruction 1: no boolean to decide by"),
        (code(("if_true", 2), ("true",), ("end",)), b"", "instruction 0: no boolean to decide by"),
        (code(("true",), ("if_true", 4), ("pop",), ("size",), ("end",)), b"", f"instruction 4: {TWO_WAYS}"),
        (code(("true",), ("if_true", 3), ("true",), ("end",)), b"", f"instruction 3: {TWO_WAYS}"),
        (code(("true",), ("jump", 3), ("true",), ("end",)), b"", "instruction 2: no way leads here"),
    ],
)  # fmt: skip
def test_the_verifier_refuses(program, data, words):
    with pytest.raises(ValueError) as error:
        Filter(program, data)
    assert str(error.value) == words


def test_the_deepest_stack_runs():
    deep = code(*[("true",)] * 32, *[("compare_bool", 0, COMPARISONS["=="])] * 31, ("end",))
    assert Filter(deep, b"").passes(question("a.", 1))


operations = st.sampled_from(sorted(OP))
instruction = st.tuples(operations, st.integers(0, 24), st.integers(0, 2))


@settings(max_examples=500)
@given(st.lists(instruction, max_size=12), st.binary(max_size=64), st.booleans())
def test_no_code_that_is_let_in_does_harm(instructions, data, end):
    program = code(*instructions, *([("end", 0, 0)] if end else []))
    try:
        verified = Filter(program, data)
    except ValueError:
        return
    assert verified.passes(question("www.example.org.", 1)) in (True, False)


def test_passes_looks_at_what_it_is_given():
    code_ = translate([compile_expression("do()", FUNCTIONS)])
    for wrong in ({"client": b"123"}, {"local": b"1"}):
        with pytest.raises(ValueError, match="no address"):
            code_.passes(question("a.", 1), **wrong)
    with pytest.raises(ValueError, match="no admissible query"):
        code_.passes(b"x")
