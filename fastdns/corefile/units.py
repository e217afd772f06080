# SPDX-License-Identifier: Apache-2.0
"""Values as a Corefile writes them: numbers, durations, zones, addresses.

Strategy: pure functions from text to a plain value; a bad text raises ValueError whose message is the one
CoreDNS prints, so callers only add the place. Durations are float seconds. Numbers follow Go's strconv
(ASCII digits, a sign, 64 bits), not Python's int(), which takes blanks and underscores.
"""

from __future__ import annotations

import math
import re

_INT = re.compile(r"[+-]?[0-9]+", re.ASCII)
_UINT = re.compile(r"[0-9]+", re.ASCII)
_DIGITS = re.compile(r"[0-9]*", re.ASCII)
_FRACTION = r"(?:{0}(?:\.(?:{0})?)?|\.{0})"
_RUN, _HEX_RUN = r"[0-9](?:_?[0-9])*", r"[0-9a-fA-F](?:_?[0-9a-fA-F])*"
_FLOAT = re.compile(rf"[+-]?{_FRACTION.format(_RUN)}(?:[eE][+-]?{_RUN})?|[+-]?inf(?:inity)?|nan", re.A | re.I)
_HEX_FLOAT = re.compile(rf"[+-]?0[xX](?!_\.)_?{_FRACTION.format(_HEX_RUN)}[pP][+-]?{_RUN}", re.ASCII)
_LEADING = re.compile(r"([0-9]*)(?:\.([0-9]*))?", re.ASCII)

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


def parse_float(text: str) -> float:
    """A number with a fraction, decimal or (with an exponent) hexadecimal; "inf" and "nan" are numbers too."""
    failure = f"strconv.ParseFloat: parsing {quote(text)}: "
    decimal = _FLOAT.fullmatch(text)
    if not decimal and not _HEX_FLOAT.fullmatch(text):
        raise ValueError(f"{failure}invalid syntax")
    try:
        value = float(text) if decimal else float.fromhex(text.replace("_", ""))
    except OverflowError:
        value = math.inf
    if math.isinf(value) and text[-1].isdigit():
        raise ValueError(f"{failure}value out of range")
    return value


def parse_uint(text: str, bits: int = 64) -> int:
    """An unsigned decimal number of at most `bits` bits, without a sign."""
    return _number(text, _UINT, 0, 2**bits - 1, "ParseUint")


def parse_int(text: str, bits: int = 64) -> int:
    """A signed decimal number of at most `bits` bits."""
    return _number(text, _INT, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, "ParseInt")


def _number(text: str, form: re.Pattern[str], low: int, high: int, function: str) -> int:
    # Go reads digit by digit: what overflows before the first bad character is out of range, not bad syntax.
    # int() of very long text is slow and limited, so the digits that count are cut out first.
    run = _DIGITS.match(text, 1 if form is _INT and text[:1] in ("+", "-") else 0)
    assert run is not None
    digits = run.group().lstrip("0")[:20] or "0"
    overflow = int(digits) > (high if form is _UINT else 2 * _INT64 - 1)
    value = -int(digits) if text.startswith("-") else int(digits)
    if not overflow and not form.fullmatch(text):
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: invalid syntax")
    if overflow or not low <= value <= high:
        raise ValueError(f"strconv.{function}: parsing {quote(text)}: value out of range")
    return value


def _quote_octets(text: str) -> str:
    """Quoted as Go's time package does: what is not printable ASCII is written octet by octet."""
    shown = []
    for octet in text.encode("utf-8", "surrogateescape"):
        ch = chr(octet)
        shown.append("\\" + ch if ch in '"\\' else ch if " " <= ch < "\x80" else f"\\x{octet:02x}")
    return '"' + "".join(shown) + '"'


def _fraction(digits: str) -> tuple[int, float]:
    """(value, scale) of the digits behind a point; those that 63 bits do not carry are dropped."""
    value, scale = 0, 1.0
    for digit in digits:
        if value > (_INT64 - 1) // 10 or value * 10 + int(digit) > _INT64:
            break
        value, scale = value * 10 + int(digit), scale * 10
    return value, scale


def parse_duration_ns(text: str) -> int:
    """Nanoseconds of a Go duration: `300ms`, `1.5h`, `-2h45m`, `0`. A number without unit is refused."""
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    bad = ValueError(f"time: invalid duration {_quote_octets(text)}")
    if not rest:
        raise bad
    total = 0
    while rest:
        match = _LEADING.match(rest)
        assert match is not None
        digits, fraction = match.group(1), match.group(2) or ""
        whole = int(digits.lstrip("0")[:20] or "0")
        if not (digits or fraction) or whole > _INT64:
            raise bad
        rest = rest[match.end() :]
        cut = next((i for i, ch in enumerate(rest) if ch == "." or "0" <= ch <= "9"), len(rest))
        unit, rest = rest[:cut], rest[cut:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {_quote_octets(text)}")
        if unit not in _UNITS:
            raise ValueError(f"time: unknown unit {_quote_octets(unit)} in duration {_quote_octets(text)}")
        part, scale = _fraction(fraction)
        total += whole * _UNITS[unit] + int(part * (_UNITS[unit] / scale))
        if total > _INT64:
            raise bad
    if not negative and total == _INT64:
        raise bad
    return -total if negative else total


def parse_duration(text: str) -> float:
    """Seconds of a Go duration."""
    return parse_duration_ns(text) / 1e9


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `1m30s`, `1.5s`, `250ms`, `0s`."""
    return format_duration_ns(round(seconds * 1e9))


def format_duration_ns(ns: int) -> str:
    """Nanoseconds as Go prints a duration."""
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
