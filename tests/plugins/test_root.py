# SPDX-License-Identifier: Apache-2.0
"""root: where paths begin, and what is said of a folder that is not there."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fastdns import chain
from fastdns._stats import Stats
from fastdns.corefile import load_source
from fastdns.corefile.source import Source
from fastdns.errors import ConfigError

ARGUMENTS = "Wrong argument count or unexpected line ending after"


def build(lines: str) -> chain.Generation:
    source = Source("Corefile", f".:53 {{\n{lines}\nwhoami\n}}\n".encode())
    generation = chain.load(load_source(source, chain.known(), chain.not_built()))
    generation.build(Stats.create(4), None, [1], 1)
    return generation


def whoami(generation: chain.Generation):
    return next(plugin for name, plugin in generation.members() if name == "whoami")


@pytest.mark.parametrize(
    ("lines", "name", "path"),
    [
        ("root /etc", "hosts", "/etc/hosts"),
        ("root /etc", "/tmp/x", "/tmp/x"),
        ("root /", "a/b", "/a/b"),
        ("root /tmp\nroot /etc", "hosts", "/etc/hosts"),
        ("root etc", "hosts", "etc/hosts"),
        ("", "hosts", "hosts"),
        ("root /etc", "", ""),
    ],
)
def test_paths(lines, name, path):
    assert whoami(build(lines)).block.path(name) == path


@pytest.mark.parametrize("path", ["/nonexistent/folder", ""])
def test_a_folder_that_is_missing_is_worth_a_warning(caplog, path):
    with caplog.at_level(logging.WARNING):
        build(f'root "{path}"')
    assert [(r.name, r.getMessage()) for r in caplog.records] == [("plugin/root", f"Root path does not exist: {path}")]


def test_a_folder_that_is_there_is_worth_no_word(caplog, tmp_path: Path):
    with caplog.at_level(logging.WARNING):
        build(f"root {tmp_path}")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("root", f"{ARGUMENTS} 'root'"),
        ("root /a /b", f"{ARGUMENTS} '/b'"),
        ("root /tmp {\n}", "Unexpected token '{', expecting argument"),
        ("root FILE/x", "unable to access root path 'FILE/x': stat FILE/x: not a directory"),
    ],
)
def test_errors(lines, message, tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ConfigError) as error:
        build(lines.replace("FILE", str(file)))
    wanted = f"plugin/root: Corefile:2 - Error during parsing: {message.replace('FILE', str(file))}"
    assert str(error.value) == wanted
