# SPDX-License-Identifier: Apache-2.0
"""view: which block has a query, and what the name of the view is seen in. Routes are CoreDNS's, seen by `nsid`."""

from __future__ import annotations

import io
import json
import random
import signal
import time

import pytest

from fastdns import chain
from fastdns.check import explain_cli
from fastdns.check.examine import examine
from fastdns.check.explain import Question, ways
from fastdns.corefile import Dispenser, Source, load_source, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import AAAA, DS, REFUSED, SERVFAIL, TXT, A
from fastdns.plugins.view import View
from fastdns.testing import Server, Worker, exchange, question
from tests.faults.serving import Server as ReloadingServer
from tests.faults.serving import wait_for
from tests.faults.upstream import Upstream, reply
from tests.probes import installed

NSID = 3
REST = ". {\n nsid rest\n whoami\n}\n"


def block(zone: str, name: str, *expressions: str, more: str = "") -> str:
    lines = "\n".join(f"  expr {each}" for each in expressions)
    return f"{zone} {{\n view {name} {{\n{lines}\n }}\n nsid {zone}/{name}\n{more}\n whoami\n}}\n"


def where(server, name: str, qtype: int = A, proto: str = "udp", **options: object) -> str:
    """The block that answers, by its nsid; the rcode if none did."""
    got = server.ask(name, qtype, proto, options=[(NSID, b"")], **options)
    data = [bytes(option.data) for option in got.message.edns.rdata if option.code == NSID]
    return data[0].decode() if data and data[0] else str(got.rcode)


# ---- one view and a rest

HERE, PYTHON = "compiled", "Python"


@pytest.mark.parametrize(
    ("runs", "expression", "inside", "outside"),
    [
        (HERE, "name() startsWith 'a'", [{"name": "a.org."}, {"name": "A.org."}], [{"name": "b.org."}, {"name": "."}]),
        (HERE, "name() == 'a.org.'", [{"name": "A.oRg."}], [{"name": "b.a.org."}]),
        (HERE, "name() contains '\\\\001'", [{"name": r"\001a."}], [{"name": "a."}]),
        (HERE, "type() in ['A', 'TXT']", [{"qtype": A}, {"qtype": TXT}], [{"qtype": AAAA}, {"qtype": 0}]),
        (HERE, "type() == 'None'", [{"qtype": 0}], [{"qtype": A}]),
        (HERE, "proto() == 'tcp'", [{"proto": "tcp"}], [{"proto": "udp"}]),
        (HERE, "do()", [{"do": True}], [{}]),
        (HERE, "bufsize() in [4096]", [{"bufsize": 4096}], [{"bufsize": 512}, {"bufsize": 4096, "proto": "tcp"}]),
        (HERE, "bufsize() == 65535", [{"proto": "tcp"}], [{}]),
        (HERE, "incidr(client_ip(), '127.0.0.0/8')", [{}], []),
        (HERE, "incidr(client_ip(), '10.0.0.0/8')", [], [{}]),
        (HERE, "client_ip() == '127.0.0.1' and server_ip() != '::1'", [{}, {"proto": "tcp"}], []),
        (HERE, '"any([\'10.0.0.0/8\', \'127.0.0.0/9\'], incidr(client_ip(), #))"', [{}], []),
        (HERE, "size() > 100", [{"name": "a" * 60 + "." + "b" * 60 + "."}], [{}]),
        (HERE, "not (name() endsWith '.org.') or do()", [{"name": "a.net."}, {"do": True}], [{"name": "a.org."}]),
        (HERE, "true", [{}], []),
        (HERE, "false", [], [{}]),
        (HERE, "name() matches '^www[.]'", [{"name": "www.org."}], [{"name": "a.www.org."}]),
        (PYTHON, "name() matches '^x+\\\\.'", [{"name": "xx.org."}], [{"name": "xa.org."}]),
        (PYTHON, "split(name(), '.')[1] == 'org'", [{"name": "a.org."}], [{"name": "org."}, {"name": "."}]),
        (PYTHON, "int(port()) > 0 and server_port() matches '.'", [{}, {"proto": "tcp"}], []),
        (PYTHON, "len(split(name(), '.')) > 3 ? do() : proto() == 'tcp'",
         [{"name": "a.b.c.", "do": True}, {"proto": "tcp"}], [{"name": "a.b.c."}, {}]),
        (PYTHON, "let n = name(); n endsWith '.org.' and n contains 'a'", [{"name": "a.org."}], [{"name": "b.org."}]),
        (PYTHON, "now().Year() > 2020", [{}], []),
        # Neither an error nor a value that is no boolean lets anybody in.
        (PYTHON, "1", [], [{}]),
        (PYTHON, "name()", [], [{}]),
        (PYTHON, "get({}, 'x')", [], [{}]),
        (PYTHON, "incidr('x', '10.0.0.0/8')", [], [{}]),
        (PYTHON, "not incidr(client_ip(), 'x')", [], [{}]),
        (PYTHON, "len(0..(size() * 100000)) > 0", [], [{}]),
        (PYTHON, "metadata('view/name') == ''", [{}], []),
    ],
)
def test_who_enters(runs, expression, inside, outside):
    with Worker(block(".", "v", expression) + REST) as worker:
        (view,) = [plugin for _, plugin in worker.generation.blocks[0].members if isinstance(plugin, View)]
        assert [PYTHON if why else HERE for _, why in view.judges()] == [runs]
        for kind, asked in [("./v", each) for each in inside] + [("rest", each) for each in outside]:
            assert where(worker, **{"name": "b.org.", **asked}) == kind, asked
        assert worker.engine.in_flight == 0


