# SPDX-License-Identifier: Apache-2.0
"""Which Corefile: a file, standard input, ./Corefile or the built-in one; and the whole way to server blocks.

Strategy: reading is apart from parsing, so that a reload can read again, compare the hash and only then
act. A Corefile that holds no server block stands for the built-in one.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import ConfigError
from .blocks import ServerBlock, inspect
from .digest import sha512
from .parser import MAX_FILE_OCTETS, RawBlock, parse
from .paths import os_cause

DEFAULT_FILE = "Corefile"
STDIN_NAME = "/dev/stdin"


@dataclass(frozen=True)
class Source:
    """A Corefile's text and the name that errors show for it."""

    filename: str
    body: bytes


@dataclass(frozen=True)
class Corefile:
    """A parsed Corefile. `raw` are the blocks as written, over which the hash goes; `files` what it imported
    (absolute names); `warnings` are to be logged."""

    filename: str
    blocks: tuple[ServerBlock, ...]
    raw: tuple[RawBlock, ...] = ()
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def sha512(self) -> str:
        """CoreDNS's `Running configuration SHA512`."""
        return sha512(self.raw)


def builtin(port: int = 53) -> Source:
    """The Corefile of a server that was given none."""
    return Source(DEFAULT_FILE, f".:{port} {{\nwhoami\nlog\n}}\n".encode())


def _without_waiting(path: str, flags: int) -> int:
    # A pipe would wait for its writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _read(path: str, again: bool = False) -> bytes:
    verb = "open"
    try:
        with open(path, "rb", opener=_without_waiting if again else None) as file:
            verb = "read"
            if again and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"read {path}: not a file, so it cannot be read again", path)
            return _bounded(file, path)
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            verb = "read"
        raise ConfigError(f"{verb} {path}: {os_cause(error)}", path) from error


def _bounded(file: BinaryIO, path: str) -> bytes:
    body = file.read(MAX_FILE_OCTETS + 1)
    if len(body) > MAX_FILE_OCTETS:
        raise ConfigError(f"read {path}: more than {MAX_FILE_OCTETS} octets", path)
    return body


def read_source(conf: str = "", port: int = 53, stdin: BinaryIO | None = None, again: bool = False) -> Source:
    """The text for `-conf CONF`: a file, `stdin`, or where empty ./Corefile, else the built-in.

    Standard input that is a terminal counts as not given. `again`: of a server that serves, which must neither wait for
    a pipe nor take one that was read for an empty file. Raises ConfigError where a file cannot be read.
    """
    if conf and conf != "stdin":
        path = os.path.normpath(conf)
        try:
            return Source(conf, _read(path, again))
        except ConfigError as error:
            raise ConfigError(f"loading Caddyfile via flag: {error}", conf) from error
    if conf == "stdin":
        stream = sys.stdin.buffer if stdin is None else stdin
        if stdin is not None or not stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
            return Source(STDIN_NAME, _bounded(stream, STDIN_NAME))
    try:
        return Source(DEFAULT_FILE, _read(DEFAULT_FILE, again))
    except ConfigError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return builtin(port)
        raise


def load_source(
    source: Source,
    known: Collection[str] | None = None,
    not_built: Collection[str] = (),
    port: int = 53,
    environ: Mapping[str, str] | None = None,
) -> Corefile:
    """Parse `source` and expand the keys; `port` is the default port of `dns://`. Raises ConfigError."""
    parsed = parse(source.filename, source.body, known, not_built, environ)
    blocks, filename = parsed.blocks, source.filename
    if not blocks:
        default = builtin(port)
        blocks = parse(default.filename, default.body, known, not_built, environ).blocks
    served = inspect(filename, blocks, port)
    return Corefile(filename, served, tuple(parsed.blocks), tuple(parsed.files), tuple(parsed.warnings))


def load(
    conf: str = "",
    known: Collection[str] | None = None,
    not_built: Collection[str] = (),
    port: int = 53,
    environ: Mapping[str, str] | None = None,
) -> Corefile:
    """Read and parse the Corefile of `-conf CONF` (see `read_source`). Raises ConfigError."""
    return load_source(read_source(conf, port), known, not_built, port, environ)
