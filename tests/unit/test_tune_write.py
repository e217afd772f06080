# SPDX-License-Identifier: Apache-2.0
"""The tuner's pen: a number into a Corefile, and not one octet more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdns.bench import tune_write
from fastdns.bench.errors import BenchError
from fastdns.bench.tune_outline import Text
from fastdns.corefile.lexer import tokenize
from tests.machine import holds

FULL = """# the resolver
.:53 example.org:53 {   # all of it
\tbind 127.0.0.1   # inside only

\tmultisocket 2   # half of the cores
\tcache {
\t\tsuccess 100
\t}
}
"""


def edit(text: str, sockets: int = 8, steer: str = "flow", blocks: tuple[int, ...] = (0,), **environ: str) -> str:
    return tune_write.edit("Corefile", text.encode(), blocks, sockets, steer, environ).decode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (FULL, FULL.replace("multisocket 2 ", "multisocket 8 ")),
        (". {\n  multisocket\n}\n", ". {\n  multisocket 8\n}\n"),
        (". {\n  multisocket # why\n}\n", ". {\n  multisocket 8 # why\n}\n"),
        (". {\n  multisocket 16#why not\n}\n", ". {\n  multisocket 8#why not\n}\n"),
        ('. {\n  "multisocket" "16"\n}\n', '. {\n  "multisocket" 8\n}\n'),
        (". {\r\n\tmultisocket 16\r\n\twhoami\r\n}\r\n", ". {\r\n\tmultisocket 8\r\n\twhoami\r\n}\r\n"),
        (". {\n\twhoami\n}\n", ". {\n\tmultisocket 8\n\twhoami\n}\n"),
        (". { # first\n  # second\n  whoami\n}", ". { # first\n  multisocket 8\n  # second\n  whoami\n}"),
        (". {\r\n  whoami\r\n}\r\n", ". {\r\n  multisocket 8\r\n  whoami\r\n}\r\n"),
        (". { whoami\n}\n", ". { multisocket 8\n     whoami\n}\n"),
        ("  . {\n  }\n", "  . {\n      multisocket 8\n  }\n"),
        (".:53\nwhoami\n", ".:53\nmultisocket 8\nwhoami\n"),
        (".:53,\nb.:53\n whoami\n", ".:53,\nb.:53\n multisocket 8\n whoami\n"),
        (".:53", ".:53\nmultisocket 8"),
        ("\ufeff. {\n  multisocket 2\n}\n", "\ufeff. {\n  multisocket 8\n}\n"),
        ("a\nb {\nwhoami\n}\n", "a\nmultisocket 8\nb {\nwhoami\n}\n"),  # `b` is a directive of `a`
        ("(s) {\n  multisocket 2\n}\n. {\n  import s\n}\n", "(s) {\n  multisocket 8\n}\n. {\n  import s\n}\n"),
        ("(s) {\n  whoami\n}\n. {\n  import s\n}\n", "(s) {\n  whoami\n}\n. {\n  multisocket 8\n  import s\n}\n"),
        (". {\n log . {\n  class error\n }\n}\n", ". {\n multisocket 8\n log . {\n  class error\n }\n}\n"),
        ('. {\n log "a\nb"\n multisocket 2\n}\n', '. {\n log "a\nb"\n multisocket 8\n}\n'),
    ],
)
def test_only_the_number_changes(before: str, after: str) -> None:
    assert edit(before) == after
    assert edit(after) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (". {\n  multisocket 2 # two\n  whoami\n}\n",
         ". {\n  multisocket 8 { # two\n      steer random\n  }\n  whoami\n}\n"),
        (". {\n\tmultisocket 2 {\n\t\tsteer cpu # as the card\n\t}\n}\n",
         ". {\n\tmultisocket 8 {\n\t\tsteer random # as the card\n\t}\n}\n"),
        (". {\n\tmultisocket {\n\t\tsteer cpu\n\t}\n}\n", ". {\n\tmultisocket 8 {\n\t\tsteer random\n\t}\n}\n"),
        (". {\n\twhoami\n}\n", ". {\n\tmultisocket 8 {\n\t\tsteer random\n\t}\n\twhoami\n}\n"),
        (". {\r\n  multisocket\r\n}\r\n", ". {\r\n  multisocket 8 {\r\n      steer random\r\n  }\r\n}\r\n"),
    ],
)
def test_steering_is_written_too(before: str, after: str) -> None:
    assert edit(before, steer="random") == after
    assert edit(after, steer="random") == after
    assert "steer flow" in edit(after, steer="flow")


def test_every_block_of_the_listener() -> None:
    before = "a:53 {\n whoami\n}\nb:54 {\n whoami\n}\nc:53 {\n multisocket 1\n whoami\n}\n"
    after = "a:53 {\n multisocket 8\n whoami\n}\nb:54 {\n whoami\n}\nc:53 {\n multisocket 8\n whoami\n}\n"
    assert edit(before, blocks=(0, 2)) == after


def test_octets_that_are_not_utf_8_stay() -> None:
    before = b"# \xff\xc3\xe2\x82 \xf0\x9f\x92\n. {\n log \xe2\x82x \xed\xa0\x80 # \xfe\n multisocket 2 # \xc3\xa4\n}\n"
    after = tune_write.edit("Corefile", before, (0,), 8, environ={})
    assert after == before.replace(b"multisocket 2", b"multisocket 8")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("(s) {\n multisocket 2\n}\na:53 {\n import s\n}\nb:54 {\n import s\n}\n",
         "Corefile: this multisocket stands in a snippet that the block of b:54 imports too, and that one listens "
         "elsewhere; give each block a line of its own"),
        ("a:53 {\n multisocket {$N}\n}\n", "Corefile:2 - {$N} comes from the environment; let it stand for 8"),
    ],
)
def test_what_cannot_be_shown_to_be_right_is_refused(text: str, why: str) -> None:
    with pytest.raises(BenchError) as caught:
        edit(text, N="4")
    assert str(caught.value) == why


def test_imported_lines_and_blocks_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "line").write_text("\nmultisocket 2\n")
    (tmp_path / "block").write_text("b:53 {\n whoami\n}\n")
    name = str(tmp_path / "Corefile")
    with pytest.raises(BenchError) as caught:
        tune_write.edit(name, b"a:53 {\n import line\n}\n", (0,), 8, environ={})
    assert str(caught.value) == f"{tmp_path}/line:2 - this multisocket is imported; write `multisocket 8` there"
    text = b"a:53 {\n whoami\n}\nimport block\nc:53 {\n whoami\n}\n"
    with pytest.raises(BenchError) as caught:
        tune_write.edit(name, text, (1,), 8, environ={})
    assert str(caught.value) == f"{name}: the block of b:53 does not stand in this file; write `multisocket 8` into it"
    # The blocks beside it can be edited: which is which is found by trying.
    after = tune_write.edit(name, text, (0, 2), 8, environ={})
    assert after == text.replace(b":53 {\n", b":53 {\n multisocket 8\n")


def test_the_file_is_replaced_with_its_mode_and_owner(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "Corefile"
    real.write_bytes(b"old")
    real.chmod(0o640)
    if holds("chown"):
        os.chown(real, 1234, 2345)
    link.symlink_to("real")
    before = real.stat()
    tune_write.replace(str(link), b"old", b"new")
    after = real.stat()
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Corefile", "real"]


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "Corefile"
    path.write_bytes(b"newer")
    with pytest.raises(BenchError, match="changed meanwhile"):
        tune_write.replace(str(path), b"old", b"new")
    assert path.read_bytes() == b"newer"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BenchError, match="no such file or directory"):
        tune_write.replace(str(tmp_path / "none"), b"old", b"new")


@given(st.binary(max_size=200) | st.text('\ufeff\n\r \t"#\\{}aä\u2028\x85', max_size=60).map(str.encode))
def test_each_token_stands_where_the_text_says(body: bytes) -> None:
    text = Text(body)
    end = 0
    for place in text.places:
        assert end <= place.start <= place.end <= len(text.text)
        end = place.end
        # The piece by itself is that token and nothing else; the space: a mark is one only where a text begins.
        piece = b" " + text.text[place.start:place.end].encode("utf-8", "surrogateescape")
        assert [token.text for token in tokenize(piece)] == [place.token.text]


NAME = "multisocket"
LINES = st.sampled_from(["whoami", "cache 30", "multisocket 3", "multisocket", "log . {\n   class error\n }", "# note",
                         'errors "a b"', "", "bind 127.0.0.1 # here", "import common"])


@given(st.lists(st.lists(LINES, max_size=5), min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]), st.data())
def test_any_corefile_keeps_its_lines(blocks: list[list[str]], newline: str, data: st.DataObject) -> None:
    text = "(common) {\n loop\n}\n# top\n"
    for number, lines in enumerate(blocks):
        once = [line for at, line in enumerate(lines) if NAME not in line or NAME not in "".join(lines[:at])]
        text += f"z{number}.:53 {{\n" + "".join(f" {line}\n" for line in once) + "}\n"
    body = text.replace("\n", newline).encode()
    chosen = data.draw(st.sets(st.integers(0, len(blocks) - 1), min_size=1))
    steer = data.draw(st.sampled_from(["flow", "random"]))
    after = tune_write.edit("Corefile", body, chosen, 7, steer, {})
    kept = iter(after.decode().split(newline))
    for line in body.decode().split(newline):
        if "multisocket" not in line:
            # Every other line is still there, in order.
            assert line in kept, line
