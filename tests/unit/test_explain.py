# SPDX-License-Identifier: Apache-2.0
"""fastdns explain: what a Corefile comes to, and the way of a question."""

import io
import json

import pytest

from fastdns import cli
from fastdns.check import explain_cli
from fastdns.check.examine import examine
from fastdns.check.explain import Question, ways
from fastdns.corefile import Source
from fastdns.testing import Worker

COREFILE = """\
(common) {
    errors
    log
}
.:1053 {
    import common
    prometheus 127.0.0.1:9153
    cache 30
    demo
    forward example.com 192.0.2.1 {
        except no.example.com
    }
    multisocket 4
}
example.org:1053 a.example.org:1053 {
    import common
    whoami
    cache example.org
}
local.test:1054 {
    bind 127.0.0.1
    cache
    forward . 192.0.2.1
}
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "Corefile"
    file.write_text(COREFILE)
    return str(file)


def run(*words):
    out, err = io.StringIO(), io.StringIO()
    return explain_cli.main(words, out, err), out.getvalue(), err.getvalue()


def facts(*words):
    status, out, err = run("--json", *words)
    assert (status, err) == (0, "")
    return json.loads(out)


def test_listeners_blocks_and_stages_in_order(path):
    seen = facts(path)
    assert [at["server"] for at in seen["listeners"]] == ["dns://:1053", "dns://127.0.0.1:1054"]
    assert seen["listeners"][0]["sockets"] == 4 and seen["listeners"][0]["zones"] == [
        {"zone": ".", "block": 1}, {"zone": "example.org.", "block": 2}, {"zone": "a.example.org.", "block": 2}]
    first = seen["blocks"][0]
    assert [(at["directive"], at["line"], at["runs"]) for at in first["stages"]] == [
        ("prometheus", 7, "compiled"), ("errors", 2, "compiled"), ("log", 3, "compiled"), ("cache", 8, "compiled"),
        ("demo", 9, "Python"), ("forward", 10, "compiled")]
    assert [at["directive"] for at in first["side"]] == ["multisocket"]


def test_why_a_block_leaves_the_fast_path(path):
    first, second, third = facts(path)["blocks"]
    assert first["fast_path"] == {
        "whole": False, "leaves": "demo",
        "why": "'demo' has no compiled half; its answers are kept by CLIENT(8, 0): what 'cache' does not answer "
               "crosses into Python and back the first time"}
    assert second["fast_path"]["leaves"] == "whoami"
    assert third["fast_path"] == {"whole": True, "leaves": None, "why": "every query stays in compiled code"}


@pytest.mark.parametrize(
    ("words", "ways"),
    [
        (("www.Example.NET",), [("dns://:1053", ".", 1), ("dns://127.0.0.1:1054", "", 0)]),
        (("x.a.example.org", "AAAA"), [("dns://:1053", "a.example.org.", 2), ("dns://127.0.0.1:1054", "", 0)]),
        # The parent's side of a cut is asked for DS (RFC 4035 3.1.4.1).
        (("a.example.org", "DS"), [("dns://:1053", "example.org.", 2), ("dns://127.0.0.1:1054", "", 0)]),
        (("local.test", "TYPE65"), [("dns://:1053", ".", 1), ("dns://127.0.0.1:1054", "local.test.", 3)]),
    ],
)
def test_where_a_question_goes(path, words, ways):
    assert [(way["server"], way["zone"], way["block"]) for way in facts(path, *words)["ways"]] == ways


def test_stages_that_are_not_concerned(path):
    def passed(name):
        way = facts(path, name, "--listen", "dns://:1053")["ways"][0]
        return [at["directive"] for at in way["stages"] if not at["concerned"]]

    assert passed("www.example.com") == []
    assert passed("no.example.com") == ["forward"]
    assert passed("example.net") == ["forward"]
    assert passed("www.example.org") == []


def test_who_cannot_reach_a_listener(path):
    def result(client):
        return facts(path, "local.test", "--client", client, "--listen", "dns://127.0.0.1:1054")["ways"][0]["result"]

    assert result("127.0.0.9") == ""
    assert "the host's own" in result("192.0.2.7")
    assert "IPv6" in result("2001:db8::1")


def test_other_classes(path, tmp_path):
    assert facts(path, "local.test", "--class", "CH")["ways"][1]["result"] == ""
    plain = tmp_path / "plain"
    plain.write_text(". {\n    whoami\n}\n")
    assert "REFUSED" in facts(str(plain), "version.bind", "TXT", "--class", "ch")["ways"][0]["result"]


def test_the_engine_agrees_about_blocks():
    """In a real worker the block answers that explain names: whoami's reply has no answer, demo's has one."""
    text = "example.org:0 a.example.com:0 {\n    whoami\n}\nexample.com:0 {\n    demo\n}\n"
    seen = examine(Source("Corefile", text.encode()))
    with Worker(text) as worker:
        for name in ("www.example.org", "www.example.com", "a.example.com", "example.com", "example.net", "org"):
            reply = worker.ask(name, 1)
            answered = {0: 0, 5: None}[reply.rcode] if not reply.answer else 1
            assert {1: 0, 2: 1, 0: None}[ways(seen, Question(name, 1))[0]["block"]] == answered


def test_text_is_aligned(path):
    status, out, _ = run(path)
    assert status == 0 and "\x1b[" not in out
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith(("   1  ", "   2  "))][:2]
    assert len({row.index("line ") for row in rows}) == 1
    assert lines[0] == "Listeners"
    assert any(line.startswith("  fast path: every query stays") for line in lines)


def test_text_of_a_way(path):
    status, out, _ = run(path, "example.net", "A", "--client", "192.0.2.7")
    assert status == 0
    assert out.splitlines()[0] == "example.net. IN A from 192.0.2.7"
    assert "passes it on: not for this name" in out and "not reached" in out


def test_a_corefile_with_mistakes_is_not_explained(tmp_path):
    bad = tmp_path / "bad"
    bad.write_text(". {\n    cahce\n}\n")
    status, out, _ = run(str(bad))
    assert status == 1 and "did you mean 'cache'?" in out
    status, out, _ = run(str(bad), "--json")
    assert status == 1 and json.loads(out)["ok"] is False


def test_the_flag_names_the_file(path):
    assert run("-conf", path, "example.org", "mx")[1].startswith("example.org. IN MX\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a..b",), "is no domain name"),
        (("example.org", "NOSUCH"), "is no type of record"),
        (("example.org", "A", "more"), "unrecognized arguments"),
        (("--client", "here", "x"), "is no IP address"),
        (("--client", "192.0.2.1"), "NAME is missing"),
        (("x", "A", "--class", "CLASS65536"), "is no class"),
        (("x", "A", "--listen", "dns://:9"), "is none of"),
        (("x" * 64 + ".test",), "is no domain name"),
    ],
)
def test_wrong_usage(path, words, said):
    status, out, err = run(path, *words)
    assert (status, out) == (2, "") and said in err


def test_options_may_stand_between_the_words(path):
    expected = run("--json", "--client", "192.0.2.9", path, "a.example.org", "AAAA")
    assert expected[0] == 0
    assert run(path, "--json", "a.example.org", "--client", "192.0.2.9", "AAAA") == expected
    assert run("--json", "--client", "192.0.2.9", "--", path, "a.example.org", "AAAA") == expected
    assert run(path, "--", "-x.test")[1].startswith("-x.test. IN A\n")


def test_the_commands_are_in_the_table(path):
    out, err = io.StringIO(), io.StringIO()
    assert cli.main(["explain", path], out, err) == 0 and out.getvalue().startswith("Listeners")
    out = io.StringIO()
    assert cli.main(["check", path], out, err) == 0 and "no mistakes" in out.getvalue()
