# SPDX-License-Identifier: Apache-2.0
"""What the processes found, as a profile, as text, as a trace; and the page that lists these.

Strategy: pure functions. A stack ends in two frames of ours, thread and process, so that a flame graph shows the server
as one tree; the same stands in the sample's labels (`go tool pprof -tags`, `-tagfocus`).
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from .profile_proto import Frame, Profile

HTML = "text/html; charset=utf-8"
Found = dict[str, Any]  # what a process sent: see sampler.py
KINDS = {
    "cpu": (("samples", "count"), ("cpu", "nanoseconds")),
    "block": (("contentions", "count"), ("delay", "nanoseconds")),
    "goroutine": (("goroutine", "count"),),
    "heap": (("inuse_objects", "count"), ("inuse_space", "bytes")),
}
PERIODS = {"cpu": ("cpu", "nanoseconds"), "block": ("delay", "nanoseconds"), "goroutine": ("goroutine", "count"),
           "heap": ("space", "bytes")}
UNSEEN = "[not looked into]"
LIST = (
    ("block", "where Python threads wait, for so many seconds; needs `block` in the Corefile"),
    ("cmdline", "the command line of the server"),
    ("goroutine", "where all Python threads and all tasks stand now"),
    ("heap", "what Python allocates within so many seconds and still holds then; slows Python down meanwhile"),
    ("profile", "CPU time of all processes for so many seconds (30)"),
    ("symbol", "nothing: profiles here name their functions themselves"),
    ("trace", "what each thread did when, for so many seconds (1), as a Chrome trace"),
)


def profile(kind: str, found: list[Found], unseen: dict[str, int], silent: Sequence[str], period: int, began_ns: int,
            took_ns: int) -> bytes:
    """The gzipped profile. `unseen`: CPU nanoseconds by name of the processes that were not looked into. `silent`: who
    was asked and not heard, in words."""
    out = Profile(KINDS[kind], PERIODS[kind], 1 if kind in ("goroutine", "heap") else period)
    for one in found:
        who = str(one["who"])
        root: Frame = (who, "", 0, 0)
        functions = [(str(name), str(file), int(first)) for name, file, first in one["functions"]]
        for thread, stack, values in one["samples"]:
            frames = [(*functions[place], line) for place, line in stack]
            out.sample([*frames, (f"thread {thread}", "", 0, 0), root], values,
                       (("process", who), ("thread", thread), ("pid", one["pid"])))
        if one["lost"]:
            out.comment(f"{who}: {one['lost']} looks at more stacks than are kept")
    for who, ns in sorted(unseen.items()):
        if ns > 0:
            out.sample([(UNSEEN, "", 0, 0), (who, "", 0, 0)], [1, ns], (("process", who),))
    for line in silent:
        out.comment(line)
    return out.encode(began_ns, took_ns)


def text(kind: str, found: list[Found], silent: Sequence[str] = ()) -> bytes:
    """For people: `debug=1`. The largest first, each with its stack."""
    rows = []
    for one in found:
        for thread, stack, values in one["samples"]:
            rows.append((values, f"{one['who']}/{thread}", [(*one["functions"][f], line) for f, line in stack]))
    rows.sort(key=lambda row: (-row[0][-1], row[1]))
    lines = [f"{kind} profile: total {sum(row[0][0] for row in rows)}"]
    lines += [f"# {line}" for line in silent]
    for values, where, stack in rows:
        lines.append(f"{' '.join(map(str, values))} @ {where}")
        lines += [f"#\t{name}\t{file}:{line}" if file else f"#\t{name}" for name, file, _, line in stack]
        lines.append("")
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def events(found: list[Found], silent: Sequence[str] = ()) -> bytes:
    """A trace in Chrome's format, which Perfetto, chrome://tracing and speedscope open. Times are CLOCK_MONOTONIC."""
    out: list[dict[str, Any]] = []
    for one in found:
        out.append({"ph": "M", "name": "process_name", "pid": one["pid"], "tid": 0, "args": {"name": one["who"]}})
        threads: dict[str, int] = {}
        for thread, function, began, length in sorted(one["events"], key=lambda event: (event[2], -event[3])):
            name, _, number = thread.rpartition(" ")
            if thread not in threads:
                threads[thread] = int(number)
                out.append({"ph": "M", "name": "thread_name", "pid": one["pid"], "tid": int(number),
                            "args": {"name": name}})
            out.append({"ph": "X", "name": one["functions"][function][0], "pid": one["pid"], "tid": threads[thread],
                        "ts": began / 1000, "dur": length / 1000})
        if one["lost"]:
            out.append({"ph": "M", "name": "process_labels", "pid": one["pid"], "tid": 0,
                        "args": {"labels": f"{one['lost']} events were left out"}})
    whole = {"traceEvents": out, "displayTimeUnit": "ms", "otherData": {"silent": list(silent)}}
    return json.dumps(whole, separators=(",", ":")).encode()


def index(block: bool) -> bytes:
    """The page."""
    rows = "".join(
        f'<tr><td><a href="{name}{"?debug=1" if name == "goroutine" else ""}">{name}</a></td>'
        f"<td>{html.escape(what)}{' (off)' if name == 'block' and not block else ''}</td></tr>\n"
        for name, what in LIST)
    return (
        "<!DOCTYPE html>\n<html><head><title>/debug/pprof/</title></head><body>\n<p>/debug/pprof/</p>\n"
        "<p>Parameters: <code>seconds=N</code>; <code>debug=1</code> shows a profile as text.</p>\n"
        f"<table>\n{rows}</table>\n</body></html>\n").encode()
