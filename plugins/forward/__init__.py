# SPDX-License-Identifier: Apache-2.0
"""forward: asks other servers."""

from .handler import Forward

__all__ = ["Forward"]
