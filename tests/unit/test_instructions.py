# SPDX-License-Identifier: Apache-2.0
"""Instructions per query: the committed numbers hold, and what the comparison says when they do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.instructions import count
from bench.instructions.drive import PHASES
from tests.machine import needs

ROOT = Path(__file__).resolve().parents[2]


def flavour() -> str:
    """Of the compiled modules: only the release one is counted."""
    path = ROOT / "build" / "flavour"
    return path.read_text().strip() if path.exists() else "release"


@pytest.mark.slow
@pytest.mark.unsanitized
@pytest.mark.timeout(300)
@needs("valgrind")
@pytest.mark.skipif(flavour() != "release", reason="only a release build is counted")
def test_no_path_has_become_dearer() -> None:
    name = count.key()
    now = count.count()
    was = count.committed(name)
    if was is None:
        written = ROOT / "build" / "instructions" / f"{name}.json"
        count.record(written, name, now)
        pytest.skip(f"no numbers are committed for {name}: {json.dumps(now)} (make instructions writes them)")
    dearer = [str(verdict) for verdict in count.compare(was, now) if verdict.dearer]
    assert dearer == [], "if the change is worth it, `make instructions` writes the new numbers; commit them with it"


def test_dearer_is_beyond_the_tolerance() -> None:
    verdicts = count.compare({"hit": 1000.0, "miss": 5000.0}, {"hit": 1031.0, "miss": 5149.0})
    assert [(v.path, v.dearer) for v in verdicts] == [("hit", True), ("miss", False)]
    assert str(verdicts[0]) == "hit             1000.0 ->    1031.0 instructions per query (+3.1%)"
    assert not count.compare({"hit": 1000.0}, {"hit": 500.0})[0].dearer


def test_a_path_that_is_not_committed_is_no_silent_pass() -> None:
    with pytest.raises(KeyError):
        count.compare({"hit": 1.0}, {"hit": 1.0, "miss": 1.0})


def test_the_key_says_what_the_numbers_depend_on(tmp_path: Path) -> None:
    parts = count.key().split("_", 3)
    assert parts[0].split("-")[0] in ("gcc", "clang") and parts[1].startswith("python-3.")
    module = tmp_path / "module.so"
    for note, name in ((b"\0GCC: (Debian 12.2.0-14) 12.2.0\0", "gcc-12.2.0"),
                       (b"\0Debian clang version 14.0.6\0", "clang-14.0.6"), (b"\0", "unknown")):
        module.write_bytes(note)
        assert count.compiler(module) == name


def test_events_with_the_zeros_that_callgrind_leaves_out() -> None:
    assert count._events("events: Ir Dr Dw\nfn=x\ntotals: 12 3\n") == {"Ir": 12, "Dr": 3, "Dw": 0}
    with pytest.raises(count.CannotCountError):
        count._events("events: Ir\n")


def test_every_committed_file_has_every_path() -> None:
    files = sorted(count.NUMBERS.glob("*.json"))
    assert files
    for path in files:
        content = json.loads(path.read_text())
        assert content["key"] == path.stem and list(content["instructions"]) == list(PHASES)


def test_record_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(count, "NUMBERS", tmp_path)
    assert count.committed("gcc-1_python-3.11_glibc-2_x86_64") is None
    count.record(count.file_of("k"), "k", {"hit": 12.345}, {"beyond_l1": 1.23})
    assert count.committed("k") == {"hit": 12.3}


def test_without_valgrind_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(count.CannotCountError, match="apt-get install valgrind"):
        count.count()
