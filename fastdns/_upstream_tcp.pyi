# SPDX-License-Identifier: Apache-2.0
"""TCP to upstreams: nothing that Python calls."""
