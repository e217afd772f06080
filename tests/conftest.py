# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole suite: a test asserts nothing about time, so examples of hypothesis have no deadline."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
