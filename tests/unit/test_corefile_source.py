# SPDX-License-Identifier: Apache-2.0
"""Which Corefile is read, and what is said where none can be."""

from __future__ import annotations

import io
import os
import pickle

import pytest

from fastdns.corefile import source
from fastdns.corefile.source import Source, builtin, load, load_source, read_source
from fastdns.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_named_file_keeps_its_name(tmp_path):
    (tmp_path / "conf").write_bytes(b"x {\n}\n")
    assert read_source("./conf") == Source("./conf", b"x {\n}\n")
    assert load("./conf").blocks[0].keys == ("dns://x.:53",)


@pytest.mark.parametrize(
    ("conf", "text"),
    [
        ("nofile", "loading Caddyfile via flag: open nofile: no such file or directory"),
        ("./a/../b", "loading Caddyfile via flag: open b: no such file or directory"),
        ("/", "loading Caddyfile via flag: read /: is a directory"),
    ],
)
def test_a_named_file_that_cannot_be_read(conf, text):
    with pytest.raises(ConfigError) as caught:
        read_source(conf)
    assert str(caught.value) == text


def test_corefile_of_the_directory_else_the_built_in(tmp_path):
    assert read_source(port=1053) == builtin(1053) == Source("Corefile", b".:1053 {\nwhoami\nlog\n}\n")
    (tmp_path / "Corefile").write_bytes(b"y {\n}\n")
    assert read_source() == Source("Corefile", b"y {\n}\n")


def test_corefile_that_is_a_directory(tmp_path):
    (tmp_path / "Corefile").mkdir()
    with pytest.raises(ConfigError, match=r"^read Corefile: is a directory$"):
        read_source()


def test_standard_input():
    assert read_source("stdin", stdin=io.BytesIO(b"z {\n}\n")) == Source("/dev/stdin", b"z {\n}\n")
    with pytest.raises(ConfigError) as caught:
        load_source(read_source("stdin", stdin=io.BytesIO(b"z {\n bogus\n}\n")), known=["log"])
    assert str(caught.value) == "/dev/stdin:2 - Error during parsing: Unknown directive 'bogus'"


def test_standard_input_that_is_a_terminal_counts_as_none(monkeypatch):
    with open(os.devnull, "rb") as device:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(device))
        assert read_source("stdin") == builtin()


@pytest.mark.parametrize("text", [b"", b"# only comments\n", b"(s) {\n log\n}\n", b'"" {\n log\n}\n'])
def test_no_block_stands_for_the_built_in(text):
    corefile = load_source(Source("some", text), known=["whoami", "log"], port=1053)
    (block,) = corefile.blocks
    assert (block.keys, list(block.tokens)) == (("dns://.:1053",), ["whoami", "log"])
    assert corefile.raw == ()


def test_a_corefile_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "MAX_FILE_OCTETS", 10)
    (tmp_path / "Corefile").write_bytes(b"x {\n}\n" * 2)
    with pytest.raises(ConfigError, match="more than 10 octets"):
        read_source()


def test_a_corefile_pickles(tmp_path):
    (tmp_path / "inner").write_text("log\n")
    corefile = load_source(Source("Corefile", b"x {\n import inner\n import no*\n}\n"))
    again = pickle.loads(pickle.dumps(corefile))
    assert again == corefile
    assert again.files == (str(tmp_path / "inner"),)
    assert again.warnings == ("No files matching import glob pattern: no*",)
