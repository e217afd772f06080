# SPDX-License-Identifier: Apache-2.0
"""acl: who may ask what, by the client's address and the type of the question."""

from .handler import Acl

__all__ = ["Acl"]
