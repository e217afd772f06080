# SPDX-License-Identifier: Apache-2.0
"""The parser of Go templates: tokens to a tree, with the complaints that Go's makes.

Strategy: recursive descent with unlimited look-back over the list of tokens. What Go checks when it parses is checked
here: functions and variables exist, break stands within range, a definition is made once. Depth is bounded, because a
Corefile may come from anybody. Complex numbers are refused: nothing in a query is one.
"""

from __future__ import annotations

from collections.abc import Container

from ..corefile.units import quote
from . import lexer as lex
from .cursor import Cursor
from .lexer import Token
from .nodes import (
    ActionNode,
    BoolNode,
    BranchNode,
    ChainNode,
    CommandNode,
    DotNode,
    FieldNode,
    IdentifierNode,
    JumpNode,
    ListNode,
    NilNode,
    Node,
    NumberNode,
    PipeNode,
    StringNode,
    TemplateNode,
    TextNode,
    VariableNode,
    is_empty,
)

DEPTH_MAX = 60  # of parentheses and of controls within controls
OPERANDS = (lex.BOOL, lex.CHAR_CONSTANT, lex.DOT, lex.FIELD, lex.IDENTIFIER, lex.NUMBER, lex.NIL, lex.RAW_STRING,
            lex.STRING, lex.VARIABLE, lex.LEFT_PAREN)


class _End(Node):
    """{{end}}, or {{else}} with what follows."""

    def __init__(self, at: int, word: str) -> None:
        super().__init__(at)
        self.word = word

    def __str__(self) -> str:
        return f"{{{{{self.word}}}}}"


