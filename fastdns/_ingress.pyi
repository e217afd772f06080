# SPDX-License-Identifier: Apache-2.0
"""Types of the ingress: the names of its counters, in their order."""

NAMES: tuple[str, ...]
