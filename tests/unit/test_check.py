# SPDX-License-Identifier: Apache-2.0
"""fastdns check: the command, its warnings, its hints, and that it does nothing."""

import io
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns import facts, registry
from fastdns.check import cli
from fastdns.check.examine import examine
from fastdns.check.findings import MOST, Finding, Findings
from fastdns.check.guard import SideEffect, nothing_happens
from fastdns.check.near import distance, nearest
from fastdns.check.show import excerpt, extent, safe, width
from fastdns.corefile import Source, Token
from fastdns.order import NAMES
from fastdns.registry import built
from tests.machine import needs

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = re.compile(r"^[ \t]*```corefile\n(.*?)^[ \t]*```$", re.M | re.S)
README = [
    pytest.param(match[1], id=f"{path.parent.name}:{path.read_text()[: match.start()].count(chr(10)) + 1}")
    for path in [ROOT / "README.md", *sorted((ROOT / "plugins").glob("*/README.md"))]
    for match in EXAMPLE.finditer(path.read_text())
]


def run(*words):
    out, err = io.StringIO(), io.StringIO()
    return cli.main(words, out, err), out.getvalue(), err.getvalue()


def found(text, level="warning", environ=None):
    seen = examine(Source("Corefile", text.encode()), environ=environ or {})
    return [(one.line, one.column, one.message) for one in seen.findings.ordered() if one.level == level]


