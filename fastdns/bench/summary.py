# SPDX-License-Identifier: Apache-2.0
"""The report for people: dnsperf's words first, then what dnsperf does not measure.

Strategy: the first block is laid out as dnsperf prints it, with counts over all rounds, so that scripts that read
dnsperf's output read this one. Figures over rounds follow with their spread, because a figure without one says
little.
"""

from __future__ import annotations

from .formats import ROWS, describe, show
from .remarks import server_share
from .report import PERCENTILES, Report, figures
from .tally import Histogram, Tally

RCODES = (
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH",
    "NOTZONE",
)
MOST_CORES = 16
"""More CPUs than this are shown as the busiest ones."""


def summary(report: Report) -> str:
    """The whole text."""
    tally = report.server.total()
    lines = ["Statistics:", "", *_counts(tally), "", *_latency(tally.latency), "", *_percentiles(report), ""]
    lines += [*_figures(report), "", *_cpu(report), "", f"  Scenario:             {describe(report)}"]
    lines.append(f"  Machine:              {report.machine}")
    lines.append(f"  Versions:             {report.machine.versions}")
    lines += ["", *_remarks(report)]
    return "\n".join(lines) + "\n"


def rcode(code: int) -> str:
    """The name of a response code (RFC 6895, section 2.3)."""
    return RCODES[code] if code < len(RCODES) else f"RCODE{code}"


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.2%})" if whole else f"{part}"


def _counts(tally: Tally) -> list[str]:
    codes = sorted(tally.rcodes.items(), key=lambda entry: -entry[1])
    shown = ", ".join(f"{rcode(code)} {_share(count, tally.completed)}" for code, count in codes)
    request, response = tally.octets_sent // max(tally.sent, 1), tally.octets_received // max(tally.completed, 1)
    return [
        f"  Queries sent:         {tally.sent}",
        f"  Queries completed:    {_share(tally.completed, tally.sent)}",
        f"  Queries lost:         {_share(tally.lost, tally.sent)}",
        "",
        f"  Response codes:       {shown or 'none'}",
        f"  Average packet size:  request {request}, response {response}",
        f"  Run time (s):         {tally.seconds:.6f}",
        f"  Queries per second:   {tally.qps:.6f}",
    ]


def _latency(histogram: Histogram) -> list[str]:
    return [
        f"  Average Latency (s):  {histogram.mean:.6f} (min {histogram.min:.6f}, max {histogram.max:.6f})",
        f"  Latency StdDev (s):   {histogram.stddev:.6f}",
    ]


def _percentiles(report: Report) -> list[str]:
    """Latency percentiles in milliseconds, the floor's below the server's."""
    lines = [f"  {'Percentile (ms)':<22}" + "".join(f"{f'p{p:g}':>9}" for p in PERCENTILES)]
    for who, arm in (("server", report.server), ("floor", report.floor)):
        if arm is not None:
            histogram = arm.total().latency
            lines.append(f"    {who:<20}" + "".join(f"{histogram.percentile(p) * 1e3:>9.3f}" for p in PERCENTILES))
    return lines


def _figures(report: Report) -> list[str]:
    found = figures(report)
    lines = [f"  {'Over the rounds:':<28}{'median':>12}{'min':>12}{'max':>12}"]
    for key, words, form, factor in ROWS:
        if key in found:
            lines.append(f"    {words:<26}" + "".join(f"{value:>12}" for value in show(found[key], form, factor)))
    return lines


def _cpu(report: Report) -> list[str]:
    """How busy each CPU was, and what the server's own processes had of theirs; means over the rounds."""
    rounds, tally = report.server.rounds, report.server.total()
    cores: dict[int, float] = {}
    for one in rounds:
        for cpu, busy in one.cores.items():
            cores[cpu] = cores.get(cpu, 0.0) + busy / len(rounds)
    busiest = sorted(cores, key=lambda cpu: -cores[cpu])[:MOST_CORES]
    shown = "  ".join(f"cpu{cpu} {cores[cpu]:.0%}" for cpu in sorted(busiest))
    left = f"  ({len(cores) - MOST_CORES} less busy ones)" if len(cores) > MOST_CORES else ""
    lines = [f"  CPU busy:             {shown or 'not known'}{left}"]
    shares = [share for one in rounds if (share := server_share(report, one)) is not None]
    if shares:
        lines.append(f"  Server's own share:   {sum(shares) / len(shares):.0%} of CPU "
                     + ", ".join(map(str, report.scenario.server_cpus)))
    load = tally.cpu_seconds / tally.seconds if tally.seconds else 0.0
    where = ", ".join(map(str, report.scenario.load_cpus))
    lines.append(f"  Generator:            {load:.0%} of a CPU, {f'on CPU {where}' if where else 'bound to none'}")
    return lines


def _remarks(report: Report) -> list[str]:
    if not report.remarks:
        return ["  Nothing speaks against quoting these figures."]
    verdict = "These figures may be quoted, with the remarks:" if report.quotable else "Do not quote these figures:"
    return [f"  {verdict}", *(f"    {remark.text}" for remark in report.remarks)]
