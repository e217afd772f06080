# SPDX-License-Identifier: Apache-2.0
"""Measuring DNS servers: load, what it cost, and how two servers compare.

Strategy: a leaf of the tree. Nothing of the server imports it; `fastdns bench` and `fastdns tune` do, when they are
asked for. Load is made in compiled code (`_load`), the floor is compiled too (`_floor`); everything else is Python
that runs before or after a measurement. Libraries for pictures and colours are imported only where such output is
asked for.
"""
