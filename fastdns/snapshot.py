# SPDX-License-Identifier: Apache-2.0
"""The cache in a file: `cache { snapshot }` and `fastdns ctl dump` write it, the next start and `ctl load` read it.

Strategy: a row of frames of bounded size - head, then for each block its name and its records, then the end - each with
a digest that covers the one before, so that a frame that was changed, moved, cut off or added is noticed. A file is
read twice: nothing is loaded until all of it has been checked. Records are `_cache.Survey`'s, with wall-clock times;
how the cache lies in memory is nothing to them. A file is replaced as a whole: written beside, synced, renamed, and
only then is the old one gone; one that is no snapshot of this version is kept under another name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ._cache import Segment

MAGIC = b"fastdns cache 1\n"  # its number is raised whenever an octet behind it changes its meaning
FRAME = struct.Struct("<II16s")  # kind, octets of the payload, digest
HEAD, BLOCK, RECORDS, END = 1, 2, 3, 4
FRAME_MAX = 1 << 20  # octets of a payload
PIECE = 1 << 18  # octets of records in a frame, and one record more
BLOCKS_MAX = 65535
MODE = 0o600
KEPT_MAX = 10  # files of others that are kept beside one
TRIES = 10  # for the lock of a file that others replace


class SnapshotError(ValueError):
    """What a file is that is no snapshot of this version, or a damaged one."""


class Part(NamedTuple):
    """A block of the cache: its number there, and what it is called in a file."""

    block_id: int
    zones: tuple[str, ...]
    settings: str  # the digest of the server block


class Loaded(NamedTuple):
    """What became of the entries of a file, and how many blocks nobody took."""

    stored: int = 0
    expired: int = 0
    refused: int = 0
    foreign: int = 0


def clocks() -> tuple[int, int]:
    """(CLOCK_BOOTTIME, CLOCK_REALTIME) of one moment, nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()


def _digest(before: bytes, kind: int, payload: bytes) -> bytes:
    return hashlib.blake2b(before + struct.pack("<II", kind, len(payload)) + payload, digest_size=16).digest()


# ---- writing


def pieces(segment: Segment, parts: Iterable[Part]) -> Iterator[bytes]:
    """The octets of a file of some blocks, in pieces of at most about a quarter of a megabyte; empty pieces say that
    time has passed. Readers and writers of the cache go on meanwhile."""
    from ._cache import Survey

    digest, total = MAGIC, 0

    def frame(kind: int, payload: bytes) -> bytes:
        nonlocal digest
        digest = _digest(digest, kind, payload)
        return FRAME.pack(kind, len(payload), digest) + payload

    yield MAGIC + frame(HEAD, json.dumps({"created": time.time()}).encode())
    for part in parts:
        yield frame(BLOCK, json.dumps({"zones": part.zones, "settings": part.settings}).encode())
        survey = Survey(segment, part.block_id)
        for first, end in survey.spans():
            at = first
            while at < end:
                at, records, count = survey.page(at, end, *clocks(), PIECE)
                total += count
                yield frame(RECORDS, records) if records else b""
    yield frame(END, json.dumps({"entries": total}).encode())


def write(fd: int, octets: bytes) -> None:
    """Writes all of it. OSError."""
    view = memoryview(octets)
    while view:
        view = view[os.write(fd, view):]


def save(path: str, segment: Segment, parts: Iterable[Part]) -> int:
    """Replaces the file at `path` and returns its octets. OSError; what was there before then stays.

    Of several processes that save to one path one does, and the others raise BlockingIOError.
    """
    beside = f"{path}.new"
    fd = _locked(beside)
    try:
        os.ftruncate(fd, 0)
        total = 0
        for piece in pieces(segment, parts):
            write(fd, piece)
            total += len(piece)
        os.fchmod(fd, MODE)
        os.fsync(fd)
        _keep(path)
        Path(beside).rename(path)
        _sync_folder(path)
        return total
    except BaseException:
        with contextlib.suppress(OSError):
            Path(beside).unlink()
        raise
    finally:
        os.close(fd)


