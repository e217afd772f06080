# SPDX-License-Identifier: Apache-2.0
"""A directive read out of a Corefile, and CoreDNS's error texts in short."""

import re

from fastdns.corefile import Source, load_source
from fastdns.corefile.options import Directive


def parse_block(directive: Directive, text: str) -> list:
    """Settings of a directive within a Corefile, where it begins on line 2."""
    corefile = load_source(Source("Corefile", f".:53 {{\n{text}\n}}\n".encode()))
    return directive.parse(corefile.blocks[0].dispenser(directive.name))


def in_full(error: str) -> str:
    """`@LINE` and ARGERR stand for the texts that CoreDNS prints."""
    error = error.replace("ARGERR ", "Wrong argument count or unexpected line ending after ")
    return re.sub(r"@(\d+) ", r"Corefile:\1 - Error during parsing: ", error)
