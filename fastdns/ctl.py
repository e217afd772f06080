# SPDX-License-Identifier: Apache-2.0
"""`fastdns ctl`: asks a running server, and shows what it answers as text or as JSON.

Strategy: a table of words with the request that each makes; what a request may hold is judged by the server alone.
The exit status is 0, 1 where the server refuses or there is none, 2 for words that make no sense.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from .ctl_talk import Parser, TalkError, find, plain, read, talk


def parser() -> Parser:
    """The words of `fastdns ctl`."""
    common = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--socket", metavar="PATH", help="control socket of the server")
    common.add_argument("--pid", type=int, help="process id of the server")
    common.add_argument("--json", action="store_true", help="the answer as JSON")
    top = Parser(prog="fastdns ctl", description="Asks a running server.", parents=[common])
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[common])

    def block(of: argparse.ArgumentParser) -> None:
        of.add_argument("--block", metavar="ZONE|NUMBER", help="only this server block")

    add("stats", "queries, replies, and the state of the cache")
    flush = add("flush", "remove entries from the cache")
    flush.add_argument("name", nargs="?", metavar="NAME")
    flush.add_argument("--subtree", action="store_true", help="NAME and all names below it")
    flush.add_argument("--type", metavar="TYPE", help="only entries of this type")
    flush.add_argument("--all", action="store_true", help="everything")
    block(flush)
    inspect = add("inspect", "show what the cache holds of a name")
    inspect.add_argument("name", metavar="NAME")
    inspect.add_argument("type", nargs="?", metavar="TYPE")
    inspect.add_argument("--subtree", action="store_true", help="NAME and all names below it")
    block(inspect)
    for name, text in (("dump", "write the cache into a file"), ("load", "load a file into the cache")):
        of = add(name, text)
        of.add_argument("file", metavar="FILE")
        block(of)
    add("upstreams", "the upstreams of forward and their health")
    for name, text in (("drain", "ask an upstream nothing more"), ("resume", "ask an upstream again")):
        add(name, text).add_argument("to", metavar="ADDRESS:PORT")
    add("workers", "the server's processes")
    add("log", "show or set the least level of the server's log lines").add_argument(
        "level", nargs="?", choices=("debug", "info", "warning", "error", "fatal"))
    add("reload", "read the Corefile again")
    add("report", "versions, machine, limits and counters, for a bug report")
    return top


def request_of(words: argparse.Namespace) -> dict[str, Any]:
    """What the server is asked for."""
    request: dict[str, Any] = {"do": words.command}
    for key in ("name", "type", "block", "to", "level"):
        if getattr(words, key, None) is not None:
            request[key] = getattr(words, key)
    for key, there in (("below", "subtree"), ("all", "all")):
        if getattr(words, there, False):
            request[key] = True
    return request


def main(arguments: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run with the words behind `ctl`; returns the exit status."""
    words = read(parser(), arguments, err)
    if isinstance(words, int):
        return words
    try:
        path = find(getattr(words, "socket", ""), getattr(words, "pid", None))
        answer = _with_file(words, lambda fd: talk(path, request_of(words), fd))
    except TalkError as error:
        err.write(f"fastdns ctl: {error}\n")
        return 1
    if not answer.get("ok"):
        if getattr(words, "json", False):
            out.write(json.dumps(answer) + "\n")
        err.write(f"fastdns ctl: {plain(answer.get('error', 'refused'))}\n")
        return 1
    if getattr(words, "json", False):
        out.write(json.dumps(answer, indent=2) + "\n")
    else:
        out.writelines(f"{plain(line)}\n" for line in SHOWN.get(words.command, _pairs)(answer))
    return 0


def _with_file(words: argparse.Namespace, ask: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Opens the file of `dump` and `load` as the user, whose rights it is."""
    if words.command == "dump":
        return _dumped(Path(words.file), ask)
    if words.command != "load":
        return ask(-1)
    try:
        fd = os.open(words.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TalkError(f"{words.file}: {(error.strerror or '').lower()}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise TalkError(f"{words.file}: not a file")
        return ask(fd)
    finally:
        os.close(fd)


def _dumped(path: Path, ask: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Has a file beside `path` written, which takes its place once it is whole. A dump that fails leaves no file."""
    if path.exists() and not path.is_file():
        raise TalkError(f"{path}: not a file")
    try:
        fd, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise TalkError(f"{path}: {(error.strerror or '').lower()}") from None
    try:
        answer = ask(fd)
        if answer.get("ok"):
            os.fsync(fd)
            Path(beside).rename(path)
            beside = ""
        return answer
    except OSError as error:
        raise TalkError(f"{path}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(fd)
        if beside:
            Path(beside).unlink(missing_ok=True)


# ---- as text


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    texts = [list(head), *(["-" if cell is None else str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def _pairs(answer: dict[str, Any], before: str = "") -> list[str]:
    lines = []
    for key, value in answer.items():
        if key == "ok" and not before:
            continue
        if isinstance(value, dict):
            lines += _pairs(value, f"{before}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for i, one in enumerate(value):
                lines += _pairs(one, f"{before}{key}.{i}.")
        else:
            lines.append(f"{before}{key}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return lines


def _entries(answer: dict[str, Any]) -> list[str]:
    rows = [[one["name"], one["class"], one["type"], one["kind"], one["rcode"], one["ttl"], one["age"],
             "".join(flag for flag in ("do ", "cd ", "aside ") if one[flag.strip()]).strip() or None,
             one["octets"], one["memory"], one["block"], one["ring"], _source(one)] for one in answer["entries"]]
    head = ("NAME", "CLASS", "TYPE", "KIND", "RCODE", "TTL", "AGE", "FLAGS", "OCTETS", "MEMORY", "BLOCK", "RING",
            "SOURCE")
    return [*(_table(head, rows) if rows else ["not in the cache"]), *(["... and more"] if answer["more"] else [])]


def _source(entry: dict[str, Any]) -> str:
    return f"{entry['source']} of {entry['upstream']}" if entry["upstream"] else str(entry["source"])


def _upstreams(answer: dict[str, Any]) -> list[str]:
    def state(one: dict[str, Any]) -> str:
        marks = ("looping", "drained", "checking")
        return next((mark for mark in marks if one[mark]), "up").replace("checking", "checked")

    rows = [[one["to"], state(one), one["failed_checks"], one["answers"], one["mean_ms"], one["block"], one["stanza"]]
            for one in answer["upstreams"]]
    return _table(("UPSTREAM", "STATE", "FAILED", "ANSWERS", "MEAN-MS", "BLOCK", "STANZA"), rows)


def _workers(answer: dict[str, Any]) -> list[str]:
    rows = [[one["role"], one.get("index"), one["pid"], one["state"], one["generation"], one.get("cpu_seconds"),
             one.get("memory"), one.get("beat_ago"), one.get("python_beat_ago")] for one in answer["processes"]]
    return _table(("ROLE", "INDEX", "PID", "STATE", "GENERATION", "CPU-S", "MEMORY", "BEAT-AGO", "PYTHON-BEAT-AGO"),
                  rows)


SHOWN: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "inspect": _entries, "upstreams": _upstreams, "workers": _workers}
