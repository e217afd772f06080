# SPDX-License-Identifier: Apache-2.0
"""RDATA of the types that dnslib leaves opaque, as classes with fields.

Strategy: a type is a row of fields, each of which knows its wire form and its zone-file form (RFC 1035 5.1 and the
type's own RFC), so one class serves all types. Names inside RDATA are decompressed when they are read and never
compressed when they are written (RFC 3597 4): a record may be moved to another message as it is. Rows also exist for
obsolete types with names in them, whose pointers would otherwise break when the record moves. `install` puts the
classes into dnslib's own table, which is its documented point of extension.
"""

from __future__ import annotations

import base64
import ipaddress
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from dnslib import CLASS, QTYPE, RCODE, RD, RDMAP, RRSIG, TXT, DNSError, DNSLabel
from dnslib.buffer import BufferError
from dnslib.dns import HTTPS, decode_type_bitmap, encode_type_bitmap, label
from dnslib.label import DNSBuffer

from ._log import RCODES, TYPES

STRING_MAX = 255


class Field(NamedTuple):
    """How one field is read (buffer, end of the RDATA), written (buffer, value), shown, and taken from words."""

    name: str
    read: Callable[[Any, int], Any]
    write: Callable[[Any, Any], None]
    show: Callable[[Any], str] = str
    take: Callable[[list[str], Any], Any] = lambda words, origin: words.pop(0)


def number(name: str, octets: int) -> Field:
    """An unsigned integer."""

    def read(buffer: Any, end: int) -> int:
        return int.from_bytes(buffer.get(octets), "big")

    def write(buffer: Any, value: int) -> None:
        buffer.append(int(value).to_bytes(octets, "big"))

    return Field(name, read, write, str, lambda words, origin: int(words.pop(0)))


def domain(name: str) -> Field:
    """A domain name."""
    return Field(
        name,
        lambda buffer, end: buffer.decode_name(),
        lambda buffer, value: buffer.encode_name_nocompress(value),
        str,
        lambda words, origin: label(words.pop(0), origin),
    )


def string(name: str) -> Field:
    """A <character-string>: at most 255 octets."""

    def read(buffer: Any, end: int) -> bytes:
        return bytes(buffer.get(buffer.get(1)[0]))

    def write(buffer: Any, value: bytes) -> None:
        if len(value) > STRING_MAX:
            raise DNSError(f"a string has at most {STRING_MAX} octets")
        buffer.append(bytes([len(value)]) + value)

    return Field(name, read, write, quoted, lambda words, origin: words.pop(0).encode())


def _all(make: Callable[[list[str]], Any]) -> Callable[[list[str], Any], Any]:
    """A reader that takes what is left of the words."""

    def take(words: list[str], origin: Any) -> Any:
        value = make(words)
        words.clear()
        return value

    return take


def rest(name: str, show: Callable[[bytes], str], take: Callable[[list[str]], bytes]) -> Field:
    """All octets to the end."""
    return Field(
        name,
        lambda buffer, end: bytes(buffer.get(end - buffer.offset)),
        lambda buffer, value: buffer.append(value),
        show,
        _all(take),
    )


def hexadecimal(name: str) -> Field:
    """Octets to the end, written in hexadecimal."""
    return rest(name, lambda value: value.hex().upper(), lambda words: bytes.fromhex("".join(words)))


def base64_rest(name: str) -> Field:
    """Octets to the end, written in base 64."""
    return rest(name, lambda value: base64.b64encode(value).decode(), lambda words: base64.b64decode("".join(words)))


def counted(name: str, octets: int, show: Callable[[bytes], str], take: Callable[[str], bytes]) -> Field:
    """Octets behind a length of `octets` octets."""

    def read(buffer: Any, end: int) -> bytes:
        return bytes(buffer.get(int.from_bytes(buffer.get(octets), "big")))

    def write(buffer: Any, value: bytes) -> None:
        buffer.append(len(value).to_bytes(octets, "big") + value)

    return Field(name, read, write, show, lambda words, origin: take(words.pop(0)))


def base32hex(value: bytes) -> str:
    """Octets as NSEC3 writes them: base 32 with extended hex alphabet, without padding (RFC 5155 3.3)."""
    return base64.b32hexencode(value).decode().rstrip("=").lower()


def from_base32hex(text: str) -> bytes:
    """The octets of `base32hex`."""
    return base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))


def bitmap(name: str) -> Field:
    """A type bitmap to the end (RFC 4034 4.1.2); the value is a list of type names."""

    return Field(
        name,
        lambda buffer, end: decode_type_bitmap(buffer.get(end - buffer.offset)),
        lambda buffer, value: buffer.append(bytes(encode_type_bitmap(value)) if value else b""),
        " ".join,
        _all(list),
    )


def quoted(value: bytes) -> str:
    """A string in quotes, as zone files have it (RFC 1035 5.1)."""
    out = "".join(
        "\\" + chr(c) if c in b'"\\' else chr(c) if 32 <= c < 127 else f"\\{c:03d}" for c in value
    )
    return f'"{out}"'


