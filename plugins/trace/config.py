# SPDX-License-Identifier: Apache-2.0
"""The grammar of trace."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any
from urllib.parse import urlsplit

from fastdns.corefile.types import Duration, Int, Text, Type
from fastdns.corefile.units import parse_float, quote
from fastdns.plugin import Arg, Directive, Dispenser, Option, Settings

SERVICE = "coredns"
ENDPOINTS = {"zipkin": "localhost:9411", "datadog": "localhost:8126"}
BACKLOG, BATCH, INTERVAL = 1000, 100, 1.0
TRUE, FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True)
class Rate(Type):
    """A number from 0 to 1."""

    def read(self, text: str, d: Dispenser) -> float:
        try:
            value = parse_float(text)
        except ValueError as error:
            raise d.fail(str(error)) from None
        if not 0 <= value <= 1:
            shown = ("+Inf" if value > 0 else "-Inf") if isinf(value) else f"{value:f}"
            raise d.fail(f"datadog analytics rate must be between 0 and 1, '{shown}' is not supported")
        return value

    def bounds(self) -> str:
        return "0 to 1"


def client_server(d: Dispenser) -> Mapping[str, Any]:
    """`client_server [BOOL]`."""
    words = d.remaining_args()
    if len(words) > 1:
        raise d.arg_err()
    if words and words[0] not in TRUE + FALSE:
        raise d.fail(f'strconv.ParseBool: parsing {quote(words[0])}: invalid syntax')
    return {"client_server": not words or words[0] in TRUE}


def analytics(d: Dispenser) -> Mapping[str, Any]:
    """`datadog_analytics_rate [RATE]`: 0 where none is written."""
    words = d.remaining_args()
    if len(words) > 1:
        raise d.arg_err()
    return {"datadog_analytics_rate": Rate().read(words[0], d) if words else 0.0}


def unusable(url: str) -> str:
    """Why no request can be made of an address; "" where one can. What only the network knows is found when sending."""
    try:
        url.encode()
        parts = urlsplit(url)
        _ = parts.port
        host = parts.hostname or ""
        if host and ":" not in host:
            host.encode("idna")
    except ValueError as error:
        return str(error)
    if any(letter < " " or letter == "\x7f" for letter in url):
        return "invalid control character in URL"
    if not all("!" <= letter <= "~" for letter in parts.netloc.rpartition("@")[2]):
        return "invalid character in host name"
    return ""


def endpoint(settings: Settings, d: Dispenser) -> Settings:
    """Type and endpoint of the line: a single word is an endpoint, as CoreDNS reads it."""
    first, second = settings["first"], settings["second"]
    kind, where = (first.lower(), second) if second is not None else ("zipkin", first or "")
    if kind not in ENDPOINTS:
        raise d.fail(f"tracing endpoint type '{kind}' is not supported")
    where = where or ENDPOINTS[kind]
    if kind == "zipkin" and "http" not in where:
        where = f"http://{where}/api/v2/spans"
    url = where if kind == "zipkin" else f"http://{where}"
    if why := unusable(url):
        raise d.fail(f'parse "{url}": {why}')
    return settings.replace(type=kind, endpoint=where)


def merged(lines: list[Any]) -> Settings:
    """The lines of a block as one: the endpoint of the last, of each option the last that was written."""
    values = dict(lines[-1])
    for line in lines:
        values.update({name: line[name] for name in line.given})
    return Settings(values)


NOT_NEGATIVE = "{text} is negative"

TRACE = Directive(
    "trace",
    usage="trace [[TYPE] ENDPOINT]",
    args=(
        Arg("first", Text(), optional=True, show="TYPE"),
        Arg("second", Text(), optional=True, show="ENDPOINT"),
    ),
    options=(
        Option("every", Int(unsigned=64), default=1, show="AMOUNT",
               help="Traces one of so many queries, counted by each worker; 0: none."),
        Option("service", Text(), default=SERVICE, show="NAME", help="The service that the spans belong to."),
        Option("client_server", parse=client_server, defaults={"client_server": False}, usage="client_server [BOOL]",
               help="Puts a query into its client's span where the client sends one: over DNS over HTTPS alone."),
        Option("datadog_analytics_rate", parse=analytics, defaults={"datadog_analytics_rate": 0},
               usage="datadog_analytics_rate [RATE]",
               help="The share of traces, 0 to 1, that Datadog shall analyze (`_dd1.sr.eausr` of a span)."),
        Option("zipkin_max_backlog_size", Int(0, below=NOT_NEGATIVE), default=BACKLOG, show="SIZE",
               help="Spans that wait to be sent; of more the oldest go. 0: 1000."),
        Option("zipkin_max_batch_size", Int(0, below=NOT_NEGATIVE), default=BATCH, show="SIZE",
               help="Spans that are sent at once when so many wait. 0: 100."),
        Option("zipkin_max_batch_interval", Duration(0, below=NOT_NEGATIVE), default=INTERVAL, show="DURATION",
               help="How long spans wait to be sent together. 0: 1s."),
    ),
    check=endpoint,
    help="Sends the way of queries through the plugins to ENDPOINT.",
)