def test_all_expressions_must_hold_wherever_they_run():
    tests = ("do()", "name() matches '^a+'", "proto() == 'udp'", "len(split(name(), 'x')) == 2")
    corefile = block(".", "v", *tests) + REST
    with Worker(corefile) as worker:
        for name, options, kind in [("ax.", {"do": True}, "./v"), ("ax.", {}, "rest"), ("a.", {"do": True}, "rest"),
                                    ("bx.", {"do": True}, "rest"), ("ax.", {"do": True, "proto": "tcp"}, "rest")]:
            assert where(worker, name, **options) == kind
        # Whom the compiled half turns away Python does not see.
        seen = worker.counter("fastdns_python_queries_total")
        for _ in range(20):
            where(worker, "ax.")
        # Only whoami of the rest, which runs in Python, once for each of them.
        assert worker.counter("fastdns_python_queries_total") == seen + 20


# ---- order and zones

ORDER = (
    block("example.org", "tcp", "proto() == 'tcp'")
    + block("example.org", "py", "name() matches '^p+'")
    + block("example.org", "do", "do()")
    + block("org", "a", "type() == 'A'", more=" loadbalance")
    + block("sub.example.org", "none", "name() matches 'neve+r'")
    + block(".", "net", "name() contains 'net'")
)


@pytest.mark.parametrize(
    ("asked", "block_"),
    [
        ({"name": "a.example.org.", "proto": "tcp", "do": True}, "example.org/tcp"),
        ({"name": "p.example.org.", "do": True}, "example.org/py"),
        ({"name": "p.example.org.", "proto": "tcp"}, "example.org/tcp"),
        ({"name": "a.example.org.", "do": True}, "example.org/do"),
        ({"name": "a.example.org."}, "org/a"),
        ({"name": "p.sub.example.org."}, "example.org/py"),
        ({"name": "x.sub.example.org.", "qtype": AAAA}, "5"),
        ({"name": "net.sub.example.org.", "qtype": AAAA}, "./net"),
        ({"name": "a.example.org.", "qtype": AAAA}, "5"),
        ({"name": "net.example.org.", "qtype": AAAA}, "./net"),
        ({"name": "org."}, "org/a"),
        ({"name": "."}, "5"),
        ({"name": "a.net."}, "./net"),
        # A DS belongs to the parent's side: the shortest zone but the root, and in it the first block as ever.
        ({"name": "a.example.org.", "qtype": DS, "do": True}, "example.org/do"),
        ({"name": "p.example.org.", "qtype": DS, "do": True}, "example.org/py"),
        ({"name": "p.sub.example.org.", "qtype": DS}, "example.org/py"),
        ({"name": "a.example.org.", "qtype": DS}, "5"),
        ({"name": "net.example.org.", "qtype": DS}, "./net"),
    ],
)
def test_zones_and_order(order, asked, block_):
    assert where(order, **asked) == block_