@pytest.fixture
def corefile(tmp_path):
    def write(text, name="Corefile"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


# ---- the command


def test_a_clean_corefile(corefile):
    path = corefile(". {\n    whoami\n}\n")
    assert run(path) == (0, f"{path}: no mistakes (1 block, 1 listener)\n", "")


def test_a_mistake_is_shown_with_its_line_and_a_caret(corefile):
    path = corefile(". {\n\tcahce 30\n}\n")
    status, out, _ = run(path)
    assert status == 1
    assert out.splitlines() == [
        f"{path}:2:2: error: Unknown directive 'cahce'",
        "     2 |     cahce 30",
        "       |     ^^^^^",
        "       = did you mean 'cache'?",
        "",
        f"{path}: 1 mistake",
    ]


def test_json_holds_what_the_server_says(corefile):
    path = corefile(". {\n    cache {\n        prefetch x\n    }\n}\n")
    status, out, _ = run("--json", path)
    answer = json.loads(out)
    assert status == 1 and answer["ok"] is False
    (one,) = answer["files"][0]["findings"]
    assert (one["file"], one["line"], one["column"], one["end_column"]) == (path, 3, 18, 19)
    assert one["server"] == 'plugin/cache: strconv.Atoi: parsing "x": invalid syntax'
    assert one["text"] == "        prefetch x"


def test_several_files_and_the_worst_counts(corefile):
    good, bad = corefile(". {\n    whoami\n}\n", "good"), corefile(". {\n    x\n}\n", "bad")
    status, out, _ = run(good, "-conf", bad, "--json")
    assert status == 1
    assert [(at["file"], at["ok"]) for at in json.loads(out)["files"]] == [(bad, False), (good, True)]


def test_a_file_that_cannot_be_read(tmp_path):
    path = str(tmp_path / "nosuch")
    status, out, _ = run(path)
    assert status == 1
    assert f"open {path}: no such file or directory" in out


def test_standard_input(corefile):
    command = [sys.executable, "-m", "fastdns", "check", "-"]
    done = subprocess.run(command, input=". {\n  x\n}\n", capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 1
    assert done.stdout.startswith("/dev/stdin:2:3: error: Unknown directive 'x'\n")
    done = subprocess.run(command, input=". {\n  whoami\n}\n", capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [("--nosuch",), ("-", "-conf", "stdin"), ("-p", "65536", "x"), ("-p",)])
def test_wrong_usage(words):
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert err.startswith("fastdns check: ") and "--help" in err


def test_options_may_stand_between_the_files(corefile, monkeypatch, tmp_path):
    first, second = corefile(". {\n    whoami\n}\n"), corefile(". {\n}\n", "-second")
    monkeypatch.chdir(tmp_path)
    assert run(first, "--strict", second) == run("--strict", first, second)
    assert run(first, "--strict", second)[0] == 1
    assert run("--", first, "-second")[0] == 0


def test_help_names_every_option():
    status, out, _ = run("--help")
    assert status == 0
    for word in ("--json", "--strict", "-conf", "-dns.port", "--color", "Exit status"):
        assert word in out


def test_strict_counts_warnings(corefile):
    path = corefile(". {\n    log\n    import no*.conf\n    whoami\n}\n")
    assert run(path)[0] == 0
    assert run("--strict", path)[0] == 1


def test_the_default_port_is_the_servers(corefile):
    path = corefile(". {\n    whoami\n}\n.:1053 {\n    whoami\n}\n")
    assert run(path)[0] == 0
    assert run("-dns.port", "1053", path)[0] == 1


def test_colour_only_where_it_is_asked_for(corefile):
    path = corefile(". {\n  x\n}\n")
    assert "\x1b[" not in run(path)[1]
    assert "\x1b[1;31merror\x1b[0m" in run("--color", "always", path)[1]


def test_mistakes_of_an_imported_file_stand_there(corefile, tmp_path):
    part = corefile("log {\n    class foo\n}\n", "part.conf")
    path = corefile(". {\n    import part.conf\n    whoami\n}\n")
    status, out, _ = run(path)
    assert status == 1
    assert out.splitlines()[:3] == [
        f"{part}:2:11: error: plugin/log: invalid Class: foo", "     2 |     class foo", "       |           ^^^"]


def test_an_unclosed_quote_of_an_imported_file_is_told_there(corefile):
    part = corefile('log . "{remote}\n', "part.conf")
    path = corefile(". {\n    import part.conf\n    whoami\n}\n")
    _, out, _ = run(path)
    assert f"{part}:1:7: warning: this quote is never closed" in out


def test_a_snippet_s_mistake_is_told_once():
    text = "(a) {\n    cahce\n}\n" + "".join(f"{zone}.test {{\n    import a\n    whoami\n}}\n" for zone in "abcdef")
    assert found(text, "error") == [(2, 5, "Unknown directive 'cahce'")]


def test_a_reader_who_leaves_is_no_failure(corefile):
    path = corefile(". {\n" + "    cahce\n" * 5000 + "}\n")
    command = f"{sys.executable} -m fastdns check {path} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == (f"{path}:2:5: error: Unknown directive 'cahce'\n", "")


# ---- examples


@pytest.mark.parametrize("text", README)
def test_the_examples_of_our_manuals_have_no_mistakes(text):
    # A database that an example names is its reader's.
    mistakes = found(text, "error", dict(os.environ))
    assert [at for at in mistakes if not at[2].endswith(".mmdb: no such file or directory")] == []


def coredns_examples():
    """CoreDNS's own, out of a checkout that FASTDNS_COREDNS names."""
    if "FASTDNS_COREDNS" not in os.environ:
        yield pytest.param("", marks=pytest.mark.skip(reason="FASTDNS_COREDNS names no checkout of CoreDNS"))
    for path in sorted(Path(os.environ.get("FASTDNS_COREDNS", "/nonexistent")).glob("plugin/*/README.md")):
        text = path.read_text()
        for match in re.finditer(r"^(```|~~~) ?corefile\n(.*?)^\1$", text, re.M | re.S | re.I):
            yield pytest.param(match[2], id=f"{path.parent.name}:{text[: match.start()].count(chr(10)) + 1}")


@pytest.mark.parametrize("text", list(coredns_examples()))
def test_what_the_examples_of_coredns_lack_is_only_not_built(text, monkeypatch):
    monkeypatch.setenv("PORT", "9153")
    assert [one for one in found(text, "error", dict(os.environ)) if "not built yet" not in one[2]] == []


def test_there_are_examples():
    assert len(README) > 20


# ---- what the start finds out when it knows where each stage runs


def test_what_bears_no_python_before_it(monkeypatch):
    monkeypatch.setattr(registry.load("cache"), "first_in_c", True)
    monkeypatch.setattr(registry.load("whoami"), "first_in_c", True)
    text = ". {\n    demo\n    cache\n    whoami\n}\n"
    # cache comes before demo, wherever it is written.
    expected = "plugin/whoami: cannot work behind 'demo', which runs in Python in this block"
    assert found(text, "error") == [(4, 5, expected)]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("depends", {"NAME"}, "'NAME' is no fact that an answer can be kept by"),
     ("depends", 5, "TypeError: 'int' object is not iterable"),
     ("eager", False, "only the answers of an eager plugin can be kept")])  # fmt: skip
