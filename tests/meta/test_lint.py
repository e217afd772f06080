# SPDX-License-Identifier: Apache-2.0
"""The linters and the type checker, as tests: their settings are in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(sys.executable).parent
HEADER = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wcast-align", "-Wshadow", "-Werror"]


def run(*command: str) -> None:
    path = os.pathsep.join([str(TOOLS), os.environ["PATH"]])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff():
    run(sys.executable, "-m", "ruff", "check", "--no-cache", ".")


def test_cython_lint():
    run(str(TOOLS / "cython-lint"), "fastdns", "plugins")


@pytest.mark.timeout(600)
def test_mypy():
    run(sys.executable, "-m", "mypy", "--no-error-summary")


def test_our_headers_compile_without_a_warning(tmp_path):
    headers = sorted((ROOT / "fastdns").glob("*.h"))
    assert headers
    unit = tmp_path / "headers.c"
    unit.write_text("".join(f'#include "{header}"\n' for header in headers) + "int unused_translation_unit;\n")
    run("cc", *HEADER, "-fsyntax-only", str(unit))


def test_shell_scripts_parse():
    for script in [*ROOT.glob("tests/**/*.sh"), ROOT / ".ci" / "run"]:
        run("sh", "-n", str(script))
