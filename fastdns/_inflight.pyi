# SPDX-License-Identifier: Apache-2.0
"""the tables of forwarding: nothing that Python calls."""
