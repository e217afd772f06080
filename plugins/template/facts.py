# SPDX-License-Identifier: Apache-2.0
"""Which facts of a query a stanza's answer depends on.

    NAME CASE CLIENT PORT PROTO SERVER RD AD CD DO EDNS ID SIZE TIME METADATA(label) METADATA LOOKUP ALL

CASE: the letters of the name as the client wrote them; SERVER: the address that was asked; EDNS: the OPT record as a
whole; METADATA without a label: one that only a query says; LOOKUP: another answer of this server; ALL: who knows.
Block, class and type are not listed, because whoever keeps an answer keeps it by them.

Strategy: read off the compiled texts, what they name and not what they do with it; so the set may be too large, never
too small. `kept_by` turns it into the facts that answers are kept by; TIME, ALL and a label without a name have none.
ID, SIZE and LOOKUP have none either, but where one of them is read in the end the server sees it and keeps nothing.
"""

from __future__ import annotations

from fastdns.expression.nodes import Builtin, Call, Constant, Name, Node, children
from fastdns.gotemplate.nodes import ActionNode, TextNode
from fastdns.gotemplate.uses import Use, uses
from fastdns.plugin import AD, CASE, CLIENT, CNAME, DO, EDNS_SIZE, METADATA, NAME, PORT, PROTO, SERVER, Fact
from fastdns.rrtext import class_number, type_number

from .stanza import Ready, RecordText

OWNERS = ("{{.Name}}", "{{.Zone}}", "{{.Question.Name}}")

FIELDS: dict[str, frozenset[str]] = {
    "Zone": frozenset(), "Class": frozenset(), "Type": frozenset(),
    "Name": frozenset({"NAME"}), "Regex": frozenset({"NAME"}), "Match": frozenset({"NAME"}),
    "Group": frozenset({"NAME"}), "Remote": frozenset({"CLIENT"}), "Var": frozenset(),
}  # fmt: skip
QUESTION = {"Qtype": frozenset[str](), "Qclass": frozenset[str]()}
NAME_AS_ASKED = frozenset({"NAME", "CASE"})
MESSAGE: dict[str, frozenset[str]] = {
    "Id": frozenset({"ID"}), "Opcode": frozenset(), "Response": frozenset(), "Compress": frozenset(),
    "Answer": frozenset(), "Ns": frozenset(), "RecursionDesired": frozenset({"RD"}),
    "AuthenticatedData": frozenset({"AD"}), "CheckingDisabled": frozenset({"CD"}), "Question": NAME_AS_ASKED,
    "Extra": frozenset({"EDNS"}), "IsEdns0": frozenset({"EDNS"}),
}  # fmt: skip
FUNCTIONS: dict[str, frozenset[str]] = {
    "name": frozenset({"NAME"}), "group": frozenset({"NAME"}), "type": frozenset(), "class": frozenset(),
    "opcode": frozenset(), "incidr": frozenset(), "client_ip": frozenset({"CLIENT"}), "port": frozenset({"PORT"}),
    "proto": frozenset({"PROTO"}), "server_ip": frozenset({"SERVER"}), "server_port": frozenset({"SERVER"}),
    "id": frozenset({"ID"}), "size": frozenset({"SIZE"}), "do": frozenset({"DO"}),
    "bufsize": frozenset({"EDNS", "PROTO"}),
}  # fmt: skip
CLOCK = ("now",)
KEPT: dict[str, tuple[Fact, ...]] = {
    "NAME": (NAME,), "CASE": (CASE,), "CLIENT": (CLIENT(),), "PORT": (PORT,), "PROTO": (PROTO,), "SERVER": (SERVER,),
    "RD": (), "AD": (AD,), "CD": (), "DO": (DO,), "EDNS": (EDNS_SIZE, DO), "ID": (), "SIZE": (), "LOOKUP": (),
}  # fmt: skip
ALL = frozenset({"ALL"})


def of_use(use: Use) -> frozenset[str]:
    """The facts behind one chain of fields."""
    names = use.names
    if not names:
        return ALL
    head, tail = names[0], names[1:]
    if head == "Meta":
        return frozenset({f"METADATA({use.argument})" if use.argument is not None else "METADATA"})
    if head == "Question":
        return QUESTION.get(tail[0], NAME_AS_ASKED) if tail else NAME_AS_ASKED
    if head == "Message":
        while tail[:1] == ("MsgHdr",):
            tail = tail[1:]
        return MESSAGE.get(tail[0], ALL) if tail else ALL
    # A field of something else than the data, such as `.Do` of an OPT, came from a chain of its own.
    return FIELDS.get(head, frozenset())


def of_expression(node: Node) -> frozenset[str]:
    """The facts that an expression reads."""
    found: set[str] = set()
    left = [node]
    while left:
        node = left.pop()
        if isinstance(node, Call) and isinstance(node.callee, Name) and node.callee.name == "metadata":
            label = node.arguments[0] if node.arguments else None
            found.add(f"METADATA({label.value})" if isinstance(label, Constant) else "METADATA")
            left += node.arguments
            continue
        if isinstance(node, Name):
            # A variable that is no function is a `var`, whose own expression is read as well.
            found |= {"METADATA"} if node.name == "metadata" else FUNCTIONS.get(node.name, frozenset())
        elif isinstance(node, Builtin) and node.name in CLOCK:
            found.add("TIME")
        left += children(node)
    return frozenset(found)


def type_of(text: RecordText) -> int | None:
    """The type of a record, where it is the same for every query: its owner is the name, the zone or a text, and the
    words behind are one text as far as the type. A field that is part of a name could hold a blank, these cannot."""
    if text.record is not None:
        return text.record.type
    nodes = list(text.template.trees[text.template.name].nodes)
    owner = ""
    if nodes and isinstance(nodes[0], ActionNode) and str(nodes[0]) in OWNERS:
        owner = "x"
        del nodes[0]
    if not nodes or not isinstance(nodes[0], TextNode):
        return None
    # The last word may go on behind the text.
    words = (owner + nodes[0].text + ("" if len(nodes) == 1 else "?")).split()[1:-1]
    for word in words:
        found = type_number(word.upper())
        if found is not None and class_number(word.upper()) is None:
            return found
    return None


def facts_of(stanza: Ready) -> frozenset[str]:
    """The facts of a stanza: of its match, its expressions and its records."""
    found: set[str] = {"NAME"} if stanza.patterns or stanza.stanza.fall not in ((), (".",)) else set()
    for _, expression in stanza.variables:
        found |= of_expression(expression.tree)
    for condition in stanza.conditions:
        found |= of_expression(condition.tree)
    for texts in stanza.records.values():
        for text in texts:
            for use in uses(text.template.trees):
                found |= of_use(use)
    if any(type_of(text) in (None, CNAME) for text in stanza.records["answer"]):
        found.add("LOOKUP")
    return frozenset(found)


def kept_by(facts: frozenset[str]) -> frozenset[Fact] | None:
    """The facts that an answer may be kept by, whose zone depends on the name in any case; None: it cannot be kept."""
    found = {NAME}
    for fact in facts:
        if fact.startswith("METADATA("):
            found.add(METADATA(fact[len("METADATA("):-1]))
        elif fact not in KEPT:
            return None
        else:
            found.update(KEPT[fact])
    return frozenset(found)


def labels_of(stanza: Ready) -> set[str]:
    """The metadata labels that a stanza is known to read."""
    facts = facts_of(stanza)
    return {fact[len("METADATA(") : -1] for fact in facts if fact.startswith("METADATA(")}
