# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled forward stage."""

from typing import Any

from fastdns._stage import CompiledStage
from fastdns._stats import Stats

EVENTS: tuple[str, ...]
RCODES: int

class StanzaConfig:
    """A stanza's configuration in C: what a stage's `owner` is."""

def stage(settings: dict[str, Any], stats: Stats) -> CompiledStage: ...
