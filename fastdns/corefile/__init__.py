# SPDX-License-Identifier: Apache-2.0
"""Corefile: from text to server blocks, and from a directive's tokens to typed settings.

Strategy: four steps, each usable alone: `lexer` (text → tokens), `parser` (tokens → server blocks with snippets,
imports and environment resolved), `blocks` (keys → schemes, zones, ports), `options` (tokens of a directive →
settings). It knows no socket and no plugin by name: the names of the directives come in as an argument.
"""

from .blocks import Claims, ListenKey, ServerBlock, ZoneKey, check_listeners, inspect
from .dispenser import Dispenser
from .lexer import Token, tokenize
from .parser import parse
from .source import Corefile, Source, builtin, load, load_source, read_source

__all__ = [
    "Claims",
    "Corefile",
    "Dispenser",
    "ListenKey",
    "ServerBlock",
    "Source",
    "Token",
    "ZoneKey",
    "builtin",
    "check_listeners",
    "inspect",
    "load",
    "load_source",
    "parse",
    "read_source",
    "tokenize",
]
