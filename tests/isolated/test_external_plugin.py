# SPDX-License-Identifier: Apache-2.0
"""A stranger's plugin package, installed by pip into a fresh environment, serves after one line in the Corefile."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastdns.numbers import A
from fastdns.testing import Server
from tests.probes import EXTERNAL

ROOT = Path(__file__).resolve().parents[2]
COREFILE = "probed.test {\n probe\n whoami\n}\n"


@pytest.mark.slow
@pytest.mark.unsanitized
@pytest.mark.timeout(600)
def test_pip_install_and_one_line(tmp_path):
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = str(home / "bin" / "python")
    package = tmp_path / "package"
    shutil.copytree(EXTERNAL, package, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "build"))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "setuptools>=65", "wheel"], check=True)
    # fastdns itself is this tree's build; what is tested is that pip alone makes the plugin known.
    subprocess.run([*pip, "dnslib", "psutil", "h11"], check=True)
    lib = next((home / "lib").glob("python*")) / "site-packages"
    shutil.copytree(ROOT / "fastdns", lib / "fastdns")
    shutil.copytree(ROOT / "plugins", lib / "fastdns" / "plugins")

    with pytest.raises(AssertionError, match="Unknown directive 'probe'"):
        Server(COREFILE, python=python)
    subprocess.run([*pip, "--no-build-isolation", str(package)], check=True)
    with Server(COREFILE, python=python) as server:
        assert server.ask("ok.probed.test", A).answer == ["ok.probed.test. 60 IN A 192.0.2.1"]
        assert server.ask("unchanged.probed.test", A, "tcp").additional