@pytest.fixture(scope="module")
def order():
    with Worker(ORDER) as worker:
        yield worker


DUPLICATES = ("example.org {{\n nsid plain\n whoami\n}}\n{}org {{\n nsid org\n whoami\n}}\n").format(
    block("example.org", "late", "true") + block("org", "v", "true", "name() matches 'q+'"))


@pytest.mark.parametrize(
    ("name", "block_"),
    [("a.example.org.", "plain"), ("q.org.", "org/v"), ("a.org.", "org"), ("org.", "org"), ("net.", "5")],
)
def test_an_unfiltered_block_takes_all_that_comes_to_it(name, block_):
    with Worker(DUPLICATES) as worker:
        assert where(worker, name) == block_


def test_a_view_without_expressions_takes_everything():
    with Worker(block(".", "all") + REST) as worker:
        assert where(worker, "a.") == "./all"


def test_nobody_is_left():
    with Worker(block(".", "v", "false")) as worker:
        assert worker.ask("a.", A).rcode == REFUSED


@pytest.mark.parametrize(
    ("corefile", "words"),
    [
        (REST + REST, "cannot serve dns://.:53 - it is already defined"),
        (REST + block(".", "v", "true"), None),
        (block(".", "v", "true") + block(".", "v", "true"), None),
        (". {\n bind 127.0.0.1\n whoami\n}\n" + block(".", "v", "true"),
         "cannot serve dns://.:53 - zone overlap listener capacity with dns://.:53 on 127.0.0.1"),
    ],
)
def test_what_may_share_a_zone(corefile, words):
    source = Source("Corefile", corefile.encode())
    if words is None:
        assert chain.load(load_source(source, chain.known(), chain.not_built()))
        return
    with pytest.raises(ConfigError) as error:
        chain.load(load_source(source, chain.known(), chain.not_built()))
    assert str(error.value) == words


# ---- any tree of views, against a model

TESTS = ["do()", "id() % 2 == 0", "id() > 5", "proto() == 'tcp'", "name() contains 'b'", "name() matches '^a+'", "true",
         "1", "split(name(), '.')[0] == 'b'", "not do()", "type() == 'DS'", "len(split(name(), '.')) > 3"]  # fmt: skip
ZONES = [".", "org", "a.org", "b.a.org"]
NAMES = ["a.org.", "b.a.org.", "x.b.a.org.", "b.org.", "org.", "b.net.", "a.net.", "x.y.z.b.a.org."]


def takes(test: str, name: str, qtype: int, proto: str, do: bool, ident: int) -> bool:
    labels = name.split(".")
    return {"do()": do, "id() % 2 == 0": ident % 2 == 0, "id() > 5": ident > 5, "proto() == 'tcp'": proto == "tcp",
            "name() contains 'b'": "b" in name, "name() matches '^a+'": name[0] == "a", "true": True, "1": False,
            "split(name(), '.')[0] == 'b'": labels[0] == "b", "not do()": not do, "type() == 'DS'": qtype == DS,
            "len(split(name(), '.')) > 3": len(labels) > 3}[test]  # fmt: skip


def expected(blocks: list, name: str, qtype: int, *facts: object) -> str:
    labels, parent = name.rstrip(".").split("."), ""
    for n in range(len(labels)):
        zone = ".".join(labels[n:])
        for own, view, tests in blocks:
            if own == zone and all(takes(test, name, qtype, *facts) for test in tests):
                if qtype != DS:
                    return view
                parent = view
                break
    if parent:
        return parent
    return next((view for own, view, tests in blocks
                 if own == "." and all(takes(test, name, qtype, *facts) for test in tests)), "5")


