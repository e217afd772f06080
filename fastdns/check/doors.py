# SPDX-License-Identifier: Apache-2.0
"""The addresses of /metrics, /health, /ready and profiles, as far as their text says that none can be opened.

Strategy: the server finds out when it opens them, and a check opens nothing; what it says of a port that no host has
is known here already. Where the start logs and goes on without the address, it is a warning.
"""

from __future__ import annotations

from .. import chain
from ..corefile.addresses import listen_fault
from ..errors import ConfigError
from ..listeners import ESSENTIAL
from .findings import Findings

DIRECTIVES = {"metrics": "prometheus"}
"""The directive of a service whose name is another."""


def judge(served: chain.Generation, findings: Findings) -> None:
    """Says what cannot be opened, at the address as it is written."""
    for block in served.blocks:
        for facts in block.plan.asked("http"):
            service, address = facts["service"], facts["address"]
            port = address.rpartition(":")[2]
            fault = listen_fault(port, address if service == "health" else "")
            if not fault:
                continue
            tokens = block.source.tokens[DIRECTIVES.get(service, service)]
            token = next((token for token in tokens if token.text.endswith(f":{port}")), tokens[0])
            if service in ESSENTIAL:
                findings.refuse(ConfigError(fault), token)
            else:
                findings.warn(token, f"{fault}: the server starts without /{service}")

