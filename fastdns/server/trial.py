# SPDX-License-Identifier: Apache-2.0
"""The trial of an upgrade: the installed program shows, beside the running server, that it can take over.

Strategy: it goes every step that the new supervisor will go, with copies of the same descriptors, and stops before the
first one that others would see.
"""

from __future__ import annotations

import os
import traceback
from typing import Any, NoReturn

import fastdns

from .. import chain
from ..corefile.source import Source, load_source
from ..errors import FastdnsError
from . import children, control, handover
from .supervisor import Settings, Supervisor


def run(settings: Settings, source: Source | None, state_fd: int, channel_fd: int) -> NoReturn:
    """The trial's life: adopt without a trace, plan the Corefile (None: the one that runs), report, end."""
    channel = children.adopt(channel_fd)
    answer: dict[str, Any]
    try:
        state = handover.read(state_fd)
        host = Supervisor(settings, source or Source("", b""))
        handover.restore(host, state)
        corefile = load_source(source or host.source, chain.known(), chain.not_built(), settings.port)
        chain.load(corefile).plan()
        answer = {"adopts": fastdns.__version__}
    except FastdnsError as error:
        answer = {"error": str(error)}
    except Exception:
        answer = {"error": "unexpected error in the trial:\n" + traceback.format_exc().rstrip()}
    try:
        channel.send(answer)
    except control.Closed:
        os._exit(1)
    os._exit(1 if "error" in answer else 0)
