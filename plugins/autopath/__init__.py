# SPDX-License-Identifier: Apache-2.0
"""autopath: walks a client's search path in its place."""

from .handler import Autopath

__all__ = ["Autopath"]
