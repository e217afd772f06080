# SPDX-License-Identifier: Apache-2.0
"""Go templates: what Go's text/template makes of each text (gotemplate.json), and what a template may cost.

A row: the template; "" for a text, "parse" or "exec" for an error; the text or the error; Go's canonical spelling.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fastdns.gotemplate import Budget, ExecError, StringMap, Strings, Template, TemplateError, Uint64, parse_int
from fastdns.gotemplate.execution import OUTPUT_MAX, STEPS_MAX
from fastdns.gotemplate.functions import FunctionError
from fastdns.gotemplate.uses import Use, uses
from fastdns.plugins.template.config import TEMPLATE_FUNCTIONS
from fastdns.plugins.template.data import Data

ROWS = json.loads((Path(__file__).parent / "gotemplate.json").read_text())


class Asked:
    """The query behind the rows."""

    name, qname = "www.a-1.example.org.", "WWW.a-1.Example.org."
    type, qclass, id, opcode = 1, 1, 4660, 0
    rd, ad, cd, edns, do = True, False, False, False, False
    wire = b"\x12\x34\x01\x00" + bytes(8)
    client = "192.0.2.1"
    metadata = {"a/b": "meta"}  # noqa: RUF012


class Seen(Data):
    """A group that is no element of the match, so that both can be told apart."""

    def group_text(self, name: str) -> str | None:
        return self.group.get(name)


def data() -> Data:
    names = {"0": 0, "1": 1, "2": 2, "3": 3, "host": 1, "n": 4}
    made = Seen(Asked(), Asked.name, "example.org.", "^x$", names, ("www.a-1", "www", "a-1", "", "0a"), 1, 1)
    made._group = StringMap({name: made.groups[at] for name, at in names.items()})
    made.groups = made.groups[:4]
    made.var = {"ip": "10.0.0.1", "n": 7, "f": 1.5, "b": True, "nil": None, "list": ["x", 1, None],
                "map": {"k": "v", "a": 1}}
    return made


def outcome(text: str, root: type | None) -> list[str]:
    try:
        template = Template("answer", text, TEMPLATE_FUNCTIONS, root)
    except TemplateError as error:
        return ["parse", str(error), ""]
    try:
        return ["", template.execute(data()), template.text]
    except ExecError as error:
        return ["exec", str(error), template.text]


def test_there_is_something_to_check():
    assert len(ROWS) > 600 and {row[1] for row in ROWS} == {"", "parse", "exec"}


@pytest.mark.parametrize("root", [Data, None], ids=["quick", "long"])
def test_each_row_is_what_go_says(root):
    """By the short ways to the data's fields, and without."""
    wrong = [(row, got) for row in ROWS if (got := outcome(row[0], root)) != row[1:]]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("{{ foo }}", 1, 4),
        ("a\nbc {{ foo }}", 2, 7),
        ("{{ .Name", 1, 9),
        ("{{ if true }}", 1, 14),
        ("x {{ end }}", 1, 10),
        ("{{ $x }}", 1, 4),
        ("{{ \"a }}", 1, 4),
        ("{{/* a", 1, 3),
        ("a\n\n  {{ 1 | 2 }}", 3, 12),
    ],
)
def test_where_a_mistake_stands(text, line, column):
    with pytest.raises(TemplateError) as caught:
        Template("answer", text)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ 1i }}", "template: answer:1: complex number 1i: not supported"),
        ("{{ call .Name }}", 'template: answer:1: function "call" not defined'),
        ("{{ " + "(" * 70 + "1" + ")" * 70 + " }}", "max expression depth exceeded"),
        ("{{ 1 }}" * 700, "a template has at most 2000 parts, not 2801"),
        ("{{ if 1 }}" * 70 + "{{ end }}" * 70, "max nesting depth exceeded"),
        ("{{ if 1 }}" + "{{ else if 1 }}" * 70 + "{{ end }}", "max nesting depth exceeded"),
    ],
)
def test_what_is_refused_that_go_takes(text, said):
    with pytest.raises(TemplateError) as caught:
        Template("answer", text)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ . }}", "can't print . of type *template.templateData"),
        ("{{ .Message }}", "can't print .Message of type *dns.Msg"),
        ('{{ template "answer" . }}', "exceeded maximum template depth (50)"),
        ("{{ range 100000000 }}{{ end }}", "the template costs more than a query may"),
        ("{{ range 300 }}{{ range 900 }}{{ end }}{{ end }}", "the template costs more than a query may"),
        ('{{ define "a" }}{{ if lt (len .) 30 }}' + '{{ template "a" (printf "%sx" .) }}' * 2
         + '{{ end }}{{ end }}{{ template "a" "" }}', "the template costs more than a query may"),
        ('{{ $x := "0123456789abcdef" }}' + "{{ $x = printf \"%s%s\" $x $x }}" * 40,
         "the template costs more than a query may"),
        ('{{ $x := printf "%9000s" "x" }}{{ len $x }}', "the template costs more than a query may"),
        ('{{ range 100 }}{{ printf "%d%d%d%d%d%d" 1 2 3 4 5 6 }}{{ end }}', "the template costs more than a query may"),
        ('{{ range 100 }}{{ printf "%d%d%d%d%d%d%d%d%d" }}{{ end }}', "the template costs more than a query may"),
        ('{{ range 100 }}{{ print 1 2 3 4 5 6 7 8 9 }}{{ end }}', "the template costs more than a query may"),
        ("{{ range 30 }}" + "{{ 1 }}" * 40 + "{{ end }}", "the template costs more than a query may"),
        ('{{ printf "%10000s%10000s" "x" "x" }}', "a text is too long"),
        ('{{ printf "%9000s" "x" }}{{ printf "%9000s" "x" }}', "the output is too long"),
        ('{{ range 60 }}{{ printf "%2000d" . }}{{ end }}', "the output is too long"),
        ("{{ range 400 }}" + "x" * 200 + "{{ end }}", "the output is too long"),
    ],
)
def test_what_costs_too_much_is_an_error(text, said):
    with pytest.raises(ExecError) as caught:
        Template("answer", text, TEMPLATE_FUNCTIONS, Data).execute(data())
    assert str(caught.value).endswith(said)


