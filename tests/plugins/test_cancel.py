# SPDX-License-Identifier: Apache-2.0
"""cancel: no attempt follows once the time is over."""

from __future__ import annotations

import pytest

from fastdns.corefile import Dispenser, tokenize
from fastdns.errors import ConfigError
from fastdns.numbers import SERVFAIL, TXT, A
from fastdns.plugins.cancel import Cancel
from fastdns.plugins.cancel._cancel import stage
from fastdns.testing import Worker
from tests.faults.upstream import Asked, Upstream, reply
from tests.probes import installed


def silent(asked: Asked) -> list[bytes]:
    return []


@pytest.mark.parametrize(("line", "asked"), [("cancel 300ms", 1), ("cancel 700ms", 2), ("cancel 5s", 3), ("", 3)])
def test_no_attempt_follows(line, asked):
    # One upstream, three attempts of 400 ms: those that may begin are counted.
    with Upstream(silent) as upstream:
        forward = f"forward . 127.0.0.1:{upstream.port} {{\nread_timeout 400ms\nmax_connect_attempts 3\nmax_fails 0\n}}"
        with Worker(f". {{\n{line}\n{forward}\n}}\n") as worker:
            assert worker.ask("a.example.", A, seconds=8).rcode == SERVFAIL
            assert len(upstream.asked) == asked


def test_an_answer_in_time_is_not_touched():
    with Upstream(lambda asked: [reply(asked, answers=2)]) as upstream:
        with Worker(f". {{\ncancel 2s\ncache\nforward . 127.0.0.1:{upstream.port}\n}}\n") as worker:
            for _ in range(3):
                assert len(worker.ask("a.example.", A).answer) == 2


@pytest.mark.parametrize(("line", "known"), [("cancel 100s", True), ("", False)])
def test_a_plugin_in_python_sees_it(tmp_path, line, known):
    with installed(tmp_path), Worker(f". {{\n{line}\nprobe\nwhoami\n}}\n") as worker:
        said = worker.ask("deadline.example.", TXT).answer[0].split('"')[1]
        assert said == "None" if not known else 95 < float(said) <= 100


def parse(text: str) -> list:
    return Cancel.parse(Dispenser("Corefile", tokenize(text), ("dns://.:53",), "cancel"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("cancel", 5.001),
        ("cancel 1ns", 1e-9),
        ("cancel 1h30m", 5400.0),
        ("cancel 1s\ncancel 2s", 2.0),
        ("cancel 1s {\n}", 5.001),
    ],
)
def test_timeouts(text, seconds):
    assert parse(text) == [seconds]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cancel x", 'invalid duration: "x"'),
        ("cancel 5", 'invalid duration: "5"'),
        ("cancel 0s", 'invalid negative duration: "0s"'),
        ("cancel -1s", 'invalid negative duration: "-1s"'),
        (
            "cancel 1s 2s",
            "Corefile:1 - Error during parsing: Wrong argument count or unexpected line ending after '2s'",
        ),
    ],
)
def test_errors(text, message):
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert str(error.value) == f"plugin/cancel: {message}"


@pytest.mark.parametrize("seconds", [0, -1, 1e10, float("nan")])
def test_the_compiled_half_checks_its_bounds(seconds):
    with pytest.raises(ValueError):
        stage(seconds)
