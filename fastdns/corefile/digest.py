# SPDX-License-Identifier: Apache-2.0
"""The hash of a configuration, by which `reload` decides whether it changed.

Strategy: SHA-512 of the server blocks as JSON exactly as Go's encoding/json writes them, so that the value in the
log and in `coredns_reload_version_info` is CoreDNS's for the same Corefile. Comments alone do not count
unless they move a line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .lexer import Token
from .parser import RawBlock

_SHORT = {"\\": "\\\\", '"': '\\"', "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_SPECIAL = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')


def _escape(match: re.Match[str]) -> str:
    ch = match.group()
    if "\ud800" <= ch <= "\udfff":
        # An octet of the environment that is not UTF-8.
        return "\\ufffd"
    return _SHORT.get(ch) or f"\\u{ord(ch):04x}"


def _string(text: str) -> str:
    return '"' + _SPECIAL.sub(_escape, text) + '"'


def to_json(blocks: Sequence[RawBlock]) -> bytes:
    """The blocks as Go encodes them: no blanks, directives sorted, `<`, `>`, `&` escaped; none is `null`."""
    if not blocks:
        return b"null"
    return ("[" + ",".join(map(_block, blocks)) + "]").encode("utf-8")


def _block(block: RawBlock) -> str:
    keys = ",".join(map(_string, block.keys))
    # Go sorts by octets.
    names = sorted(block.tokens, key=lambda name: name.encode("utf-8", "surrogateescape"))
    directives = ",".join(f"{_string(name)}:[{','.join(map(_token, block.tokens[name]))}]" for name in names)
    return f'{{"Keys":[{keys}],"Tokens":{{{directives}}}}}'


def _token(token: Token) -> str:
    return f'{{"File":{_string(token.file)},"Line":{token.line},"Text":{_string(token.text)}}}'


def sha512(blocks: Sequence[RawBlock]) -> str:
    """The hash in lower-case hexadecimal digits."""
    # Only here: the supervisor, which reads no Corefile, is spared OpenSSL's library.
    import hashlib

    return hashlib.sha512(to_json(blocks)).hexdigest()
