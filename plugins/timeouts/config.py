# SPDX-License-Identifier: Apache-2.0
"""The grammar of timeouts.

Strategy: the value of a line is read before its name is looked at, and a whole occurrence that is wrong names the
plugin twice: so CoreDNS's errors come in its order and words.
"""

from fastdns.corefile import units
from fastdns.corefile.options import Located
from fastdns.corefile.types import Duration, Int
from fastdns.plugin import ConfigError, Directive, Dispenser, Option, Settings, SetupError

LEAST, MOST = 1.0, 86400.0  # seconds

COUNT = Int(
    -1,
    below=Located("maxtcpqueries provided '{value}' needs to be -1 (unlimited) or a positive integer"),
    bad=Located("invalid value for maxtcpqueries '{text}': {error}"),
)


class Seconds(Duration):
    """A duration; a bare number is seconds."""

    def read(self, text: str, d: Dispenser) -> float:
        try:
            units.atoi(text)
        except ValueError:
            return super().read(text, d)
        return super().read(f"{text}s", d)


TIME = Seconds(
    LEAST,
    MOST,
    below=Located("timeout provided '{duration}' needs to be between 1 second and 24 hours"),
    bad=Located("failed to parse duration '{text}'"),
)
OPTIONS = (
    Option("read", TIME, default=3.0, show="DURATION", help="How long a new connection may take to its first query."),
    Option("write", TIME, default=5.0, show="DURATION", help="How long a client may leave its answers unread."),
    Option("idle", TIME, default=10.0, show="DURATION", help="How long a connection may be silent after a query."),
    Option("maxtcpqueries", COUNT, default=-1, show="N", help="Queries of a connection, then it closes; -1: no bound."),
)
TIMES = tuple(option.name for option in OPTIONS if option.type is TIME)


def twice(cause: ConfigError) -> SetupError:
    """An error that names the plugin twice."""
    return SetupError("timeouts", SetupError("timeouts", cause))


def occurrence(d: Dispenser) -> Settings:
    """One block of timeouts: what is written, and no more."""
    file, line = d.file, d.line
    found: dict[str, float] = {}
    if d.remaining_args():
        raise twice(d.arg_err())
    while d.next_block():
        name = d.val
        words = d.remaining_args()
        if len(words) != 1:
            raise d.arg_err()
        if name == "maxtcpqueries":
            found[name] = COUNT.read(words[0], d)
            if found[name] == 0:
                raise d.err("maxtcpqueries provided '0' needs to be -1 (unlimited) or a positive integer")
            continue
        found_time = TIME.read(words[0], d)
        if name not in TIMES:
            raise d.err(f"unknown option: '{name}'")
        found[name] = found_time
    if not found:
        raise twice(d.err("timeouts block with no timeouts specified"))
    return Settings(found, tuple(found), file, line)


TIMEOUTS = Directive(
    "timeouts", options=OPTIONS, parse_one=occurrence, help="Changes how long the server waits for its TCP clients."
)
