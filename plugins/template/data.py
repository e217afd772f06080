# SPDX-License-Identifier: Apache-2.0
"""What a template sees of a query: CoreDNS's templateData, and as much of miekg/dns's messages as templates use.

Strategy: a view that holds the query and computes a field when a template touches it. The names are Go's, because
templates are written with them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from fastdns.gotemplate import Function, StringMap, Strings, Struct, Uint8, Uint16
from fastdns.plugin import Query
from fastdns.rrtext import CLASSES, TYPE_NUMBERS

CLASS_NAMES = {number: name for name, number in CLASSES.items()}
TYPE_NAMES = {number: name for name, number in TYPE_NUMBERS.items()}
TYPE_NAMES.update({0: "None", 65535: "Reserved"})


class Question(Struct):
    """*dns.Question."""

    type_name = "*dns.Question"
    fields: ClassVar[dict[str, str]] = {"Name": "name", "Qtype": "qtype", "Qclass": "qclass"}
    methods: ClassVar[dict[str, Any]] = {"String": Function(lambda question: question.shown())}
    __slots__ = ("name", "qclass", "qtype")

    def __init__(self, query: Query) -> None:
        self.name = query.qname
        self.qtype = Uint16(query.type)
        self.qclass = Uint16(query.qclass)

    def shown(self) -> str:
        """As dig prints it."""
        qclass = CLASS_NAMES.get(self.qclass) or f"CLASS{int(self.qclass)}"
        qtype = TYPE_NAMES.get(self.qtype) or f"TYPE{int(self.qtype)}"
        return f";{self.name}\t{qclass}\t {qtype}"


class Opt(Struct):
    """*dns.OPT."""

    type_name = "*dns.OPT"
    methods: ClassVar[dict[str, Any]] = {
        "Do": Function(lambda opt: opt.query.do),
        "UDPSize": Function(lambda opt: Uint16(opt.query.message.edns.edns_len)),
        "Version": Function(lambda opt: Uint8(0)),
    }
    __slots__ = ("query",)

    def __init__(self, query: Query) -> None:
        self.query = query


class Message(Struct):
    """*dns.Msg: the header's fields, the sections, IsEdns0."""

    type_name = "*dns.Msg"
    fields: ClassVar[dict[str, str]] = {
        "Id": "id", "Response": "response", "Opcode": "opcode", "Authoritative": "aa", "Truncated": "tc",
        "RecursionDesired": "rd", "RecursionAvailable": "ra", "Zero": "zero", "AuthenticatedData": "ad",
        "CheckingDisabled": "cd", "Rcode": "rcode", "Compress": "compress", "MsgHdr": "header", "Question": "question",
        "Answer": "nothing", "Ns": "nothing", "Extra": "extra",
    }  # fmt: skip
    methods: ClassVar[dict[str, Any]] = {"IsEdns0": Function(lambda message: message.edns)}
    __slots__ = ("query",)

    def __init__(self, query: Query) -> None:
        self.query = query

    def _bit(self, mask: int) -> bool:
        return bool(int.from_bytes(self.query.wire[2:4], "big") & mask)

    @property
    def id(self) -> Uint16:
        """The id."""
        return Uint16(self.query.id)

    @property
    def opcode(self) -> int:
        """0: what reaches a template is a query."""
        return self.query.opcode

    @property
    def response(self) -> bool:
        """False: it is a query."""
        return False

    @property
    def compress(self) -> bool:
        """miekg/dns's switch of its packer, not set in what it has read."""
        return False

    @property
    def rcode(self) -> int:
        """The response code, which means nothing in a query."""
        return self.query.wire[3] & 15

    @property
    def aa(self) -> bool:
        """AA, which means nothing in a query."""
        return self._bit(0x0400)

    @property
    def tc(self) -> bool:
        """TC."""
        return self._bit(0x0200)

    @property
    def rd(self) -> bool:
        """RD."""
        return self.query.rd

    @property
    def ra(self) -> bool:
        """RA."""
        return self._bit(0x0080)

    @property
    def zero(self) -> bool:
        """The bit that has no meaning."""
        return self._bit(0x0040)

    @property
    def ad(self) -> bool:
        """AD."""
        return self.query.ad

    @property
    def cd(self) -> bool:
        """CD."""
        return self.query.cd

    @property
    def header(self) -> Message:
        """The same: Go has the header's fields in both places."""
        return self

    @property
    def question(self) -> list[Question]:
        """The one question."""
        return [Question(self.query)]

    @property
    def nothing(self) -> list[Any]:
        """Sections that a query has not."""
        return []

    @property
    def edns(self) -> Opt | None:
        """The OPT record."""
        return Opt(self.query) if self.query.edns else None

    @property
    def extra(self) -> list[Any]:
        """The additional section: the OPT record."""
        return [Opt(self.query)] if self.query.edns else []


def meta(data: Data, label: str) -> str:
    """`.Meta "plugin/label"`: empty where nobody set it."""
    value = data.query.metadata.get(label, "")
    return str(value() if callable(value) else value)


class Data(Struct):
    """The dot of a template. `groups` are what the expression matched, the whole first; `names` says which of them is
    which, by number and by name."""

    type_name = "*template.templateData"
    fields: ClassVar[dict[str, str]] = {
        "Zone": "zone", "Name": "name", "Regex": "regex", "Match": "match", "Group": "group", "Class": "qclass",
        "Type": "qtype", "Message": "message", "Question": "question", "Remote": "remote", "Var": "var",
    }  # fmt: skip
    methods: ClassVar[dict[str, Any]] = {"Meta": Function(meta, ("string",))}
    keys: ClassVar[dict[str, str]] = {"Group": "group_text", "Var": "variable"}
    elements: ClassVar[dict[str, str]] = {"Match": "groups"}
    __slots__ = (
        "_group", "_message", "_question", "groups", "name", "names", "qclass", "qtype", "query", "regex", "var",
        "zone",
    )  # fmt: skip

    def __init__(self, query: Query, name: str, zone: str, regex: str, names: dict[str, int],
                 groups: tuple[str, ...], qclass: int, qtype: int) -> None:
        self.query = query
        self.name = name
        self.zone = zone
        self.regex = regex
        self.names = names
        self.groups = groups
        self.qclass = CLASS_NAMES.get(qclass, "")
        self.qtype = TYPE_NAMES.get(qtype, "")
        self.var: dict[str, Any] = {}
        self._group: StringMap | None = None
        self._message: Message | None = None
        self._question: Question | None = None

    @property
    def match(self) -> Strings:
        """All groups, by number."""
        return Strings(self.groups)

    @property
    def group(self) -> StringMap:
        """All groups, by number and by name."""
        if self._group is None:
            groups = self.groups
            self._group = StringMap({name: groups[at] for name, at in self.names.items()})
        return self._group

    def group_text(self, name: str) -> str | None:
        """One group."""
        at = self.names.get(name)
        return None if at is None else self.groups[at]

    def variable(self, name: str) -> Any:
        """One variable."""
        return self.var.get(name)

    @property
    def message(self) -> Message:
        """The query."""
        if self._message is None:
            self._message = Message(self.query)
        return self._message

    @property
    def question(self) -> Question:
        """Its question, in the client's letters."""
        if self._question is None:
            self._question = Question(self.query)
        return self._question

    @property
    def remote(self) -> str:
        """The client's address."""
        return self.query.client

