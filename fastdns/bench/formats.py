# SPDX-License-Identifier: Apache-2.0
"""A report as JSON and back, as CSV, as Markdown, and its latencies as a .hgrm percentile file.

Strategy: the JSON is the dataclasses of `report.py` field by field, with a block `figures` of computed values for
programs that only want those. Reading is strict: a file that lacks a field, has one too many, or a value of another
type is refused by its path (`server.rounds[2].tally.sent`), because what is compared must be what was written.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import types
import typing
from typing import Any, TypeVar

from .errors import BenchError, extra
from .report import SCHEMA, Report, figures, latency
from .tally import Histogram
from .turns import Spread

T = TypeVar("T")
MOST_OCTETS = 64 << 20
NS_PER_MS = 1e6
SERVERS = {"corefile": "own server from a Corefile", "local": "server on this machine", "remote": "remote server"}


def to_json(report: Report) -> str:
    """One JSON object, with a final newline."""
    plain = _plain(report)
    plain["quotable"] = report.quotable
    spreads = {name: found._asdict() for name, found in figures(report).items()}
    plain["figures"] = {**spreads, "latency": latency(report.server.total().latency)}
    if report.floor is not None:
        plain["figures"]["floor_latency"] = latency(report.floor.total().latency)
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return value.encode().decode()
    if dataclasses.is_dataclass(value):
        return {entry.name: _plain(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def from_json(text: str, name: str) -> Report:
    """The report in a file's text; `name` is for the error. Raises BenchError."""
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchError(f"{name}: not JSON: {error}") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("schema"), str):
        raise BenchError(f"{name}: no report of fastdns bench")
    if plain["schema"] != SCHEMA:
        raise BenchError(f"{name}: schema {plain['schema']!r}; this program reads {SCHEMA!r}")
    plain.pop("figures", None)
    plain.pop("quotable", None)
    try:
        report = _decode(Report, plain, "")
    except _WrongError as error:
        raise BenchError(f"{name}: {error}") from None
    if not report.server.rounds:
        raise BenchError(f"{name}: server.rounds: empty")
    return report


def read_report(path: str) -> Report:
    """The report in a file. Raises BenchError."""
    try:
        with open(path, "rb") as file:
            octets = file.read(MOST_OCTETS + 1)
        if len(octets) > MOST_OCTETS:
            raise BenchError(f"{path}: more than {MOST_OCTETS} octets")
        return from_json(octets.decode(), path)
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BenchError(f"{path}: not JSON: not UTF-8") from None


class _WrongError(ValueError):
    """A value that is not of its field's type: path and cause."""


