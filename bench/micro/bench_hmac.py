# SPDX-License-Identifier: Apache-2.0
"""_hmac: the MAC of a small query and of a full message of a transfer. The loop in Python is in it."""

import pytest

from fastdns._hmac import NAMES, hmac


def signed(kind: int, octets: int, turns: int) -> int:
    """So many MACs; octets of all."""
    data, secret = bytes(octets), b"k" * 32
    return sum(len(hmac(kind, secret, data)) for _ in range(turns))


@pytest.mark.parametrize(("octets", "turns"), [(100, 2000), (60000, 20)])
@pytest.mark.parametrize("kind", range(len(NAMES)), ids=NAMES)
def bench_mac(repeated, kind, octets, turns):
    assert repeated(signed, kind, octets, turns, items=turns, unit="message") == len(hmac(kind, b"", b"")) * turns
