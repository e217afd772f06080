# SPDX-License-Identifier: Apache-2.0
"""DNS messages as objects: dnslib's, with its gaps closed.

    message = query.message                       # a Message, parsed when it is touched
    message.add_answer(RR("www.example.org", QTYPE.DNAME, rdata=RDMAP["DNAME"](DNSLabel("b.")), ttl=60))
    return Reply(message)

Strategy: dnslib keeps the object model that plugin authors know; everything that it reads or writes wrongly is done
here instead. Names are read by the compiled code, which bounds pointers and takes any octet in a label; RDATA of the
types that dnslib leaves opaque has classes (rdata.py); options of EDNS are read to the last, empty one; an empty
RDATA is no error (RFC 2136 2.4). A malformed message raises ValueError, nothing else.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from dnslib import CLASS, QTYPE, RCODE, RD, RDMAP, RR, DNSError, DNSHeader, DNSLabel, DNSQuestion, DNSRecord, EDNSOption
from dnslib.bimap import BimapError
from dnslib.buffer import BufferError as WireError
from dnslib.label import DNSBuffer, DNSLabelError

from ._wire import name_at, name_to_text
from .rdata import quoted

OPT = 41
HEADER_OCTETS = 12
NSID, ECS, COOKIE, KEEPALIVE, PADDING, EDE = 3, 8, 10, 11, 12, 15

_MALFORMED = (DNSError, BimapError, WireError, DNSLabelError, ValueError, IndexError, KeyError, OverflowError)


class _Buffer(DNSBuffer):
    """A message that is read: names come from the compiled code."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self.octets = octets

    def decode_name(self, last: int = -1) -> DNSLabel:
        name, used = name_at(self.octets, self.offset)
        self.offset += used
        labels, at = [], 0
        while name[at]:
            labels.append(name[at + 1 : at + 1 + name[at]])
            at += 1 + name[at]
        return Name(labels)


class Name(DNSLabel):
    """A name whose text is CoreDNS's, whatever octets its labels hold."""

    def __str__(self) -> str:
        wire = b"".join(bytes([len(part)]) + part for part in self.label) + b"\0"
        return name_to_text(wire)


class ExtendedError(EDNSOption):
    """An extended DNS error (RFC 8914)."""

    def __init__(self, info_code: int, text: str = "") -> None:
        super().__init__(EDE, info_code.to_bytes(2, "big") + text.encode())

    @property
    def info_code(self) -> int:
        """What went wrong, by IANA's table."""
        return int.from_bytes(self.data[:2], "big")

    @property
    def text(self) -> str:
        """The same in words."""
        return bytes(self.data[2:]).decode("utf-8", "replace")


class Cookie(EDNSOption):
    """A DNS cookie (RFC 7873): 8 octets of the client, and none or 8 to 32 of the server."""

    def __init__(self, client: bytes, server: bytes = b"") -> None:
        if len(client) != 8 or not (server == b"" or 8 <= len(server) <= 32):
            raise ValueError("a cookie has 8 octets of the client and 0 or 8 to 32 of the server")
        super().__init__(COOKIE, client + server)

    @property
    def client(self) -> bytes:
        """The client's half."""
        return bytes(self.data[:8])

    @property
    def server(self) -> bytes:
        """The server's half."""
        return bytes(self.data[8:])


