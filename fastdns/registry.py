# SPDX-License-Identifier: Apache-2.0
"""From a directive's name to its plugin class, which is imported only when a Corefile names it.

A plugin of ours is a package `fastdns.plugins.<name>` whose module holds the class. Anyone else's is a distribution
with an entry point in the group `fastdns.plugins` (`demo = "my_package:Demo"`): `pip install`, one line in the
Corefile.

Strategy: names cost a directory listing; entry points, which mean reading the metadata of every installed
distribution, are looked up only for a name that is not found in our own tree. Ours win over a stranger's of the same
name.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Collection, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from .errors import ConfigError, SetupError
from .order import KINDS, NAMES, Place
from .plugin import Plugin

GROUP = "fastdns.plugins"


@cache
def built() -> frozenset[str]:
    """Names of the plugins in this tree, found as folders, without importing any."""
    package = importlib.import_module(GROUP)
    return frozenset(
        entry.name
        for folder in package.__path__
        for entry in Path(folder).iterdir()
        if (entry / "__init__.py").is_file() and entry.name.isidentifier()
    )


@cache
def installed() -> dict[str, EntryPoint]:
    """Entry points of other distributions by directive. Of two with one name, the first in alphabetical order."""
    found: dict[str, EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda point: (point.name, point.value)):
        found.setdefault(point.name, point)
    return found


class Known(Collection[str]):
    """The directives that a Corefile may use. Asks for entry points only about a name that is not ours."""

    def __contains__(self, name: object) -> bool:
        return name in built() or name in installed()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(built() | set(installed())))

    def __len__(self) -> int:
        return len(built() | set(installed()))


def not_built() -> tuple[str, ...]:
    """CoreDNS's directives that nothing here provides yet: refused by name, never ignored."""
    return tuple(name for name in NAMES if name not in built())


@cache
def load(name: str) -> type[Plugin]:
    """The class of a directive. Raises ConfigError when there is none, SetupError when it cannot be imported."""
    try:
        found = _ours(name) if name in built() else _theirs(name)
    except ConfigError:
        raise
    except Exception as error:
        raise SetupError(name, f"cannot be imported: {type(error).__name__}: {error}") from error
    if KINDS.get(name, "chain" if found.chain else "side") != ("chain" if found.chain else "side"):
        raise SetupError(name, f"is a {KINDS[name]} directive")
    return found


def _ours(name: str) -> type[Plugin]:
    module = importlib.import_module(f"{GROUP}.{name}")
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, Plugin) and value.name == name:
            return value
    raise SetupError(name, f"its module has no Plugin class named '{name}'")


def _theirs(name: str) -> type[Plugin]:
    point = installed().get(name)
    if point is None:
        raise ConfigError(f"there is no plugin '{name}'")
    value = point.load()
    if not (inspect.isclass(value) and issubclass(value, Plugin)):
        raise SetupError(name, f"entry point '{point.value}' is no Plugin class")
    if value.name != name:
        raise SetupError(name, f"entry point '{point.value}' holds the plugin '{value.name}'")
    return value


def place(name: str) -> Place:
    """Where the plugin's class asks to stand (nothing for one in CoreDNS's table)."""
    found = load(name)
    return Place(found.before, found.after)
