# SPDX-License-Identifier: Apache-2.0
"""What speaks against a run's figures, said in sentences: noise, a generator at its limit, answers lost or wrong.

Strategy: one function per doubt, each looks at the whole report and gives at most one remark. A run without remarks
may be quoted; the kinds that forbid it are in `report.AGAINST_QUOTING`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .report import Arm, Remark, Report, Round, spread
from .turns import NOISY_SPREAD, NOISY_STOLEN

BUSY = 0.97
"""A CPU that is busy for this share of the time is at its limit."""
NOERROR, NXDOMAIN = 0, 3
IDLE = 0.90
"""A server whose CPUs are busy for less than this share could have answered more."""
OTHERS = 0.10
"""What else than our own processes may use of their CPUs; interrupts and the kernel's threads are part of it."""
KEPT = 0.98
"""The share of the asked rate that must have left for the rate to count as kept."""
LOST = 0.001
"""More lost answers than this share are a finding; a single one may be an accident of the start."""


def judge(report: Report, short: str = "") -> list[Remark]:
    """Every remark that a report needs, in the order of their weight; `short` is why it ended early, if it did."""
    checks = (_wrong, _failures, _lost, _limit, _shared, _crowded, _noisy, _single, _errors, _truncated, _unknown)
    remarks = [remark for check in checks for remark in check(report)]
    if short:
        remarks.insert(0, Remark("short", f"{short}: the figures cover less than was asked for"))
    return remarks


def _arms(report: Report) -> Iterator[tuple[str, Arm]]:
    yield "the server", report.server
    if report.floor is not None:
        yield "the floor", report.floor


def _listed(kinds: Mapping[str, int]) -> str:
    """`2 malformed, 1 answered twice`: what there is of each."""
    return ", ".join(f"{count} {what}" for what, count in kinds.items() if count)


def _wrong(report: Report) -> Iterator[Remark]:
    tally = report.server.total()
    kinds = {
        "with an id that was not asked": tally.wrong_id,
        "to another question": tally.wrong_question,
        "with an unexpected response code": tally.wrong_rcode,
        "malformed": tally.malformed,
        "answered twice": tally.duplicates,
    }
    found = _listed(kinds)
    if found:
        yield Remark("wrong", f"wrong answers: {found}")


def _lost(report: Report) -> Iterator[Remark]:
    for who, arm in _arms(report):
        tally = arm.total()
        if tally.sent and tally.lost > LOST * tally.sent:
            share = f"{tally.lost} of {tally.sent} queries ({tally.lost / tally.sent:.2%})"
            yield Remark("lost", f"{who} left {share} without an answer in time")
    late = report.server.total().late
    if late:
        yield Remark("late", f"{late} answers came after their timeout; they count as lost")


def _failures(report: Report) -> Iterator[Remark]:
    """An error costs a server next to nothing: a run full of them says nothing about answers."""
    tally = report.server.total()
    failed = sum(count for code, count in tally.rcodes.items() if code not in (NOERROR, NXDOMAIN))
    if failed > LOST * tally.completed:
        share = failed / tally.completed
        yield Remark("failures", f"{share:.1%} of the answers are errors such as SERVFAIL or REFUSED: other questions?")


def _limit(report: Report) -> Iterator[Remark]:
    """Who was the limit: in an open loop generator or server fell behind; in a closed one, whose CPUs were full."""
    scenario = report.scenario
    threads = max(1, len(scenario.load_cpus))
    for who, arm in _arms(report):
        for one in arm.rounds:
            tally = one.tally
            asked = scenario.rate * tally.seconds
            if scenario.rate and tally.sent < KEPT * asked:
                left = f"{tally.sent / tally.seconds:,.0f} of {scenario.rate:,.0f} queries per second"
                yield Remark("generator", f"the generator sent {left} to {who}: give it more CPUs or a lower rate")
                break
            if scenario.rate and tally.qps < KEPT * scenario.rate:
                yield Remark("behind", f"{who} answered {tally.qps:,.0f} of {scenario.rate:,.0f} queries per second: "
                             "latencies are those of a queue that grows")
                break
            # One that spins is always full: whether the server was tells who was the limit.
            full = scenario.spin or tally.cpu_seconds >= BUSY * tally.seconds * threads
            if scenario.rate or not full:
                continue
            share = server_share(report, one)
            if share is None:
                yield Remark("generator", f"the generator's CPUs were full; whether {who} could do more is not known")
                break
            if share < IDLE:
                yield Remark("generator", f"the generator was the limit: its CPUs were full, {who} used {share:.0%} of "
                             "its own; queries per second are the generator's figure, not the server's")
                break


