# SPDX-License-Identifier: Apache-2.0
"""The plugin class of bufsize: one number for the compiled half."""

from typing import TYPE_CHECKING

from fastdns.corefile.units import atoi
from fastdns.plugin import Directive, Dispenser, Plugin, SetupError

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

DEFAULT = 1232  # octets: what the DNS flag day of 2020 recommends
LEAST, MOST = 512, 4096


def occurrence(d: Dispenser) -> int:
    """SIZE. The first line counts, and what stands behind it is not looked at, as in CoreDNS; its errors name the
    plugin twice."""
    words = d.remaining_args()
    size = DEFAULT
    try:
        if len(words) > 1:
            raise ValueError
        if words:
            size = atoi(words[0])
        if not LEAST <= size <= MOST:
            raise ValueError
    except ValueError:
        raise SetupError("bufsize", SetupError("bufsize", d.arg_err())) from None
    while d.next():
        continue
    return size


class Bufsize(Plugin):
    """Lowers the buffer size of queries."""

    name = "bufsize"
    directive = Directive(
        "bufsize", parse_one=occurrence, usage="bufsize [SIZE]",
        help="Lowers the buffer size that clients offer to SIZE octets.",
    )

    def compiled(self) -> "CompiledStage":
        from ._bufsize import stage

        return stage(self.config)
