# SPDX-License-Identifier: Apache-2.0
"""pprof: profiles of the running server over HTTP."""

from .handler import Pprof

__all__ = ["Pprof"]