def server_share(report: Report, one: Round) -> float | None:
    """How full the server's CPUs were in a round, by its own processes; None where either is not known."""
    if one.server_cpu is None or not report.scenario.server_cpus or one.tally.seconds <= 0:
        return None
    return one.server_cpu / one.tally.seconds / len(report.scenario.server_cpus)


def _shared(report: Report) -> Iterator[Remark]:
    scenario = report.scenario
    both = sorted(set(scenario.server_cpus) & set(scenario.load_cpus))
    if both:
        named = ", ".join(map(str, both))
        yield Remark("shared", f"server and load shared CPU {named}: each took time from the other")


def _crowded(report: Report) -> Iterator[Remark]:
    """Other programs ran on the CPUs of the server or of the load."""
    scenario, rounds = report.scenario, report.server.rounds
    seconds = sum(one.tally.seconds for one in rounds)
    known = all(one.server_cpu is not None for one in rounds)
    used = {
        "server": (scenario.server_cpus if known else [], sum(one.server_cpu or 0.0 for one in rounds)),
        "load": (scenario.load_cpus, sum(one.tally.cpu_seconds for one in rounds)),
    }
    if set(scenario.server_cpus) & set(scenario.load_cpus) or not seconds:
        return
    for who, (cpus, own) in used.items():
        busy = sum(one.cores.get(cpu, 0.0) * one.tally.seconds for cpu in cpus for one in rounds)
        others = (busy - own) / (seconds * len(cpus)) if cpus else 0.0
        if others > OTHERS:
            named = ", ".join(map(str, cpus))
            yield Remark("crowded", f"other programs used {others:.0%} of CPU {named}, meant for the {who} alone")


def _noisy(report: Report) -> Iterator[Remark]:
    """CPU per answer is the figure that load from elsewhere disturbs least; if it varies, nothing else is steady."""
    for who, arm in _arms(report):
        found = spread(arm, lambda one: one.cpu_us)
        what = "CPU per answer"
        if found is None and not report.scenario.rate:
            found, what = spread(arm, lambda one: one.tally.qps), "queries per second"
        if found is not None and found.relative > NOISY_SPREAD:
            yield Remark("noisy", f"too noisy to quote: {what} of {who} varied by {found.relative:.0%} between rounds")
        stolen = max(one.stolen for one in arm.rounds)
        if stolen > NOISY_STOLEN:
            yield Remark("noisy", f"too noisy to quote: the hypervisor took {stolen:.0%} of a CPU from {who}")


def _single(report: Report) -> Iterator[Remark]:
    if len(report.server.rounds) == 1:
        yield Remark("single", "one round does not show how much rounds vary")


def _errors(report: Report) -> Iterator[Remark]:
    for who, arm in _arms(report):
        tally = arm.total()
        kinds = {
            "queries could not be sent": tally.send_errors,
            "errors came back from the network": tally.receive_errors,
            "connections could not be made": tally.connect_errors,
        }
        found = _listed(kinds)
        if found:
            yield Remark("errors", f"{who}: {found}")
        if tally.reconnects:
            yield Remark("reconnects", f"{who} closed {tally.reconnects} connections")


def _truncated(report: Report) -> Iterator[Remark]:
    truncated = report.server.total().truncated
    if truncated:
        yield Remark("truncated", f"{truncated} answers were truncated (TC)")


def _unknown(report: Report) -> Iterator[Remark]:
    if spread(report.server, lambda one: one.cpu_us) is None:
        hint = "" if report.scenario.server == "remote" else ": name the server's processes with --pids"
        yield Remark("cpu", f"CPU per answer is not known{hint}")
