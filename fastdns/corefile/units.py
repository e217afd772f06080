# SPDX-License-Identifier: Apache-2.0
"""Values as a Corefile writes them: numbers, durations, zones, addresses.

Strategy: pure functions from text to a plain value; a bad text raises ValueError whose message is the one
CoreDNS prints, so callers only add the place. Durations are float seconds. Numbers follow Go's strconv
(ASCII digits, a sign, 64 bits), not Python's int(), which takes blanks and underscores.
"""

from __future__ import annotations

import re

_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_UINT = re.compile(r"[0-9]+", re.ASCII)
_LEADING = re.compile(r"([0-9]*)(?:(\.)([0-9]*))?", re.ASCII)

# Nanoseconds per unit; U+00B5 and U+03BC both write "micro".
_UNITS = {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6,
          "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}  # fmt: skip
_INT64 = 2**63

SECOND = 1.0
MINUTE = 60.0
HOUR = 3600.0

_ESCAPES = {"\a": r"\a", "\b": r"\b", "\f": r"\f", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\v": r"\v", "\\": r"\\"}


def quote(text: str, mark: str = '"') -> str:
    """`text` between `mark`s with control characters escaped, as Go's %q prints it."""
    out = [mark]
    for ch in text:
        code = ord(ch)
        if ch == mark:
            out.append("\\" + ch)
        elif ch in _ESCAPES:
            out.append(_ESCAPES[ch])
        elif ch == " " or ch.isprintable():
            out.append(ch)
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    out.append(mark)
    return "".join(out)


def atoi(text: str) -> int:
    """A signed decimal number of at most 64 bits."""
    return _number(text, _INT, -_INT64, _INT64 - 1, "Atoi")


def parse_uint(text: str, bits: int = 64) -> int:
    """An unsigned decimal number of at most `bits` bits, without a sign."""
    return _number(text, _UINT, 0, 2**bits - 1, "ParseUint")


def parse_int(text: str, bits: int = 64) -> int:
    """A signed decimal number of at most `bits` bits."""
    return _number(text, _INT, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, "ParseInt")


def _number(text: str, form: re.Pattern[str], low: int, high: int, function: str) -> int:
    if not form.fullmatch(text):
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: invalid syntax")
    # Nineteen digits are more than 64 bits carry; int() of very long text is slow and limited.
    digits = text.lstrip("+-").lstrip("0") or "0"
    value = int(digits) if len(digits) <= 20 else high + 1
    if text.startswith("-"):
        value = -value if len(digits) <= 20 else low - 1
    if not low <= value <= high:
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of a Go duration: `300ms`, `1.5h`, `-2h45m`, `0`. A number without unit is refused."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    bad = ValueError(f"time: invalid duration {quote(text)}")
    if not rest:
        raise bad
    total = 0
    while rest:
        match = _LEADING.match(rest)
        assert match is not None
        whole, dot, fraction = match.group(1), match.group(2), match.group(3) or ""
        if not whole and not fraction:
            raise bad
        rest = rest[match.end():]
        cut = next((i for i, ch in enumerate(rest) if ch == "." or "0" <= ch <= "9"), len(rest))
        unit, rest = rest[:cut], rest[cut:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        whole = whole.lstrip("0")
        if len(whole) > 19:
            raise bad
        total += int(whole or "0") * _UNITS[unit]
        if dot and fraction:
            # Digits past 18 are below a nanosecond of any unit.
            fraction = fraction[:18]
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
        if total > _INT64 - (0 if text.startswith("-") else 1):
            raise bad
    return -total if text.startswith("-") else total


def parse_duration(text: str) -> float:
    """Seconds of a Go duration."""
    return parse_duration_ns(text) / 1e9


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`."""
    ns = round(seconds * 1e9)
    sign, ns = ("-" if ns < 0 else ""), abs(ns)
    if ns == 0:
        return "0s"
    for unit, scale in (("ns", 1), ("\u00b5s", 10**3), ("ms", 10**6)):
        if ns < scale * 1000:
            return f"{sign}{_decimal(ns, scale)}{unit}"
    minutes, below = divmod(ns, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{head}{_decimal(below, 10**9)}s"


def _decimal(value: int, scale: int) -> str:
    whole, part = divmod(value, scale)
    digits = f"{part:0{len(str(scale)) - 1}d}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)


def parse_percent(text: str, low: int = 0, high: int = 100) -> int:
    """The number of `NN%`, within [low, high]."""
    if not text.endswith("%"):
        raise ValueError(f"last character of percentage should be `%`, but is: {quote(text[-1:], chr(39))}")
    number = atoi(text[:-1])
    if not low <= number <= high:
        raise ValueError(f"percentage should fall in range [{low}, {high}]: {number}")
    return number