@pytest.mark.parametrize("seed", range(8))
def test_any_tree_of_views(seed):
    draw = random.Random(seed)
    blocks = [(draw.choice(ZONES), f"v{n}", draw.sample(TESTS, draw.choice([0, 1, 1, 1, 2]))) for n in range(9)]
    corefile = "".join(block(zone, view, *tests).replace(f"nsid {zone}/", "nsid ") for zone, view, tests in blocks)
    with Worker(corefile) as worker:
        for _ in range(150):
            name, qtype, proto = draw.choice(NAMES), draw.choice([A, TXT, DS]), draw.choice(["udp", "tcp"])
            do, ident = draw.choice([True, False]), draw.randrange(1, 9)
            got = where(worker, name, qtype, proto, do=do, id=ident)
            assert got == expected(blocks, name, qtype, proto, do, ident), (blocks, name, qtype, proto, do, ident)
        assert worker.engine.in_flight == 0


# ---- the line


def parse(text: str) -> list:
    return View.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "view"))


@pytest.mark.parametrize(
    ("text", "name", "expressions"),
    [
        ("view a", "a", ()),
        ("view a {\n}", "a", ()),
        ('view "" {\n expr true\n}', "", ("true",)),
        ("view a {\n expr true\n expr do()   and\ttrue\n}", "a", ("true", "do() and true")),
        ("view a {\n expr \"type() == 'A'\"\n}", "a", ("type() == 'A'",)),
        ("view a {\n expr {a: 1}.a == 1\n}", "a", ("{a: 1}.a == 1",)),
    ],
)
def test_lines(text, name, expressions):
    (config,) = parse(text)
    assert (config.view, config.expressions) == (name, expressions)


ARGS = "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after"


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [
        ("view", f"{ARGS} 'view'", (1, 1)),
        ("view a b", f"{ARGS} 'b'", (1, 8)),
        ("view {\n expr true\n}", f"{ARGS} 'view'", (1, 1)),
        ("view a { }\nview b { }", "this plugin can only be used once per Server Block", (2, 1)),
        ("view a {\n foo\n}", "Corefile:2 - Error during parsing: unknown property 'foo'", (2, 2)),
        ("view a {\n expr\n}", "unexpected token EOF", (2, 2)),
        ("view a {\n expr nope\n}", "unknown name nope (1:1)\n | nope\n | ^", (2, 7)),
        ("view a {\n expr name() ==\n}", "unexpected token EOF (1:9)\n | name() ==\n | ........^", (2, 14)),
        ("view a {\n expr do() or size() == ''\n}",
         "invalid operation: == (mismatched types int and string) (1:16)\n | do() or size() == ''\n | ...............^",
         (2, 22)),
        ('view a {\n expr type() == "A"\n}', "unknown name A (1:11)\n | type() == A\n | ..........^", (2, 17)),
        ("view a {\n expr name() matches '('\n}",
         "error parsing regexp: missing closing ): `(` (1:8)\n | name() matches '('\n | .......^", (2, 14)),
        ("view a {\n expr any([1],{# > 0})\n}",
         'unexpected token Operator(">") (1:11)\n | any([1],{ > 0})\n | ..........^', None),
        ("view a {\n expr 1..1000000\n}", "memory budget exceeded (1:2)\n | 1..1000000\n | .^", (2, 7)),
    ],
)
def test_refused_lines(text, words, place):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/view: {words}"
    if place is not None:
        assert (error.value.line, error.value.column) == place


# ---- what the view is seen in


def test_the_views_name_in_metrics():
    more = " prometheus 127.0.0.1:0\n cache"
    corefile = block(".", "v", "do()", more=more) + f". {{\n{more}\n whoami\n}}\n"
    with Worker(corefile) as worker:
        for _ in range(3):
            worker.ask("a.", A, do=True)
        worker.ask("a.", A)
        for name in ("coredns_dns_requests_total", "coredns_cache_requests_total", "coredns_dns_responses_total"):
            assert [worker.counter(name, view=view) for view in ("v", "", "x")] == [3, 1, 0], name


@pytest.fixture(scope="module")
def upstream():
    with Upstream(lambda asked: [reply(asked, answers=1)]) as upstream:
        yield upstream


