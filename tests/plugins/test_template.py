# SPDX-License-Identifier: Apache-2.0
"""template: answers, refused configurations, metrics, and what its answers depend on.

template.json holds one Corefile and what CoreDNS answered to each question: name, type, transport, options, rcode,
flags, the three sections, and of its OPT size, DO and options.
"""

from __future__ import annotations

import json
import pickle
import random
import re
from pathlib import Path

import pytest

from fastdns._wire import name_to_text
from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, ANY, CH, MX, NOERROR, NXDOMAIN, REFUSED, SERVFAIL, TXT, A
from fastdns.plugins.template import Template
from fastdns.plugins.template.stanza import Ready
from fastdns.rrtext import type_number
from fastdns.testing import Answer, Server, Worker, exchange, question
from tests.faults.upstream import Asked, Upstream, reply

TABLE = json.loads((Path(__file__).parent / "template.json").read_text())
COREFILE = ". {\n" + "\n".join(TABLE["corefile"]) + "\n}\n"
FAILURES = ("coredns_template_template_failures_total", "coredns_template_rr_failures_total")


@pytest.fixture(scope="module")
def worker():
    with Worker(COREFILE) as worker:
        yield worker


def seen(got: Answer) -> list[object]:
    edns = got.message.edns
    opt = None if edns is None else [edns.edns_len, edns.edns_do, [[o.code, bytes(o.data).hex()] for o in edns.rdata]]
    return [got.rcode, " ".join(sorted(got.flags)), got.answer, got.authority, got.additional, opt]


def test_there_is_something_to_check():
    assert len(TABLE["cases"]) > 200 and sum(bool(case[6]) for case in TABLE["cases"]) > 100


@pytest.mark.parametrize("case", TABLE["cases"], ids=lambda case: f"{case[0][:40]}-{case[1]}-{len(case[3])}")
def test_answers_are_coredns_s(worker, case):
    name, kind, proto, options, *expected = case
    number = type_number(kind.upper())
    assert number is not None
    assert seen(worker.ask(name, number, proto, **options)) == expected


# Where CoreDNS sends a message that nobody can read, or none.
@pytest.mark.parametrize("name", ["empty", "badcookie", "4.rr", "5.rr", "39.rr", "45.rr", "46.rr"])
def test_what_cannot_be_sent_is_servfail(worker, name):
    got = worker.ask(f"{name}.test", TXT if name == "empty" else A)
    assert (got.rcode, got.answer) == (SERVFAIL, [])


def test_letters_of_the_question(worker):
    got = worker.ask("IP-10-1-2-3.eXample", A)
    assert got.answer == ["ip-10-1-2-3.example. 60 IN A 10.1.2.3"]
    assert str(got.message.questions[0].qname) == "IP-10-1-2-3.eXample."
    assert worker.ask("oWner.test", TXT).answer == ["WWW.owner.test. 60 IN A 1.2.3.4", "oWner.test. 60 IN A 1.2.3.5"]


@pytest.mark.parametrize(
    ("name", "address"),
    [("foo.example", "1.1.1.1"), (r"foo\.example", "2.2.2.2"), (r"foo\\.example", "1.1.1.1"),
     (r"foo\\\.example", "2.2.2.2"), (r"foo\046example", "2.2.2.2"), ("Example", "1.1.1.1"), ("fooexample", "2.2.2.2")],
)
def test_a_dot_within_a_label_ends_no_zone(name, address):
    corefile = '. {\ntemplate IN A example {\nanswer "x A 1.1.1.1"\n}\ntemplate IN A {\nanswer "x A 2.2.2.2"\n}\n}\n'
    with Worker(corefile) as worker:
        assert worker.ask(name, A).answer == [f"x. 3600 IN A {address}"]


