# SPDX-License-Identifier: Apache-2.0
"""`fastdns top`: shows what a running server does, again and again, or once.

Strategy: the control socket is asked once for each set of figures; nothing is kept in the server for it, so any number
may watch. The live view is for a terminal. Into a pipe, with `--json` or `--once` go plain lines or JSON, which need no
library. The exit status is that of `fastdns ctl`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ..ctl_talk import Parser, TalkError, find, plain, read, talk
from .figures import another_server, between
from .live import NoRichError, View, draws
from .tables import text

SECONDS = 1.0
SECONDS_LEAST, SECONDS_MOST = 0.1, 3600.0
COUNT_MOST = 100


def seconds(text: str) -> float:
    value = float(text)
    if not SECONDS_LEAST <= value <= SECONDS_MOST:
        raise argparse.ArgumentTypeError(f"{SECONDS_LEAST:g} to {SECONDS_MOST:g} seconds, not {text}")
    return value


def rows(text: str) -> int:
    value = int(text)
    if not 1 <= value <= COUNT_MOST:
        raise argparse.ArgumentTypeError(f"1 to {COUNT_MOST} rows, not {text}")
    return value


def parser() -> Parser:
    """The words of `fastdns top`, with one dash or two."""
    made = Parser(prog="fastdns top", description="Shows what a running server does.", allow_abbrev=False)
    made.add_argument("--socket", "-socket", metavar="PATH", default="", help="control socket of the server")
    made.add_argument("--pid", "-pid", type=int, help="process id of the server")
    made.add_argument("--interval", "-interval", metavar="SECONDS", type=seconds, default=SECONDS,
                      help="between two sets of figures (default 1)")
    made.add_argument("--count", "-count", metavar="ROWS", type=rows, default=10, help="of each list (default 10)")
    made.add_argument("--once", "-once", action="store_true", help="one set of figures, as text, then end")
    made.add_argument("--json", "-json", action="store_true", help="the figures as JSON, a line for each set")
    return made


def main(arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `top`; returns the exit status."""
    words = read(parser(), arguments, err)
    if isinstance(words, int):
        return words
    try:
        show(words, find(words.socket, words.pid), out)
    except (TalkError, NoRichError) as error:
        err.write(f"fastdns top: {plain(error)}\n")
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0  # how a view that never ends is ended
    return 0


def ask(path: Path, count: int) -> dict[str, Any]:
    """What the server tells. TalkError."""
    answer = talk(path, {"do": "top", "count": count})
    if not answer.get("ok"):
        raise TalkError(str(answer.get("error", "refused")))
    return answer


def sets(path: Path, interval: float, count: int) -> Iterator[dict[str, Any]]:
    """A set of figures for each interval. A server that took the place of another begins anew. TalkError."""
    before = ask(path, count)
    while True:
        time.sleep(interval)
        after = ask(path, count)
        if not another_server(before, after):
            yield between(before, after)
        before = after


def show(words: argparse.Namespace, path: Path, out: TextIO) -> None:
    """Shows until it is interrupted, or once. TalkError, NoRichError."""
    found = sets(path, words.interval, words.count)
    if draws(out) and not words.once and not words.json:
        with View(out, words.count) as view:
            for figures in found:
                view.show(figures)
    for figures in found:
        lines = [json.dumps(figures)] if words.json else text(figures, words.count)
        out.write("\n".join(lines) + "\n")
        out.flush()
        if words.once:
            return
        if not words.json:
            out.write("\n")
