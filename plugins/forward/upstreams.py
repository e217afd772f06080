# SPDX-License-Identifier: Apache-2.0
"""The TO arguments of forward: addresses, resolv.conf files and host names become upstreams.

Strategy: `classify` sorts the words without asking anybody, so a Corefile can be checked anywhere; `resolve` asks
for host names once, at set-up, as CoreDNS does. Errors are ValueErrors in CoreDNS's words.
"""

import socket
import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from secrets import randbelow
from typing import NamedTuple

from fastdns._wire import name_from_text, scan
from fastdns.corefile import addresses
from fastdns.corefile.names import fqdn, is_domain_name
from fastdns.corefile.units import quote

TO_MAX = 15
UPSTREAMS_MAX = 255
NOT_BUILT = ("tls", "https")
RESOLVE_SECONDS = 2.0
A, AAAA = 1, 28


class Upstream(NamedTuple):
    """An address to ask: `address` with an interface zone where one was written, `to` the label of its metrics."""

    address: str
    port: int
    to: str


class Host(NamedTuple):
    """A host name to resolve at set-up."""

    name: str
    port: int


def split_zone(text: str) -> tuple[str, str]:
    """(address, zone) of `fe80::1%eth0`, `[fe80::1%eth0]:53`; the address keeps brackets and port."""
    head, percent, zone = text.rpartition("%")
    if not percent:
        return text, ""
    port = ""
    if ":" in zone:
        zone, _, digits = zone.rpartition(":")
        port = ":" + digits
    return head + ("]" if head.startswith("[") else "") + port, zone.removesuffix("]")


def port_number(text: str, written: str) -> int:
    """The number of a port. CoreDNS takes any text, and then fails with every query; we refuse it."""
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"invalid port in upstream address: {quote(written)}")
    return int(text)