def test_the_view_is_a_label_of_the_metrics():
    with Worker(". {\ntemplate IN A\n}\n") as worker:
        (_, plugin), = worker.generation.blocks[0].members
        plugin.block.view = "inside"
        worker.ask("a.test", A)
        assert worker.counter("coredns_template_matches_total", view="inside") == 1


def test_another_class_reaches_the_block_where_a_plugin_admits_it():
    corefile = '. {\ntemplate ANY ANY {\nanswer "{{ .Name }} 5 {{ .Class }} TXT {{ .Type }}"\n}\nforward . 192.0.2.1\n}'
    with Worker(corefile) as worker:
        assert worker.ask("x.test", TXT).answer == ["x.test. 5 IN TXT \"TXT\""]
        got = worker.ask("x.test", TXT, qclass=CH)
        assert got.answer == ["x.test. 5 CH TXT \"TXT\""] and got.rcode == NOERROR


def test_metrics():
    with Worker(COREFILE) as worker:
        asked = ["ip-10-1-2-3.example", "badrr.test", "badtmpl.test", "badtmpl.test", "ip-1.example", "refused.bare"]
        for name in asked:
            worker.ask(name, A)
        matches = "coredns_template_matches_total"
        labels = {"server": "dns://:53", "view": "", "class": "IN", "type": "A"}
        assert worker.counter(matches, zone="example.", **labels) == 1
        assert worker.counter(matches, zone="refused.bare.", **labels) == 1
        assert worker.counter(matches) == 5
        text = '{{.Name}} 60 IN A {{index .Match 7}}'
        assert worker.counter(FAILURES[0], zone="badtmpl.test.", section="answer", template=text, **labels) == 2
        text = '{{.Name}} 60 IN A {{index .Match 0}}'
        assert worker.counter(FAILURES[1], zone="badrr.test.", section="answer", template=text, **labels) == 1
        assert [worker.counter(name) for name in FAILURES] == [2, 1]


def test_names_make_no_series():
    with Worker(". {\ntemplate ANY ANY {\nanswer \"{{ .Name }} A x\"\n}\n}\n") as worker:
        for n in range(50):
            worker.ask(f"\\000{n}\\\".test", A)
        series = [s for s in worker.stats.snapshot() if s.name.startswith("coredns_template")]
        assert len(series) == 2 and all(s.values[0] == 50 for s in series)


def test_unknown_types_and_classes_are_empty_labels():
    with Worker(". {\ntemplate ANY ANY\n}\n") as worker:
        worker.ask("a.test", 4000)
        assert worker.counter("coredns_template_matches_total", **{"class": "IN", "type": ""}) == 1


def test_errors_are_logged():
    corefile = '. {\nerrors\ntemplate IN A a.test {\nanswer "{{ .Name }} A {{ index .Match 3 }}"\n}\n' \
               'template IN A b.test {\nanswer "{{ .Name }} A x"\n}\ntemplate IN A c.test {\nmatch z\n}\n}\n'
    with Server(corefile) as server:
        assert server.ask("c.test", A).rcode == server.ask("a.test", A).rcode == SERVFAIL
        line = server.wait_for("a.test. A:")
        assert line.endswith('plugin/errors: 2 a.test. A: template: answer:1:17: executing "answer" '
                             "at <index .Match 3>: error calling index: index out of range: 3")
        assert server.ask("b.test", A).rcode == SERVFAIL
        assert server.wait_for("b.test. A:").endswith("2 b.test. A: 'x' is no IPv4 address: 'b.test. A x'")
        assert not any("c.test." in line for line in server.output)


def test_it_falls_through_to_the_next_plugin():
    with Upstream(lambda asked: [reply(asked, answers=2)]) as upstream:
        corefile = ('. {\ntemplate IN A example {\nmatch ^a[.]\nanswer "{{ .Name }} A 1.2.3.4"\nfallthrough\n}\n'
                    f"template IN A strict.test {{\nmatch ^a[.]\n}}\nforward . 127.0.0.1:{upstream.port}\n}}\n")
        with Worker(corefile) as worker:
            assert len(worker.ask("b.example", A).answer) == len(worker.ask("c.test", A).answer) == 2
            assert len(worker.ask("b.example", AAAA).answer) == 2
            assert worker.ask("a.example", A).answer == ["a.example. 3600 IN A 1.2.3.4"]
            assert worker.ask("b.strict.test", A).rcode == SERVFAIL
            assert len(upstream.asked) == 3