def _keep(path: str) -> None:
    # What somebody else wrote, a program of another version among them, is not ours to destroy: it gets a name more,
    # so that there is a file at `path` at any moment. One that we may not even read is left alone. OSError.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link is replaced, not what it points to
            return
        raise
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "not a file", path)  # a rename would take a device or a pipe away
        if os.pread(fd, len(MAGIC), 0) == MAGIC:
            return
    finally:
        os.close(fd)
    for number in range(1, KEPT_MAX + 1):
        kept = f"{path}.kept" if number == 1 else f"{path}.kept{number}"
        try:
            os.link(path, kept, follow_symlinks=False)
        except FileExistsError:
            if not os.path.samestat(os.lstat(kept), os.lstat(path)):
                continue
        return
    raise FileExistsError(errno.EEXIST, "too many files are kept already", f"{path}.kept")


def _locked(path: str) -> int:
    # Somebody may rename the file between our opening and our locking it: then it is not the one at the path any more.
    for _ in range(TRIES):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), Path(path).lstat()):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise BlockingIOError(f"{path} is replaced all the time")


def _sync_folder(path: str) -> None:
    fd = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# ---- reading


def frames(fd: int) -> Iterator[tuple[int, bytes]]:
    """(kind, payload) of each frame, each checked before it is given. SnapshotError, OSError."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SnapshotError("not a file")
    if os.pread(fd, len(MAGIC), 0) != MAGIC:
        raise SnapshotError("not a snapshot of this version")
    at, digest, kind = len(MAGIC), MAGIC, 0
    while kind != END:
        head = _exactly(fd, FRAME.size, at)
        kind, size, told = FRAME.unpack(head)
        if not HEAD <= kind <= END or size > FRAME_MAX or (kind == HEAD) != (at == len(MAGIC)):
            raise SnapshotError(f"damaged at octet {at}")
        payload = _exactly(fd, size, at + FRAME.size)
        digest = _digest(digest, kind, payload)
        if digest != told:
            raise SnapshotError(f"damaged at octet {at}")
        yield kind, payload
        at += FRAME.size + size
    if os.pread(fd, 1, at):
        raise SnapshotError("there is something behind its end")


def _exactly(fd: int, count: int, at: int) -> bytes:
    octets = os.pread(fd, count, at)
    if len(octets) != count:
        raise SnapshotError("cut off")
    return octets


def _facts(payload: bytes) -> dict[str, Any]:
    try:
        facts = json.loads(payload)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise SnapshotError("a frame makes no sense")
    return facts


Choice = Callable[[tuple[str, ...], str], tuple[int, int] | None]
"""(zones, settings) of a file's block -> (block to load it into, seconds that an expired entry is still of use)."""


def load(fd: int, segment: Segment, choose: Choice, go_on: Callable[[], bool] = lambda: True) -> Loaded:
    """Loads a file. SnapshotError when anything about it is wrong, before any entry of it is stored; OSError.

    An entry that is in the cache already and is newer stays. `go_on` is asked at each frame; InterruptedError when it
    says no.
    """
    from ._cache import Survey

    blocks = 0
    for kind, _ in frames(fd):
        blocks += kind == BLOCK
        if blocks > BLOCKS_MAX:
            raise SnapshotError(f"more than {BLOCKS_MAX} blocks")
        _check(go_on)
    stored = expired = refused = foreign = 0
    into: Survey | None = None
    stale = 0
    for kind, payload in frames(fd):
        _check(go_on)
        if kind == BLOCK:
            facts = _facts(payload)
            zones = facts.get("zones")
            chosen = choose(tuple(map(str, zones)) if isinstance(zones, list) else (), str(facts.get("settings")))
            foreign += chosen is None
            into, stale = (None, 0) if chosen is None else (Survey(segment, chosen[0]), chosen[1])
        elif kind == RECORDS and into is not None:
            try:
                one, two, three = into.take(payload, *clocks(), stale)
            except ValueError as error:
                raise SnapshotError(str(error)) from None
            stored, expired, refused = stored + one, expired + two, refused + three
    return Loaded(stored, expired, refused, foreign)


def _check(go_on: Callable[[], bool]) -> None:
    if not go_on():
        raise InterruptedError("stopped")
