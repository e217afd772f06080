# SPDX-License-Identifier: Apache-2.0
"""Faults injected into a running server, and what clients notice of them."""
