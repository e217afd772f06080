# SPDX-License-Identifier: Apache-2.0
"""hosts: answers from a file of addresses and names."""

from .handler import Hosts

__all__ = ["Hosts"]
