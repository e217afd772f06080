# SPDX-License-Identifier: Apache-2.0
"""A wheel builds from the tree, carries no C source, and works in a fresh environment."""

import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from fastdns import __version__

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.unsanitized, pytest.mark.timeout(1200)]
LEFT_BEHIND = shutil.ignore_patterns("*.so", "*.c", "*.html", "__pycache__")


def run(*command, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the tree, so that nothing built earlier can slip in."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("fastdns", "plugins"):
        shutil.copytree(ROOT / name, tree / name, ignore=LEFT_BEHIND)
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree / name)
    out = tree / "dist"
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, ".", cwd=tree)
    (found,) = out.glob("fastdns-*.whl")
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """The interpreter of a fresh environment with the wheel installed."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home, with_pip=True)
    interpreter = home / "bin" / "python"
    run(interpreter, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=home)
    return interpreter


def test_no_c_source_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith((".c", ".pyx", ".html", ".o"))] == []
    assert [name for name in names if name.startswith(("plugins/", "tests/", "bench/"))] == []


def test_what_others_build_against_is_inside(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("_stage.pxd", "_wire.pxd", "_sys.pxd", "_atomic.h", "_wire.pyi", "py.typed"):
        assert f"fastdns/{name}" in names
    assert "fastdns/plugins/__init__.py" in names


def test_every_module_is_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for source in [*(ROOT / "fastdns").glob("**/_*.pyx"), *(ROOT / "plugins").glob("*/_*.pyx")]:
        parts = source.relative_to(ROOT).with_suffix("").parts
        stem = "/".join(parts if parts[0] == "fastdns" else ("fastdns", *parts))
        assert any(name.startswith(f"{stem}.cpython-") and name.endswith(".so") for name in names), stem


def test_version(python, tmp_path):
    assert __version__ in run(python, "-m", "fastdns", "-version", cwd=tmp_path)
    assert __version__ in run(python.parent / "fastdns", "-version", cwd=tmp_path)


def test_plugins_import_under_fastdns(python, tmp_path):
    names = sorted(path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists())
    lines = "".join(f"import fastdns.plugins.{name}\n" for name in names)
    where = "import fastdns; print(fastdns.__file__)\n"
    assert str(python.parents[1]) in run(python, "-c", lines + where, cwd=tmp_path)
