# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled Corefile."""

from typing import Any

from ._filter import Filter
from ._tsig import KeyTable

class Program:
    def __init__(self, listeners: int, blocks: int) -> None: ...
    def add_listener(
        self,
        server: str,
        port: int,
        wildcard: bool,
        any_class: bool,
        server_index: int,
        *,
        read: float = 0,
        idle: float = 0,
        write: float = 0,
        queries: int = 0,
    ) -> int: ...
    def add_block(
        self,
        block_id: int,
        zones: list[bytes],
        stages: list[Any],
        labels: list[str] | None = None,
        *,
        filter: Filter | None = None,
        python_filter: Any = None,
        signs: list[bytes] | None = None,
    ) -> int: ...
    def route(self, listener: int, zone: bytes, block: int) -> None: ...
    def verify(self, listener: int, keys: KeyTable) -> None: ...
    def finish(self) -> None: ...
    def python_stage(self, block: int, position: int) -> Any: ...
    def python_filter(self, block: int) -> Any: ...
    def candidates(self, listener: int, name: bytes, qtype: int = 1) -> list[tuple[int, int]]: ...
    def lookup(self, listener: int, name: bytes, qtype: int = 1) -> tuple[int, int] | None: ...