def test_one_budget_for_all_templates_of_a_query():
    template, budget = Template("answer", "{{ range 200 }}x{{ end }}"), Budget()
    assert template.execute(None, budget) == template.execute(None, budget) == "x" * 200
    with pytest.raises(ExecError):
        template.execute(None, budget)
    assert STEPS_MAX == 1000


def test_widths_are_bounded():
    assert len(Template("answer", '{{ printf "%16000d" 1 }}').execute(None)) == 16000 < OUTPUT_MAX
    assert Template("answer", '{{ printf "%99999999999d" 1 }}').execute(None) == "1"


def test_a_constant_is_known_to_be_one():
    assert Template("answer", "a {{/* b */}} c").constant == "a  c"
    assert Template("answer", "{{ 1 }}").constant is None


@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_a_template_or_an_error(seed):
    chance = random.Random(seed)
    words = [*{word for row in ROWS for word in row[0].split(" ")}, "{{", "}}", "{{-", "-}}", "\n", "\udcff", "\0"]
    for _ in range(1500):
        outcome(" ".join(chance.choices(words, k=chance.randint(1, 12))), chance.choice([Data, None]))


def test_a_data_of_another_kind():
    template = Template("answer", '{{ .a }}{{ range .l }}<{{ . }}>{{ end }}{{ index .l 1 }}{{ .m.k }}')
    assert template.execute({"a": 1, "l": Strings(["x", "y"]), "m": {"k": Uint64(5)}}) == "1<x><y>y5"


class Hour(int):
    """A number with a text of its own."""

    def __str__(self) -> str:
        return f"{int(self)}h"


def test_a_number_with_a_text_of_its_own():
    text = '{{ .h }} {{ printf "%v %s %q %d %05d %T" .h .h .h .h .h .h }} {{ eq .h 2 }} {{ lt .h 3 }}'
    assert Template("answer", text).execute({"h": Hour(2)}) == '2h 2h 2h "2h" 2 00002 time.Hour true true'
    assert Template("answer", "{{ print .l }}").execute({"l": [Hour(1), True, 2]}) == "[1h true 2]"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{{ .Name }} {{ index .Group \"a\" }}", {Use(("Name",)), Use(("Group",))}),
        ("{{ $.Question.Name }}", {Use(("Question", "Name"))}),
        ('{{ .Meta "a/b" }}{{ .Meta .Name }}', {Use(("Meta",), "a/b"), Use(("Meta",)), Use(("Name",))}),
        ("{{ with .Message }}{{ .Id }}{{ . }}{{ end }}", {Use(("Message",)), Use(("Id",))}),
        ("{{ if .Name }}{{ . }}{{ end }}", {Use(("Name",)), Use(())}),
        ('{{ define "a" }}{{ .Remote }}{{ end }}{{ template "a" . }}', {Use(("Remote",))}),
        ('{{ define "a" }}{{ .Remote }}{{ end }}{{ template "a" (print .) }}', {Use(("Remote",)), Use(())}),
        ("{{ $x := $ }}{{ $x.Remote }}", {Use(()), Use(("Remote",))}),
        ("{{ (index .Message.Question 0).Name }}", {Use(("Message", "Question"))}),
        ("no action", set()),
    ],
)
def test_what_a_template_reads(text, found):
    assert uses(Template("answer", text).trees) == found


@pytest.mark.parametrize(("text", "base", "bits", "value"), [
    ("0a", 16, 8, 10), ("255", 10, 8, 255), ("zz", 36, 64, 1295), ("0x1F", 0, 64, 31), ("0" * 5000 + "7", 10, 64, 7),
])  # fmt: skip
def test_parse_int(text, base, bits, value):
    assert parse_int(text, base, bits) == value


@pytest.mark.parametrize("text", ["", "1_0", "+1", " 1", "٣", "1" * 100_000, "f" * 100_000])
def test_parse_int_refuses(text):
    with pytest.raises(FunctionError, match=r"strconv\.ParseUint: parsing"):
        parse_int(text, 10, 64)
