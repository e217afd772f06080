# SPDX-License-Identifier: Apache-2.0
"""Each compiled module has a stub that names what the module has, with the same parameters."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ROOT / "fastdns", ROOT / "fastdns" / "bench"
MODULES = sorted([*(p for place in PLACES for p in place.glob("_*.pyx")), *(ROOT / "plugins").glob("*/_*.pyx")])
KEPT = {"__init__", "__len__", "__enter__", "__exit__", "__iter__", "__next__", "__getitem__", "__contains__"}


def module_of(path: Path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts if parts[0] == "fastdns" else ("fastdns", *parts)))


def stub_of(path: Path) -> ast.Module:
    return ast.parse(path.with_suffix(".pyi").read_text())


def public(namespace, where: str) -> set[str]:
    return {
        name
        for name, value in vars(namespace).items()
        if not name.startswith("_") and not inspect.ismodule(value) and getattr(value, "__module__", where) == where
    }


def imported(path: Path) -> set[str]:
    """Names that the source imports from elsewhere: no part of what the module offers."""
    lists = re.findall(r"^from [\w.]+ import (\([^)]*\)|.*)$", path.read_text(), re.M)
    return {name for names in lists for name in re.findall(r"\w+", names)}


def declared(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Functions, classes and annotated names; a bare assignment in a stub is an alias of types."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {name: node for name, node in found.items() if not name.startswith("_") or name in KEPT}


def parameters(node: ast.stmt) -> list[str]:
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    variadic = node.args.vararg, node.args.kwarg
    every = [*node.args.posonlyargs, *node.args.args, variadic[0], *node.args.kwonlyargs, variadic[1]]
    return [argument.arg for argument in every if argument and argument.arg not in ("self", "cls")]


def actual(function) -> list[str] | None:
    try:
        names = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None
    return [name for name in names if name not in ("self", "cls")]


def test_there_is_something_to_check():
    assert len(MODULES) > 5


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_stub_names_what_the_module_has(path):
    module = module_of(path)
    stub = declared(stub_of(path).body)
    assert public(module, module.__name__) - imported(path) == {name for name in stub if not name.startswith("_")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_stub_has_the_same_parameters_and_members(path):
    module = module_of(path)
    wrong = []
    for name, node in declared(stub_of(path).body).items():
        value = getattr(module, name, None)
        if isinstance(node, ast.ClassDef):
            members = declared(node.body)
            has = {m for m in vars(value) if not m.startswith("_")}
            named = {m for m in members if not m.startswith("_")}
            wrong += [f"{name}.{member}" for member in has ^ named]
            functions = {f"{name}.{m}": (getattr(value, m, None), members[m]) for m in named}
        else:
            functions = {name: (value, node)}
        for label, (function, statement) in functions.items():
            if isinstance(statement, ast.FunctionDef) and callable(function):
                names = actual(function)
                if names is not None and names != parameters(statement):
                    wrong.append(f"{label}{tuple(names)} is {tuple(parameters(statement))} in the stub")
    assert wrong == []
