# SPDX-License-Identifier: Apache-2.0
"""The grammar of forward.

What needs TLS or HTTPS is refused by name until it is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdns._log import RCODES
from fastdns.corefile.addresses import parse_ip, split_host_port
from fastdns.corefile.options import Located
from fastdns.corefile.types import Addr, Choice, Duration, Int, Name, Text, Type, Zone
from fastdns.corefile.units import format_duration, quote
from fastdns.plugin import Arg, Directive, Dispenser, Option, Settings

from .upstreams import TO_MAX, Host, classify

POLICIES = ("random", "round_robin", "sequential")
RCODE_NUMBERS = {name: number for number, name in RCODES.items()} | {"NOTIMPL": 4}


@dataclass(frozen=True)
class Rcode(Type):
    """A response code by name; as a failure NOERROR is refused."""

    failure: bool = False

    def read(self, text: str, d: Dispenser) -> int:
        number = RCODE_NUMBERS.get(text.upper())
        if number is None:
            raise d.fail(f"{text} is not a valid rcode")
        if self.failure and number == 0:
            raise d.fail("NoError cannot be used in failover")
        return number

    def bounds(self) -> str:
        return "names of rcodes"


class From(Type):
    """A zone: the word as written, and the zones that it stands for (a network may be several)."""

    def read(self, text: str, d: Dispenser) -> tuple[str, tuple[str, ...]]:
        return text, tuple(Zone(bad="unable to normalize '{text}'").read(text, d))

    def bounds(self) -> str:
        return "a zone"


class Resolver(Type):
    """`IP` or `IP:PORT`, kept as written."""

    def read(self, text: str, d: Dispenser) -> str:
        try:
            host = split_host_port(text)[0]
        except ValueError:
            host = text
        if parse_ip(host) is None:
            raise d.fail(f"resolver must be an IP address or IP:port: {quote(text)}")
        return text

    def bounds(self) -> str:
        return "`IP[:PORT]`"


def health_check(d: Dispenser) -> Mapping[str, Any]:
    """`health_check DURATION [no_rec] [domain FQDN]`."""
    if not d.next_arg():
        raise d.arg_err()
    found: dict[str, Any] = {"domain": "."}
    found["interval"] = Duration(0, below="health_check can't be negative: {value}").read(d.val, d)
    while d.next_arg():
        if d.val == "no_rec":
            found["no_rec"] = True
        elif d.val == "domain":
            if not d.next_arg():
                raise d.arg_err()
            found["domain"] = Name(bad="health_check: invalid domain name {text}").read(d.val, d)
        else:
            raise d.fail(f"health_check: unknown option {d.val}")
    return found


def max_concurrent(d: Dispenser) -> Mapping[str, Any]:
    """The number, and as it was written: the error says it so."""
    if not d.next_arg():
        raise d.arg_err()
    value = Int(0, below="max_concurrent can't be negative: {value}").read(d.val, d)
    return {"max_concurrent": value, "limit_text": f"concurrent queries exceeded maximum {d.val}"}


def not_built(d: Dispenser) -> Mapping[str, Any]:
    raise d.err(f"property '{d.val}' is not built yet")


def check(settings: Settings, d: Dispenser) -> Settings:
    """What concerns several options, in CoreDNS's order; `upstreams` is added."""
    if 0 < settings.max_age < settings.expire:
        age, expire = format_duration(settings.max_age), format_duration(settings.expire)
        raise d.fail(f"max_age ({age}) must not be less than expire ({expire})")
    try:
        upstreams = classify(settings.to)
    except ValueError as error:
        raise d.fail(str(error)) from None
    if len(settings.to) > TO_MAX:
        raise d.fail(f"more than {TO_MAX} TOs configured: {len(settings.to)}")
    source = settings.source_address
    if source is not None:
        for one in upstreams:
            if not isinstance(one, Host) and (":" in one.address) != (":" in source):
                raise d.fail(f"source_address {source} cannot reach {one.to}")
    return settings.replace(upstreams=upstreams)


