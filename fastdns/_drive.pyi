# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of the test kit (see _drive.pyx)."""

from fastdns._log import RingHandle
from fastdns._stage import CompiledStage
from fastdns._stats import Stats

VERDICTS: tuple[str, ...]

class Bench:
    def __init__(
        self,
        stage: CompiledStage,
        stats: Stats | None = None,
        row: int = 1,
        ring: RingHandle | None = None,
        seed: int = 0,
        wildcard: bool = False,
    ) -> None: ...
    def run(
        self,
        wire: bytes,
        *,
        reply: bytes | None = None,
        rcode: int = 0,
        dropped: bool = False,
        error: bytes = b"",
        proto: int = 0,
        family: int = 1,
        listener: int = 0,
        zone: int = 0,
        client: bytes = ...,
        port: int = 0,
        local: bytes = ...,
        local_len: int = 4,
        start_ns: int = 0,
        now_ns: int = 0,
        has_opt: bool = False,
        set_do: bool = False,
        ulen: int = 0,
        background: bool = False,
        detached: bool = False,
        options: bytes = b"",
        repeat: int = 1,
    ) -> tuple[str, bool, int, bytes]: ...
