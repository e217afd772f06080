# SPDX-License-Identifier: Apache-2.0
"""The grammar of cookie. A secret never stands in an error text."""

from dataclasses import dataclass

from fastdns.corefile.types import Type
from fastdns.plugin import Directive, Dispenser, Option, Settings

SECRETS_MOST = 4
SECRET_OCTETS = 16


@dataclass(frozen=True)
class Secret(Type):
    """32 hexadecimal digits; the value is the word in lower case."""

    def read(self, text: str, d: Dispenser) -> str:
        digits = "0123456789abcdefABCDEF"
        if len(text) != 2 * SECRET_OCTETS or any(character not in digits for character in text):
            raise d.err(f"a secret has {2 * SECRET_OCTETS} hexadecimal digits")
        return text.lower()

    def bounds(self) -> str:
        return f"{2 * SECRET_OCTETS} hexadecimal digits"


def check(settings: Settings, d: Dispenser) -> None:
    """Few secrets, each another."""
    secrets = settings["secret"]
    if len(secrets) > SECRETS_MOST:
        raise d.fail(f"there are more than {SECRETS_MOST} secrets")
    if len(set(secrets)) < len(secrets):
        raise d.fail("two secrets are the same")


COOKIE = Directive(
    "cookie",
    options=(
        Option("secret", Secret(), rest=True, repeat="join", show="SECRETS",
               help="What cookies are made with: the first makes new ones, those of all are good; at most 4. Unset: "
               "drawn at the start, kept over reloads."),
        Option("require", help="A UDP query with a client cookie and no server cookie is BADCOOKIE too."),
    ),
    once=True,
    check=check,
    help="Gives clients a DNS cookie, and knows it again.",
)