def option(name: str, help: str, **kw: Any) -> Option:
    return Option(name, help=f"Not built yet: refused at the start. {help}".strip(), parse=not_built, **kw)


FORWARD = Directive(
    "forward",
    args=(
        Arg("origin", From(), show="FROM"),
        Arg("to", Text(), rest=True, show="TO"),
    ),
    options=(
        Option(
            "except",
            Zone(),
            key="ignored",
            rest=True,
            repeat="join",
            show="NAMES",
            help="Not forwarded, nor names below.",
        ),
        Option("force_tcp", surplus="word", help="Asks over TCP, whatever the client used."),
        Option(
            "prefer_udp", surplus="word", help="Asks over UDP first, whatever the client used; TC over TCP at once."
        ),
        Option(
            "expire",
            Duration(0, below="expire can't be negative: {duration}"),
            10.0,
            surplus="leave",
            show="DURATION",
            help="An idle connection is closed after so long.",
        ),
        Option(
            "max_age",
            Duration(0, below="max_age can't be negative: {duration}"),
            0.0,
            surplus="leave",
            show="DURATION",
            help="A connection is not used for longer; 0: for ever. At least `expire`.",
        ),
        Option(
            "max_idle_conns",
            Int(0, below="max_idle_conns can't be negative: {value}"),
            0,
            surplus="leave",
            show="NUMBER",
            help="Idle connections kept for each upstream in each worker; 0: any number.",
        ),
        Option(
            "read_timeout",
            Duration(positive=True, below="read_timeout must be positive: {duration}"),
            2.0,
            surplus="leave",
            show="DURATION",
            help="How long an attempt waits.",
        ),
        Option(
            "max_fails",
            Int(unsigned=32),
            2,
            surplus="leave",
            show="NUMBER",
            help="An upstream with more failed checks is down; 0: never.",
        ),
        Option(
            "max_connect_attempts",
            Int(unsigned=32),
            surplus="leave",
            show="NUMBER",
            help="Failed attempts of a query; 0: no cap. Without it, twice the number of upstreams.",
        ),
        Option(
            "health_check",
            parse=health_check,
            defaults={"interval": 0.5, "no_rec": False, "domain": "."},
            usage="health_check DURATION [no_rec] [domain FQDN]",
            help="How often a failing upstream is checked, without RD, with which name.",
        ),
        Option(
            "policy",
            Choice(POLICIES, bad=Located("unknown policy '{text}'")),
            "random",
            surplus="leave",
            show="POLICY",
            help="In which order upstreams are asked.",
        ),
        Option(
            "max_concurrent",
            parse=max_concurrent,
            defaults={"max_concurrent": 0, "limit_text": ""},
            usage="max_concurrent NUMBER",
            help="More queries in flight are REFUSED; 0: no limit.",
        ),
        Option(
            "next", Rcode(), rest=True, repeat="join", show="RCODE", help="Answers that the next stanza is asked after."
        ),
        Option("next_on_nodata", surplus="word", help="Asks the next stanza after NOERROR without answers."),
        Option("failfast_all_unhealthy_upstreams", help="SERVFAIL when all are down, instead of trying one."),
        Option(
            "failover",
            Rcode(failure=True),
            rest=True,
            repeat="join",
            show="RCODE",
            help="Answers that the next upstream is asked after.",
        ),
        Option(
            "resolver",
            Resolver(),
            rest=True,
            show="IP[:PORT]",
            help="Who resolves host names in TO; the system, unless set.",
        ),
        Option(
            "source_address",
            Addr(bad=Located("invalid IP address: {text}")),
            surplus="leave",
            show="IP",
            help="The address that is asked from.",
        ),
        option("tls", "", usage="tls CERT KEY CA"),
        option("tls_servername", "", usage="tls_servername NAME"),
        option("doh_method", "", usage="doh_method GET|POST"),
    ),
    check=check,
    help="Asks other servers.",
)
