# SPDX-License-Identifier: Apache-2.0
"""The grammar of on: an event, and a command line that is split as a shell would."""

from typing import NamedTuple

from fastdns.plugin import Directive, Dispenser

EVENTS = ("startup", "shutdown", "certrenew")
SPACES = " \t\r\n"


class Command(NamedTuple):
    """What to run at an event. `wait`: whether everything else waits for its end."""

    event: str
    command: str
    arguments: tuple[str, ...]
    wait: bool


def split(text: str) -> list[str]:
    """Words as a shell has them: both quotes, the backslash (not within single quotes), comments. ValueError."""
    words: list[str] = []
    word: str | None = None
    quote = ""
    at = 0
    while at < len(text):
        ch = text[at]
        at += 1
        if ch == "\\" and quote != "'":
            if at == len(text):
                raise ValueError("EOF found after escape character")
            word = (word or "") + text[at]
            at += 1
        elif quote:
            if ch == quote:
                quote = ""
            else:
                word = (word or "") + ch
        elif ch in "\"'":
            quote, word = ch, word or ""
        elif ch in SPACES:
            if word is not None:
                words.append(word)
            word = None
        elif ch == "#" and word is None:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end + 1
        else:
            word = (word or "") + ch
    if quote:
        raise ValueError("EOF found when expecting closing quote.")
    return words if word is None else [*words, word]


def occurrence(d: Dispenser) -> Command:
    """One command."""
    if not d.next_arg():
        raise d.arg_err()
    event = d.val.lower()
    if event not in EVENTS:
        raise d.err(f"Wrong event name or event not supported: '{d.val}'")
    line = " ".join(d.remaining_args())
    try:
        words = split(line)
    except ValueError as error:
        raise d.err(f"error parsing command: {error}") from None
    if not words:
        raise d.err(f"no command contained in '{line}'")
    wait = len(words) < 2 or words[-1] != "&"
    return Command(event, words[0], tuple(words[1:] if wait else words[1:-1]), wait)


ON = Directive(
    "on", parse_one=occurrence, usage="on EVENT COMMAND [ARGUMENTS...] [&]", help="Runs a command at an event.")
