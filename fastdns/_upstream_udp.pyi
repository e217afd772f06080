# SPDX-License-Identifier: Apache-2.0
"""UDP to upstreams: nothing that Python calls."""
