# SPDX-License-Identifier: Apache-2.0
"""The copy that the tuner measures: the same chain on loopback, and nothing that reaches outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench import tune_cli, tune_copy
from fastdns.bench.errors import BenchError
from fastdns.bench.tune_copy import Copy, Subject
from fastdns.corefile.lexer import tokenize
from fastdns.corefile.parser import parse
from fastdns.corefile.source import Source


def copied(text: str, label: str = "", upstreams: bool = False) -> tuple[Copy, Subject]:
    corefile, subjects = tune_cli.listeners(Source("Corefile", text.encode()), 53)
    subject = tune_cli.choose(subjects, label)
    return tune_copy.copy(corefile, subject, upstreams), subject


def test_ports_addresses_and_upstreams_are_loopback_s() -> None:
    made, subject = copied("""
example.org:5300 .:53 {
    bind 127.0.0.1 ::1
    multisocket 7
    errors
    log . "{remote} {name}" {
        class denial error
    }
    health :8080
    ready
    reload
    loop
    prometheus :9153
    cache {
        success 100 60
    }
    forward . 192.0.2.1 192.0.2.2:5353 {
        policy sequential
        health_check 1s
        max_fails 3
    }
}
other.test:54 {
    whoami
}
""", "127.0.0.1:53")
    assert (subject.blocks, subject.sockets, subject.zones) == ((0,), 7, (".",))
    text = made.fill(1053, 9999, 5555, 3, "random")
    block, = parse("copy", text).blocks
    assert block.keys == ["dns://.:1053"]
    words = {name: " ".join(token.text for token in tokens) for name, tokens in block.tokens.items()}
    assert words == {
        "bind": "bind 127.0.0.1",
        "multisocket": "multisocket 3 { steer random }",
        "errors": "errors",
        "log": "log . {remote} {name} { class denial error }",
        "prometheus": "prometheus 127.0.0.1:9999",
        "cache": "cache { success 100 60 }",
        "forward": "forward . 127.0.0.1:5555 { policy sequential max_fails 3 }",
    }
    assert made.notes == ["loop is left out", "forward asks a stand-in on loopback (--upstreams: the real ones)"]
    assert (made.zone, made.forwards, made.caches) == (".", True, True)


def test_real_upstreams_where_they_are_asked_for() -> None:
    made, _ = copied(".:53 {\n forward . 192.0.2.1 192.0.2.2 {\n max_fails 3\n }\n}\n", upstreams=True)
    assert "forward . 192.0.2.1 192.0.2.2 {" in made.text
    assert made.notes == []


def test_a_copy_is_a_corefile_that_the_server_takes() -> None:
    made, _ = copied("(common) {\n errors\n cache 30\n}\na.test:53 b.test:53 {\n import common\n whoami\n}\n")
    corefile, subjects = tune_cli.listeners(Source("copy", made.fill(1053, 1, 1, 2, "cpu").encode()), 53)
    subject, = subjects
    assert (subject.label, subject.sockets, subject.steer) == ("dns://127.0.0.1:1053", 2, "cpu")
    assert subject.zones == ("a.test.", "b.test.")
    assert set(corefile.blocks[0].tokens) == {"bind", "multisocket", "errors", "cache", "whoami"}


def test_the_built_in_corefile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, _ = copied("# nothing\n")
    assert list(parse("copy", made.text).blocks[0].tokens) == ["bind", "multisocket", "whoami", "log"]


def test_a_listener_that_is_not_there_is_named() -> None:
    text = "a:53 {\n whoami\n}\nb:54 {\n whoami\n}\n"
    assert copied(text, ":54")[1].blocks == (1,)
    assert copied(text, "dns://:53")[1].blocks == (0,)
    with pytest.raises(BenchError) as caught:
        copied(text, ":55")
    assert str(caught.value) == "--listen :55: the Corefile listens on dns://:53, dns://:54"


@given(st.text('"#\\ \t\n{}aä\u2028', max_size=12))
def test_a_word_is_written_so_that_it_is_read(text: str) -> None:
    written = tune_copy.quote(text)
    found = [token.text for token in tokenize("x " + written + "\n")][1:]
    # A backslash before a quote or at the end has no form between quotes; `copy` refuses what is not read as it was.
    if "\\" not in text and "\r" not in text:
        assert found == [text]


def test_what_cannot_be_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDNS_TEST_FORMAT", "{name} \\")
    with pytest.raises(BenchError, match="cannot be written down again"):
        copied('.:53 {\n log . "{$FASTDNS_TEST_FORMAT}"\n}\n')
