# SPDX-License-Identifier: Apache-2.0
"""From an expression to the code of a routing filter (`fastdns/_filter.pyx`), as far as that goes.

Strategy: the folded tree is walked once. What has no translation raises Untranslated with a word for `explain`, and the
whole expression stays with Python: the two must agree on every query, so nothing is translated that could fail, or that
looks at a type which is known only then. Facts with few values (type, class, proto, ports, addresses) are compared as
numbers, by turning the constants that they are compared with into numbers too; one that no query can have is never
equal.
"""

from __future__ import annotations

import re
import struct
from typing import Any

from .._filter import COMPARISONS, OPERATIONS, Filter
from .._log import CLASSES, TYPES
from .compiled import Expression
from .environment import parse_cidr, parse_ip
from .nodes import Binary, Builtin, Call, Conditional, Constant, Name, Node, Pointer, Predicate, Unary
from .operators import LOGIC, spine

INTEGERS = ("size", "id", "opcode", "bufsize")
ADDRESSES = {"client_ip": 0, "server_ip": 1}
CODED = ("type", "class", "proto", "port", "server_port")
TURNED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "==": "==", "!=": "!="}
TEXT_OPERATORS = {"contains": "contains", "startsWith": "starts", "endsWith": "ends"}
ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply"}
NUMBERS = {name: number for number, name in TYPES.items()}
CLASS_NUMBERS = {name: number for number, name in CLASSES.items()}


WORDS = {"Member": "an element or a member", "Chain": "'?.'", "Slice": "a part of a value", "Array": "an array",
         "Map": "a map", "Pointer": "'#'", "Predicate": "a predicate", "Let": "'let'",
         "Sequence": "a sequence"}  # fmt: skip


# A character that stands for itself, alone, behind a backslash or in brackets.
ALONE, ESCAPED, BRACKETED = r"[A-Za-z0-9_/ -]", r"[.*+?()|\[\]{}^$\\_-]", r"[A-Za-z0-9._/ *+?()|{}$-]"
LITERAL = re.compile(rf"({ALONE})|\\({ESCAPED})|\[({BRACKETED})\]")
PLAIN = re.compile(rf"(\^)?((?:{ALONE}|\\{ESCAPED}|\[{BRACKETED}\])*)(\$)?")


class Untranslated(Exception):
    """Something that only Python can evaluate; the text names it."""


def translate(expressions: list[Expression]) -> Filter:
    """The filter of queries for which all expressions are true. Raises Untranslated."""
    code = Code()
    ends = []
    for n, expression in enumerate(expressions):
        if n:
            ends.append(code.jump("if_false"))
            code.emit("pop")
        if code.value(expression.tree) != "bool":
            raise Untranslated("a value that is no boolean")
    if not expressions:
        code.emit("true")
    for end in ends:
        code.land(end)
    code.emit("end")
    try:
        return Filter(b"".join(struct.pack("=BBHI", *each, *rest) for each, rest in code.packed()), bytes(code.data))
    except ValueError as error:
        raise Untranslated(str(error)) from None


def accessor(node: Node, names: Any) -> str:
    """The name of a function of the environment that is called without arguments, if it is one of some; or ""."""
    if isinstance(node, Call) and isinstance(node.callee, Name) and not node.arguments and node.callee.name in names:
        return node.callee.name
    return ""


def coded(name: str, text: str) -> int | None:
    """The number behind a text that a fact may have; None: it never has it."""
    if name == "proto":
        return {"udp": 0, "tcp": 1}.get(text)
    if name in ("type", "class"):
        numbers, prefix = (NUMBERS, "TYPE") if name == "type" else (CLASS_NUMBERS, "CLASS")
        if text in numbers:
            return numbers[text]
        text = text.removeprefix(prefix) if text.startswith(prefix) else "x"
        number = int(text) if text.isdecimal() and text.isascii() and len(text) < 6 and str(int(text)) == text else -1
        return number if 0 <= number < 65536 and number not in numbers.values() else None
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 6 and str(int(text)) == text else None


