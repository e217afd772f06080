# SPDX-License-Identifier: Apache-2.0
"""The attempts of a question: nothing that Python calls."""
