# SPDX-License-Identifier: Apache-2.0
"""Metrics as text: the Prometheus exposition format 0.0.4, written as CoreDNS's library writes it.

Strategy: families sorted by name, series by their labels, labels by name, numbers in Go's shortest form, because
people compare two scrapes with diff. A series never carries a timestamp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from .._stats import Series
from ..metrics import NANO

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"


def number(value: float) -> str:
    """A number as Go's shortest %g prints it: with an exponent below 1e-4 and from 1e+06 on."""
    if value == int(value) and abs(value) < 1_000_000:
        return str(int(value))
    digits, _, power = f"{value!r}".partition("e")
    mantissa, exponent = _scientific(digits, int(power or 0))
    if -4 <= exponent < 6:
        return f"{value:.{max(0, len(mantissa) - 1 - exponent)}f}"
    sign = "-" if value < 0 else ""
    point = f".{mantissa[1:]}" if len(mantissa) > 1 else ""
    return f"{sign}{mantissa[0]}{point}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def _scientific(digits: str, power: int) -> tuple[str, int]:
    # The significant digits of a decimal and the power of ten of the first one.
    whole, _, part = digits.lstrip("-").partition(".")
    joined = whole + part
    first = len(joined) - len(joined.lstrip("0"))
    return joined.strip("0") or "0", len(whole) - 1 - first + power


def escape_help(text: str) -> str:
    """Help text on one line."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def escape_label(text: str) -> str:
    """A label value between quotes. Lone surrogates, which UTF-8 cannot carry, become question marks."""
    clean = text.encode("utf-8", "replace").decode()
    return clean.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _labels(pairs: Iterable[tuple[str, str]]) -> str:
    inner = ",".join(f'{name}="{escape_label(value)}"' for name, value in pairs)
    return f"{{{inner}}}" if inner else ""


def _lines(series: Series) -> Iterator[str]:
    unit = NANO if series.name.removesuffix("_total").endswith("_seconds") else 1
    labels = sorted(series.labels)
    if series.kind != "histogram":
        yield f"{series.name}{_labels(labels)} {number(series.values[0] / unit if unit > 1 else series.values[0])}"
        return
    total = 0
    for bound, count in zip(series.bounds, series.values, strict=False):
        total += count
        yield f"{series.name}_bucket{_labels([*labels, ('le', number(bound / unit))])} {number(total)}"
    # Readers see a row while its owner counts: the buckets are the truth, so that they never exceed the count.
    total += series.values[len(series.bounds)]
    yield f"{series.name}_bucket{_labels([*labels, ('le', '+Inf')])} {number(total)}"
    sum_raw = series.values[len(series.bounds) + 1]
    yield f"{series.name}_sum{_labels(labels)} {number(sum_raw / unit)}"
    yield f"{series.name}_count{_labels(labels)} {number(total)}"


def render(series: Iterable[Series]) -> bytes:
    """The whole exposition of a snapshot."""
    out = []
    ordered = sorted(series, key=lambda s: (s.name, sorted(s.labels)))
    for name, group in groupby(ordered, key=lambda s: s.name):
        members = list(group)
        out.append(f"# HELP {name} {escape_help(members[0].help)}".rstrip())
        out.append(f"# TYPE {name} {members[0].kind}")
        for one in members:
            out.extend(_lines(one))
    return ("\n".join(out) + "\n").encode()
