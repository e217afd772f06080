# SPDX-License-Identifier: Apache-2.0
"""metadata: keeps labels of each query, for whoever reads them."""

from .handler import Metadata

__all__ = ["Metadata"]