class ClientSubnet(EDNSOption):
    """The client's network (RFC 7871): `network`, whose prefix is the source prefix, and the scope of the answer."""

    def __init__(self, network: str, scope: int = 0) -> None:
        net = ipaddress.ip_network(network)
        octets = net.network_address.packed[: (net.prefixlen + 7) // 8]
        family = 1 if net.version == 4 else 2
        super().__init__(ECS, family.to_bytes(2, "big") + bytes([net.prefixlen, scope]) + octets)

    @property
    def network(self) -> str:
        """Address and source prefix. ValueError for an unknown family."""
        family, size = int.from_bytes(self.data[:2], "big"), {1: 4, 2: 16}
        if family not in size or len(self.data) < 4:
            raise ValueError("a client subnet of no known family")
        address = bytes(self.data[4:]).ljust(size[family], b"\0")[: size[family]]
        return str(ipaddress.ip_network((address, self.data[2]), strict=False))

    @property
    def scope(self) -> int:
        """Bits of the address that the answer is good for."""
        return int(self.data[3])


class Padding(EDNSOption):
    """Zeros that hide a message's length (RFC 7830)."""

    def __init__(self, octets: int) -> None:
        super().__init__(PADDING, bytes(octets))


_OPTIONS: dict[int, type[EDNSOption]] = {EDE: ExtendedError, COOKIE: Cookie, ECS: ClientSubnet, PADDING: Padding}
_SHORTEST = {EDE: 2, COOKIE: 8, ECS: 4}


def option(code: int, data: bytes) -> EDNSOption:
    """An EDNS option as it was received, in its own class where it has one."""
    kind = _OPTIONS.get(code, EDNSOption)
    if len(data) < _SHORTEST.get(code, 0):
        kind = EDNSOption
    made: EDNSOption = kind.__new__(kind)
    EDNSOption.__init__(made, code, data)
    return made


class Message(DNSRecord):
    """A whole message. `parse` and `pack` are octets to object and back."""

    @classmethod
    def parse(cls, packet: bytes) -> Message:
        """Reads a message. Raises ValueError when it is malformed."""
        buffer = _Buffer(bytes(packet))
        try:
            header = DNSHeader.parse(buffer)
            questions = [DNSQuestion.parse(buffer) for _ in range(header.q)]
            sections = [[_record(buffer) for _ in range(count)] for count in (header.a, header.auth, header.ar)]
        except _MALFORMED as error:
            raise ValueError(f"malformed message: {error}") from None
        return cls(header, questions, rr=sections[0], auth=sections[1], ar=sections[2])

    def pack(self) -> bytes:
        """The message in wire form. Raises ValueError when a part of it has none."""
        try:
            return bytes(super().pack())
        except (DNSError, DNSLabelError, BimapError) as error:
            raise ValueError(f"cannot pack: {error}") from None

    def reply(self, ra: int = 0, aa: int = 0) -> Message:
        """A reply to this query: id, opcode, RD, CD and question kept, nothing else set (RFC 1035 4.1.1)."""
        header = DNSHeader(id=self.header.id, bitmap=0, qr=1, ra=ra, aa=aa, rd=self.header.rd, cd=self.header.cd)
        header.opcode = self.header.opcode
        return Message(header, list(self.questions))

    def truncate(self) -> Message:
        """What is sent when the message is too long: question and OPT, with TC (RFC 2181 9)."""
        header = DNSHeader(id=self.header.id, bitmap=self.header.bitmap)
        header.tc = 1
        return Message(header, list(self.questions), ar=[self.edns] if self.edns is not None else [])

    @property
    def edns(self) -> RR | None:
        """The OPT record, or None."""
        return next((record for record in self.ar if record.rtype == OPT), None)

    @property
    def rcode(self) -> int:
        """The response code with the high bits that the OPT carries (RFC 6891 6.1.3)."""
        edns = self.edns
        return int(self.header.rcode) | (edns.edns_rcode << 4 if edns is not None else 0)

    @property
    def rcode_name(self) -> str:
        """The response code as CoreDNS writes it."""
        return str(RCODE.forward.get(self.rcode) or f"RCODE{self.rcode}")


def _record(buffer: _Buffer) -> RR:
    name = buffer.decode_name()
    rtype, rclass, ttl, length = buffer.unpack("!HHIH")
    end = buffer.offset + length
    if end > len(buffer.octets):
        raise ValueError("RDATA past the end")
    if rtype == OPT:
        rdata: Any = []
        while buffer.offset < end:
            code, size = buffer.unpack("!HH")
            rdata.append(option(code, buffer.get(size)))
    elif length == 0:
        rdata = RD(b"")
    else:
        rdata = RDMAP.get(QTYPE.get(rtype), RD).parse(buffer, length)
    if buffer.offset != end:
        raise ValueError("RDATA of another length than it says")
    return RR(name, rtype, rclass, ttl, rdata)


def text(record: RR) -> str:
    """A record as a line of a zone file, without runs of blanks."""
    kind = QTYPE.forward.get(record.rtype) or f"TYPE{record.rtype}"
    return f"{record.rname} {record.ttl} {CLASS.get(record.rclass)} {kind} {record.rdata.toZone()}".rstrip()


__all__ = [
    "CLASS",
    "QTYPE",
    "RCODE",
    "RD",
    "RDMAP",
    "RR",
    "ClientSubnet",
    "Cookie",
    "DNSHeader",
    "DNSLabel",
    "DNSQuestion",
    "EDNSOption",
    "ExtendedError",
    "Message",
    "Name",
    "Padding",
    "option",
    "quoted",
    "text",
]
