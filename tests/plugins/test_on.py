# SPDX-License-Identifier: Apache-2.0
"""on: which command runs when, what is said of it, and what is refused."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import A
from fastdns.plugins.on import On
from fastdns.plugins.on.config import Command, split
from fastdns.testing import Server

ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


def block(*lines: str) -> str:
    return ". {\n" + "\n".join(lines) + "\nwhoami\n}\n"


def test_a_command_at_the_start_has_the_servers_output():
    with Server(block("on startup sh -c 'echo it ru\"\"ns'")) as server:
        assert server.wait_for("it runs") == "it runs"
        line = server.wait_for("Blocking")
        assert re.fullmatch(rf'\[INFO\] Blocking Command "sh -c echo it ru""ns" with ID {ID}', line)


def test_what_fails_is_logged_and_no_more():
    lines = ["on startup false", "on startup /nonexistent/x", "on startup surelynotthere"]
    lines += ["on startup sh -c 'kill -9 $$'"]
    with Server(block(*lines)) as server:
        for why in ("exit status 1", "fork/exec /nonexistent/x: no such file or directory",
                    'exec: "surelynotthere": executable file not found in $PATH', "signal: killed"):
            assert re.fullmatch(rf"\[ERROR\] error on 'on-{ID}' hook: {re.escape(why)}", server.wait_for(why))
        assert server.ask("a.", A).rcode == 0


def test_an_event_that_never_happens_is_said():
    with Server(block("on certrenew true", "on startup true")) as server:
        assert server.wait_for("certrenew") == (
            "[WARNING] plugin/on: certrenew: no directive renews certificates: true is never run")


def test_commands_wait_for_each_other(tmp_path: Path):
    file = tmp_path / "order"
    lines = [f"on startup sh -c 'sleep 0.5; echo {n} >> {file}'" for n in (1, 2)]
    with Server(block("on startup sh -c 'sleep 3' &", *lines, "on startup echo all done")) as server:
        assert '"sh -c sleep 3"' in server.wait_for("Nonblocking Command")
        server.wait_for("all done", 20)
        assert file.read_text().split() == ["1", "2"]


def test_the_end_waits_for_a_command(tmp_path: Path):
    # Longer than hooks of other plugins are given.
    file = tmp_path / "end"
    with Server(block(f"on shutdown sh -c 'sleep 6; echo bye > {file}'", "on startup echo up")) as server:
        server.wait_for("up")
        server.process.terminate()
        assert server.process.wait(25) == 0
        assert file.read_text() == "bye\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_runs_it_once(tmp_path: Path, number: signal.Signals):
    file = tmp_path / "end"
    with Server(block(f"on shutdown sh -c 'echo bye >> {file}'", "health 127.0.0.1:0")) as server:
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        assert file.read_text() == "bye\n"


def test_a_reload_starts_and_does_not_end(tmp_path: Path):
    starts, ends = tmp_path / "starts", tmp_path / "ends"

    def corefile(word: str) -> str:
        # What it prints is not in the line about it.
        return block(f"on startup sh -c 'echo {word} >> {starts}; echo st\"\"arted {word}'",
                     f"on shutdown sh -c 'echo {word} >> {ends}'")

    with Server(corefile("one")) as server:
        server.wait_for("started one")
        text = server.corefile.read_text()
        server.corefile.write_text(text.replace("one", "two"))
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for("started two", 20)
        assert starts.read_text().split() == ["one", "two"] and not ends.exists()
        server.process.terminate()
        assert server.process.wait(20) == 0
        assert ends.read_text().split() == ["two"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a b  c", ["a", "b", "c"]),
        ("'a b' \"c d\"", ["a b", "c d"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("\"a \\\" b\" '\\'", ['a " b', "\\"]),
        ("\"\\n\" a\\ b", ["n", "a b"]),
        ("'' \"\"", ["", ""]),
        ("a#b #c d\n e", ["a#b", "e"]),
        ("#all", []),
        ("", []),
        ("\u00fc 'x\ny'", ["\u00fc", "x\ny"]),
    ],
)
def test_words(text, words):
    assert split(text) == words


@given(st.lists(st.text(), max_size=5))
def test_quoted_words_come_back(words):
    assert split(" ".join("'" + word.replace("'", "'\\''") + "'" for word in words)) == words


@given(st.text(alphabet="ab '\"\\#\n"))
def test_any_line_is_split_or_refused(text):
    try:
        words = split(text)
    except ValueError as error:
        assert str(error).startswith("EOF found")
    else:
        assert sum(map(len, words)) <= len(text)


def parse(text: str) -> list:
    return On.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "on"))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("on startup a b", Command("startup", "a", ("b",), True)),
        ("on SHUTDOWN a &", Command("shutdown", "a", (), False)),
        ("on certrenew a b &", Command("certrenew", "a", ("b",), False)),
        ("on startup &", Command("startup", "&", (), True)),
        ("on startup a & b", Command("startup", "a", ("&", "b"), True)),
        ("on startup a {\n}", None),
    ],
)
def test_lines(text, command):
    if command is None:
        with pytest.raises(ConfigError):
            parse(text)
    else:
        assert parse(text) == [command]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on", "Wrong argument count or unexpected line ending after 'on'"),
        ("on foo x", "Wrong event name or event not supported: 'foo'"),
        ("on startup", "no command contained in ''"),
        ('on startup "\\"a"', "error parsing command: EOF found when expecting closing quote."),
        ("on startup a\\", "error parsing command: EOF found after escape character"),
    ],
)
def test_errors_do_not_name_the_plugin(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"Corefile:1 - Error during parsing: {message}"
