# SPDX-License-Identifier: Apache-2.0
"""`fastdns adopt STATE CHANNEL FLAGS…`: what the running server starts to see whether this program can take over.

Strategy: nothing for people. Two descriptors by number, then the server's own flags, read as the server will read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from . import cli


def main(words: Sequence[str], out: TextIO, err: TextIO) -> int:
    """Run the trial; returns only where it is not started by a server."""
    if len(words) < 2 or not all(word.isascii() and word.isdigit() for word in words[:2]):
        err.write("adopt is for a running server that was told to upgrade by SIGUSR2\n")
        return cli.USAGE_EXIT
    from .corefile.source import read_source
    from .errors import FastdnsError
    from .server import trial

    try:
        options = cli.parse(words[2:])
        settings = cli.settings_of(options)
        source = None if options.conf == "stdin" else read_source(options.conf, settings.port, again=True)
    except (FastdnsError, cli.UsageError) as error:
        err.write(f"{error}\n")
        return 1
    trial.run(settings, source, int(words[0]), int(words[1]))
