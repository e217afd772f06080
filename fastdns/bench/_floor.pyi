# SPDX-License-Identifier: Apache-2.0
"""The floor: receive a batch, set QR, send it back."""

import socket

def reflect(sock: socket.socket, segment: bool = False) -> None:
    """Answer on a bound UDP socket until a signal handler raises. OSError when the socket fails.

    Handlers run when a wait is interrupted or ends: a socket with SO_RCVTIMEO misses no signal for longer than that."""
