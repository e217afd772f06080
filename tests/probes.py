# SPDX-License-Identifier: Apache-2.0
"""Makes the plugins of tests/external known as an installed package would be, without installing it.

Strategy: what pip writes is a folder of metadata on the path; the same folder is written here.
"""

import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastdns import registry

EXTERNAL = Path(__file__).parent / "external"


def write_metadata(folder: Path) -> None:
    """The metadata of an installed tests/external, in `folder`."""
    project = tomllib.loads((EXTERNAL / "pyproject.toml").read_text())["project"]
    info = folder / "fastdns_probes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {value}" for name, value in project["entry-points"][registry.GROUP].items()]
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n" + "\n".join(lines) + "\n")


@contextmanager
def installed(folder: Path) -> Iterator[dict[str, str]]:
    """The package is installed, for this process and, with the environment given, for others."""
    write_metadata(folder)
    paths = [str(EXTERNAL), str(folder)]
    sys.path[:0] = paths
    registry.installed.cache_clear()
    try:
        yield {"PYTHONPATH": os.pathsep.join(paths)}
    finally:
        for path in paths:
            sys.path.remove(path)
        registry.installed.cache_clear()
        registry.load.cache_clear()
