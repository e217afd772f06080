# SPDX-License-Identifier: Apache-2.0
"""What rules do to a reply: one small object for each kind."""

from __future__ import annotations

from typing import NamedTuple

from .names import Change, Mapper


class Owners(NamedTuple):
    """Changes the names that records belong to."""

    change: Change


class Values(NamedTuple):
    """Changes the names in the data of records."""

    change: Change


class Ttl(NamedTuple):
    """Brings TTLs within bounds."""

    low: int
    high: int


class Code(NamedTuple):
    """Changes one response code into another."""

    old: int
    new: int


class Target(NamedTuple):
    """Changes a CNAME's target; what follows it is looked up anew."""

    rename: Mapper


class Remove(NamedTuple):
    """Takes the option out of the reply that the query was given."""

    code: int


class Restore(NamedTuple):
    """Puts the client's own option back."""

    code: int
    data: bytes


Undo = Owners | Values | Ttl | Code | Target | Remove | Restore
