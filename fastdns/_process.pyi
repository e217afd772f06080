# SPDX-License-Identifier: Apache-2.0
"""Types of the process calls (see _process.pyx)."""

def set_child_subreaper() -> None: ...
