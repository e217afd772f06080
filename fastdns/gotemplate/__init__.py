# SPDX-License-Identifier: Apache-2.0
"""Go's text/template, as far as a Corefile uses it.

    template = Template("answer", "{{ .Name }} 60 IN A {{ index .Match 1 }}", functions)
    text = template.execute(data, Budget())

Strategy: the language and its rules are Go's: lexer and parser (lexer.py, parser.py) read the same texts and refuse the
same with the same words, values keep the types that Go's rules ask for (values.py), and fmt's verbs print them
(verbs.py). A template is compiled once into closures (compiler.py), so an execution neither walks a tree nor looks a
name up. Every execution has a budget: a text from a Corefile must not cost a query more than a millisecond.
"""

from .compiler import Template
from .execution import Budget, ExecError
from .functions import BUILTINS, Function, FunctionError, parse_int
from .lexer import TemplateError
from .values import MISSING, StringMap, Strings, Struct, Uint8, Uint16, Uint32, Uint64

__all__ = [
    "BUILTINS",
    "MISSING",
    "Budget",
    "ExecError",
    "Function",
    "FunctionError",
    "StringMap",
    "Strings",
    "Struct",
    "Template",
    "TemplateError",
    "Uint8",
    "Uint16",
    "Uint32",
    "Uint64",
    "parse_int",
]
