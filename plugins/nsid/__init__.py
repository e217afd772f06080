# SPDX-License-Identifier: Apache-2.0
"""nsid: says which server answers, to whoever asks for it (RFC 5001)."""

from .handler import Nsid

__all__ = ["Nsid"]
