# SPDX-License-Identifier: Apache-2.0
"""The grammar of prometheus."""

from collections.abc import Mapping
from typing import Any

from fastdns.corefile.options import UNKNOWN_OPTION
from fastdns.corefile.types import HostPort
from fastdns.plugin import Arg, Directive, Dispenser, Option

ADDRESS = "localhost:9153"


def refuse_tls(d: Dispenser) -> Mapping[str, Any]:
    """A server that spoke plain HTTP where TLS was asked for would be worse than one that does not start."""
    if len(d.remaining_args()) != 1:
        raise d.arg_err()
    raise d.err("property 'tls' is not built yet")


PROMETHEUS = Directive(
    "prometheus",
    args=(Arg("address", HostPort(), default=ADDRESS, optional=True),),
    options=(
        Option("runtime_metrics", help="Also exports what the interpreter's garbage collector did."),
        Option("tls", parse=refuse_tls, usage="tls WEBCONFIG", help="Not built yet: refused at the start."),
    ),
    once=True,
    unknown=UNKNOWN_OPTION,
    help="Counts queries and serves all metrics at ADDRESS, path /metrics.",
)
