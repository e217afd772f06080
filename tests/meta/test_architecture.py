# SPDX-License-Identifier: Apache-2.0
"""ARCHITECTURE.md names only what exists.

The document writes a file as `fastdns/_udp.pyx` and a function, class or name in it as `fastdns/_udp.pyx:udp_flush`.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "ARCHITECTURE.md").read_text()
NAMED = re.compile(
    r"`((?:fastdns|plugins|tests|bench)/[\w./-]*|Makefile|Corefile|setup\.py|pyproject\.toml)(?::([\w.]+))?`"
)
FOUND = sorted(set(NAMED.findall(TEXT)))


def defines(text: str, name: str) -> bool:
    """Whether source text defines `name`: a function, a method `Class.method`, a class, a struct or a constant."""
    last = name.rsplit(".", 1)[-1]
    patterns = (
        rf"^\s*(?:async )?def {last}\b",
        rf"^\s*(?:cdef|cpdef)\b[^=\n]*\b{last}\(",
        rf"^\s*(?:cdef )?class {last}\b",
        rf"^\s*cdef (?:struct|enum) {last}\b",
        rf"^\s*{last}\b\s*(?::[^=\n]+)?=",
        rf"^\s*cdef [\w *]+\b{last}\b",
        rf"^static inline \w+ {last}\(",
    )
    whole = all(re.search(rf"^\s*(?:cdef )?class {part}\b", text, re.M) for part in name.split(".")[:-1])
    return whole and any(re.search(pattern, text, re.M) for pattern in patterns)


def test_the_document_names_files_and_functions():
    assert len([name for _, name in FOUND if name]) >= 20
    assert len({path for path, _ in FOUND}) >= 20


@pytest.mark.parametrize(("path", "name"), FOUND, ids=lambda value: value or "-")
def test_named_things_exist(path, name):
    target = ROOT / path
    assert target.exists(), f"{path} does not exist"
    if name:
        texts = [target.read_text()]
        texts += [(target.parent / part).read_text() for part in re.findall(r'^include "([\w.]+)"', texts[0], re.M)]
        assert any(defines(text, name) for text in texts), f"{path} does not define {name}"


@pytest.mark.parametrize("folder", ["fastdns", "fastdns/server", "fastdns/corefile", "fastdns/bench", "fastdns/check"])
def test_every_module_has_its_place_in_the_document(folder):
    named = {path for path, _ in FOUND}
    modules = [p for p in (ROOT / folder).iterdir() if p.suffix in {".py", ".pyx"} and not p.name.startswith("__")]
    assert sorted(f"{folder}/{p.name}" for p in modules if f"{folder}/{p.name}" not in named) == []