def test_a_plugin_whose_answers_cannot_be_kept(monkeypatch, name, value, message):
    demo = registry.load("demo")
    monkeypatch.setattr(demo, "depends", frozenset({facts.NAME}))
    monkeypatch.setattr(demo, name, value)
    assert (2, 5, f"plugin/demo: {message}") in found(". {\n    demo\n}\n", "error")


# ---- warnings


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (". {\n    whoami\n    import no*.conf\n}\n", (3, 5), "No files matching import glob pattern"),
        ("(a) {\n    log\n}\n. {\n    whoami\n}\n", (1, 1), "snippet 'a' is never imported"),
        (". {\n    bind {$NOSUCH} 127.0.0.1\n    whoami\n}\n", (2, 10), "environment variable 'NOSUCH' is not set"),
        (". {\n    bind 127.0.0.1\n}\n", (1, 1), "every query is REFUSED"),
        ("example.org {\n    cache example.com\n    whoami\n}\n", (2, 11), "no such name reaches this block"),
        (". {\n    forward . 192.0.2.1 {\n        expire 1s\n        expire 2s\n    }\n}\n", (3, 9), "again in line 4"),
        (". {\n    errors {\n        stacktrace\n}\n", (1, 3), "never closed"),
        ("", (1, 1), "the built-in Corefile is served"),
        (". {\n    whoami\n}\n}\n", (4, 1), "'}' is read as the key"),
        (".\nwhoami\nlog . \"{remote}\n", (3, 7), "this quote is never closed"),
        (". {\n    whoami\n}\nlog\n}\n", (4, 1), "'log' is a directive"),
    ],
)  # fmt: skip
def test_warnings(text, place, message):
    warned = [(at[:2], at[2]) for at in found(text)]
    assert any(at == place and message in said for at, said in warned), warned


def test_a_block_that_another_shadows():
    from fastdns.check import warn
    from fastdns.check.findings import Findings

    text = "a.test {\n    whoami\n}\nb.test {\n    whoami\n}\n"
    seen = examine(Source("Corefile", text.encode()))
    first, second = seen.generation.blocks
    # Only a block with a view may claim a zone again; `view` itself is not what is tested here.
    second.source = first.source
    second.plan.filtered = True
    findings = Findings("Corefile")
    warn.generation(seen.generation, findings)
    assert [one.message for one in findings.ordered()] == ["no query reaches this block for a.test."]


def test_findings_are_bounded_and_counted():
    findings = Findings("Corefile")
    for line in range(MOST + 5):
        findings.warn(Token("x", "", line, 1), "said")
    assert len(findings.found) == MOST and findings.dropped == 5


def test_a_text_full_of_mistakes():
    text = ". {\n" + "    cahce\n" * 3000 + "    whoami\n}\n"
    assert len(found(text, "error")) == 3000


def test_a_directive_full_of_mistakes_is_given_up_at_last():
    text = ". {\n    forward . 192.0.2.1 {\n" + "        polcy random\n" * 4000 + "    }\n}\n"
    mistakes, notes = found(text, "error"), found(text, "note")
    assert 100 < len(mistakes) < 4000
    assert [note[2] for note in notes] == ["this is not looked at to its end: too many mistakes in 'forward'"]


# ---- nothing happens


def touch(path):
    with open(path, "w"):
        raise AssertionError("the file was opened")


@pytest.mark.parametrize(
    "deed",
    [
        lambda path: socket.socket(),
        lambda path: socket.getaddrinfo("localhost", 53),
        lambda path: subprocess.run(["true"], check=False),
        lambda path: os.fork(),
        touch,
        lambda path: os.open(path, os.O_CREAT | os.O_RDWR),
        lambda path: Path(path).mkdir(),
        lambda path: Path(path).rename(path + "x"),
    ],
)
def test_the_guard_refuses(tmp_path, deed):
    path = str(tmp_path / "x")
    with nothing_happens() as tried, pytest.raises(SideEffect):
        deed(path)
    assert len(tried) == 1 and not Path(path).exists()


def test_the_guard_lets_read_and_ends(tmp_path):
    with nothing_happens() as tried:
        assert Path(__file__).read_text()
    assert tried == []
    (tmp_path / "x").write_text("written")
    socket.socket().close()


