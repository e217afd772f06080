# SPDX-License-Identifier: Apache-2.0
"""Published data: whole versions in order, beside a writer, after a writer that died; bounds; memory given back."""

import os
import subprocess
import sys

import pytest

from fastdns.published import OCTETS_MOST, PAGE, Board, make


def test_published_data_is_the_newest_and_whole():
    board = Board(make())
    assert board.read() == (0, b"") and board.version == 0
    for version, data in enumerate((b"one", b"", b"x" * 300_000, b"three"), 1):
        assert board.publish(data) == board.version == version
        assert board.read() == (version, data)
    os.pwrite(board.fd, bytes(8), PAGE)
    with pytest.raises(RuntimeError):
        board.read()


def test_configurations_never_count_the_same():
    one, two = Board(make(1)), Board(make(2))
    seen = {one.generation, two.generation}
    for _ in range(5):
        one.publish(b"x")
        assert two.publish(b"y") == one.version == two.version
        seen |= {one.generation, two.generation}
    assert len(seen) == 12


def test_a_publisher_that_was_killed_leaves_what_was_there():
    class Killed(Exception):
        """In the middle of its work."""

    class Half:
        octets = 500_000

        def pack(self, room: memoryview) -> None:
            room[:300_000] = bytes(300_000)
            raise Killed

    board = Board(make(7))
    board.publish(b"whole")
    with pytest.raises(Killed):
        board.publish(Half())
    assert board.read()[1] == b"whole" and board.octets() > 300_000
    again = Board(os.dup(board.fd))  # as the keeper that comes after it
    assert again.publish(b"next") == 2
    assert board.read() == again.read() == (board.generation, b"next")
    again.retire(1)  # somebody else published since
    assert again.read()[1] == b"next" and board.version == 2
    again.retire(2)
    assert board.octets() < 100_000
    with pytest.raises(OSError, match="too large"):
        board.publish(Whole(OCTETS_MOST + 1))
    assert board.read()[1] == b"next"


class Whole:
    """Data that says how much it is."""

    def __init__(self, octets: int) -> None:
        self.octets = octets

    def pack(self, room: memoryview) -> None:
        raise AssertionError("more than there is room for")


def test_nobody_shrinks_what_others_map():
    board = Board(make())
    for size in (0, PAGE):
        with pytest.raises(PermissionError):
            os.ftruncate(board.fd, size)
    with pytest.raises(ValueError, match="mapped already"):
        board.__init__(board.fd)


def test_a_reader_beside_a_writer_sees_whole_versions():
    board = Board(make())
    code = (
        "import sys\n"
        "from fastdns.published import Board\n"
        "board = Board(int(sys.argv[1]))\n"
        "for n in range(1, 3000):\n"
        "    board.publish(b'%d.' % n * (n % 5000))\n"
        "    if n % 3 == 0:\n"
        "        board.retire(n)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(board.fd)], pass_fds=[board.fd]) as writer:
        seen = 0
        while writer.poll() is None or seen < 2999:
            version, data = board.read()
            assert version >= seen and data == b"%d." % version * (version % 5000 if version else 0)
            seen = version
    assert writer.returncode == 0
