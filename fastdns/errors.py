# SPDX-License-Identifier: Apache-2.0
"""Every exception that fastdns raises on purpose.

    FastdnsError
    ├── ConfigError          the configuration is wrong: file, line and column say where
    │   ├── CorefileError    text opens with FILE:LINE (lexer, parser, dispenser)
    │   ├── OptionError      a value is wrong; the text is the bare cause
    │   ├── KeysError        a server block's keys are wrong, or two blocks claim the same
    │   └── SetupError       any of these, said by a plugin: "plugin/NAME: CAUSE"
    ├── StartError           the configuration is right but the server cannot start (sockets, memory)
    └── PluginError          a plugin failed on one query: rcode and text

Strategy: `str()` of a ConfigError is CoreDNS's text to the letter, because people search for it; where the
mistake stands is kept beside the text in attributes, so a tool can show all of them. Instances pickle,
because they cross from the process that reads a configuration to the one that reports it.
"""

from __future__ import annotations

PARSING = "Error during parsing"
SYNTAX = "Syntax error"


class FastdnsError(Exception):
    """Base of every error that fastdns raises on purpose."""


class ConfigError(FastdnsError):
    """A mistake in the configuration.

    `file` is the name as shown to the user, `line` and `column` count from 1 and are 0 where unknown,
    `message` is the cause without any prefix.
    """

    def __init__(self, message: str, file: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__(message, file, line, column)
        self.message = message
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return self.message


class CorefileError(ConfigError):
    """A mistake whose text opens with its place: `FILE:LINE - KIND: MESSAGE`."""

    def __init__(self, file: str, line: int, message: str, column: int = 0, kind: str = PARSING) -> None:
        super().__init__(message, file, line, column)
        self.kind = kind
        self.args = (file, line, message, column, kind)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} - {self.kind}: {self.message}"


class OptionError(ConfigError):
    """A value that an option refuses; CoreDNS prints such a cause without file and line."""


class KeysError(ConfigError):
    """Server block keys that cannot be served (malformed, or claimed twice)."""


class SetupError(ConfigError):
    """A plugin refuses its configuration: `plugin/NAME: CAUSE`, with the place of the cause."""

    def __init__(self, plugin: str, cause: ConfigError | str) -> None:
        place = (cause.file, cause.line, cause.column) if isinstance(cause, ConfigError) else ("", 0, 0)
        super().__init__(str(cause), *place)
        self.plugin = plugin
        self.cause = cause
        self.args = (plugin, cause)

    def __str__(self) -> str:
        return f"plugin/{self.plugin}: {self.message}"


class StartError(FastdnsError):
    """The configuration is valid but the server cannot start with it."""


class PluginError(FastdnsError):
    """A plugin failed on one query: the server answers with `rcode`, `errors` logs `text`."""

    def __init__(self, rcode: int, text: str = "") -> None:
        super().__init__(rcode, text)
        self.rcode = rcode
        self.text = text

    def __str__(self) -> str:
        return self.text
