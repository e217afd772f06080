# SPDX-License-Identifier: Apache-2.0
"""The copy of a Corefile's listener that the tuner measures: on a loopback port, with any number of sockets.

Strategy: the parsed blocks are written out again (imports and variables are resolved by then), with what would disturb
the machine or the outside world left out: other listeners, fixed ports of health and metrics, the probe of `loop`,
commands, transfers. Questions to an upstream go to a stand-in on loopback. The copy is parsed again and compared, so a
word that cannot be written down is an error and not another configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..corefile.lexer import SPACE, Token
from ..corefile.parser import RawBlock, parse
from ..corefile.source import Corefile
from ..errors import ConfigError
from .errors import BenchError

LEFT_OUT = ("health", "ready", "reload", "loop", "on", "startup", "shutdown", "transfer", "dnstap", "trace", "pprof")
QUIET = ("health", "ready", "reload")
"""Left out without a word: they cost no query anything."""
OWN = ("bind", "multisocket")
OF_UPSTREAMS = ("tls", "tls_servername", "health_check", "force_tcp")
"""Options of `forward` that only a real upstream can serve."""
METRICS_PORT, UPSTREAM_PORT, SOCKETS, STEER = "{metrics}", "{upstream}", "{sockets}", "{steer}"

Words = list[str]


@dataclass(frozen=True)
class Subject:
    """The listener that is tuned. `blocks`: indices of the server blocks that are reached by it; `sockets` as the
    Corefile says (0 unsaid, -1 as many as usable CPUs); `zones` in the order of the Corefile."""

    label: str
    scheme: str
    address: str
    port: int
    sockets: int
    steer: str
    blocks: tuple[int, ...]
    zones: tuple[str, ...]


@dataclass
class Copy:
    """`text` is the copy, with places for ports, sockets and steering; `notes` say how it differs from the original."""

    text: str
    zone: str
    forwards: bool
    caches: bool
    notes: list[str] = field(default_factory=list)

    def fill(self, port: int, metrics: int, upstream: int, sockets: int, steer: str) -> str:
        """A Corefile."""
        values = {"{port}": port, METRICS_PORT: metrics, UPSTREAM_PORT: upstream, SOCKETS: sockets, STEER: steer}
        text = self.text
        for place, value in values.items():
            text = text.replace(place, str(value))
        return text


def lines(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """A directive's tokens by lines, told apart as the parser does."""
    line: list[Token] = []
    for token in tokens:
        if line:
            last = line[-1]
            if last.file != token.file or last.line + last.text.count("\n") < token.line:
                yield line
                line = []
        line.append(token)
    if line:
        yield line


def quote(text: str) -> str:
    """The word as a Corefile writes it."""
    if text and not text.startswith('"') and not any(ch in SPACE or ch == "#" for ch in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def copy(corefile: Corefile, subject: Subject, keep_upstreams: bool = False) -> Copy:
    """The copy of the blocks of a listener. Raises BenchError."""
    made = Copy("", subject.zones[0], False, False)
    text: list[str] = []
    expected: list[RawBlock] = []
    for block, raw in zip(corefile.blocks, corefile.raw or _builtin(corefile), strict=True):
        if block.index not in subject.blocks:
            continue
        keys = [f"dns://{key.zone}:{{port}}" for key in block.zones
                if (key.scheme, key.port) == (subject.scheme, subject.port)]
        body = _body(raw, made, keep_upstreams)
        head = [["bind", "127.0.0.1"], ["multisocket", SOCKETS, "{"], ["steer", STEER], ["}"]]
        text += [" ".join(map(quote, keys)) + " {", *("    " + " ".join(map(quote, line)) for line in head + body), "}"]
        expected.append(RawBlock(keys, {"": [Token(word) for line in head + body for word in line]}))
    made.text = "\n".join(text) + "\n"
    _check(made, expected)
    return made


def _builtin(corefile: Corefile) -> list[RawBlock]:
    """The blocks of the Corefile of a server that was given none."""
    return [RawBlock(list(block.keys), {name: list(tokens) for name, tokens in block.tokens.items()})
            for block in corefile.blocks]


def _body(raw: RawBlock, made: Copy, keep_upstreams: bool) -> list[Words]:
    body: list[Words] = []
    for name, tokens in raw.tokens.items():
        if name in OWN:
            continue
        if name in LEFT_OUT:
            if name not in QUIET:
                _note(made, f"{name} is left out")
            continue
        written = [[token.text for token in line] for line in lines(tokens)]
        made.caches |= name == "cache"
        if name == "prometheus":
            written = [["prometheus", f"127.0.0.1:{METRICS_PORT}"]]
        elif name == "forward":
            made.forwards = True
            if not keep_upstreams:
                written = _forward(written)
                _note(made, "forward asks a stand-in on loopback (--upstreams: the real ones)")
        body += written
    return body


def _note(made: Copy, note: str) -> None:
    if note not in made.notes:
        made.notes.append(note)


def _forward(written: list[Words]) -> list[Words]:
    """Each `forward FROM TO...` to the stand-in; options that need the real upstream go."""
    kept: list[Words] = []
    for line in written:
        if line[0] == "forward" and len(line) > 2:
            kept.append([*line[:2], f"127.0.0.1:{UPSTREAM_PORT}", *(["{"] if line[-1] == "{" else [])])
        elif line[0] not in OF_UPSTREAMS:
            kept.append(line)
    return kept


def _check(made: Copy, expected: Sequence[RawBlock]) -> None:
    try:
        found = parse("copy", made.text.encode("utf-8", "surrogateescape"), environ={}).blocks
    except ConfigError:
        found = []
    shown = [(block.keys, [token.text for tokens in block.tokens.values() for token in tokens]) for block in found]
    wanted = [(block.keys, [token.text for token in block.tokens[""]]) for block in expected]
    # The parser brings all occurrences of a directive together: compare what there is, not the order.
    if [(keys, sorted(words)) for keys, words in shown] != [(keys, sorted(words)) for keys, words in wanted]:
        raise BenchError("this Corefile holds a word that cannot be written down again; no copy of it can be measured")