def _decode(kind: type[T], value: Any, where: str) -> T:
    """A dataclass of a dict with exactly its fields."""
    if not isinstance(value, dict):
        raise _WrongError(f"{where or 'report'}: not an object")
    known = typing.get_type_hints(kind)
    hints = {entry.name: known[entry.name] for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    dot = f"{where}." if where else ""
    for name in value:
        if name not in hints:
            raise _WrongError(f"{dot}{name}: no such field")
    for name in hints:
        if name not in value:
            raise _WrongError(f"{dot}{name}: missing")
    return kind(**{name: _value(hint, value[name], dot + name) for name, hint in hints.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if value is None else _value(arguments[0], value, where)
    if origin is list:
        if not isinstance(value, list):
            raise _WrongError(f"{where}: not a list")
        return [_value(arguments[0], one, f"{where}[{index}]") for index, one in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise _WrongError(f"{where}: not an object")
        kind, inner = arguments
        return {_key(kind, key, where): _value(inner, one, f"{where}.{key}") for key, one in value.items()}
    if hint is Histogram:
        return _histogram(value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _decode(hint, value, where)
    fits = type(value) in (int, float) and math.isfinite(value) if hint is float else type(value) is hint
    if fits and hint in (int, float) and value < 0:
        raise _WrongError(f"{where}: negative")
    if fits:
        return hint(value)
    raise _WrongError(f"{where}: not {'a finite number' if hint is float else f'of type {hint.__name__}'}")


def _key(hint: type, key: str, where: str) -> Any:
    if hint is int and not (key.isascii() and key.isdigit() and len(key) < 10):
        raise _WrongError(f"{where}.{key}: the name is no number")
    return hint(key)


def _histogram(value: Any, where: str) -> Histogram:
    if not isinstance(value, str):
        raise _WrongError(f"{where}: not a text")
    try:
        return Histogram.decode(value.encode())
    except ValueError as error:
        raise _WrongError(f"{where}: no histogram: {error}") from None


def to_csv(report: Report) -> str:
    """One line per arm and round: what a spreadsheet wants."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("arm", "round", "seconds", "sent", "completed", "lost", "wrong", "qps", "p50_s", "p99_s",
                     "cpu_us_per_answer", "server_cpu_s", "load_cpu_s"))
    for arm, data in (("server", report.server), ("floor", report.floor)):
        for number, one in enumerate(data.rounds if data else (), 1):
            t = one.tally
            writer.writerow((arm, number, f"{t.seconds:.6f}", t.sent, t.completed, t.lost, t.wrong, f"{t.qps:.1f}",
                             f"{t.latency.percentile(50):.9f}", f"{t.latency.percentile(99):.9f}",
                             "" if one.cpu_us is None else f"{one.cpu_us:.4f}",
                             "" if one.server_cpu is None else f"{one.server_cpu:.6f}", f"{t.cpu_seconds:.6f}"))
    return out.getvalue()


ROWS = (
    ("qps", "Queries per second", "{:,.0f}", 1.0),
    ("cpu", "CPU per answer (µs)", "{:.3f}", 1.0),
    ("floor", "CPU, ratio to the floor", "{:.2f}", 1.0),
    ("p50", "Latency p50 (ms)", "{:.3f}", 1e3),
    ("p99", "Latency p99 (ms)", "{:.3f}", 1e3),
)
"""Figures in the order in which people read them: key, words, form, factor."""


def show(found: Spread, form: str, factor: float) -> tuple[str, str, str]:
    """Median, min and max in a row's form."""
    median, low, high = (form.format(value * factor) for value in found)
    return median, low, high


def to_markdown(report: Report) -> str:
    """A table with the machine and the scenario named above it, for a README or a pull request."""
    machine, found = report.machine, figures(report)
    lines = [
        f"{machine}; {machine.versions}",
        "",
        describe(report),
        "",
        "| figure | median | min | max |",
        "| --- | ---: | ---: | ---: |",
    ]
    for key, words, form, factor in ROWS:
        if key in found:
            lines.append(f"| {words} | {' | '.join(show(found[key], form, factor))} |")
    lines += [f"\n**{remark.kind}**: {remark.text}" for remark in report.remarks]
    return "\n".join(lines) + "\n"


def describe(report: Report) -> str:
    """The scenario in a sentence."""
    s = report.scenario
    closed = f"{s.in_flight} in flight on each, closed loop"
    loop = f"open loop at {s.rate:,.0f} queries per second" if s.rate else closed
    rounds = len(report.server.rounds)
    parts = [
        SERVERS.get(s.server, s.server),
        f"{s.protocol.upper()}{' segmented' if s.segment else ''}{', never sleeping' if s.spin else ''}",
        f"{s.sockets} sockets, {loop}",
        f"{s.count:,} questions{' once each' if s.once else ''}",
        f"{rounds} round{'s' if rounds != 1 else ''} of {s.duration:g} s after {s.warm:g} s of warming",
    ]
    return "; ".join(parts)


def to_hgrm(report: Report) -> str:
    """The percentile distribution in milliseconds, as HdrHistogram's plotter reads it. Raises BenchError."""
    decode = extra("hdrh.histogram").HdrHistogram.decode
    out = io.BytesIO()
    decode(report.server.total().latency.encode()).output_percentile_distribution(out, NS_PER_MS)
    return out.getvalue().decode()