def test_a_check_leaves_no_descriptor():
    text = ". {\n  prometheus\n  errors\n  log\n  cache {\n    prefetch 1\n  }\n  rrl {\n    queries 5\n  }\n}\n"
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        assert examine(Source("Corefile", text.encode())).generation is not None
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_host_name_is_not_looked_up():
    text = ". {\n    forward . 192.0.2.1 dns.example\n}\n"
    assert found(text, "error") == []
    assert found(text, "note") == [
        (2, 5, "plugin/forward: not set up here: its set-up would use the network (socket.getaddrinfo)")]


@pytest.mark.unsanitized
@needs("strace")
def test_the_kernel_is_asked_for_nothing_but_reading(corefile, tmp_path):
    path = corefile(".:1053 {\n    errors\n    log\n    prometheus 127.0.0.1:9153\n    health\n    ready\n    reload\n"
                    "    cache 30\n    loop\n    forward . 192.0.2.1 dns.example\n}\n")
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-qq", "-o", str(trace), "-e",
               "trace=%network,%process,open,openat,creat,mkdir,mkdirat,unlink,unlinkat,rename,renameat,renameat2",
               sys.executable, "-m", "fastdns", "check", path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    calls = [line for line in trace.read_text().splitlines() if "O_RDONLY" not in line]
    assert [re.sub(r"^\d+ +(\w+).*", r"\1", line) for line in calls] == ["execve", "exit_group"], calls


# ---- text


@given(st.text(max_size=300), st.integers(1, 320))
def test_excerpts_are_safe_and_short(line, column):
    line = line.replace("\n", "")
    shown, before, long = excerpt(line, column)
    assert all(ch.isprintable() or ch == "\ufffd" for ch in shown)
    assert before >= 0 and long >= 1


def test_a_long_line_is_cut_around_the_place():
    shown, before, long = excerpt("x" * 500 + " bad " + "y" * 500, 502)
    assert len(shown) < 200 and shown[before : before + long] == "bad"


def test_what_a_terminal_would_obey_is_shown_as_a_mark():
    assert safe("a\x1b[2Jb\u202e") == "a\ufffd[2Jb\ufffd"
    assert width("日本") == 4 and extent('"a \\" b" c', 1) == 8


def test_words_that_are_near():
    assert nearest("cahce", NAMES) == "cache"
    assert nearest("forwardd", NAMES) == "forward"
    assert nearest("xyzzy", NAMES) == ""
    assert nearest("", NAMES) == "" and nearest("x" * 1000, NAMES) == ""
    assert "cache" in built()


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_distance_is_symmetric_and_zero_only_for_equals(one, other):
    slips = distance(one, other, 9)
    assert slips == distance(other, one, 9)
    assert (slips == 0) == (one == other)
    assert slips <= max(len(one), len(other))


def test_a_finding_without_place_has_no_excerpt():
    one = Finding("note", "Corefile", 0, 0, "said")
    assert one.place == ("Corefile", 0, 0)


# ---- what the start finds out when it opens sockets, and text tells already


@pytest.mark.parametrize(
    ("line", "column", "level", "message"),
    [
        ("health localhost:abc", 12, "error", 'parse "http://localhost:abc": invalid port ":abc" after host'),
        ("health :http", 12, "error", 'parse "http://:http": invalid port ":http" after host'),
        ("health 127.0.0.1:99999", 12, "error", "listen tcp: address 99999: invalid port"),
        ("health :" + "9" * 5000, 12, "error", f"listen tcp: address {'9' * 5000}: invalid port"),
        ("pprof :65536", 11, "error", "listen tcp: address 65536: invalid port"),
        ("pprof :nonsense", 11, "error", "listen tcp: lookup tcp/nonsense: unknown port"),
        ("ready :abc", 11, "warning", "listen tcp: lookup tcp/abc: unknown port: the server starts without /ready"),
        ("prometheus :70000", 16, "warning",
         "listen tcp: address 70000: invalid port: the server starts without /metrics"),
        ("forward . 10.0.0.0/33", 5, "error",
         'plugin/forward: failed to resolve "10.0.0.0/33": lookup 10.0.0.0/33: no such host'),
    ],
)  # fmt: skip
def test_addresses_that_nobody_can_open_or_ask(line, column, level, message):
    assert found(f". {{\n    whoami\n    {line}\n}}\n", level) == [(3, column, message)]


@pytest.mark.parametrize("line", ["health :065535", "health", "pprof :http", "ready :0", "prometheus [::1]:9153"])
def test_addresses_that_somebody_may_open(line):
    text = f". {{\n    whoami\n    {line}\n}}\n"
    assert found(text, "error") == found(text, "warning") == []
