# SPDX-License-Identifier: Apache-2.0
"""debug: lines of level DEBUG, and the end of a server in which a plugin panics."""

from __future__ import annotations

import contextlib

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import SERVFAIL, A
from fastdns.plugins.debug import Debug
from fastdns.testing import Server, Worker
from tests.probes import installed


def test_lines_of_plugins_are_shown(tmp_path):
    with installed(tmp_path) as environ, Server(". {\ndebug\nprobe\n}\n", environ=environ) as server:
        assert server.ask("murmur.example.", A).rcode == 0
        assert server.wait_for("a word of") == "[DEBUG] plugin/probe: a word of murmur.example."
        server.ask("ok.example.", A)
        assert not [line for line in server.lines() if "library" in line or "selector" in line]


def test_without_it_they_are_not(tmp_path):
    corefile = ". {\nlog\nprobe\n}\n"
    with installed(tmp_path) as environ, Server(corefile, environ=environ) as server:
        assert server.ask("murmur.example.", A).rcode == 0
        server.wait_for("murmur.example.")
        assert not [line for line in server.lines() if "a word of" in line]


@pytest.mark.parametrize("word", ["panic", "unknown"])
def test_a_panic_ends_the_server(tmp_path, word):
    with installed(tmp_path) as environ, Server(". {\ndebug\nerrors\nprobe\n}\n", environ=environ) as server:
        assert server.ask("ok.example.", A).rcode == 0
        with contextlib.suppress(TimeoutError, ConnectionError):
            server.ask(f"{word}.example.", A, seconds=3)
        assert server.process.wait(15) == 1
        lines = server.lines()
        (last,) = [line for line in lines if line.startswith("[FATAL]")]
        assert last.startswith(f'[FATAL] Panic in server: "dns://127.0.0.1:{server.port}" plugin/probe: ')
        assert any("Traceback" in line for line in lines) and any("fastdns_probes.py" in line for line in lines)
        assert not [line for line in lines if "Recovered" in line]


def test_errors_of_plugins_do_not(tmp_path):
    with installed(tmp_path) as environ, Server(". {\ndebug\nprobe\n}\n", environ=environ) as server:
        assert server.ask("error.example.", A).rcode == 5
        assert server.ask("nothing.example.", A).rcode == SERVFAIL
        assert server.ask("ok.example.", A).rcode == 0 and server.process.poll() is None


def test_another_listener_recovers(tmp_path):
    # The switch is the listener's: a block beside it is in, one on another port is not.
    corefile = "a:PORT b:PORT {\ndebug\nprobe\n}\nc:PORT {\nprobe\n}\n. {\nerrors\nprobe\n}\n"
    from fastdns.testing import free_port

    with installed(tmp_path) as environ, Server(corefile.replace("PORT", str(free_port())), environ=environ) as server:
        assert server.ask("panic.example.", A).rcode == SERVFAIL
        server.wait_for("Recovered from panic")
        assert server.ask("ok.example.", A).rcode == 0


def test_a_block_beside_it_is_in(tmp_path):
    with installed(tmp_path) as environ, Server("a {\ndebug\nprobe\n}\n. {\nprobe\n}\n", environ=environ) as server:
        with contextlib.suppress(TimeoutError, ConnectionError):
            server.ask("panic.example.", A, seconds=3)
        assert server.process.wait(15) == 1


def test_the_kit_goes_on(tmp_path):
    with installed(tmp_path), Worker(". {\ndebug\nprobe\n}\n") as worker:
        assert worker.ask("panic.example.", A).rcode == SERVFAIL
        assert worker.ask("ok.example.", A).rcode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("debug x y", "Wrong argument count or unexpected line ending after 'x'"),
        ("debug {\n}", "Unexpected token '{', expecting argument"),
        ("debug\ndebug x", "Wrong argument count or unexpected line ending after 'x'"),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        Debug.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "debug"))
    line = text.count("debug")
    assert str(error.value) == f"plugin/debug: Corefile:{line} - Error during parsing: {message}"
