# SPDX-License-Identifier: Apache-2.0
"""One word of the command line each: numbers within bounds, CPUs, processes, types of questions, the server's address.

Strategy: a reader gives a plain value or says in one sentence why the word is none; argparse puts the option's name in
front of it. What words mean for each other is not known here.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..corefile.addresses import split_host_port
from .errors import UsageError
from .questions import type_number

PROTOCOLS = ("udp", "tcp")


class Parser(argparse.ArgumentParser):
    """Options that raise instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A reader of whole numbers between two bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {low} to {high}")
        return int(text)

    return read


def decimal(low: float, high: float, unit: str) -> Callable[[str], float]:
    """A reader of numbers between two bounds."""

    def read(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?|\.[0-9]{1,9}", text) or not low <= float(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of {unit} from {low:g} to {high:g}")
        return float(text)

    return read


def cpus(text: str) -> list[int]:
    """A list of CPUs as taskset writes it, `0,2-3`, all of them usable by this process."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if match is None:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of CPUs such as 0,2-3")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise argparse.ArgumentTypeError(f"{part!r} runs backwards")
        found |= set(range(first, last + 1))
    missing = sorted(found - os.sched_getaffinity(0))
    if missing:
        raise argparse.ArgumentTypeError(f"CPU {', '.join(map(str, missing))} cannot be used here")
    return sorted(found)


def pids(text: str) -> list[int]:
    """Process ids by commas, all of them alive."""
    found = []
    for part in text.split(","):
        if not re.fullmatch(r"[0-9]{1,9}", part) or not Path(f"/proc/{int(part)}").is_dir():
            raise argparse.ArgumentTypeError(f"{part!r} is no process of this machine")
        found.append(int(part))
    return found


def qtypes(text: str) -> dict[str, float]:
    """Types by commas, each with its weight if it has one: `A,AAAA` or `A=7,TYPE65=1`."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, weight = part.partition("=")
        try:
            type_number(name)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if name.upper() in found:
            raise argparse.ArgumentTypeError(f"{name!r} twice")
        found[name.upper()] = decimal(0.001, 1e6, "queries")(weight) if equals else 1.0
    return found


def share(text: str) -> float:
    """A share, 0 to 1."""
    return decimal(0, 1, "queries, as a share,")(text)


def target(text: str) -> tuple[str, str, int]:
    """(protocol or "", address, port or 0) of `[udp://|tcp://]IP[:PORT]`. Raises UsageError."""
    scheme, mark, rest = text.partition("://")
    protocol = scheme.lower() if mark else ""
    if mark and protocol not in PROTOCOLS:
        raise UsageError(f"{text}: {scheme}:// is not spoken; {' and '.join(f'{name}://' for name in PROTOCOLS)} are")
    rest = rest if mark else text
    with contextlib.suppress(ValueError):
        return protocol, str(ipaddress.ip_address(rest.strip("[]"))), 0
    try:
        host, port = split_host_port(rest)
        host = str(ipaddress.ip_address(host))
    except ValueError:
        raise UsageError(f"{text}: not an IP address with or without a port") from None
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise UsageError(f"{text}: no port from 1 to 65535")
    return protocol, host, int(port)


def is_local(address: str) -> bool:
    """Whether an address is one of this machine's."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True
