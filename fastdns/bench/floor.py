# SPDX-License-Identifier: Apache-2.0
"""`python -m fastdns.bench.floor [--segment] [--address ADDRESS] PORT`: the floor as a process of its own.

Strategy: one socket with the buffers of a busy server, then compiled code (`_floor`). SIGTERM and SIGINT end the
process as they end a C program: a handler in Python would have to be looked for, and the floor looks for nothing.
"""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import Sequence

from ._floor import reflect

BUFFER = 4 << 20  # octets
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32  # <asm-generic/socket.h>; the socket module has no names for them


def bound(address: str, port: int) -> socket.socket:
    """A UDP socket on the address, with large buffers where the system lets us. OSError when it is taken."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    for forced, usual in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, usual, BUFFER)
    try:
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def main(arguments: Sequence[str] | None = None) -> int:
    """Reflect until a signal; 1 when the address cannot be had."""
    parser = argparse.ArgumentParser(prog="fastdns.bench.floor", description="The cost floor of a UDP server.")
    parser.add_argument("port", type=int)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--segment", action="store_true", help="answer equal neighbours by one segmented datagram")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sock = bound(given.address, given.port)
    except (OSError, OverflowError) as error:
        print(f"floor: {given.address} port {given.port}: {error}", file=sys.stderr)
        return 1
    with sock:
        reflect(sock, given.segment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
