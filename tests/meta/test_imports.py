# SPDX-License-Identifier: Apache-2.0
"""Imports point down only. The two tables below are the architecture; a new module must find its place in them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Compiled modules from the ground up: each may cimport those above it and nothing else of ours.
COMPILED = [
    "_sys",
    "_process",
    "_wire",
    "_hmac",
    "_tsig",
    "_stats",
    "_published",
    "_log",
    "_cache",
    "_stage",
    "_signed",
    "_kept",
    "_filter",
    "_chain",
    "_count",
    "_ingress",
    "_inflight",
    "_upstream_udp",
    "_upstream_tcp",
    "_attempt",
    "_forward",
    "_quota",
    "_bridge",
    "_tcp",
    "_udp",
    "_drive",
    "_drive_chain",
    "_drive_engine",
    "_drive_micro",
]

# Compiled modules of the bench: above those that are named, and the server's know nothing of them.
BENCH = {
    "_histogram": {"_sys"},
    "_load": {"_sys", "_wire", "_histogram"},
    "_floor": {"_sys"},
}

# Python modules of the core: what each may import of ours. "compiled" stands for all compiled modules.
PYTHON: dict[str, set[str]] = {
    "errors": set(),
    "corefile": {"errors"},
    "numbers": set(),
    "ports": set(),
    "metrics": {"compiled"},
    "snapshot": {"compiled"},
    "upstream_numbers": {"compiled"},
    "rdata": {"compiled"},
    "published": {"compiled"},
    "labels": set(),
    "tasks": set(),
    "facts": {"labels", "compiled"},
    # The language of `view` and `template`, and its translation to the code of the router's filters.
    "expression": {"errors", "corefile", "plugin", "compiled"},
    "gotemplate": {"corefile"},
    # RDATA in its generic form is held against the message parser.
    "rrtext": {"compiled", "numbers", "message"},
    "message": {"rdata", "errors", "numbers", "compiled"},
    "plugin": {
        "published", "tasks", "labels", "facts", "errors", "numbers", "message", "corefile", "metrics", "compiled",
    },
    "order": {"errors"},
    "registry": {"errors", "numbers", "plugin", "order"},
    "listeners": {"corefile", "errors", "labels", "plugin"},
    "chain": {
        "published",
        "listeners",
        "facts",
        "errors",
        "numbers",
        "corefile",
        "message",
        "metrics",
        "plugin",
        "order",
        "registry",
        "compiled",
    },
    "server": {
        "published",
        "listeners",
        "upstream_numbers",
        "snapshot",
        "errors",
        "numbers",
        "corefile",
        "message",
        "metrics",
        "plugin",
        "order",
        "registry",
        "chain",
        "compiled",
    },
    # What a Corefile comes to, with nothing done: set-up, but neither processes nor sockets, which are the server's.
    "check": {
        "errors", "corefile", "facts", "metrics", "plugin", "order", "registry", "listeners", "chain", "compiled",
    },
    "adopt": {"errors", "corefile", "cli", "server"},
    "ctl_talk": {"errors", "server"},
    "ctl": {"ctl_talk"},
    "top": {"ctl_talk", "errors"},
    "cli": {"errors", "corefile", "order", "registry", "server", "bench"},  # the bench by its command alone
    # The tuner asks what a Corefile listens on (chain) and how many workers a server has here (server.placement).
    "bench": {"errors", "ports", "corefile", "compiled", "chain", "server"},
    "__main__": {"cli"},
    "__init__": set(),
    "testing": {
        "errors",
        "ports",
        "numbers",
        "corefile",
        "message",
        "plugin",
        "order",
        "registry",
        "chain",
        "server",
        "cli",
        "metrics",
        "compiled",
    },
}
PLUGIN_MAY = {
    "expression", "gotemplate", "rrtext", "snapshot", "plugin", "errors", "message", "metrics", "corefile", "compiled",
    "published", "upstream_numbers",
}


def cimports(path: Path) -> set[str]:
    text = path.read_text()
    found = set(re.findall(r"^\s*from fastdns\.(\w+) cimport", text, re.M))
    found |= set(re.findall(r"^\s*cimport fastdns\.(\w+)", text, re.M))
    found |= set(re.findall(r"^\s*from \.(\w+) cimport", text, re.M))
    for names in re.findall(r"^\s*from fastdns cimport ([\w, ]+)", text, re.M):
        found |= {name.strip() for name in names.split(",")}
    return found


def package_of(path: Path) -> list[str]:
    """Dotted parts of the package that the module `path` lies in, below `fastdns`."""
    relative = path.relative_to(ROOT)
    parts = list(relative.parts[:-1])
    return parts[1:] if parts[0] == "fastdns" else parts


def imports(path: Path) -> set[tuple[str, ...]]:
    """What `path` imports of ours, as dotted parts below `fastdns`, wherever in the file the import stands."""
    found: set[tuple[str, ...]] = set()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
                found |= {tuple(name[1:]) for name in names if name[0] == "fastdns"}
            elif isinstance(node, ast.ImportFrom):
                base = (node.module or "").split(".") if node.module else []
                if node.level:
                    here = package_of(path)
                    base = here[: len(here) - node.level + 1] + base
                elif base[:1] == ["fastdns"]:
                    base = base[1:]
                else:
                    continue
                found |= {(*base, alias.name) for alias in node.names}
    else:
        text = path.read_text()
        for base, names in re.findall(r"^\s*from fastdns((?:\.\w+)*) import \(?([\w, \n]+)", text, re.M):
            found |= {(*base.split(".")[1:], name.strip()) for name in names.split(",") if name.strip()}
        for name in re.findall(r"^\s*import fastdns((?:\.\w+)*)", text, re.M):
            found.add(tuple(name.split(".")[1:]))
    return found


def kind(target: tuple[str, ...]) -> str:
    head = target[0] if target else "__version__"
    if head.startswith("_") and not head.startswith("__"):
        return "compiled"
    return "version" if head == "__version__" else head


BENCH_FILES = sorted(p for p in (ROOT / "fastdns" / "bench").glob("_*.p*") if p.suffix in {".pyx", ".pxd", ".pxi"})
COMPILED_FILES = sorted(p for p in (ROOT / "fastdns").glob("_*.p*") if p.suffix in {".pyx", ".pxd", ".pxi"})
CORE_FILES = sorted((ROOT / "fastdns").rglob("*.py"))
PLUGIN_FILES = sorted(p for p in (ROOT / "plugins").glob("*/*") if p.suffix in {".py", ".pyx", ".pxd"})


def test_there_is_something_to_check():
    assert len(COMPILED_FILES) > 10 and len(CORE_FILES) > 10 and len(PLUGIN_FILES) > 5 and len(BENCH_FILES) > 5


@pytest.mark.parametrize("path", COMPILED_FILES, ids=lambda p: p.name)
def test_compiled_modules_cimport_downwards(path):
    owners = [
        name for name in COMPILED if path.stem == name or (path.suffix == ".pxi" and path.stem.startswith(f"{name}_"))
    ]
    assert owners, f"{path.stem} has no place in the table of compiled modules"
    name = owners[-1]
    below = set(COMPILED[: COMPILED.index(name) + 1])
    assert cimports(path) <= below


@pytest.mark.parametrize("path", COMPILED_FILES, ids=lambda p: p.name)
def test_compiled_modules_import_only_errors_and_each_other(path):
    assert {kind(target) for target in imports(path)} <= {"errors", "compiled", "version"}


@pytest.mark.parametrize("path", BENCH_FILES, ids=lambda p: p.name)
def test_compiled_modules_of_the_bench(path):
    name = next(name for name in BENCH if path.stem == name or path.stem.startswith(f"{name}_"))
    text = path.read_text()
    found = cimports(path) - {"bench"} | set(re.findall(r"^\s*from fastdns\.bench\.(\w+) cimport", text, re.M))
    assert found - {name} <= BENCH[name]
    assert {kind(target) for target in imports(path)} <= {"bench"}


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_core_modules_import_downwards(path):
    relative = path.relative_to(ROOT / "fastdns")
    name = relative.parts[0].removesuffix(".py")
    assert name in PYTHON, f"{name} has no place in the table of Python modules"
    found = {kind(target) for target in imports(path)} - {name, "version"}
    assert found <= PYTHON[name], f"{relative} imports {sorted(found - PYTHON[name])}"


@pytest.mark.parametrize("path", PLUGIN_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_plugins_import_the_contract_and_no_other_plugin(path):
    own = path.parent.name
    for target in imports(path):
        if target[:1] == ("plugins",):
            assert target[1:2] == (own,), f"{path.name} imports the plugin {target[1:2]}"
        else:
            assert kind(target) in PLUGIN_MAY | {"version"}, f"{path.name} imports {'.'.join(target)}"
    if path.suffix != ".py":
        others = set(re.findall(r"from fastdns\.plugins\.(\w+)[\w.]* cimport", path.read_text()))
        assert others <= {own}
