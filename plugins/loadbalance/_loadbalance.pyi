# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of loadbalance."""

from collections.abc import Sequence

from fastdns._published import Mapped
from fastdns._stage import CompiledStage

def image(weights: list[tuple[bytes, bytes, int]]) -> bytes:
    """The image of weights: (name, address of 16 octets, 1 to 255)."""

def weight(image: bytes, name: bytes, address: bytes) -> int:
    """What an image says of an address of a name."""

def stage(networks: Sequence[tuple[bytes, bytes]] = (), weights: Mapped | None = None) -> CompiledStage: ...