CNAMES = """
. {
template IN ANY one.test {
answer "{{ .Name }} CNAME target.other.test."
}
template IN ANY loop.test {
answer "{{ .Name }} CNAME x.{{ .Name }}"
}
template IN ANY bad.test {
answer "{{ .Name }} CNAME nothing.error.test."
}
}
other.test {
template IN A other.test {
answer "{{ .Name }} 7 A 192.0.2.1" "{{ .Name }} 7 RRSIG A 8 3 7 20300101000000 20200101000000 1 other.test. AAAA"
}
template IN AAAA other.test {
rcode NXDOMAIN
authority "other.test. 9 SOA a. b. 1 2 3 4 5"
}
}
error.test {
template IN ANY error.test {
answer "{{ .Name }} A nonsense"
}
}
"""


def test_a_cname_is_followed_through_the_whole_server():
    with Worker(CNAMES) as worker:
        cname = "a.one.test. 3600 IN CNAME target.other.test."
        got = worker.ask("a.one.test", A)
        assert got.answer[:2] == [cname, "target.other.test. 7 IN A 192.0.2.1"]
        assert got.answer[2].startswith("target.other.test. 7 IN RRSIG A 8 3 7 20300101000000 20200101000000 1 other.")
        assert worker.counter("coredns_template_matches_total", zone="other.test.") == 1
        got = worker.ask("a.one.test", AAAA)
        assert (got.rcode, got.answer, got.authority) == (NOERROR, [cname], [])
        assert worker.ask("a.one.test", MX).answer == [cname]
        assert worker.ask("a.bad.test", A).answer == ["a.bad.test. 3600 IN CNAME nothing.error.test."]


def test_a_chain_of_cnames_ends():
    # CoreDNS recurses until its stack or the name is full; look-ups here nest eight deep.
    with Worker(CNAMES) as worker:
        got = worker.ask("loop.test", A)
        assert got.rcode == NOERROR and 8 <= len(got.answer) <= 9
        assert got.answer[-1].startswith("x." * (len(got.answer) - 1) + "loop.test. ")


def test_truncation_of_a_look_up_is_kept():
    def script(asked: Asked) -> list[bytes]:
        wire = bytearray(reply(asked, answers=1))
        wire[2] |= 2
        return [bytes(wire)]

    with Upstream(script) as upstream:
        corefile = ('. {\ntemplate IN ANY one.test {\nanswer "{{ .Name }} CNAME a.far.test."\n}\n'
                    f"forward far.test 127.0.0.1:{upstream.port} {{\nprefer_udp\n}}\n}}\n")
        with Worker(corefile) as worker:
            got = worker.ask("a.one.test", A)
            assert got.rcode == NOERROR and "tc" in got.flags and len(got.answer) == 2