def salt() -> Field:
    """NSEC3's salt: hexadecimal, `-` when empty."""
    return counted("salt", 1, lambda value: value.hex().upper() or "-", lambda t: b"" if t == "-" else bytes.fromhex(t))


def eui(octets: int) -> Field:
    """A hardware address, in octets joined by dashes (RFC 7043)."""
    return Field(
        "address",
        lambda buffer, end: bytes(buffer.get(octets)),
        lambda buffer, value: buffer.append(value),
        lambda value: value.hex("-"),
        lambda words, origin: bytes.fromhex(words.pop(0).replace("-", "")),
    )


APL_FAMILIES = {1: (ipaddress.IPv4Address, 4), 2: (ipaddress.IPv6Address, 16)}


def read_apl(buffer: Any, end: int) -> list[tuple[bool, int, bytes, int]]:
    """Address prefixes (RFC 3123): (negated, family, address without trailing zeros, prefix length)."""
    found = []
    while buffer.offset < end:
        family, prefix, length = struct.unpack("!HBB", buffer.get(4))
        found.append((length >= 128, family, bytes(buffer.get(length & 127)), prefix))
    return found


def show_apl(value: list[tuple[bool, int, bytes, int]]) -> str:
    """Prefixes as `1:192.0.2.0/24 !2:2001:db8::/32`."""
    words = []
    for negated, family, octets, prefix in value:
        kind, size = APL_FAMILIES.get(family, (None, 0))
        shown = str(kind(octets.ljust(size, b"\0")[:size])) if kind else octets.hex()
        words.append(f"{'!' if negated else ''}{family}:{shown}/{prefix}")
    return " ".join(words)


def write_apl(buffer: Any, value: list[tuple[bool, int, bytes, int]]) -> None:
    """The wire form of `read_apl`'s value."""
    for negated, family, octets, prefix in value:
        buffer.append(struct.pack("!HBB", family, prefix, len(octets) | (128 if negated else 0)) + octets)


def take_apl(words: list[str], origin: Any) -> list[tuple[bool, int, bytes, int]]:
    """The value that `show_apl` shows."""
    found = []
    for word in words:
        family, _, network = word.lstrip("!").partition(":")
        address, _, prefix = network.rpartition("/")
        octets = ipaddress.ip_address(address).packed.rstrip(b"\0")
        found.append((word.startswith("!"), int(family), octets, int(prefix)))
    words.clear()
    return found


class Fields(RD):
    """RDATA made of `fields`; each is an attribute."""

    fields: tuple[Field, ...] = ()

    def __init__(self, *values: Any) -> None:
        if len(values) != len(self.fields):
            raise DNSError(f"{type(self).__name__} has {len(self.fields)} fields, not {len(values)}")
        for field, value in zip(self.fields, values, strict=True):
            setattr(self, field.name, value)

    @classmethod
    def parse(cls, buffer: Any, length: int) -> Fields:
        """Reads `length` octets of a message."""
        end = buffer.offset + length
        return cls(*[field.read(buffer, end) for field in cls.fields])

    @classmethod
    def fromZone(cls, rd: list[str], origin: Any = None) -> Fields:  # noqa: N802
        """Takes words of a zone file, or RFC 3597's `\\# LENGTH HEX`."""
        words = list(rd)
        if words[:1] == ["\\#"]:
            data = bytes.fromhex("".join(words[2:]))
            return cls.parse(DNSBuffer(data), len(data))
        values = [field.take(words, origin) for field in cls.fields]
        if words:
            raise DNSError(f"{cls.__name__}: unexpected {words[0]!r}")
        return cls(*values)

    def pack(self, buffer: Any) -> None:
        """Writes the fields."""
        for field in self.fields:
            field.write(buffer, getattr(self, field.name))

    def __repr__(self) -> str:
        return " ".join(filter(None, (field.show(getattr(self, field.name)) for field in self.fields)))


class Text(TXT):
    """TXT whose strings are split where they exceed 255 octets."""

    def __init__(self, data: Any) -> None:
        pieces: list[bytes] = []
        for item in data if isinstance(data, list | tuple) else [data]:
            octets = item.encode() if isinstance(item, str) else bytes(item)
            pieces += [octets[at : at + STRING_MAX] for at in range(0, len(octets) or 1, STRING_MAX)]
        super().__init__(pieces)

    def toZone(self) -> str:  # noqa: N802
        """The strings in quotes, with decimal escapes."""
        return " ".join(map(quoted, self.data))

    __repr__ = toZone


class Service(HTTPS):
    """HTTPS (RFC 9460) that has a text whatever it holds: where dnslib knows none, that of RFC 3597."""

    @classmethod
    def fromZone(cls, rd: list[str], origin: Any = None) -> Any:  # noqa: N802
        """Takes words of a zone file, or RFC 3597's `\\# LENGTH HEX`."""
        if rd[:1] == ["\\#"]:
            data = bytes.fromhex("".join(rd[2:]))
            return cls.parse(DNSBuffer(data), len(data))
        return super().fromZone(rd, origin)

    def __repr__(self) -> str:
        try:
            return str(super().__repr__())
        except (ValueError, DNSError, BufferError):
            buffer = DNSBuffer()
            self.pack(buffer)
            return f"\\# {len(buffer.data)} {bytes(buffer.data).hex().upper()}"


