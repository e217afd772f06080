# SPDX-License-Identifier: Apache-2.0
"""Types of the code of routing filters."""

OPERATIONS: dict[str, int]
COMPARISONS: dict[str, int]

class Filter:
    def __init__(self, code: bytes, data: bytes) -> None: ...
    @property
    def code(self) -> bytes: ...
    @property
    def data(self) -> bytes: ...
    def passes(
        self,
        wire: bytes,
        *,
        client: bytes = b"\x7f\0\0\1",
        client_port: int = 0,
        local: bytes = b"",
        tcp: bool = False,
        port: int = 53,
    ) -> bool: ...
