# SPDX-License-Identifier: Apache-2.0
"""A port that nobody has, for a server of a test or of a measurement.

Strategy: a candidate is bound for UDP and for TCP at once and given back. Candidates come from below the range that the
kernel gives to whoever asks for any port: one of those may be somebody's source port by the time it is bound.
"""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
ATTEMPTS = 100


def _candidates() -> range:
    low = int(RANGE_FILE.read_text().split()[0])
    return range(max(1024, low - 16_384), low) if low > 4096 else range(1024, 65_536)


def free_port(address: str = "127.0.0.1") -> int:
    """A port of the address (`::`: of all) that is free for UDP and TCP now. OSError when none was found."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    source = random.SystemRandom()
    for port in (source.choice(_candidates()) for _ in range(ATTEMPTS)):
        with socket.socket(family, socket.SOCK_DGRAM) as udp, socket.socket(family) as tcp:
            with contextlib.suppress(OSError):
                udp.bind((address, port))
                tcp.bind((address, port))
                return port
    raise OSError(f"no port of {address} is free for both UDP and TCP")
