# SPDX-License-Identifier: Apache-2.0
"""Signed queries on their way in and out: nothing that Python could call."""