class Code:
    """Instructions and constants as they grow. `value(node)` adds what leaves a node's value on the stack and returns
    its type: int, string or bool."""

    def __init__(self) -> None:
        self.instructions: list[list[int]] = []
        self.data = bytearray()
        self.texts: dict[bytes, int] = {}

    def packed(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """The instructions as (operation, flag), (0, operand)."""
        return [((operation, flag), (0, operand)) for operation, flag, operand in self.instructions]

    def emit(self, name: str, operand: int = 0, flag: int = 0) -> None:
        """One more instruction."""
        self.instructions.append([OPERATIONS[name], flag, operand])

    def jump(self, name: str) -> int:
        """A jump whose goal is not known yet."""
        self.emit(name)
        return len(self.instructions) - 1

    def land(self, jump: int) -> None:
        """The jump leads here."""
        self.instructions[jump][2] = len(self.instructions)

    # ---- constants

    def place(self, octets: bytes, align: int = 8) -> int:
        """Adds octets to the constants."""
        self.data.extend(bytes(-len(self.data) % align))
        at = len(self.data)
        self.data.extend(octets)
        return at

    def text(self, octets: bytes) -> int:
        """The place of a text, each once."""
        if octets not in self.texts:
            self.texts[octets] = self.place(struct.pack("=I", len(octets)) + octets)
        return self.texts[octets]

    def networks(self, nets: list[tuple[int, int, bytes]], server: int) -> str:
        """Whether an address lies in one of (version, bits, octets)."""
        packed = b"".join(struct.pack("=BB16s", 1 if version == 4 else 2, bits, raw) for version, bits, raw in nets)
        self.emit("networks", self.place(struct.pack("=I", len(nets)) + packed), server)
        return "bool"

    def among(self, values: list[int]) -> str:
        """Whether the number on the stack is one of some."""
        numbers = sorted(set(values))
        self.emit("in_int", self.place(struct.pack(f"=II{len(numbers)}q", len(numbers), 0, *numbers)))
        return "bool"

    # ---- nodes

    def value(self, node: Node) -> str:
        """Any node."""
        if isinstance(node, Constant):
            return self.constant(node.value)
        if isinstance(node, Unary):
            return self.unary(node)
        if isinstance(node, Binary):
            return self.binary(node)
        if isinstance(node, Conditional):
            return self.conditional(node)
        if isinstance(node, Call):
            return self.call(node)
        if isinstance(node, Builtin):
            return self.builtin(node)
        raise Untranslated(WORDS.get(type(node).__name__, "a variable"))

    def constant(self, value: Any) -> str:
        """A literal."""
        if type(value) is bool:
            self.emit("true" if value else "false")
            return "bool"
        if type(value) is int:
            self.emit("int", self.place(struct.pack("=q", value)))
            return "int"
        if type(value) is str:
            self.emit("text", self.text(value.encode()))
            return "string"
        raise Untranslated(f"a constant {type(value).__name__}")

    def unary(self, node: Unary) -> str:
        """not, !, -, +."""
        if node.operator == "-":
            self.constant(0)
        kind = self.value(node.node)
        if kind != ("bool" if node.operator in ("not", "!") else "int"):
            raise Untranslated(f"'{node.operator}' of a {kind}")
        if node.operator != "+":
            self.emit("not" if kind == "bool" else "subtract")
        return kind

    def binary(self, node: Binary) -> str:
        """Two operands; of a conjunction any number."""
        operator = node.operator
        if operator in LOGIC:
            return self.logic(node)
        if operator == "in":
            return self.membership(node.left, node.right)
        if operator in TURNED:
            for fact, other, way in ((node.left, node.right, operator), (node.right, node.left, TURNED[operator])):
                if accessor(fact, (*CODED, *ADDRESSES)):
                    return self.coded(fact, other, way)
        if operator == "matches":
            return self.matches(node)
        left, right = self.value(node.left), self.value(node.right)
        if operator in TURNED and left == right and (left != "bool" or operator in ("==", "!=")):
            kind = {"int": "compare_int", "string": "compare_text", "bool": "compare_bool"}[left]
            self.emit(kind, 0, COMPARISONS[operator])
            return "bool"
        if operator in TEXT_OPERATORS and left == right == "string":
            self.emit(TEXT_OPERATORS[operator])
            return "bool"
        if operator in ARITHMETIC and left == right == "int":
            self.emit(ARITHMETIC[operator])
            return "int"
        raise Untranslated(f"'{operator}'")

    def matches(self, node: Binary) -> str:
        """A regular expression that is no more than a text, at one end or somewhere."""
        pattern = node.right.value if isinstance(node.right, Constant) else None
        found = PLAIN.fullmatch(pattern) if isinstance(pattern, str) else None
        if found is None:
            raise Untranslated("'matches'")
        text = "".join(a or b or c for a, b, c in LITERAL.findall(found[2]))
        if self.value(node.left) != "string" or self.constant(text) != "string":
            raise Untranslated("'matches'")
        begins, ends = bool(found[1]), bool(found[3])
        self.emit("compare_text" if begins and ends else "starts" if begins else "ends" if ends else "contains")
        return "bool"

    def logic(self, node: Binary) -> str:
        """and, or."""
        operands, ends = spine(node), []
        for n, operand in enumerate(operands):
            if n:
                ends.append(self.jump("if_false" if LOGIC[node.operator] == "and" else "if_true"))
                self.emit("pop")
            if self.value(operand) != "bool":
                raise Untranslated(f"'{node.operator}' of what is no boolean")
        for end in ends:
            self.land(end)
        return "bool"

    def coded(self, fact: Node, other: Node, operator: str) -> str:
        """A fact with few values beside a constant."""
        name = accessor(fact, (*CODED, *ADDRESSES))
        if operator not in ("==", "!=") or not isinstance(other, Constant) or type(other.value) is not str:
            raise Untranslated(f"'{operator}' with {name}(), which is compared with constants alone")
        self.equal_to(name, [other.value])
        if operator == "!=":
            self.emit("not")
        return "bool"

    def equal_to(self, name: str, texts: list[str]) -> None:
        """Whether a fact is one of some texts."""
        if name in ADDRESSES:
            nets: list[tuple[int, int, bytes]] = []
            for text in texts:
                ip = parse_ip(text)
                if ip is not None and str(ip) == text:
                    nets.append((ip.version, ip.max_prefixlen, ip.packed))
            self.networks(nets, ADDRESSES[name])
            return
        self.emit(name)
        self.among([number for text in texts if (number := coded(name, text)) is not None])

    def membership(self, left: Node, right: Node) -> str:
        """in."""
        if not isinstance(right, Constant) or type(right.value) is not list:
            raise Untranslated("'in' what is no constant array")
        values, kinds = right.value, set(map(type, right.value))
        if kinds <= {str}:
            if name := accessor(left, (*CODED, *ADDRESSES)):
                self.equal_to(name, values)
                return "bool"
            if self.value(left) == "string":
                octets = sorted({value.encode() for value in values})
                places = [self.text(each) for each in octets]
                self.emit("in_text", self.place(struct.pack(f"=I{len(places)}I", len(places), *places)))
                return "bool"
        elif kinds == {int} and self.value(left) == "int":
            return self.among(values)
        raise Untranslated("'in' an array of other values")

    def conditional(self, node: Conditional) -> str:
        """One of two of the same type."""
        if self.value(node.condition) != "bool":
            raise Untranslated("a condition that is no boolean")
        otherwise = self.jump("if_false")
        self.emit("pop")
        yes = self.value(node.yes)
        end = self.jump("jump")
        self.land(otherwise)
        self.emit("pop")
        if self.value(node.no) != yes:
            raise Untranslated("a condition with values of two types")
        self.land(end)
        return yes

    def call(self, node: Call) -> str:
        """A function of the environment."""
        name = node.callee.name if isinstance(node.callee, Name) else ""
        if name in INTEGERS:
            self.emit(name)
            return "int"
        if name in ("do", "name"):
            self.emit(name)
            return "bool" if name == "do" else "string"
        if name == "incidr":
            address, net = node.arguments
            if isinstance(net, Constant) and isinstance(net.value, str):
                return self.incidr(address, [net.value])
        raise Untranslated(f"{name or 'a method'}() in this place" if name in (*CODED, *ADDRESSES, "incidr")
                           else f"{name or 'a method'}()")

    def incidr(self, address: Node, nets: list[str]) -> str:
        """Whether the client's or the server's address lies in a network."""
        name = accessor(address, ADDRESSES)
        if not name:
            raise Untranslated("incidr() of another address than the client's or the server's")
        try:
            parsed = [parse_cidr(net) for net in nets]
        except ValueError:
            raise Untranslated("incidr() that fails") from None
        return self.networks([(net.version, net.prefixlen, net.network_address.packed) for net in parsed],
                             ADDRESSES[name])

    def builtin(self, node: Builtin) -> str:
        """len(text), and any([...], incidr(client_ip(), #))."""
        if node.name == "len" and self.value(node.arguments[0]) == "string":
            self.emit("length")
            return "int"
        if node.name == "any" and isinstance(node.arguments[0], Constant) and isinstance(node.arguments[1], Predicate):
            nets, test = node.arguments[0].value, node.arguments[1].node
            if (isinstance(test, Call) and isinstance(test.callee, Name) and test.callee.name == "incidr"
                    and isinstance(test.arguments[1], Pointer) and not test.arguments[1].name
                    and type(nets) is list and all(type(net) is str for net in nets)):
                return self.incidr(test.arguments[0], nets)
        raise Untranslated(f"{node.name}()")


__all__ = ["Untranslated", "translate"]
