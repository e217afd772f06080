# SPDX-License-Identifier: Apache-2.0
"""dnstap: tells collectors of the messages that pass."""

from .handler import Dnstap

__all__ = ["Dnstap"]
