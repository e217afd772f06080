# SPDX-License-Identifier: Apache-2.0
"""The grammar of prometheus."""

from fastdns.corefile.options import UNKNOWN_OPTION, Located
from fastdns.corefile.types import HostPort, Text
from fastdns.plugin import Arg, Directive, Option

ADDRESS = "localhost:9153"


PROMETHEUS = Directive(
    "prometheus",
    args=(Arg("address", HostPort(), default=ADDRESS, optional=True),),
    options=(
        Option("runtime_metrics", help="Also exports what the interpreter's garbage collector did."),
        Option(
            "tls",
            Text(),
            repeat="once",
            once_text=Located("tls block already specified"),
            show="WEBCONFIG",
            help="Serves by the web configuration in that file: TLS, passwords, a rate, headers.",
        ),
    ),
    once=True,
    unknown=UNKNOWN_OPTION,
    help="Counts queries and serves all metrics at ADDRESS, path /metrics.",
)
