# SPDX-License-Identifier: Apache-2.0
"""From the words of `fastdns bench` to the questions of a run.

Strategy: three ways: a file, one name after the other, or a mix drawn by shares; `questions.py` makes each of them.
"""

from __future__ import annotations

from .arguments import Options
from .errors import UsageError
from .questions import Edns, Questions, mix, read, synthetic


def questions(options: Options) -> Questions:
    """What is to be asked. Raises QuestionsError for a file, UsageError for a zone that is no name."""
    edns = Edns(options.edns, options.do) if options.edns else None
    if options.data:
        return read(options.data, edns)
    try:
        if options.mix:
            return mix(
                options.mix, hit_ratio=1 - options.miss, hot=options.names, first=options.first,
                nxdomain=options.nxdomain, types=options.types, edns=1.0 if edns else 0.0, edns_size=options.edns,
                do=1.0 if options.do else 0.0, zone=options.zone, missing_zone=f"missing.{options.zone}",
            )
        each = [
            synthetic(options.names, first=options.first, qtype=qtype, zone=options.zone, edns=edns)
            for qtype in options.types
        ]
    except ValueError as error:
        raise UsageError(f"--zone {options.zone}: {error}") from None
    if len(each) == 1:
        return each[0]
    return Questions([one.wire(index) for index in range(options.names) for one in each])
