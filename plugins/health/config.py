# SPDX-License-Identifier: Apache-2.0
"""The grammar of health."""

from typing import Any

from fastdns.corefile.types import Duration, HostPort
from fastdns.plugin import Arg, Directive, Option, Settings

ADDRESS = ":8080"


HEALTH = Directive(
    "health",
    args=(Arg("address", HostPort(), default=ADDRESS, optional=True),),
    options=(
        Option(
            "lameduck",
            Duration(bad="unable to parse lameduck duration value: '{text}' : {error}"),
            default=0.0,
            show="DURATION",
            help="At SIGTERM goes on answering queries, and /health, for that long.",
        ),
    ),
    help="Says at ADDRESS, path /health, whether the server answers queries.",
)


def merged(lines: list[Any]) -> Settings:
    """The lines of a block as one: of each value the last that was written."""
    address, lameduck = ADDRESS, 0.0
    for line in lines:
        if line["address"] != ADDRESS:
            address = line["address"]
        if "lameduck" in line.given:
            lameduck = line["lameduck"]
    return Settings({"address": address, "lameduck": lameduck})