def test_metadata():
    corefile = ('. {\nmetadata\ntemplate IN TXT {\nvar up metadata("forward/upstream")\n'
                'answer "{{ .Name }} TXT \\"<{{ .Meta `forward/upstream` }}|{{ .Var.up }}|{{ .Meta `none/such` }}>\\""'
                "\n}\n}\n")
    with Worker(corefile) as worker:
        assert worker.ask("a.test", TXT).answer == ['a.test. 3600 IN TXT "<||>"']
        assert sorted(worker.generation.blocks[0].labels.names) == ["forward/upstream", "none/such"]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("duration('1h30m')", "1h30m0s"), ("date('2023-08-14').Month()", "August"),
        ("date('2023-08-14').Weekday()", "Monday"),
        ("date('2023-08-14')", "2023-08-14 00:00:00 +0000 UTC"), ("1..3", "[1 2 3]"), ("7 / 2", "3.5"),
        ("2 ** 10", "1024"),
        ("{'b': 1, 'a': [1, 2.5, nil]}", "map[a:[1 2.5 <nil>] b:1]"), ("nil", "<nil>"), ("1e6", "1e+06"),
        ("groupBy(1..4, # % 2)", "map[0:[2 4] 1:[1 3]]"), ("split('a-b', '-')", "[a b]"), ("true and false", "false"),
    ],
)  # fmt: skip
def test_values_of_expressions(expression, text):
    answer = "{{ .Name }} TXT {{ printf `%q` (print .Var.x) }}"
    corefile = f'. {{\ntemplate IN TXT {{\nvar x "{expression}"\nanswer "{answer}"\n}}\n}}\n'
    with Worker(corefile) as worker:
        assert worker.ask("a.test", TXT).answer == [f'a.test. 3600 IN TXT "{text}"']


def test_an_expanding_template_costs_its_own_query_alone():
    corefile = ('. {\ntemplate IN TXT bad.test {\nanswer "{{ .Name }} TXT {{ range 100000000 }}x{{ end }}"\n}\n'
                'template IN TXT good.test {\nanswer "{{ .Name }} TXT ok"\n}\n}\n')
    with Worker(corefile) as worker:
        for _ in range(3):
            assert worker.ask("bad.test", TXT).rcode == SERVFAIL
            assert worker.ask("good.test", TXT).answer == ['good.test. 3600 IN TXT "ok"']
        assert worker.counter(FAILURES[0]) == 3


def test_a_reply_that_no_message_holds_is_servfail():
    record = "{{ .Name }} TXT {{ range 60 }}\\\"{{ printf \\\"%200d\\\" . }}\\\" {{ end }}"
    corefile = ". {\ntemplate IN TXT {\nanswer " + " ".join(f'"{record}"' for _ in range(6)) + "\n}\n}\n"
    with Worker(corefile) as worker:
        assert worker.ask("a.test", TXT, "tcp").rcode == SERVFAIL
        assert worker.counter("coredns_panics_total") == 0


@pytest.mark.parametrize(
    "label", [b"\0", b'"', b"\\", b"\xff" * 63, b"{{ .Name }}", b"$INCLUDE", b"a b\n;()", b"*", b"@"]
)
def test_hostile_names(worker, label):
    for zone in ("esc.test", "owner.test", "lan", "if.test"):
        name = bytes([len(label)]) + label + b"".join(bytes([len(p)]) + p.encode() for p in zone.split(".")) + b"\0"
        wire = question(name_to_text(name), TXT)
        got = Answer.of(exchange(wire, worker.port))
        assert got.rcode in (NOERROR, SERVFAIL)
        for line in got.answer:
            assert line.startswith((name_to_text(name).lower() if zone != "owner.test" else "WWW.", name_to_text(name)))


def test_no_query_is_a_panic(worker):
    chance = random.Random(7)
    zones = sorted({case[0].partition(".")[2] or case[0] for case in TABLE["cases"]})
    types = [1, 2, 5, 6, 12, 15, 16, 28, 33, 43, 46, 47, 48, 50, 64, 65, 99, 255, 256, 257, 4000, 65280]
    for _ in range(600):
        label = bytes(chance.choices(range(256), k=chance.randint(1, 30)))
        name = name_to_text(bytes([len(label)]) + label + b"\0") + chance.choice(zones).rstrip(".")
        assert worker.ask(name, chance.choice(types), bufsize=chance.choice([0, 1232])).rcode in range(24)
    assert worker.counter("coredns_panics_total") == 0


# ---- configurations

