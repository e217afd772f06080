# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of loadbalance."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

class Weights:
    """A table of weights that all processes forked from this one share."""

    def __init__(self) -> None: ...
    def publish(self, weights: list[tuple[bytes, bytes, int]]) -> None:
        """Makes these weights count: (name, address of 16 octets, 1 to 255)."""

    def weight(self, name: bytes, address: bytes) -> int:
        """The weight of an address of a name."""

def stage(networks: Sequence[tuple[bytes, bytes]] = (), weights: Weights | None = None) -> CompiledStage: ...
