# SPDX-License-Identifier: Apache-2.0
"""Types of the compiled half of metadata."""

from collections.abc import Sequence

from fastdns._stage import CompiledStage

def stage(zones: Sequence[bytes] = (), labels: Sequence[tuple[int, bytes]] = ()) -> CompiledStage: ...
