# SPDX-License-Identifier: Apache-2.0
"""Shared memory that an upgrade hands over: who changes what stands where must say so.

Strategy: the declarations that fix a layout (enums and structs of its modules) are pinned by a digest, beside
the layout's number. A change fails here until `LAYOUTS` in fastdns/server/memory.py is raised, if the change moves
anything, and the new pin is entered.
"""

import hashlib
import re
from pathlib import Path

import pytest

from fastdns.server.memory import LAYOUTS

ROOT = Path(__file__).resolve().parents[2] / "fastdns"
# Layout: (its number, the modules that declare it, the first 16 digits of SHA-256 over their declarations).
PINNED = {
    "counters": (1, ("_stats.pxd", "_stats.pyx"), "51b4b9f346a1c2ae"),
    "rings": (2, ("_log.pxd", "_log.pyx"), "8cfa382b0984e9ef"),
    "cache": (1, ("_cache.pxd", "_cache.pyx", "_cache_face.pxi"), "3ed73a47872c4693"),
}


def declarations(text: str) -> str:
    """Enums, structs and tables of names (HEADER, FIXED …), without comments and spacing."""
    found = re.findall(r"^cdef (?:packed )?(?:enum|struct \w+):.*\n(?:(?:[ \t].*)?\n)+", text, re.M)
    found += re.findall(r"^(?:HEADER|FIXED|RECORD_WORDS)\b[^(]*\([^)]*\)", text, re.M)
    return "\n".join(re.sub(r"\s+", " ", re.sub(r"#.*", "", block)).strip() for block in found)


def digest(files: tuple[str, ...]) -> str:
    text = "\n".join(declarations((ROOT / name).read_text()) for name in files)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_layout_that_changed_has_a_new_number(name: str) -> None:
    number, files, pin = PINNED[name]
    assert (LAYOUTS[name], digest(files)) == (number, pin)


def test_what_is_pinned_is_seen() -> None:
    text = "cdef enum:\n    A = 1  # first\n\n    B = 2\n\ncdef struct S:\n    int x\n\ndef f():\n    return 1\n"
    assert declarations(text) == "cdef enum: A = 1 B = 2\ncdef struct S: int x"
    assert declarations(text) != declarations(text.replace("int x", "int y"))
    assert set(PINNED) == set(LAYOUTS)
