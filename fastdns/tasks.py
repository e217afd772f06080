# SPDX-License-Identifier: Apache-2.0
"""Ends the tasks that a plugin's hooks begin."""

from __future__ import annotations

import asyncio
import contextlib


async def end_task(task: asyncio.Task[None] | None) -> None:
    """Cancels a task, if there is one, and waits for its end. What it raises itself is raised here."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