PLACE = "plugin/template: Corefile:{} - Error during parsing: "
MANY = "Wrong argument count or unexpected line ending after "


def parsed(text: str) -> list:
    return Template.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53", "dns://example.org.:53"), "template"))[0]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("template", 1, MANY + "'template'"),
        ("template IN", 1, MANY + "'IN'"),
        ("template XX A", 1, "invalid query class XX"),
        ("template in A", 1, "invalid query class in"),
        ("template IN XX", 1, "invalid RR class XX"),
        ("template IN TYPE1", 1, "invalid RR class TYPE1"),
        ("template IN A {\nmatch\n}", 2, MANY + "'match'"),
        ("template IN A {\nmatch (\n}", 2, "could not parse regex: (, error parsing regexp: missing closing ): `(`"),
        ("template IN A {\nmatch " + "a" * 10001 + "\n}", 2, "regex pattern too long: 10001 > 10000"),
        ("template IN A {\nmatch ^((a|b)?){500}$\n}", 2, "regex takes too long for some names: ^((a|b)?){500}$"),
        ("template IN A {\nmatch " + "(.*)" * 200 + "\n}", 2, "regex takes too long for some names: " + "(.*)" * 200),
        ("template IN A {\nanswer\n}", 2, MANY + "'answer'"),
        ('template IN A {\nanswer "{{"\n}', 2, "could not compile template: {{, template: answer:1: unclosed action"),
        ('template IN A {\nanswer ok "{{ foo }}" last\n}', 2,
         'could not compile template: last, template: answer:1: function "foo" not defined'),
        ('template IN A {\nadditional "{{ .Name"\n}', 2,
         "could not compile template: {{ .Name, template: additional:1: unclosed action\n"),
        ('template IN A {\nauthority "{{ end }}"\n}', 2,
         "could not compile template: {{ end }}, template: authority:1: unexpected {{end}}\n"),
        ('template IN A {\nanswer "a\n{{ foo }}"\n}', 2,
         'could not compile template: a\n{{ foo }}, template: answer:2: function "foo" not defined'),
        ("template IN A {\nvar x\n}", 2, MANY + "'x'"),
        ("template IN A {\nvar 1x 2\n}", 2, 'invalid variable name "1x"'),
        ("template IN A {\nvar é 2\n}", 2, 'invalid variable name "é"'),
        ("template IN A {\nvar len 2\n}", 2, 'variable name "len" is reserved'),
        ("template IN A {\nvar name 2\n}", 2, 'variable name "name" is reserved'),
        ("template IN A {\nvar group 2\n}", 2, 'variable name "group" is reserved'),
        ("template IN A {\nvar true 2\n}", 2, 'variable name "true" is reserved'),
        ("template IN A {\nvar let 2\n}", 2, 'variable name "let" is reserved'),
        ("template IN A {\nvar map 2\n}", 2, 'variable name "map" is reserved'),
        ("template IN A {\nvar x 1\nvar x 2\n}", 3, 'variable name "x" is reserved'),
        ("template IN A {\nvar x foo()\n}", 2,
         "could not compile expression: x, unknown name foo (1:1)\n | foo()\n | ^"),
        ("template IN A {\nexpr\n}", 2, MANY + "'expr'"),
        ("template IN A {\nexpr x > 1\nvar x 1\n}", 2,
         "could not compile expression: unknown name x (1:1)\n | x > 1\n | ^"),
        ("template IN A {\nrcode\n}", 2, MANY + "'rcode'"),
        ("template IN A {\nrcode nxdomain\n}", 2, "unknown rcode nxdomain"),
        ("template IN A {\nrcode NXDOMAIN x\n}", 2, MANY + "'x'"),
        ("template IN A {\nederror\n}", 2, MANY + "'ederror'"),
        ("template IN A {\nederror 1 2 3\n}", 2, MANY + "'3'"),
        ("template IN A {\nederror 65536\n}", 2,
         'error parsing extended DNS error code 65536, strconv.ParseUint: parsing "65536": value out of range\n'),
        ("template IN A {\nederror x y\n}", 2,
         'error parsing extended DNS error code y, strconv.ParseUint: parsing "x": invalid syntax\n'),
        ("template IN A {\nnonsense\n}", 2, MANY + "'nonsense'"),
        ("template IN A {\nmatch a\n}\ntemplate IN", 4, MANY + "'IN'"),
    ],
)
def test_refused(text, line, said):
    with pytest.raises(ConfigError) as error:
        parsed(text)
    assert str(error.value) == PLACE.format(line) + said


