# SPDX-License-Identifier: Apache-2.0
"""A source distribution holds the tree, and the wheel that is built from it carries no C source and works in a fresh
environment.

Strategy: one chain, as packagers walk it: tree, source distribution, wheel, installation, one question.
"""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from fastdns import __version__

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.unsanitized, pytest.mark.timeout(1200)]
LEFT_BEHIND = shutil.ignore_patterns(".?*", "build", "dist", "*.egg-info", "*.so", "*.html", "__pycache__")
SDIST = "from setuptools import build_meta; import sys; print(build_meta.build_sdist(sys.argv[1]))"


def run(*command, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory) -> tuple[set[str], Path]:
    """What a copy of the tree held (nothing built earlier can slip in), and its source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    tree = shutil.copytree(ROOT, folder / "tree", ignore=LEFT_BEHIND)
    held = files(tree)
    name = run(sys.executable, "-c", SDIST, folder, cwd=tree).splitlines()[-1]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder, filter="data")
    return held, folder / f"fastdns-{__version__}"


@pytest.fixture(scope="module")
def wheel(unpacked, tmp_path_factory) -> Path:
    """The wheel of the source distribution."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", out, "."]
    run(*command, cwd=shutil.copytree(unpacked[1], out / "tree"))
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


def test_the_source_distribution_holds_the_tree_and_nothing_built(unpacked):
    held, folder = unpacked
    there = files(folder)
    assert sorted(held - there) == []
    made = {name for name in there - held if not name.startswith("fastdns.egg-info/")}
    assert made == {"PKG-INFO", "setup.cfg"}


def test_no_c_source_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.endswith((".c", ".pyx", ".html", ".o"))] == []
    assert [name for name in names if name.startswith(("plugins/", "tests/", "bench/"))] == []


def test_what_others_build_against_is_inside(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("_stage.pxd", "_wire.pxd", "_sys.pxd", "_atomic.h", "_wire.pyi", "py.typed"):
        assert f"fastdns/{name}" in names
    assert "fastdns/plugins/__init__.py" in names


def test_every_module_is_inside_but_those_for_our_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if "_drive" in name] == []
    for source in [*(ROOT / "fastdns").glob("**/_*.pyx"), *(ROOT / "plugins").glob("*/_*.pyx")]:
        if source.stem.startswith("_drive"):
            continue
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


ASK = """
from fastdns.testing import Server
with Server("a.test {\\n    whoami\\n    cache\\n}\\n") as server:
    print(server.ask("a.test.", 1).rcode)
print(server.stop())
"""


def test_an_installed_wheel_answers(python, tmp_path):
    assert run(python, "-c", ASK, cwd=tmp_path).split() == ["0", "0"]
