# SPDX-License-Identifier: Apache-2.0
"""printf: fmt's verbs, flags, widths and complaints.

Strategy: a format is read as Go reads it; what does not fit gives Go's text in place of the value (`%!d(string=x)`),
because a format never fails there. Widths and precisions are bounded, so no format makes more than it was given.
`%p`, `%c` of what is no character, `%#v` of structs and the like are complaints as well.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ..corefile.units import quote
from .strings import octets
from .values import MISSING, Unsigned, float_text, named, sorted_keys, text_of, type_name

WIDTH_MAX = 16_384  # Go's bound is a million
FLAGS = "+-# 0"


class _Spec:
    """One verb's flags, width and precision."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.width: int | None = None
        self.precision: int | None = None

    def pad(self, text: str, numeric: bool = False) -> str:
        """`text` at the width."""
        width = self.width
        if width is None or len(text) >= width:
            return text
        if "-" in self.flags:
            return text.ljust(width)
        if "0" in self.flags and numeric:
            sign = text[:1] if text[:1] in "+-" and text else ""
            return sign + text[len(sign) :].rjust(width - len(sign), "0")
        return text.rjust(width, "0" if "0" in self.flags else " ")


class _Arguments:
    """The operands of a format, and which of them is next."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.at = 0
        self.reordered = False
        self.good = True

    def index(self, form: str, at: int) -> tuple[int, bool]:
        """Reads `[n]`: (where it ends, whether there was one)."""
        if at >= len(form) or form[at] != "[":
            return at, False
        self.reordered = True
        end = form.find("]", at)
        if end < 0:
            self.good = False
            return at + 1, False
        number = form[at + 1 : end]
        if not number.isdecimal() or not 1 <= int(number[:9]) <= len(self.values):
            self.good = False
            return end + 1, True
        self.at = int(number) - 1
        return end + 1, True

    def number(self) -> tuple[int | None, bool]:
        """The operand of `*`: (value, whether it was one)."""
        if self.at >= len(self.values):
            return None, False
        value = self.values[self.at]
        self.at += 1
        if not isinstance(value, int) or isinstance(value, bool) or not -WIDTH_MAX <= value <= WIDTH_MAX:
            return None, False
        return int(value), True


def sprintf(form: str, values: list[Any]) -> str:
    """fmt.Sprintf."""
    out: list[str] = []
    arguments = _Arguments(values)
    at = 0
    while at < len(form):
        percent = form.find("%", at)
        if percent < 0:
            out.append(form[at:])
            break
        out.append(form[at:percent])
        at = _verb(form, percent + 1, arguments, out)
    if not arguments.reordered and arguments.at < len(values):
        extra = ", ".join(
            "<nil>" if v is None or v is MISSING else f"{type_name(v)}={text_of(v)}" for v in values[arguments.at :]
        )
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _count(form: str, at: int) -> tuple[int | None, int]:
    start = at
    while at < len(form) and "0" <= form[at] <= "9":
        at += 1
    if at == start:
        return None, at
    value = int(form[start : min(at, start + 9)])
    return (value if value <= WIDTH_MAX else None), at


def _verb(form: str, at: int, arguments: _Arguments, out: list[str]) -> int:
    spec = _Spec()
    arguments.good = True
    while at < len(form) and form[at] in FLAGS:
        spec.flags.add(form[at])
        at += 1
    if "-" in spec.flags:
        spec.flags.discard("0")
    at, indexed = arguments.index(form, at)
    if at < len(form) and form[at] == "*":
        at += 1
        spec.width, fine = arguments.number()
        if not fine:
            out.append("%!(BADWIDTH)")
        if spec.width is not None and spec.width < 0:
            spec.width = -spec.width
            spec.flags.add("-")
            spec.flags.discard("0")
        indexed = False
    else:
        spec.width, at = _count(form, at)
        if indexed and spec.width is not None:
            arguments.good = False
    if at < len(form) and form[at] == ".":
        at += 1
        if indexed:
            arguments.good = False
        at, indexed = arguments.index(form, at)
        if at < len(form) and form[at] == "*":
            at += 1
            spec.precision, fine = arguments.number()
            if spec.precision is not None and spec.precision < 0:
                spec.precision = None
                fine = False
            if not fine:
                out.append("%!(BADPREC)")
            indexed = False
        else:
            spec.precision, at = _count(form, at)
            if spec.precision is None:
                spec.precision = 0
    if not indexed:
        at, indexed = arguments.index(form, at)
    if at >= len(form):
        out.append("%!(NOVERB)")
        return at
    verb = form[at]
    if verb == "%":
        out.append("%")
    elif not arguments.good:
        out.append(f"%!{verb}(BADINDEX)")
    elif arguments.at >= len(arguments.values):
        out.append(f"%!{verb}(MISSING)")
    else:
        out.append(_format(verb, arguments.values[arguments.at], spec))
        arguments.at += 1
    return at + 1


def _bad(verb: str, value: Any, spec: _Spec) -> str:
    if value is None or value is MISSING:
        return f"%!{verb}(<nil>)"
    return f"%!{verb}({type_name(value)}={_format('v', value, spec)})"


def _format(verb: str, value: Any, spec: _Spec) -> str:
    if value is MISSING:
        value = None
    if verb == "T":
        return spec.pad(type_name(value))
    if value is None:
        return spec.pad("<nil>") if verb == "v" else _bad(verb, value, spec)
    if verb == "v" and "#" in spec.flags:
        return spec.pad(_syntax(value))
    if verb == "v":
        spec.flags.discard("+")  # `%+v` names the fields of structs
    if isinstance(value, bool):
        return spec.pad("true" if value else "false") if verb in "tv" else _bad(verb, value, spec)
    if named(value) and verb in "vsqxX":
        return _string(verb, text_of(value), spec)
    if isinstance(value, int):
        return _integer(verb, value, spec)
    if isinstance(value, float):
        return _float(verb, value, spec)
    if isinstance(value, str):
        return _string(verb, value, spec)
    if isinstance(value, list):
        return f"[{' '.join('<nil>' if each is None else _format(verb, each, spec) for each in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_format(verb, key, spec)}:{_format(verb, value[key], spec)}" for key in sorted_keys(value))
        return f"map[{' '.join(pairs)}]"
    return _string(verb, text_of(value), spec) if verb in "vsqxX" else _bad(verb, value, spec)


def _syntax(value: Any) -> str:
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Unsigned):
        return hex(value)
    if isinstance(value, list | dict):
        items = [_syntax(v) for v in value] if isinstance(value, list) else [
            f"{_syntax(k)}:{_syntax(value[k])}" for k in sorted_keys(value)]
        return f"{type_name(value)}{{{', '.join(items)}}}"
    return text_of(value)


BASES = {"d": 10, "v": 10, "b": 2, "o": 8, "O": 8, "x": 16, "X": 16}
PREFIX = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}


def _integer(verb: str, value: int, spec: _Spec) -> str:
    number = int(value)
    if verb in BASES:
        digits = {10: "d", 2: "b", 8: "o", 16: "x"}[BASES[verb]]
        text = f"{abs(number):{digits}}"
        if verb == "X":
            text = text.upper()
        prefix = "0o" if verb == "O" else PREFIX.get(verb, "") if "#" in spec.flags else ""
        sign = "-" if number < 0 else "+" if "+" in spec.flags else " " if " " in spec.flags else ""
        if spec.precision is not None:
            if spec.precision == 0 and number == 0:
                return " " * (spec.width or 0)
            text = text.rjust(spec.precision, "0")
        elif "0" in spec.flags and spec.width is not None:
            text = text.rjust(spec.width - len(sign), "0")
        padded = sign + (prefix if not (prefix == "0" and text.startswith("0")) else "") + text
        width = spec.width or 0
        return padded.ljust(width) if "-" in spec.flags else padded.rjust(width)
    if verb in "cqU":
        valid = 0 <= number <= 0x10FFFF and not 0xD800 <= number < 0xE000
        rune = chr(number) if valid else "\ufffd"
        if verb == "c":
            return spec.pad(rune)
        if verb == "q":
            return spec.pad(_quoted_rune(rune))
        shown = f" '{rune}'" if "#" in spec.flags and rune.isprintable() else ""
        return spec.pad(f"U+{number:04X}{shown}")
    return _bad(verb, value, spec)


def _quoted_rune(rune: str) -> str:
    return f"'{rune}'" if rune == '"' else "'\\''" if rune == "'" else f"'{quote(rune)[1:-1]}'"


def _float(verb: str, value: float, spec: _Spec) -> str:
    if verb in "xX" and math.isfinite(value) and spec.precision is None:
        text = re.sub(r"\.?0*p([+-])(\d)$", r"p\g<1>0\2", re.sub(r"0+p", "p", value.hex()).replace(".p", "p"))
        return spec.pad(text.upper() if verb == "X" else text, numeric=True)
    if verb not in "vgGeEfF":
        return _bad(verb, value, spec)
    form = "g" if verb == "v" else "f" if verb == "F" else verb
    precision = spec.precision if verb in "vgG" or spec.precision is not None else 6
    text = float_text(value, form, precision)
    if not text.startswith(("-", "+")):
        text = ("+" if "+" in spec.flags else " " if " " in spec.flags else "") + text
    return spec.pad(text, numeric=True)


def _ascii(text: str) -> str:
    def escaped(ch: str) -> str:
        return f"\\u{ord(ch):04x}" if ord(ch) < 0x10000 else f"\\U{ord(ch):08x}"

    return "".join(ch if ch < "\x80" else escaped(ch) for ch in text)


def _string(verb: str, value: str, spec: _Spec) -> str:
    if verb in "sv":
        return spec.pad(value if spec.precision is None else value[: spec.precision])
    if verb == "q":
        cut = value if spec.precision is None else value[: spec.precision]
        raw = "#" in spec.flags and "`" not in cut and all(c == "\t" or " " <= c != "\x7f" for c in cut)
        shown = f"`{cut}`" if raw else quote(cut)
        return spec.pad(_ascii(shown) if "+" in spec.flags else shown)
    if verb in "xX":
        data = octets(value)
        data = data if spec.precision is None else data[: spec.precision]
        apart = " " in spec.flags
        prefix = "0x" if "#" in spec.flags and data else ""
        text = prefix + (f" {prefix}" if apart else "").join([f"{c:02x}" for c in data])
        return spec.pad(text.upper() if verb == "X" else text)
    return _bad(verb, value, spec)
