# SPDX-License-Identifier: Apache-2.0
"""The words of `fastdns bench`: options in dnsperf's letters where dnsperf has one, checked before anything starts.

Strategy: argparse reads, `check` judges what one option means for another, and both fail with one sentence that names
the option. What comes out is `Options`, plain values that need no further checking.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from .compare import THRESHOLD
from .errors import UsageError
from .plot import FORMATS
from .questions import ZONE
from .turns import SHAPES as ALL_SHAPES
from .words import PROTOCOLS, Parser, cpus, decimal, is_local, pids, qtypes, share, target, whole

SHAPES = {name: shape for name, shape in ALL_SHAPES.items() if shape.protocol == "udp"}
DEFAULT_SHAPE = "64x4"
MOST_SOCKETS, MOST_IN_FLIGHT, MOST_NAMES, MOST_ROUNDS = 65_536, 32_768, 10_000_000, 1_000
EDNS_OCTETS = 1232
DNS_PORT = 53


@dataclass
class Options:
    """What was asked for. Seconds; `address` is empty and `port` 0 where the Corefile decides."""

    conf: str
    address: str
    port: int
    protocol: str
    pids: list[int]
    server_cpus: list[int]
    load_cpus: list[int]
    data: str
    names: int
    first: int
    zone: str
    types: dict[str, float]
    mix: int
    miss: float
    nxdomain: float
    edns: int
    do: bool
    once: bool
    sockets: int
    in_flight: int
    segment: bool
    spin: bool
    rate: float
    timeout: float
    duration: float
    warm: float
    rounds: int
    floor: bool
    json: str
    csv: str
    markdown: str
    hdr: str
    plot: str
    histogram: bool
    compare: str
    threshold: float
    force: bool
    progress: bool


def parser() -> argparse.ArgumentParser:
    """The table of options; its order is the order of `--help`."""
    made = Parser(
        prog="fastdns bench", allow_abbrev=False, add_help=False, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures a DNS server: queries per second, latency, and the CPU that each answer cost.",
        epilog="fastdns bench --scaling compares many cores with what one predicts (--scaling --help).\n"
        "Exit status: 0 fine, 1 regression found by --compare, 2 nothing measured or not comparable.\n"
        "A file named - is standard output; the text summary then is left out.",
    )
    made.add_argument("address", nargs="?", metavar="ADDRESS",
                      help="[udp://|tcp://]IP[:PORT] of a running server; with -conf, where our own one is asked")
    made.add_argument("-h", "--help", action="store_true", help="this text")
    group = made.add_argument_group("the server")
    group.add_argument("-conf", "--conf", default="", metavar="COREFILE", help="start our own server from it")
    group.add_argument("--server-cpus", type=cpus, metavar="LIST", help="CPUs of our own server, as 0,2-3")
    group.add_argument("--pids", type=pids, default=[], metavar="PID,PID",
                       help="processes of a running server on this machine, for its CPU per answer")
    group.add_argument("--floor", action="store_true",
                       help="measure a reflector of packets in turn with the server: no server can cost less")
    _questions(made.add_argument_group("the questions"))
    _load(made.add_argument_group("the load"))
    _output(made.add_argument_group("the output"))
    return made


def _questions(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-d", "--data", default="", metavar="FILE", help="questions in dnsperf's form: name, type")
    group.add_argument("--names", type=whole(1, MOST_NAMES), metavar="N",
                       help="so many synthetic names, h0000000 and so on below --zone (default 1000)")
    group.add_argument("--first", type=whole(0, 9_999_999), metavar="N", help="the first synthetic name's number")
    group.add_argument("--zone", metavar="NAME", help=f"the zone of synthetic names (default {ZONE})")
    group.add_argument("--type", type=qtypes, metavar="TYPE,TYPE",
                       help="types of synthetic questions, with weights for --mix as A=7,AAAA=3 (default A)")
    group.add_argument("--mix", type=whole(1, MOST_NAMES), metavar="N",
                       help="draw so many queries of the names, by chance, instead of asking one after the other")
    group.add_argument("--miss", type=share, metavar="SHARE", help="with --mix: of names that come only once")
    group.add_argument("--nxdomain", type=share, metavar="SHARE",
                       help="with --mix: of names below missing.ZONE, where NXDOMAIN is expected and NOERROR elsewhere")
    group.add_argument("-e", action="store_true", help=f"EDNS with a buffer of {EDNS_OCTETS} octets")
    group.add_argument("--edns", type=whole(512, 65535), default=0, metavar="OCTETS", help="EDNS with this buffer size")
    group.add_argument("-D", "--do", action="store_true", help="set the DNSSEC OK bit (implies EDNS)")
    group.add_argument("--once", action="store_true", help="ask each question at most once: every one is a miss")


def _load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-m", "--mode", choices=PROTOCOLS, help="transport, where ADDRESS has no scheme (default udp)")
    group.add_argument("--shape", choices=SHAPES, help=f"sockets x in flight at once (default {DEFAULT_SHAPE})")
    group.add_argument("-c", "--sockets", type=whole(1, MOST_SOCKETS), metavar="N", help="sockets, or TCP connections")
    group.add_argument("--in-flight", type=whole(1, MOST_IN_FLIGHT), metavar="N", help="queries in flight on each")
    group.add_argument("--segment", action="store_true", help="send equal-sized queries by UDP segmentation offload")
    group.add_argument("--spin", action="store_true",
                       help="the load never sleeps: only on one machine does a server pay for waking its client")
    group.add_argument("-Q", "--rate", type=decimal(0, 1e8, "queries per second"), default=0.0, metavar="QPS",
                       help="open loop at this rate; latency counts from when a query is due (default: closed loop)")
    group.add_argument("-t", "--timeout", type=decimal(0.01, 60, "seconds"), default=2.0, metavar="SECONDS",
                       help="when an answer counts as lost (default 2)")
    group.add_argument("-l", "--duration", type=decimal(0.1, 86_400, "seconds"), default=5.0, metavar="SECONDS",
                       help="length of a round (default 5)")
    group.add_argument("--rounds", type=whole(1, MOST_ROUNDS), default=3, metavar="N", help="rounds (default 3)")
    group.add_argument("--warm", type=decimal(0, 3600, "seconds"), default=2.0, metavar="SECONDS",
                       help="load before the first round, not counted (default 2)")
    group.add_argument("--load-cpus", type=cpus, metavar="LIST", help="CPUs of the load, one thread on each")


def _output(group: argparse._ArgumentGroup) -> None:
    for name, words in (("json", "everything, as one JSON object"), ("csv", "one line a round"),
                        ("markdown", "a table of the figures"), ("hdr", "latency percentiles as a .hgrm file")):
        group.add_argument(f"--{name}", default="", metavar="FILE", help=words)
    group.add_argument("--plot", default="", metavar="FILE", help=f"a picture, {' or '.join(FORMATS)}")
    group.add_argument("--histogram", action="store_true", help="the latency distribution below the summary")
    group.add_argument("--no-progress", action="store_true", help="no live line on a terminal")
    group.add_argument("--compare", default="", metavar="OLD.json", help="compare with an earlier --json")
    group.add_argument("--threshold", type=decimal(0, 1000, "per cent"), default=THRESHOLD, metavar="PERCENT",
                       help=f"what --compare takes for a change (default {THRESHOLD:g})")
    group.add_argument("--force", action="store_true", help="compare even another machine or scenario")


def read(words: Sequence[str]) -> Options | None:
    """The options, or None for --help. Raises UsageError."""
    found = parser().parse_args(list(words))
    if found.help:
        return None
    protocol, address, port = target(found.address) if found.address else ("", "", 0)
    _check(found, protocol, address)
    shape = SHAPES[found.shape or DEFAULT_SHAPE]
    return Options(
        conf=found.conf, address=address, port=port or (0 if found.conf else DNS_PORT),
        protocol=protocol or found.mode or "udp", pids=found.pids, server_cpus=found.server_cpus or [],
        load_cpus=found.load_cpus or [],
        data=found.data, names=found.names or 1000, first=found.first or 0, zone=found.zone or ZONE,
        types=found.type or {"A": 1.0}, mix=found.mix or 0, miss=found.miss or 0.0, nxdomain=found.nxdomain or 0.0,
        edns=found.edns or (EDNS_OCTETS if found.do or found.e else 0), do=found.do, once=found.once,
        sockets=found.sockets or shape.sockets, in_flight=found.in_flight or shape.in_flight,
        segment=found.segment or shape.segment, spin=found.spin, rate=found.rate, timeout=found.timeout,
        duration=found.duration, warm=found.warm, rounds=found.rounds, floor=found.floor,
        json=found.json, csv=found.csv, markdown=found.markdown, hdr=found.hdr, plot=found.plot,
        histogram=found.histogram, compare=found.compare, threshold=found.threshold, force=found.force,
        progress=not found.no_progress,
    )


def _check(found: argparse.Namespace, protocol: str, address: str) -> None:
    """What options mean for each other."""
    tcp = (protocol or found.mode) == "tcp"
    here = not address or is_local(address)
    rules = (
        (not found.conf and not address, "no server: name an ADDRESS, or a Corefile with -conf"),
        (bool(protocol and found.mode and protocol != found.mode), f"-m {found.mode} contradicts {protocol}://"),
        (bool(found.conf and found.pids), "--pids: the processes of our own server are known"),
        (bool(found.pids and not here), "--pids: the server runs elsewhere"),
        (found.conf == "stdin", "-conf stdin: the server could not read it again"),
        (bool(found.server_cpus and not found.conf), "--server-cpus: only a server that -conf starts can be placed"),
        (bool(found.shape and (found.sockets or found.in_flight)),
         "--shape says what --sockets and --in-flight say: use either"),
        (tcp and (found.segment or found.shape == "8x128"), "--segment: TCP has no datagrams"),
        (tcp and found.floor, "--floor: the floor speaks UDP only"),
        (found.floor and not here, "--floor: the floor runs on this machine, the server elsewhere"),
        (found.force and not found.compare, "--force: nothing to compare; --compare is missing"),
    )
    for wrong, why in rules:
        if wrong:
            raise UsageError(why)
    if not found.mix:
        for name in ("miss", "nxdomain"):
            if getattr(found, name) is not None:
                raise UsageError(f"--{name}: only a --mix has shares")
        if any(weight != 1 for weight in (found.type or {}).values()):
            raise UsageError("--type: only a --mix has weights")
    if found.data:
        for name in ("names", "first", "zone", "type", "mix"):
            if getattr(found, name) is not None:
                raise UsageError(f"--{name}: the questions come from {found.data}")
    if [found.json, found.csv, found.markdown, found.hdr].count("-") > 1:
        raise UsageError("only one output can be -")
    if found.plot and not found.plot.lower().endswith(FORMATS):
        raise UsageError(f"--plot {found.plot}: the name must end in {' or '.join(FORMATS)}")
