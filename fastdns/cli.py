# SPDX-License-Identifier: Apache-2.0
"""The command line: CoreDNS's flags, read as Go reads them, then the supervisor; and the commands that are ours.

Strategy: a table of flags and Go's rules (one or two dashes, `-flag value` or `-flag=value`, a boolean takes a value
only behind `=`, the first word that is no flag ends them). Nothing heavy is imported before the flags are understood.
A first word out of `COMMANDS` is a command of ours, whose module reads the words behind it; CoreDNS takes no words, so
none of its command lines changes its meaning.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from .server.supervisor import Settings

USAGE_EXIT = 2


class Flag(NamedTuple):
    """One flag: the option it sets, whether it is boolean, the default that the usage shows, its sentence."""

    key: str
    boolean: bool
    shown: str
    help: str


FLAGS = {
    "conf": Flag("conf", False, "Corefile", "Corefile to load"),
    "control": Flag("control", False, "", "Path of the control socket"),
    "dns.port": Flag("port", False, "53", "Default port"),
    "p": Flag("port", False, "53", "Default port"),
    "pidfile": Flag("pidfile", False, "", "Path to write pid file"),
    "plugins": Flag("plugins", True, "", "List installed plugins"),
    "quiet": Flag("quiet", True, "", "Quiet mode (no initialization output)"),
    "version": Flag("version", True, "", "Show version"),
}
COMMANDS = {
    "adopt": "fastdns.adopt",
    "bench": "fastdns.bench.cli",
    "check": "fastdns.check.cli",
    "ctl": "fastdns.ctl",
    "explain": "fastdns.check.explain_cli",
    "top": "fastdns.top.cli",
    "tune": "fastdns.bench.tune_cli",
}
"""Words of ours, each with the module whose `main(words, out, err)` runs it and returns the exit status."""
UNSAID = ("adopt",)
"""Words that the usage does not show: no person says them."""
TRUE = ("1", "t", "T", "true", "TRUE", "True")
FALSE = ("0", "f", "F", "false", "FALSE", "False")


class Options:
    """What the command line asked for."""

    def __init__(self) -> None:
        self.conf = ""
        self.control = ""
        self.port = "53"
        self.pidfile = ""
        self.plugins = False
        self.quiet = False
        self.version = False
        self.rest: list[str] = []


class UsageError(Exception):
    """The message to print before the usage; an empty one for -h."""


def parse(arguments: Sequence[str]) -> Options:
    """Read the flags. Raises UsageError."""
    options = Options()
    words = list(arguments)
    while words:
        word = words[0]
        if len(word) < 2 or word[0] != "-":
            break
        words.pop(0)
        if word == "--":
            break
        name, equals, value = word[2 if word[1] == "-" else 1:].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}")
        flag = FLAGS.get(name)
        if flag is None:
            raise UsageError("" if name in ("h", "help") else f"flag provided but not defined: -{name}")
        if flag.boolean:
            setattr(options, flag.key, _boolean(name, value) if equals else True)
            continue
        if not equals:
            if not words:
                raise UsageError(f"flag needs an argument: -{name}")
            value = words.pop(0)
        setattr(options, flag.key, value)
    options.rest = words
    return options


def _boolean(name: str, value: str) -> bool:
    if value not in TRUE + FALSE:
        # Go quotes the value; the few characters that differ from JSON's quoting cannot matter to anybody.
        from .corefile.units import quote

        raise UsageError(f"invalid boolean value {quote(value)} for -{name}: parse error")
    return value in TRUE


def usage(program: str) -> str:
    """The text that Go's flag package would print, and our words."""
    lines = [f"Usage of {program}:"]
    for name, flag in sorted(FLAGS.items()):
        shown = f' (default "{flag.shown}")' if flag.shown else ""
        lines += [f"  -{name}" + ("" if flag.boolean else " string"), f"    \t{flag.help}{shown}"]
    words = ", ".join(word for word in sorted(COMMANDS) if word not in UNSAID)
    lines += [f"A first word without a dash runs a command: {words}; each has --help"]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str], out: TextIO | None = None, err: TextIO | None = None) -> int:
    """Run fastdns with the words behind the program's name; returns the exit status."""
    out, err = out or sys.stdout, err or sys.stderr
    if arguments and arguments[0] in COMMANDS:
        command = importlib.import_module(COMMANDS[arguments[0]])
        return int(command.main(arguments[1:], out, err))
    try:
        options = parse(arguments)
    except UsageError as error:
        message = str(error)
        err.write((message + "\n" if message else "") + usage(sys.argv[0]))
        return USAGE_EXIT if message else 0
    if options.rest:
        err.write(f"extra command line arguments: [{' '.join(options.rest)}]\n")
        return 1
    if options.version:
        from .server.banner import version_lines

        out.write("\n".join(version_lines()) + "\n")
        return 0
    if options.plugins:
        out.write(plugin_list())
        return 0
    return serve(options, err)


def plugin_list() -> str:
    """The names of the plugins, one a line, and an empty line."""
    from .registry import Known

    # CoreDNS prints its generic `on` last.
    names = sorted(Known(), key=lambda name: (name == "on", name))
    return "".join(f"{name}\n" for name in names) + "\n"


def serve(options: Options, err: TextIO) -> int:
    """Read the Corefile and run the supervisor until it is told to stop."""
    from .server import boot

    if boot.VARIABLE in os.environ:
        # An upgrade: the processes of the program before serve meanwhile.
        boot.gently(boot.SUPERVISOR)
    from .corefile.source import Source, read_source
    from .errors import FastdnsError
    from .server.supervisor import Supervisor
    from .server.upgrade import handed_over

    try:
        settings = settings_of(options)
        # After an upgrade the Corefile is read once the server is adopted: a failure must leave it serving.
        state = handed_over()
        source = read_source(options.conf, settings.port) if state is None else Source("", b"")
        return Supervisor(settings, source, state).run()
    except FastdnsError as error:
        err.write(f"{error}\n")
        return 1


def settings_of(options: Options) -> Settings:
    """The supervisor's settings. StartError."""
    from .server.supervisor import Settings

    return Settings(conf=options.conf, port=port_number(options.port), pidfile=options.pidfile, quiet=options.quiet,
                    control=options.control)


def port_number(text: str) -> int:
    """The default port of `dns://` keys. StartError in the words of the failing bind."""
    from .errors import StartError

    if not (text.isascii() and text.isdigit()):
        raise StartError(f"Listen: listen tcp: lookup tcp/{text}: unknown port")
    if int(text) > 65535:
        raise StartError(f"Listen: listen tcp: address {text}: invalid port")
    return int(text)


def entry() -> None:
    """The console script. Ends the process: output that is still buffered is written first."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        status = 0  # a reader who has seen enough and left (`| head`) is no failure
    sys.stderr.flush()
    os._exit(status)