class SVCB(Service):
    """A service binding (RFC 9460), which HTTPS is the special case of."""


def u8(name: str) -> Field:
    """One octet."""
    return number(name, 1)


def u16(name: str) -> Field:
    """Two octets."""
    return number(name, 2)


def u32(name: str) -> Field:
    """Four octets."""
    return number(name, 4)


def mac(name: str) -> Field:
    """Octets behind a length of 16 bits, in base 64."""
    return counted(name, 2, lambda value: base64.b64encode(value).decode(), base64.b64decode)


DS_LIKE = (u16("key_tag"), u8("algorithm"), u8("digest_type"), hexadecimal("digest"))
KEY_LIKE = (u16("flags"), u8("protocol"), u8("algorithm"), base64_rest("key"))
HOST = (u16("preference"), domain("exchange"))
NSEC3_HEAD = (u8("algorithm"), u8("flags"), u16("iterations"), salt())
SIG_LIKE = (
    u16("covered"), u8("algorithm"), u8("labels"), u32("original_ttl"), u32("expires"), u32("begins"),
    u16("key_tag"), domain("signer"), base64_rest("signature"),
)

ROWS: dict[int, tuple[str, tuple[Field, ...]]] = {
    3: ("MD", (domain("host"),)),
    4: ("MF", (domain("host"),)),
    7: ("MB", (domain("host"),)),
    8: ("MG", (domain("host"),)),
    9: ("MR", (domain("host"),)),
    13: ("HINFO", (string("cpu"), string("os"))),
    14: ("MINFO", (domain("responsible"), domain("errors"))),
    18: ("AFSDB", (u16("subtype"), domain("host"))),
    21: ("RT", HOST),
    24: ("SIG", SIG_LIKE),
    25: ("KEY", KEY_LIKE),
    26: ("PX", (u16("preference"), domain("map822"), domain("mapx400"))),
    30: ("NXT", (domain("next"), hexadecimal("types"))),
    36: ("KX", HOST),
    39: ("DNAME", (domain("label"),)),
    42: ("APL", (Field("prefixes", read_apl, write_apl, show_apl, take_apl),)),
    50: ("NSEC3", (*NSEC3_HEAD, counted("next", 1, base32hex, from_base32hex), bitmap("types"))),
    51: ("NSEC3PARAM", NSEC3_HEAD),
    53: ("SMIMEA", (u8("usage"), u8("selector"), u8("matching"), hexadecimal("data"))),
    59: ("CDS", DS_LIKE),
    60: ("CDNSKEY", KEY_LIKE),
    61: ("OPENPGPKEY", (base64_rest("key"),)),
    62: ("CSYNC", (u32("serial"), u16("flags"), bitmap("types"))),
    63: ("ZONEMD", (u32("serial"), u8("scheme"), u8("algorithm"), hexadecimal("digest"))),
    108: ("EUI48", (eui(6),)),
    109: ("EUI64", (eui(8),)),
    250: ("TSIG", (domain("algorithm"), number("time", 6), u16("fudge"), mac("mac"), u16("original_id"), u16("error"),
                   mac("other"))),
    256: ("URI", (u16("priority"), u16("weight"), rest("target", quoted, lambda words: words[0].encode()))),
}

CLASS_NAMES = {1: "IN", 2: "CS", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}


class Signature(RRSIG):
    """RRSIG (RFC 4034 3). dnslib's makes a name of its own of the signer's, and takes no subclass of it."""

    def __init__(self, *fields: Any) -> None:
        *head, name, signature = fields
        super().__init__(*head, DNSLabel(name.label) if isinstance(name, DNSLabel) else name, signature)
        if isinstance(name, DNSLabel):
            self.name = name


def install() -> None:
    """Completes dnslib's tables: classes of RDATA, and names of types, classes and response codes."""
    names = {**TYPES, **{number: name for number, (name, _) in ROWS.items()}, 55: "HIP"}
    for table, entries in ((QTYPE, names), (CLASS, CLASS_NAMES), (RCODE, RCODES)):
        for code, name in entries.items():
            table.forward[code] = name
            table.reverse[name] = code
    for name, fields in ROWS.values():
        RDMAP[name] = type(name, (Fields,), {"fields": fields, "attrs": tuple(field.name for field in fields)})
    RDMAP["TXT"] = RDMAP["SPF"] = Text
    RDMAP["SVCB"] = SVCB
    RDMAP["RRSIG"] = Signature
    RDMAP["HTTPS"] = Service


install()

__all__ = ["ROWS", "SVCB", "DNSLabel", "Field", "Fields", "Text", "quoted"]
