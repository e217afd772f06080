# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of cookie."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

RESULTS: tuple[str, ...]

def stage(secrets: Sequence[bytes], require: bool, slots: Sequence[Sequence[int]]) -> CompiledStage: ...
def judged(cookie: bytes, client: bytes, secrets: Sequence[bytes], now: int) -> tuple[str, bytes]: ...
