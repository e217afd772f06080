# SPDX-License-Identifier: Apache-2.0
"""Types of the hashes of TSIG. `kind` is an index of NAMES."""

NAMES: tuple[str, ...]

def digest(kind: int, data: bytes, cuts: list[int] | None = None) -> bytes: ...
def hmac(kind: int, secret: bytes, data: bytes) -> bytes: ...