def test_the_column_of_a_mistake():
    with pytest.raises(ConfigError) as error:
        parsed('template IN A {\n  answer one "x {{ foo }}" two\n}')
    assert (error.value.line, error.value.column) == (2, 19)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("template IN A", "zones", (".", "example.org.")),
        ("template IN A a B.c 10.0.0.0/15 x..y", "zones", ("a.", "b.c.", "0.10.in-addr.arpa.", "1.10.in-addr.arpa.")),
        ("template ANY ANY", "qtype", ANY),
        ("template IN None", "qtype", 0),
        ("template IN NSAP-PTR", "qtype", 23),
        ("template IN A {\nmatch a b\nmatch c\n}", "regexes", ["a", "b", "c"]),
        ("template IN A {\nanswer a b\nanswer c\n}", "answer", ["a", "b", "c"]),
        ("template IN A {\nrcode NXDOMAIN\nrcode REFUSED\n}", "rcode", REFUSED),
        ("template IN A {\nederror 1 a\nederror 65535\n}", "ederror", (65535, "")),
        ("template IN A {\nfallthrough\n}", "fall", (".",)),
        ("template IN A {\nfallthrough a b.\n}", "fall", ("a.", "b.")),
        ("template IN A {\nupstream\nupstream 1.2.3.4 /etc/resolv.conf\n}", "fall", ()),
        ("template IN A {\nvar x 1 + 2\nvar y x > 1\nexpr y\n}", "variables", [("x", "1 + 2"), ("y", "x > 1")]),
        ("template IN A {\nmatch " + "a" * 10000 + "\n}", "regexes", ["a" * 10000]),
        ("template IN A {\nmatch " + "|".join(f"word{n}" for n in range(1200)) + "\n}", "qtype", A),
        ("template IN A {\nmatch " + ".*a" * 500 + "\n}", "qtype", A),
        ("template IN A {\nmatch ^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+$\n}", "qtype", A),
    ],
)
def test_accepted(text, field, value):
    stanzas = parsed(text)
    assert getattr(stanzas[0], field) == value
    assert pickle.loads(pickle.dumps(stanzas)) == stanzas


def test_a_dollar_at_the_braces_is_a_variable_of_the_environment():
    text = '. {\ntemplate IN TXT {\nanswer "{{ $x := .Name }}{{ $x }} TXT ok{$NO_SUCH_VARIABLE}"\n}\n}\n'
    with Worker(text) as worker:
        assert worker.ask("a.test", TXT).answer == ['a.test. 3600 IN TXT "ok"']


