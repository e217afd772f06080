# SPDX-License-Identifier: Apache-2.0
"""The grammar of ready."""

from fastdns.corefile.types import Choice, HostPort, Located
from fastdns.plugin import Arg, Directive, Option

ADDRESS = ":8181"
UNTIL_READY, CONTINUOUSLY = "until-ready", "continuously"


READY = Directive(
    "ready",
    args=(Arg("address", HostPort(), default=ADDRESS, optional=True),),
    options=(
        Option(
            "monitor",
            Choice((UNTIL_READY, CONTINUOUSLY), bad=Located("monitor type '{text}' not supported")),
            default=UNTIL_READY,
            show="MODE",
            help="Whether a plugin that was ready once is asked again.",
        ),
    ),
    once=True,
    help="Says at ADDRESS, path /ready, whether all plugins are ready.",
)