def test_a_cache_for_each_view(upstream):
    forward = f" cache\n forward . 127.0.0.1:{upstream.port}"
    tests = (("tcp", "proto() == 'tcp'"), ("py", "name() matches 'y+' and do()"), ("all", "true"))
    corefile = "".join(block(".", name, f"name() startsWith '{name}' or {test}", more=forward).replace(" whoami\n", "")
                       for name, test in tests)
    with Worker(corefile) as worker:
        for n in range(3):
            for proto, do, view in (("tcp", False, "tcp"), ("udp", True, "py"), ("udp", False, "all")):
                got = where(worker, "same.y.", A, proto, do=do)
                assert got == f"./{view}"
                assert worker.counter("coredns_cache_misses_total", view=view) == 1
                assert worker.counter("coredns_cache_hits_total", view=view) == n
    assert len(upstream.of("same.y.")) == 3


def test_the_caches_of_views_outlive_a_reload(upstream, tmp_path):
    keep = f" bind 127.0.0.1\n cache\n forward . 127.0.0.1:{upstream.port}"
    views = "".join(block(".:{port}", name, test, more=keep).replace(" whoami\n", "")
                    for name, test in (("dnssec", "do()"), ("py", "name() matches '^kept+' and bufsize() > 600"),
                                       ("all", "true")))
    asked = [question("kept.y.", A, do=True), question("kept.y.", A, bufsize=700), question("kept.y.", A)]
    with ReloadingServer(tmp_path, views) as server:
        for wire in asked:
            assert exchange(wire, server.port)[3] & 15 == 0
        assert len(upstream.of("kept.y.")) == 3
        server.write(views + "other.test:{port} {\n bind 127.0.0.1\n whoami\n}\n")
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete")
        for wire in asked * 2:
            assert exchange(wire, server.port)[3] & 15 == 0
        assert len(upstream.of("kept.y.")) == 3
        server.write(views.replace("do()", "do() and id() >= 0"))
        server.process.send_signal(signal.SIGUSR1)
        server.wait_line("Reloading complete", 2)
        # Whose answers the old cache has is not known any more.
        wait_for(lambda: exchange(asked[0], server.port) and len(upstream.of("kept.y.")) == 4, "an answer of its own")


SHOWN = '. {{\n view {0} {{\n  expr {1}\n }}\n metadata {2}\n log . "{{name}} is {{/view/name}}"\n{3}\n whoami\n}}\n'


@pytest.mark.parametrize(
    ("view", "expression", "zones", "line"),
    [
        ("v1", "do()", "", "a.example. is v1"),
        ("v2", "name() matches 'a+'", "", "a.example. is v2"),
        ("v3", "metadata('view/name') == 'v3'", "", "a.example. is v3"),
        ("v4", "do()", "example", "a.example. is v4"),
        ("v5", "do()", "example.org", "a.example. is -"),
    ],
)
def test_the_label_of_the_view(view, expression, zones, line):
    with Server(SHOWN.format(view, expression, zones, "") + REST) as server:
        for proto in ("udp", "tcp"):
            assert server.ask("a.example.", A, proto, do=True).rcode == 0
            assert server.wait_for("a.example. is") == f"[INFO] {line}"
            server.output.clear()


def test_without_metadata_labels_read_empty():
    with Worker(block(".", "v", "metadata('view/name') == ''", "metadata('a/b') == ''") + REST) as worker:
        assert where(worker, "a.") == "./v"


def test_labels_of_providers_are_collected_before_the_filter(tmp_path):
    line = " metadata example\n label"
    corefile = (block(".", "one", "metadata('label/name') startsWith 'one'", more=line)
                + block(".", "two", "metadata('label/lazy') == 'type 28'", more=line)
                + block(".", "broken", "metadata('label/broken') == ''", more=line) + REST)
    with installed(tmp_path), Worker(corefile) as worker:
        assert where(worker, "one.example.") == "./one"
        assert where(worker, "one.elsewhere.") == "./broken"
        assert where(worker, "two.example.", AAAA) == "./two"
        assert where(worker, "two.example.") == "rest"
        for _ in range(100):
            where(worker, "x.example.")
        assert worker.engine.in_flight == 0


# ---- look-ups of the server's own, and what goes wrong


