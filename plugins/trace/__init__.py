# SPDX-License-Identifier: Apache-2.0
"""trace: sends the way of queries through the plugins to Zipkin or Datadog."""

from .handler import Trace

__all__ = ["Trace"]
