# SPDX-License-Identifier: Apache-2.0
"""Texts to times by Go's layouts, which show how 2006-01-02 15:04:05 would be written.

Strategy: a layout becomes one regular expression, element by element; `times.format_time` is the way back.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from .lexer import go_quote
from .times import DAYS, ELEMENT, MONTHS, UTC_LOCATION, Location, Time, offset_location

DEFAULTS = (
    "2006-01-02", "15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04:05Z07:00", "02 Jan 06 15:04 MST",
    "Monday, 02-Jan-06 15:04:05 MST", "Mon, 02 Jan 2006 15:04:05 MST",
)  # fmt: skip
READ = {
    "2006": r"(?P<year>[0-9]{4})", "06": r"(?P<short>[0-9]{2})", "01": r"(?P<month>[0-9]{2})",
    "1": r"(?P<month>[0-9]{1,2})", "02": r"(?P<day>[0-9]{2})", "_2": r" ?(?P<day>[0-9]{1,2})",
    "2": r"(?P<day>[0-9]{1,2})", "002": r"(?P<yearday>[0-9]{3})", "__2": r" {0,2}(?P<yearday>[0-9]{1,3})",
    "15": r"(?P<hour>[0-9]{1,2})", "03": r"(?P<twelve>[0-9]{2})", "3": r"(?P<twelve>[0-9]{1,2})",
    "04": r"(?P<minute>[0-9]{2})", "4": r"(?P<minute>[0-9]{1,2})",
    "05": r"(?P<second>[0-9]{2})(?:[.,](?P<nano>[0-9]+))?",
    "5": r"(?P<second>[0-9]{1,2})(?:[.,](?P<nano>[0-9]+))?", "PM": r"(?P<half>AM|PM)", "pm": r"(?P<half>am|pm)",
    "January": rf"(?P<name>(?i:{'|'.join(MONTHS)}))", "Jan": rf"(?P<name>(?i:{'|'.join(m[:3] for m in MONTHS)}))",
    "Monday": rf"(?i:{'|'.join(DAYS)})", "Mon": rf"(?i:{'|'.join(d[:3] for d in DAYS)})",
    "MST": r"(?P<zone>[A-Z]{3,5}|[+-][0-9]{2}(?:[0-9]{2})?)",
}  # fmt: skip


def pattern_of(layout: str) -> re.Pattern[str]:
    """What a text in this layout looks like."""
    out, at, seen = [], 0, set[str]()
    for match in ELEMENT.finditer(layout):
        out.append(re.escape(layout[at : match.start()]))
        element, at = match[0], match.end()
        if element[0] in ".,":
            # Behind seconds they are read with these, whether the layout has them or not.
            digits = "+" if element[1] == "9" else f"{{{len(element) - 1}}}"
            optional = "?" if element[1] == "9" else ""
            out.append("" if "nano" in seen else f"(?:[.,](?P<nano>[0-9]{digits})){optional}")
        elif element[0] in "-Z":
            colon = ":" if ":" in element else ""
            numbers = colon.join(["[0-9]{2}"] * (sum(char.isdigit() for char in element) // 2))
            out.append(rf"(?P<offset>{'Z|' if element[0] == 'Z' else ''}[+-]{numbers})")
        else:
            out.append(READ[element])
        for name in re.findall(r"\?P<(\w+)>", out[-1]):
            if name in seen:
                out[-1] = out[-1].replace(f"?P<{name}>", "?:")
            seen.add(name)
    out.append(re.escape(layout[at:]))
    return re.compile("".join(out))


def parse_time(layout: str, text: str, location: Location | None = None) -> Time:
    """The time that a text means. Raises ValueError."""
    match = pattern_of(layout).fullmatch(text)
    if match is None:
        raise ValueError(f"parsing time {go_quote(text)} as {go_quote(layout)}: cannot parse {go_quote(text)}")
    found = {name: value for name, value in match.groupdict().items() if value is not None}
    where = read_zone(found, location)
    hour = int(found.get("hour", found.get("twelve", 0)))
    if "half" in found:
        hour = hour % 12 + (12 if found["half"].lower() == "pm" else 0)
    year = int(found.get("year", 1 if "short" not in found else 0))
    if "short" in found:
        short = int(found["short"])
        year = short + (1900 if short >= 69 else 2000)
    month = int(found.get("month", 1))
    if "name" in found:
        month = [name[:3] for name in MONTHS].index(found["name"][:3].capitalize()) + 1
    try:
        when = datetime(year, month, int(found.get("day", 1)), hour, int(found.get("minute", 0)),
                        int(found.get("second", 0)))
        if "yearday" in found:
            when += timedelta(days=int(found["yearday"]) - 1)
        return Time.of(when, int(found.get("nano", "0")[:9].ljust(9, "0")), where)
    except (ValueError, OverflowError):
        raise ValueError(f"parsing time {go_quote(text)}: out of range") from None


def read_zone(found: dict[str, str], location: Location | None) -> Location:
    """The zone that a text names, or else `location`."""
    offset = found.get("offset", "")
    if offset == "Z" or found.get("zone") == "UTC":
        return UTC_LOCATION
    if offset:
        digits = offset[1:].replace(":", "").ljust(6, "0")
        away = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
        return offset_location(-away if offset[0] == "-" else away)
    if "zone" in found and location is None:
        return offset_location(0, found["zone"])
    return location or UTC_LOCATION


def parse_date(text: str, location: Location | None) -> Time:
    """By the first layout that fits. Raises ValueError."""
    for layout in DEFAULTS:
        try:
            return parse_time(layout, text, location)
        except ValueError:
            continue
    raise ValueError(f"invalid date {text}")