def test_look_ups_are_routed_as_their_clients_queries(tmp_path):
    corefile = (block("look.test", "tcp", "proto() == 'tcp' and name() matches 'o+k'", more=" probe")
                + block("probe.test", "any", "name() matches 'lo+kup'", more=" probe")
                + "look.test {\n errors\n}\n")
    with installed(tmp_path), Worker(corefile) as worker:
        for proto, found in (("tcp", "0 (1, 0, 0) 5"), ("udp", "2 (0, 0, 0) 5")):
            assert worker.ask("lookup.probe.test.", TXT, proto).answer == [f'lookup.probe.test. 0 IN TXT "{found}"']
        assert worker.engine.in_flight == 0


def test_a_query_that_cannot_be_judged_belongs_nowhere(monkeypatch):
    def broken(self, query):
        time.sleep(2.0)
        return True

    monkeypatch.setattr(View, "passes", broken)
    with Worker(block(".", "v", "name() matches 'a+'") + REST) as worker:
        assert worker.ask("a.", A, seconds=8).rcode == SERVFAIL
        deadline = time.monotonic() + 8
        while worker.engine.in_flight and time.monotonic() < deadline:
            time.sleep(0.05)
        assert worker.engine.in_flight == 0


@pytest.mark.parametrize("panic", [ZeroDivisionError, SystemExit])
def test_a_panic_of_a_filter_lets_nobody_in(monkeypatch, panic):
    def broken(self, query):
        raise panic

    monkeypatch.setattr(View, "passes", broken)
    with Worker(block(".", "v", "name() matches 'a+'") + REST) as worker:
        for proto in ("udp", "tcp"):
            assert [worker.ask("a.", A, proto).rcode for _ in range(50)] == [SERVFAIL] * 50
        assert worker.counter("coredns_panics_total") == 100
        assert worker.engine.in_flight == 0


# ---- check and explain


def explained(tmp_path, corefile: str, *words: str) -> dict:
    path = tmp_path / "Corefile"
    path.write_text(corefile)
    out, err = io.StringIO(), io.StringIO()
    assert explain_cli.main(["--json", str(path), *words], out, err) == 0, err.getvalue()
    return json.loads(out.getvalue())


def test_explain_says_where_each_expression_runs(tmp_path):
    seen = explained(tmp_path, block(".", "v", "do()", "name() matches '^a+'", "metadata('a/b') == ''") + REST)
    first, rest = seen["blocks"]
    assert first["filter"] == [
        {"expression": "do()", "runs": "compiled", "why": ""},
        {"expression": "name() matches '^a+'", "runs": "Python", "why": "'matches'"},
        {"expression": "metadata('a/b') == ''", "runs": "Python", "why": "metadata()"},
    ]
    assert first["fast_path"]["leaves"] == "view" and "every query that may enter" in first["fast_path"]["why"]
    assert rest["filter"] == []
    assert seen["listeners"][0]["zones"] == [{"zone": ".", "block": 1}, {"zone": ".", "block": 2}]


def test_explain_shows_every_way_of_a_question(tmp_path):
    seen = explained(tmp_path, ORDER, "a.example.org", "A")
    assert [way["block"] for way in seen["ways"]] == [1, 2, 3, 4, 6, 0]
    assert seen["ways"][0]["result"] == "only where the view 'tcp' takes the query"
    assert seen["ways"][-1]["result"] == "REFUSED: if no view takes the query"
    parent = explained(tmp_path, ORDER, "a.sub.example.org", "DS")
    assert [way["zone"] for way in parent["ways"]] == ["org.", *["example.org."] * 3, "sub.example.org.", ".", ""]


def test_check_points_at_the_mistake():
    text = ". {\n view a {\n  expr do() and nope\n  expr 1 +\n }\n whoami\n}\n"
    found = [(one.line, one.column) for one in examine(Source("Corefile", text.encode())).findings.found.values()]
    assert found == [(3, 17), (4, 10)]


def test_ways_of_a_listener_that_has_no_view():
    seen = examine(Source("Corefile", REST.encode()))
    assert [way["block"] for way in ways(seen, Question("a.", A))] == [1]
