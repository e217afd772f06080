# SPDX-License-Identifier: Apache-2.0
"""The grammar of pprof."""

from collections.abc import Mapping
from typing import Any

from fastdns.corefile.types import HostPort, Located
from fastdns.corefile.units import atoi
from fastdns.plugin import Arg, Directive, Dispenser, Option

ADDRESS = "localhost:6053"


def block(d: Dispenser) -> Mapping[str, Any]:
    """`block [RATE]`: 1 where no rate is written."""
    words = d.remaining_args()
    if len(words) > 1:
        raise d.arg_err()
    try:
        return {"block": atoi(words[0]) if words else 1}
    except ValueError:
        raise d.err(f"property 'block' invalid integer value '{words[0]}'") from None


PPROF = Directive(
    "pprof",
    args=(Arg("address", HostPort(bad=Located("{error}")), default=ADDRESS, optional=True),),
    options=(
        Option(
            "block",
            parse=block,
            defaults={"block": 0},
            usage="block [RATE]",
            help="Turns the profile `block` on: a look at what waits every RATE nanoseconds, at most 100 a second. "
            "RATE is 1 where it is left out; 0 and less: off.",
        ),
    ),
    once=True,
    help="Serves profiles of the server at ADDRESS, path /debug/pprof/.",
)
