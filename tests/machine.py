# SPDX-License-Identifier: Apache-2.0
"""What this machine has: the marks of tests that need a program, an address family or a right that it may lack.

Strategy: each is tried once, at import; a test that is skipped says what it lacks.
"""

import re
import shutil
import socket
from pathlib import Path

import pytest

# linux/capability.h
CAPABILITIES = {"chown": 0, "setgid": 6, "setuid": 7, "net_admin": 12, "net_raw": 13, "sys_admin": 21}
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str | None:
    """Where a program is, daemons' folders included."""
    return shutil.which(name) or shutil.which(name, path=SBIN)


def needs(*programs: str) -> pytest.MarkDecorator:
    """The test runs these programs."""
    missing = [name for name in programs if program(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def holds(capability: str) -> bool:
    """Whether this process has a capability."""
    found = re.search(r"^CapEff:\s+([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.M)
    return bool(found and int(found[1], 16) >> CAPABILITIES[capability] & 1)


def may(*capabilities: str) -> pytest.MarkDecorator:
    """The test does what only a process with these capabilities may."""
    missing = [name for name in capabilities if not holds(name)]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(f'CAP_{name.upper()}' for name in missing)}")


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _ipv6(), reason="needs IPv6 on the loopback interface")
