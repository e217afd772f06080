# SPDX-License-Identifier: Apache-2.0
"""Tests of the load generator and of the commands built on it."""
