# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of log."""

from fastdns._stage import CompiledStage

CLASSES: dict[str, int]

def stage(
    rules: list[tuple[bytes, int, int, list[int]]], type_label: int = -1, class_label: int = -1
) -> CompiledStage: ...
