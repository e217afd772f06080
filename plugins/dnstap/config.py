# SPDX-License-Identifier: Apache-2.0
"""The grammar of dnstap: each line is a tap, which connects to a collector or listens for some."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from fastdns.corefile.types import Text
from fastdns.corefile.units import atoi, quote
from fastdns.plugin import Directive, Dispenser, Option

WRITEBUF_MOST, QUEUE_MOST = 1024, 4096
SCHEMES = ("tls", "tcp")
# What Go's net/url takes: a host that stands in no brackets, a user before it, a path behind it.
HOST = re.compile(r"(?:[A-Za-z0-9\-_.~!$&'()*+,;=:<>\"\]]|[^\x00-\x7f]|%25|%[89A-Fa-f][0-9A-Fa-f])*")
USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
ESCAPED = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
PORT = re.compile(r"(?::[0-9]*)?")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Tap:
    """A line. `proto`: unix, tcp or tls; `endpoint`: a path, or host and port as they are written. `writebuf` in MiB,
    `queue` in 10,000 messages. `identity` and `version` None: the server's own. `tls`: certificate, key and, where
    clients shall show one, the authority's certificate."""

    proto: str
    endpoint: str
    listen: bool = False
    full: bool = False
    writebuf: int = 1
    queue: int = 1
    identity: str | None = None
    version: str | None = None
    extra: str = ""
    skipverify: bool = False
    tls: tuple[str, ...] = ()


def authority(url: str) -> str:
    """Host and port of a URL as Go's net/url finds them, user left out. ValueError for what it refuses."""
    if CONTROL.search(url):
        raise ValueError("invalid control character in URL")
    rest, _, fragment = url.partition("://")[2].partition("#")
    text = re.split("[/?]", rest, maxsplit=1)[0]
    path = rest[len(text) :].partition("?")[0]
    user, _, text = text.rpartition("@")
    if not (USER.fullmatch(user) and all(ESCAPED.fullmatch(part) for part in (user, path, fragment))):
        raise ValueError("invalid URL")
    if text.startswith("["):
        inner, bracket, port = text[1:].partition("]")
        address, _, _zone = inner.partition("%25")
        if not bracket or "%" in address or ipaddress.ip_address(address).version != 6 or not PORT.fullmatch(port):
            raise ValueError("invalid host")
        return f"[{inner.replace('%25', '%')}]{port}"
    _, colon, port = text.rpartition(":")
    if not HOST.fullmatch(text) or not PORT.fullmatch(colon + port if colon else ""):
        raise ValueError("invalid host")
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def target(text: str, d: Dispenser) -> tuple[str, str]:
    """Protocol and endpoint of a SOCKET."""
    for scheme in SCHEMES:
        if text.startswith(f"{scheme}://"):
            try:
                return scheme, authority(text)
            except ValueError:
                raise d.arg_err() from None
    return "unix", text.removeprefix("unix://")


def multiple(words: list[str], place: int, name: str, most: int, unit: str, d: Dispenser) -> int:
    """The number at a place of the line; 1 where nothing stands there."""
    if len(words) <= place:
        return 1
    try:
        value = atoi(words[place])
    except ValueError as error:
        raise d.err(f"dnstap: invalid {name} {quote(words[place])}: {error}") from None
    if not 1 <= value <= most:
        raise d.err(f"dnstap: {name} must be between 1 and {most} ({unit}): {value}")
    return value


def one_word(d: Dispenser) -> str:
    """The word behind an option."""
    if not d.next_arg():
        raise d.arg_err()
    return d.val


def read_line(d: Dispenser) -> Tap:
    """One line with its block; the current token is its name."""
    words = d.remaining_args()
    if not words:
        raise d.arg_err()
    listen = words[0] == "listen"
    if listen:
        words = words[1:]
        if not words:
            raise d.err("dnstap listen requires an endpoint argument")
    writebuf = multiple(words, 2, "MultipleTcpWriteBuf", WRITEBUF_MOST, "MiB units", d)
    queue = multiple(words, 3, "MultipleQueue", QUEUE_MOST, "x10k messages", d)
    proto, endpoint = target(words[0], d)
    identity = version = None
    extra, skipverify, tls = "", False, tuple[str, ...]()
    while d.next_block():
        if d.val == "skipverify":
            skipverify = True
        elif d.val == "tls":
            if not listen:
                raise d.err("tls directive only valid for listeners")
            files = d.remaining_args()
            if len(files) < 2:
                raise d.err("tls requires cert and key file paths")
            tls = tuple(files[:3])
        elif d.val == "identity":
            identity = one_word(d)
        elif d.val == "version":
            version = one_word(d)
        elif d.val == "extra":
            extra = one_word(d)
        else:
            raise d.err(f"unknown property '{d.val}'")
    full = words[1:2] == ["full"]
    return Tap(proto, endpoint, listen, full, writebuf, queue, identity, version, extra, skipverify, tls)


DNSTAP = Directive(
    "dnstap",
    usage="dnstap [listen] SOCKET [full] [WRITEBUF [QUEUE]]",
    options=(
        Option("identity", Text(), show="IDENTITY", help="Who the server says it is; without it its host name."),
        Option("version", Text(), show="VERSION", help="What it says it runs; without it `fastdns-` and its version."),
        Option("extra", Text(), show="EXTRA", help="A text for each message, with the tokens of *log*'s formats."),
        Option("tls", Text(), usage="tls CERT KEY [CA]",
               help="Of `listen tls://...`: the server's files, and whose certificates clients must show."),
        Option("skipverify", help="Takes a collector's certificate unseen; with CA, clients need not show one."),
    ),
    parse_one=read_line,
    help="Tells collectors of the messages that pass.",
)
