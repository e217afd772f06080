# SPDX-License-Identifier: Apache-2.0
"""`{$NAME}` and `{%NAME%}` in a token's text.

Strategy: what a variable brings is scanned again, as in CoreDNS, where a variable that names itself hangs the start;
here the number of replacements and the length of the result are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping

MAX_REPLACEMENTS = 1_000
MAX_LENGTH = 1 << 20


def replace_env(text: str, environ: Mapping[str, str]) -> str:
    """`text` with `{%NAME%}`, then `{$NAME}`, replaced; a variable that is not set gives nothing.

    `{$}` and forms that are not closed stay, and so does all that follows them. Raises ValueError where the
    replacement does not come to an end.
    """
    if "{%" not in text and "{$" not in text:
        return text
    return _replace(_replace(text, "{%", "%}", environ), "{$", "}", environ)


def _replace(text: str, opening: str, closing: str, environ: Mapping[str, str]) -> str:
    for _ in range(MAX_REPLACEMENTS):
        start = text.find(opening)
        end = text.find(closing, start)
        if start < 0 or end <= start + len(opening):
            return text
        reference = text[start : end + len(closing)]
        value = environ.get(text[start + len(opening) : end], "")
        if len(text) + text.count(reference) * len(value) > MAX_LENGTH:
            break
        text = text.replace(reference, value)
    raise ValueError("environment variables expand without end")