class Parser(Cursor):
    """Reads one template; `trees` gets its tree and those that it defines, by name."""

    def __init__(self, name: str, text: str, functions: Container[str]) -> None:
        super().__init__(name, text)
        self.functions = functions
        self.variables = ["$"]
        self.loops = 0
        self.depth = 0
        self.controls = 0
        self.trees: dict[str, ListNode] = {}

    def parse(self) -> dict[str, ListNode]:
        """All trees. Raises TemplateError."""
        root = ListNode(0)
        while self.peek().kind != lex.EOF:
            if self.peek().kind == lex.LEFT_DELIM:
                mark = self.at
                self.next()
                if self.next_word().kind == "define":
                    self._definition()
                    continue
                self.at = mark
            node = self._text_or_action()
            if isinstance(node, _End):
                raise self.error(f"unexpected {node}")
            root.nodes.append(node)
        self._add(self.name, root)
        return self.trees

    # ---- lists and controls

    def _add(self, name: str, tree: ListNode) -> None:
        known = self.trees.get(name)
        if known is None or is_empty(known):
            self.trees[name] = tree
        elif not is_empty(tree):
            raise self.error(f"template: multiple definition of template {quote(name)}")

    def _definition(self) -> None:
        context = "define clause"
        token = self.next_word()
        name = self._template_name(token, context)
        self.expect(lex.RIGHT_DELIM, context)
        self._body(name, context)

    def _body(self, name: str, context: str) -> None:
        # A definition sees no variables of its surroundings.
        outer = self.variables, self.loops
        self.variables, self.loops = ["$"], 0
        tree, end = self._list()
        if end.word != "end":
            raise self.error(f"unexpected {end} in {context}")
        self.variables, self.loops = outer
        self._add(name, tree)

    def _template_name(self, token: Token, context: str) -> str:
        if token.kind not in (lex.STRING, lex.RAW_STRING):
            raise self.unexpected(token, context)
        return self.unquote(token)

    def _list(self) -> tuple[ListNode, _End]:
        self.controls += 1
        if self.controls > DEPTH_MAX:
            raise self.error("max nesting depth exceeded")
        found = ListNode(self.peek_word().at)
        while self.peek_word().kind != lex.EOF:
            node = self._text_or_action()
            if isinstance(node, _End):
                self.controls -= 1
                return found, node
            found.nodes.append(node)
        raise self.error("unexpected EOF", self.peek())

    def _text_or_action(self) -> Node:
        token = self.next_word()
        if token.kind == lex.TEXT:
            return TextNode(token.at, token.text)
        if token.kind != lex.LEFT_DELIM:
            raise self.unexpected(token, "input")
        self.action_line = token.line
        node = self._action()
        self.action_line = 0
        return node

    def _action(self) -> Node:
        mark = self.at
        token = self.next_word()
        kind = token.kind
        if kind in ("if", "with", "range"):
            return self._control(token, kind)
        if kind in ("break", "continue"):
            what = f"{{{{{kind}}}}}"
            after = self.next_word()
            if after.kind != lex.RIGHT_DELIM:
                raise self.unexpected(after, what)
            if not self.loops:
                raise self.error(f"{what} outside {{{{range}}}}", token)
            return JumpNode(token.at, kind)
        if kind == "else":
            if self.peek_word().kind not in ("if", "with"):
                self.expect(lex.RIGHT_DELIM, "else")
            return _End(token.at, "else")
        if kind == "end":
            self.expect(lex.RIGHT_DELIM, "end")
            return _End(token.at, "end")
        if kind in ("template", "block"):
            return self._template(kind)
        self.at = mark
        at = self.peek_word().at
        return ActionNode(at, self._pipeline("command", lex.RIGHT_DELIM))

    def _template(self, kind: str) -> Node:
        context = f"{kind} clause"
        token = self.next_word()
        name = self._template_name(token, context)
        pipe = None
        if kind == "block":
            pipe = self._pipeline(context, lex.RIGHT_DELIM)
            self._body(name, context)
        elif self.peek_word().kind == lex.RIGHT_DELIM:
            self.next()
        else:
            pipe = self._pipeline(context, lex.RIGHT_DELIM)
        return TemplateNode(token.at, name, pipe)

    def _control(self, token: Token, word: str) -> BranchNode:
        known = len(self.variables)
        pipe = self._pipeline(word, lex.RIGHT_DELIM)
        self.loops += word == "range"
        body, end = self._list()
        self.loops -= word == "range"
        otherwise = None
        if end.word == "else":
            if word in ("if", "with") and self.peek().kind == word:
                otherwise = ListNode(end.at)
                self.controls += 1
                if self.controls > DEPTH_MAX:
                    raise self.error("max nesting depth exceeded")
                otherwise.nodes.append(self._control(self.next(), word))
                self.controls -= 1
            else:
                otherwise, end = self._list()
                if end.word != "end":
                    raise self.error(f"expected end; found {end}")
        del self.variables[known:]
        return BranchNode(pipe.at, word, pipe, body, otherwise)

    # ---- pipelines

    def _pipeline(self, context: str, end: str) -> PipeNode:
        pipe = PipeNode(self.peek_word().at)
        self._declarations(pipe, context)
        while True:
            token = self.peek_word()
            if token.kind == end:
                self.next()
                break
            if token.kind not in OPERANDS:
                raise self.unexpected(token, context)
            pipe.commands.append(self._command())
        if not pipe.commands:
            raise self.error(f"missing value for {context}")
        for number, command in enumerate(pipe.commands[1:], 2):
            if isinstance(command.args[0], BoolNode | DotNode | NilNode | NumberNode | StringNode):
                raise self.error(f"non executable command in pipeline stage {number}")
        return pipe

    def _declarations(self, pipe: PipeNode, context: str) -> None:
        while self.peek_word().kind == lex.VARIABLE:
            mark = self.at
            token = self.next()
            following = self.peek_word()
            comma = following.kind == lex.CHAR and following.text == ","
            if following.kind not in (lex.ASSIGN, lex.DECLARE) and not comma:
                self.at = mark
                return
            self.next()
            pipe.declares.append(VariableNode(token.at, [token.text]))
            self.variables.append(token.text)
            if not comma:
                pipe.assigns = following.kind == lex.ASSIGN
                return
            if context != "range" or len(pipe.declares) > 1:
                raise self.error(f"too many declarations in {context}")
            if self.peek_word().kind not in (lex.VARIABLE, lex.RIGHT_DELIM, lex.RIGHT_PAREN):
                raise self.error("range can only initialize variables")

    def _command(self) -> CommandNode:
        command = CommandNode(self.peek_word().at)
        while True:
            self.peek_word()
            operand = self._operand()
            if operand is not None:
                command.args.append(operand)
            token = self.peek()
            if token.kind in (lex.RIGHT_DELIM, lex.RIGHT_PAREN):
                break
            self.next()
            if token.kind == lex.PIPE:
                break
            if token.kind != lex.SPACE:
                raise self.unexpected(token, "operand")
        if not command.args:
            raise self.error("empty command")
        return command

    def _operand(self) -> Node | None:
        node = self._term()
        if node is None or self.peek().kind != lex.FIELD:
            return node
        at, names = self.peek().at, []
        while self.peek().kind == lex.FIELD:
            names.append(self.next().text[1:])
        if isinstance(node, FieldNode | VariableNode):
            # Go places an error in such a chain at its second name.
            node.names += names
            node.at = at
            return node
        if isinstance(node, BoolNode | StringNode | NumberNode | NilNode | DotNode):
            raise self.error(f"unexpected . after term {quote(str(node))}")
        return ChainNode(at, node, names)

    def _term(self) -> Node | None:
        mark = self.at
        token = self.next_word()
        kind, at = token.kind, token.at
        if kind == lex.IDENTIFIER:
            if token.text not in self.functions:
                raise self.error(f"function {quote(token.text)} not defined", token)
            return IdentifierNode(at, token.text)
        if kind == lex.DOT:
            return DotNode(at)
        if kind == lex.NIL:
            return NilNode(at)
        if kind == lex.VARIABLE:
            if token.text not in self.variables:
                raise self.error(f"undefined variable {quote(token.text)}", token)
            return VariableNode(at, [token.text])
        if kind == lex.FIELD:
            return FieldNode(at, [token.text[1:]])
        if kind == lex.BOOL:
            return BoolNode(at, token.text == "true")
        if kind in (lex.NUMBER, lex.CHAR_CONSTANT):
            return self.number(token)
        if kind == lex.LEFT_PAREN:
            self.depth += 1
            if self.depth > DEPTH_MAX:
                raise self.error("max expression depth exceeded", token)
            pipe = self._pipeline("parenthesized pipeline", lex.RIGHT_PAREN)
            self.depth -= 1
            return pipe
        if kind in (lex.STRING, lex.RAW_STRING):
            return StringNode(at, token.text, self.unquote(token))
        self.at = mark
        self.peek_word()
        return None
