# SPDX-License-Identifier: Apache-2.0
"""What the command lines of check and explain share: how words are read, and which Corefile they name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from ..corefile.source import STDIN_NAME, Source, read_source
from ..errors import FastdnsError

FINE, MISTAKES, USAGE = 0, 1, 2
STDIN = ("-", "stdin")


class UsageError(FastdnsError):
    """Words that cannot be meant; one sentence."""


class Parser(argparse.ArgumentParser):
    """Options that raise instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The options, which may stand between the other words too. Raises UsageError."""
        # What the library does for that loses `--`, behind which no word is an option.
        return self.parse_args(list(words)) if "--" in words else self.parse_intermixed_args(list(words))


def common(made: Parser) -> None:
    """The options that both commands have."""
    made.add_argument("-h", "--help", action="store_true", help="this text")
    made.add_argument("-conf", "--conf", action="append", default=[], metavar="FILE",
                      help="a Corefile, as the server's flag names it; `stdin` is standard input")
    made.add_argument("-dns.port", "--dns.port", "-p", dest="port", type=port, default=53, metavar="PORT",
                      help="default port of its blocks, as at the server (default 53)")
    made.add_argument("--json", action="store_true", help="one JSON object")
    made.add_argument("--color", choices=("auto", "always", "never"), default="auto",
                      help="when to colour (default auto)")


def put(out: TextIO, text: str) -> None:
    """Write an answer; a reader who has seen enough and left (`| head`) is no failure."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, or the end of the process would fail on it.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), out.fileno())


def port(text: str) -> int:
    """A port number."""
    if not (text.isascii() and text.isdigit() and int(text[:6]) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port number from 0 to 65535")
    return int(text)


def source(name: str, default_port: int, stdin: BinaryIO | None = None) -> Source:
    """The Corefile of one word; "" is ./Corefile, else the built-in one. Raises ConfigError where it cannot be read."""
    if name in STDIN:
        return read_source("stdin", default_port, stdin or sys.stdin.buffer)
    return read_source(name, default_port)


def shown(name: str) -> str:
    """A word as findings show it."""
    return STDIN_NAME if name in STDIN else name or "Corefile"