def upstream(text: str) -> Upstream:
    """The upstream of `[dns://]IP:PORT`. Raises ValueError for other schemes, those not built yet among them."""
    plain, zone = split_zone(text)
    scheme, rest = addresses.split_scheme(plain)
    if scheme in NOT_BUILT:
        raise ValueError(f"'{scheme}' upstreams are not built yet: {text}")
    if scheme != addresses.DNS:
        raise ValueError(f"'{scheme}' is not supported as a destination protocol in forward: {plain}")
    host, port = addresses.split_host_port(rest)
    number = port_number(port, text)
    address = addresses.parse_ip(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    if mapped is not None:
        host, zone = str(mapped), ""
    if isinstance(address, IPv4Address):
        zone = ""
    return Upstream(f"{host}%{zone}" if zone else host, number, addresses.join_host_port(host, number))


def has_address(text: str) -> bool:
    """False for HOST:PORT whose host is no address: a file's `nameserver` line may name anything."""
    scheme, rest = addresses.split_scheme(split_zone(text)[0])
    return scheme != addresses.DNS or addresses.parse_ip(addresses.split_host_port(rest)[0]) is not None


def host_entry(text: str) -> Host:
    """A word that is neither address nor file: a host name with its port."""
    plain, _ = split_zone(text)
    scheme, host = addresses.split_scheme(plain)
    problem = ValueError(f"not an IP address, file, or valid domain: {quote(text)}")
    if scheme not in (addresses.DNS, *NOT_BUILT):
        raise problem
    name, port = host, str(addresses.DEFAULT_PORTS[scheme])
    try:
        name, port = addresses.split_host_port(host)
    except ValueError:
        pass
    name = name.strip("[]")
    if not is_domain_name(name) or addresses.parse_ip(name) is not None:
        raise problem
    if scheme in NOT_BUILT:
        raise ValueError(f"'{scheme}' upstreams are not built yet: {text}")
    return Host(name, port_number(port, text))


def classify(words: Iterable[str]) -> tuple[Upstream | Host, ...]:
    """Upstreams and host names in the order of the words; a file's name servers stand where it stands."""
    words = tuple(words)
    for word in words:
        scheme, rest = addresses.split_scheme(word)
        if scheme == addresses.HTTPS and "/" in rest:
            raise ValueError(
                f"paths are not allowed in HTTPS upstream addresses (the /dns-query path is used by default): {word}"
            )
    found: list[Upstream | Host] = []
    for word in words:
        try:
            texts = addresses.host_ports_or_files([word])
        except ValueError as error:
            if str(error) == "no nameservers found":
                continue
            if "not an IP address or file" not in str(error):
                raise
            found.append(host_entry(word))
            continue
        # A `nameserver` that is no address is passed over, as the C library does.
        found.extend(upstream(text) for text in texts if has_address(text))
    if not found:
        raise ValueError("no valid upstream addresses found")
    return tuple(found)


def resolve(entries: Sequence[Upstream | Host], resolvers: Sequence[str]) -> tuple[Upstream, ...]:
    """Upstreams with host names replaced by all their addresses, A before AAAA, duplicates dropped."""
    found: dict[str, Upstream] = {}
    for entry in entries:
        if isinstance(entry, Host):
            try:
                hosts = ask_resolvers(entry.name, resolvers) if resolvers else ask_system(entry.name)
            except (OSError, ValueError) as error:
                raise ValueError(f"failed to resolve {quote(entry.name)}: {error}") from None
            several = [Upstream(host, entry.port, addresses.join_host_port(host, entry.port)) for host in hosts]
        else:
            several = [entry]
        for one in several:
            found.setdefault(one.to, one)
    if len(found) > UPSTREAMS_MAX:
        raise ValueError(f"more than {UPSTREAMS_MAX} upstream addresses: {len(found)}")
    return tuple(found.values())


def ask_system(name: str) -> list[str]:
    """A host's addresses by the system's resolver. Raises ValueError."""
    try:
        if not addresses.is_host_name(name):
            raise UnicodeError  # nobody has it; of digits alone the C library would make an address of the 1980s
        found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError):
        raise ValueError(f"lookup {name}: no such host") from None
    return list(dict.fromkeys(str(info[4][0]) for info in found))


def ask_resolvers(name: str, resolvers: Sequence[str]) -> list[str]:
    """A host's addresses by the resolvers of the `resolver` option, tried in order. Raises ValueError."""
    cause = ""
    for text in resolvers:
        found: list[str] = []
        for rtype in (A, AAAA):
            try:
                found += exchange(addresses.host_port(text), name, rtype)
            except (OSError, ValueError) as error:
                cause = f": {error}"
                break
        if found:
            return found
    raise ValueError(f"no addresses found for {quote(name)}{cause}")


def exchange(server: str, name: str, rtype: int) -> list[str]:
    """The addresses in one resolver's answer. Raises OSError, or ValueError for an answer that makes no sense."""
    host, port = addresses.split_host_port(server)
    identity = randbelow(1 << 16)
    question = name_from_text(fqdn(name)) + struct.pack("!HH", rtype, 1)
    query = struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 0) + question
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(RESOLVE_SECONDS)
        try:
            sock.connect((host, int(port)))
            sock.send(query)
            while True:
                reply = sock.recv(65535)
                if len(reply) >= 12 and reply[:2] == query[:2] and reply[2] & 0x80:
                    return addresses_of(reply, rtype)
        except OSError as error:
            cause = "i/o timeout" if isinstance(error, TimeoutError) else f"read: {str(error.strerror).lower()}"
            raise OSError(f"read udp {addresses.join_host_port(*sock.getsockname()[:2])}->{server}: {cause}") from None


def addresses_of(reply: bytes, rtype: int) -> list[str]:
    """The addresses of one type among a reply's answers. Raises ValueError when it cannot be read."""
    _, records = scan(reply)
    return [str(ip_address(rdata)) for section, _, kind, _, _, rdata in records if section == 0 and kind == rtype]