# ---- what an answer depends on


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        ("", set()),
        ("rcode NXDOMAIN", set()),
        ('answer "www.example.org. A 1.2.3.4"', set()),
        ('answer "{{ .Zone }} {{ .Class }} {{ .Type }} TXT x"', {"LOOKUP"}),
        ('answer "{{ .Name }} 60 IN A {{ .Group.a }}.2.3.4"', {"NAME"}),
        ('answer "{{ .Name }} 60 IN CNAME {{ .Zone }}"', {"NAME", "LOOKUP"}),
        ('answer "x. CNAME y."', {"LOOKUP"}),
        ('answer "{{ .Zone }} 60 IN A{{ .Type }} x"', {"LOOKUP"}),
        ('answer "{{ .Group.a }} 60 IN A 1.2.3.4"', {"NAME", "LOOKUP"}),
        ('answer "{{ if eq .Type `A` }}x A 1.2.3.4{{ end }}"', {"LOOKUP"}),
        ('answer "x. 60 ANY TXT {{ .Zone }}"', set()),
        ('answer "nonsense"', {"LOOKUP"}),
        ("match a", {"NAME"}),
        ("fallthrough", set()),
        ("match a\nfallthrough", {"NAME"}),
        ('additional "{{ .Name }} A 1.2.3.4"', {"NAME"}),
        ('additional "{{ index .Match 0 }}{{ .Group.a }} A 1.2.3.4"', {"NAME"}),
        ('additional "x A {{ .Remote }}"', {"CLIENT"}),
        ('additional "x TXT {{ .Message.Id }}"', {"ID"}),
        ('additional "x TXT {{ .Message.MsgHdr.RecursionDesired }}"', {"RD"}),
        ('additional "x TXT {{ .Question.Qtype }}"', set()),
        ('additional "{{ .Question.Name }} TXT x"', {"NAME", "CASE"}),
        ('additional "x TXT {{ with .Message.IsEdns0 }}{{ .Do }}{{ end }}"', {"EDNS"}),
        ('additional "x TXT {{ .Message.Len }}"', {"ALL"}),
        ('additional "x TXT {{ .Meta `geoip/city` }}"', {"METADATA(geoip/city)"}),
        ('additional "x TXT {{ .Meta .Name }}"', {"METADATA", "NAME"}),
        ("var a client_ip()\nadditional \"x TXT {{ .Var.a }}\"", {"CLIENT"}),
        ("var a group(1)\nexpr a == 'b' and now().Year() > 2000", {"NAME", "TIME"}),
        ("expr metadata('geoip/country') == 'CH' || do()", {"METADATA(geoip/country)", "DO"}),
        ("expr server_ip() != '' && port() != '' && proto() == 'udp'", {"SERVER", "PORT", "PROTO"}),
        ('additional "{{ $x := . }}{{ $x.Name }} A 1.2.3.4"', {"ALL", "NAME"}),
    ],
)
def test_depends(lines, facts):
    text = f". {{\ntemplate IN A {{\n{lines}\n}}\n}}\n"
    with Worker(text) as worker:
        (_, plugin), = [member for member in worker.generation.blocks[0].members if member[0] == "template"]
        assert plugin.facts() == facts


def test_what_is_the_same_for_every_query_is_made_once():
    text = 'template IN A {\nanswer "www.example.org. A 1.2.3.4" "{{ .Name }} A 1.2.3.4" "nonsense"\n}'
    stanza = Ready(parsed(text)[0])
    made = [text.record is not None for text in stanza.records["answer"]]
    assert made == [True, False, False]


def test_nxdomain_with_an_extended_error(worker):
    got = worker.ask("x.invalid", A, bufsize=1232)
    assert got.rcode == NXDOMAIN and got.message.edns.rdata[0].text == "Blocked according to RFC2606"


# ---- the manual

MANUAL = (Path(__file__).resolve().parents[2] / "plugins" / "template" / "README.md").read_text()
EXAMPLES = re.findall(r"^```corefile\n(.*?)^```\n\n```text\n(.*?)^```$", MANUAL, re.M | re.S)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_manuals_examples_answer_what_it_says(number):
    corefile, answers = EXAMPLES[number]
    with Worker(corefile) as worker:
        for line in answers.splitlines():
            asked, said = line.split(": ", 1)
            name, kind = asked.split(" ")
            rcode, *records = said.split(", ")
            got = worker.ask(name, type_number(kind))
            assert [got.message.rcode_name, *got.answer] == [rcode, *records], line


def test_every_example_of_the_manual_is_run():
    assert len(EXAMPLES) == MANUAL.count("```corefile") > 6
