# SPDX-License-Identifier: Apache-2.0
"""errors with stacktrace: a plugin that raises is logged with its traceback, and without the option in one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fastdns.testing import Server, exchange, question

PLUGIN = '''
from fastdns.plugin import Directive, Plugin


class Bomb(Plugin):
    name = "bomb"
    directive = Directive("bomb", help="Raises.")
    after = "cache"

    async def serve_dns(self, query, next):
        return deep_inside(query)


def deep_inside(query):
    raise KeyError("boom")
'''
ENTRY = "[fastdns.plugins]\nbomb = bomb_plugin:Bomb\n"


@pytest.fixture
def site(tmp_path: Path) -> dict[str, str]:
    """A directory with an installed plugin, and the environment that finds it."""
    (tmp_path / "bomb_plugin.py").write_text(PLUGIN)
    info = tmp_path / "bomb-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bomb\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.mark.parametrize("option", ["", " {\n        stacktrace\n    }"])
def test_a_panic_is_logged(site: dict[str, str], option: str) -> None:
    server = Server(f". {{\n    errors{option}\n    bomb\n}}\n", environ=site, python=sys.executable)
    try:
        assert exchange(question("example.org", 1), server.port)[3] & 15 == 2
        line = server.wait_for("Recovered from panic")
        assert line.startswith("[ERROR] Recovered from panic in server: ")
        assert "KeyError: 'boom'" in line
        assert exchange(question("again.example.org", 1), server.port)[3] & 15 == 2
        if option:
            server.wait_for("in deep_inside")
    finally:
        server.stop()
    assert any("deep_inside" in text for text in server.lines()) == bool(option)
