# SPDX-License-Identifier: Apache-2.0
"""The types of option arguments: one small object reads one word and knows its bounds.

Strategy: a type is a frozen dataclass with `read(text, d)`: it returns a plain picklable value or raises the
error that CoreDNS prints. Wording differs from plugin to plugin, so each bound takes its own `Wording`: a
plain text, or `Located(text)` for one that opens with FILE:LINE. Fields in braces are filled in: `{value}` the
number, `{text}` the word as written, `{duration}` in Go's form, `{quoted}` the word in Go's %q.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from . import addresses, names, units
from .dispenser import Dispenser
from .units import format_duration


@dataclass(frozen=True)
class Located:
    """A wording that is printed with file and line."""

    text: str


@dataclass(frozen=True)
class Expecting:
    """The wording "Syntax error: Unexpected token 'TOKEN', expecting 'TEXT'", with file and line."""

    text: str


class _ArgErr:
    """The wording "Wrong argument count or unexpected line ending after 'TOKEN'"."""

    def __repr__(self) -> str:
        return "ARGERR"


ARGERR = _ArgErr()
Wording = str | Located | Expecting | _ArgErr


def complain(d: Dispenser, wording: Wording, **fields: object) -> ConfigError:
    """The exception for `wording` at the current token of `d`."""
    if isinstance(wording, _ArgErr):
        return d.arg_err()
    if isinstance(wording, Expecting):
        return d.syntax_err(wording.text.format(**fields))
    if isinstance(wording, Located):
        return d.err(wording.text.format(**fields))
    return d.fail(wording.format(**fields))


class Type:
    """Base of the types. `bounds()` is the text of the README's column."""

    def read(self, text: str, d: Dispenser) -> Any:
        """The value of `text`; raises ConfigError with the place from `d`."""
        raise NotImplementedError

    def bounds(self) -> str:
        """What values are allowed, in a few words; "" where any word is."""
        return ""

    def fits(self, text: str) -> bool:
        """True if `text` has the form of this type, whatever its bounds; asked where a word may be left out."""
        return True


def _reads(function: Callable[[str], Any], text: str) -> bool:
    try:
        function(text)
    except ValueError:
        return False
    return True


def _call(function: Callable[[str], Any], text: str, d: Dispenser, wording: Wording | None) -> Any:
    try:
        return function(text)
    except ValueError as error:
        if wording is None:
            raise d.fail(str(error)) from None
        raise complain(d, wording, text=text, quoted=units.quote(text), error=error) from None


def _span(low: object, high: object) -> str:
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low}"
    return f"at most {high}" if low is None else f"{low} to {high}"


@dataclass(frozen=True)
class Text(Type):
    """Any word."""

    def read(self, text: str, d: Dispenser) -> str:
        return text


@dataclass(frozen=True)
class HostPort(Type):
    """HOST:PORT to listen on; the host may be left out. The value is the word itself."""

    bad: Wording | None = None

    def read(self, text: str, d: Dispenser) -> str:
        _call(addresses.split_host_port, text, d, self.bad)
        return text

    def bounds(self) -> str:
        return "HOST:PORT"


@dataclass(frozen=True)
class Int(Type):
    """A whole number, as Go's Atoi (or ParseUint of `unsigned` bits) reads it.

    `bad` replaces the text for a word that is no number, `below` and `above` those for a value out of bounds;
    `above` falls back to `below`.
    """

    low: int | None = None
    high: int | None = None
    below: Wording = "value out of range: {value}"
    above: Wording | None = None
    bad: Wording | None = None
    unsigned: int = 0

    def read(self, text: str, d: Dispenser) -> int:
        value: int = _call(self._number, text, d, self.bad)
        if self.low is not None and value < self.low:
            raise complain(d, self.below, value=value, text=text)
        if self.high is not None and value > self.high:
            raise complain(d, self.above or self.below, value=value, text=text)
        return value

    def _number(self, text: str) -> int:
        return units.parse_uint(text, self.unsigned) if self.unsigned else units.atoi(text)

    def fits(self, text: str) -> bool:
        return _reads(self._number, text)

    def bounds(self) -> str:
        return _span(self.low if self.low is not None or not self.unsigned else 0, self.high)


@dataclass(frozen=True)
class Duration(Type):
    """A Go duration; the value is float seconds. `low` and `high` are seconds; `positive` refuses 0 as well."""

    low: float | None = None
    high: float | None = None
    below: Wording = "duration out of range: {duration}"
    above: Wording | None = None
    bad: Wording | None = None
    positive: bool = False

    def read(self, text: str, d: Dispenser) -> float:
        value: float = _call(units.parse_duration, text, d, self.bad)
        fields = {"value": round(value * 1e9), "text": text, "duration": format_duration(value)}
        if (self.low is not None and value < self.low) or (self.positive and value <= 0):
            raise complain(d, self.below, **fields)
        if self.high is not None and value > self.high:
            raise complain(d, self.above or self.below, **fields)
        return value

    def fits(self, text: str) -> bool:
        return _reads(units.parse_duration, text)

    def bounds(self) -> str:
        if self.positive and self.low is None:
            return "more than 0s" + (f", at most {format_duration(self.high)}" if self.high is not None else "")
        low = None if self.low is None else format_duration(self.low)
        return _span(low, None if self.high is None else format_duration(self.high))


@dataclass(frozen=True)
class Percent(Type):
    """`NN%`; the value is the number."""

    low: int = 0
    high: int = 100

    def read(self, text: str, d: Dispenser) -> int:
        value: int = _call(lambda word: units.parse_percent(word, self.low, self.high), text, d, None)
        return value

    def bounds(self) -> str:
        return f"{self.low}% to {self.high}%"


@dataclass(frozen=True)
class Choice(Type):
    """One of some words. `fold` accepts any letter case; the value is the word as listed."""

    words: tuple[str, ...]
    bad: Wording = "invalid value: {text}"
    fold: bool = False

    def read(self, text: str, d: Dispenser) -> str:
        word = text.lower() if self.fold else text
        for known in self.words:
            if word == (known.lower() if self.fold else known):
                return known
        raise complain(d, self.bad, text=text, folded=word, quoted=units.quote(text))

    def bounds(self) -> str:
        return " or ".join(f"`{word}`" for word in self.words)


@dataclass(frozen=True)
class Zone(Type):
    """A zone or CIDR network; the value is a list of normalised zones, empty where the word is none
    (CoreDNS skips these) unless `bad` is set. Use it in a `rest` argument: the lists are joined."""

    bad: Wording | None = None

    def read(self, text: str, d: Dispenser) -> list[str]:
        zones = names.zones_of(text)
        if not zones and self.bad is not None:
            raise complain(d, self.bad, text=text, quoted=units.quote(text))
        return zones


@dataclass(frozen=True)
class Name(Type):
    """A domain name; the value has its final dot and is in lower case."""

    bad: Wording = "invalid domain name {text}"

    def read(self, text: str, d: Dispenser) -> str:
        if not names.can_be_asked(text):
            raise complain(d, self.bad, text=text, quoted=units.quote(text))
        return names.normalize(text)


@dataclass(frozen=True)
class Addr(Type):
    """An IP address; with `port` (a default) also `IP:PORT`, and the value is `IP:PORT`."""

    bad: Wording | None = None
    port: int | None = None

    def read(self, text: str, d: Dispenser) -> str:
        def address(word: str) -> str:
            if self.port is not None:
                return addresses.host_port(word, self.port)
            if addresses.parse_ip(word) is None:
                raise ValueError(f"invalid IP address: {word}")
            return word

        value: str = _call(address, text, d, self.bad)
        return value
