# SPDX-License-Identifier: Apache-2.0
"""The grammar of loadbalance.

CoreDNS's `weighted` policy and its `prefer` option are refused by name until they are built: a server that
silently answered in another order than the Corefile asks for would be worse than one that does not start.
"""

from collections.abc import Mapping
from typing import Any

from fastdns.corefile.types import Type
from fastdns.plugin import Arg, Directive, Dispenser, Option


class Policy(Type):
    """The name of a policy, with CoreDNS's errors for what may not stand there."""

    def read(self, text: str, d: Dispenser) -> str:
        if text == "weighted":
            raise d.err("policy 'weighted' is not built yet")
        if text != "round_robin":
            raise d.fail(f"unknown policy: {text}")
        if d.peek_args():
            raise d.err(f"unknown property for {text}")
        return text

    def bounds(self) -> str:
        return "`round_robin`"


def refuse_prefer(d: Dispenser) -> Mapping[str, Any]:
    raise d.err("property 'prefer' is not built yet")


LOADBALANCE = Directive(
    "loadbalance",
    args=(Arg("policy", Policy(), default="round_robin", optional=True, show="POLICY"),),
    options=(
        Option(
            "prefer",
            parse=refuse_prefer,
            usage="prefer CIDR...",
            help="Not built yet: refused at the start.",
        ),
    ),
    surplus="leave",
    help="Shuffles the address and MX records of each reply.",
)
