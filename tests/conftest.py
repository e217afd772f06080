# SPDX-License-Identifier: Apache-2.0
"""Settings of the whole suite: a test asserts nothing about time, so examples of hypothesis have no deadline; and one
process that runs thousands of tests holds more descriptors than the usual soft limit."""

import resource

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))
