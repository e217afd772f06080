# SPDX-License-Identifier: Apache-2.0
"""Plain TCP has no Python face: the loop starts and drains it."""
