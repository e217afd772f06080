# SPDX-License-Identifier: Apache-2.0
"""What a scenario asks of its servers: scenario.toml, read strictly.

Strategy: a dataclass per table of the file, whose fields are the keys. A key that is not known, a value of another
type or out of its bounds is an error that names the file and the key: a typing mistake that is ignored would measure
something else than the file says.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdns.bench.turns import Shape

HERE = Path(__file__).resolve().parent
FILE = "scenario.toml"
UPSTREAMS = ("zone", "slow", "none")
ATTACKS = ("", "overload", "names", "trickle")
MOST_NAMES = 1_000_000
MOST_PREFIXES = 65_536  # 172.16/12 has so many of 16 addresses
MOST_RATE = 1_000_000  # questions a second
MOST_CPUS = 1024


class ScenarioError(ValueError):
    """A scenario that is not there, or cannot be read; the text names the file and the key."""


@dataclass(frozen=True)
class Questions:
    """What the measured clients ask: `names` names again and again, a share `fresh` (0 to 1) of all never before."""

    names: int = 0
    fresh: float = 0.0


@dataclass(frozen=True)
class Flood:
    """What another client asks meanwhile: `rate` names a second, never asked before; `gone`: none of them exists."""

    rate: float
    gone: bool = False


@dataclass(frozen=True)
class Scenario:
    """One scenario. `shapes` are words that `shape_of` understands; `quota` is in CPUs, 0 for no limit; `reload`: the
    server reads its configuration again just before it is measured; `attack`: what happens to it in half of a turn
    (attack.py), and `holds` the bound of its figure: at least, for `trickle` at most; `hosts`: servers get a hosts file
    of all names that are asked again; `prefixes`: and rules of `acl` that refuse so many networks, none of a client;
    `place`: where it stands in the tables."""

    name: str
    folder: Path
    about: str
    questions: Questions
    shapes: tuple[str, ...] = ("64x4",)
    peers: tuple[str, ...] = ()
    upstream: str = "zone"
    flood: Flood | None = None
    quota: float = 0.0
    reload: bool = False
    attack: str = ""
    holds: float = 0.0
    hosts: bool = False
    prefixes: int = 0
    place: int = 0


TYPES: dict[str, tuple[type, ...]] = {
    "about": (str,),
    "shapes": (list,),
    "peers": (list,),
    "upstream": (str,),
    "quota": (int, float),
    "reload": (bool,),
    "attack": (str,),
    "holds": (int, float),
    "hosts": (bool,),
    "prefixes": (int,),
    "place": (int,),
    "questions": (dict,),
    "flood": (dict,),
    "questions.names": (int,),
    "questions.fresh": (int, float),
    "flood.rate": (int, float),
    "flood.gone": (bool,),
}


def load(name: str, known: Collection[str], where: Path = HERE) -> Scenario:
    """The scenario in the folder `name`; `known` are the peers that exist. Raises ScenarioError."""
    file = where / name / FILE
    try:
        with file.open("rb") as stream:
            table = tomllib.load(stream)
    except FileNotFoundError:
        raise ScenarioError(f"no scenario {name!r}; there are: {', '.join(names(where))}") from None
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file}: {error}") from None
    check(table, str(file))
    return build(name, file, table, known)


def shape_of(words: str) -> Shape:
    """The shape that "SOCKETSxIN_FLIGHT [segmented] [tcp]" describes. Raises ValueError."""
    size, *rest = words.split() or [""]
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size)
    if match is None or not set(rest) <= {"segmented", "tcp"} or len(rest) > 1:
        raise ValueError(f"{words!r} is no shape: SOCKETSxIN_FLIGHT, and `segmented` or `tcp` behind it")
    return Shape(words, int(match[1]), int(match[2]), "tcp" if "tcp" in rest else "udp", "segmented" in rest, 0.0)


def names(where: Path = HERE) -> list[str]:
    """The scenarios there are, sorted."""
    return sorted(file.parent.name for file in where.glob(f"*/{FILE}"))


def check(table: Mapping[str, Any], file: str, prefix: str = "") -> None:
    """Every key is known and every value of its type. Raises ScenarioError."""
    for key, value in table.items():
        kinds = TYPES.get(prefix + key)
        if kinds is None:
            raise ScenarioError(f"{file}: unknown key {prefix + key}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ScenarioError(f"{file}: {prefix + key} must be {' or '.join(kind.__name__ for kind in kinds)}")
        if isinstance(value, dict):
            check(value, file, f"{prefix}{key}.")
        if isinstance(value, list) and not all(isinstance(one, str) for one in value):
            raise ScenarioError(f"{file}: {prefix + key} must be a list of str")


def build(name: str, file: Path, table: Mapping[str, Any], known: Collection[str]) -> Scenario:
    """The dataclass of a table that `check` has passed. Raises ScenarioError for what is out of bounds."""

    def demand(held: bool, what: str) -> None:
        if not held:
            raise ScenarioError(f"{file}: {what}")

    demand(bool(table.get("about")), "about must say what is measured")
    demand("questions" in table, "questions is missing")
    questions = Questions(**table["questions"])
    demand(0 <= questions.fresh <= 1, "questions.fresh must be between 0 and 1")
    demand(0 <= questions.names <= MOST_NAMES, f"questions.names must be between 0 and {MOST_NAMES}")
    demand(questions.names > 0 or questions.fresh == 1, "questions.names must be positive unless all are fresh")
    demand(0 <= table.get("prefixes", 0) <= MOST_PREFIXES, f"prefixes must be between 0 and {MOST_PREFIXES}")
    demand(not table.get("hosts") or questions.fresh == 0, "questions.fresh must be 0 where there is a hosts file")
    flood = None
    if "flood" in table:
        demand("rate" in table["flood"], "flood.rate is missing")
        flood = Flood(**table["flood"])
        demand(0 < flood.rate <= MOST_RATE, f"flood.rate must be positive and at most {MOST_RATE}")
    unknown = sorted(set(table.get("peers", ())) - set(known))
    demand(not unknown, f"unknown peers: {', '.join(unknown)}")
    upstream = table.get("upstream", "zone")
    demand(upstream in UPSTREAMS, f"upstream must be one of {', '.join(UPSTREAMS)}")
    demand(table.get("attack", "") in ATTACKS, f"attack must be one of {', '.join(ATTACKS[1:])}")
    demand(("attack" in table) == (table.get("holds", 0) > 0), "attack and a positive holds go together")
    demand("attack" not in table or questions.fresh == 0, "an attack is measured with names that are cached")
    demand(0 <= table.get("quota", 0) <= MOST_CPUS, f"quota must be between 0 and {MOST_CPUS}")
    demand(len(table.get("shapes", ("64x4",))) > 0, "shapes is empty")
    for words in table.get("shapes", ()):
        try:
            shape_of(words)
        except ValueError as error:
            raise ScenarioError(f"{file}: {error}") from None
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    given.update(questions=questions, flood=flood)
    return Scenario(name=name, folder=file.parent, **given)
