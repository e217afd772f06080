# SPDX-License-Identifier: Apache-2.0
"""Counts, prints, compares with what is committed, and writes it down.

usage: python -m bench.instructions [check]

Without `check` the numbers of this compiler, Python, C library and architecture are replaced. Exits with 1 when a path
is dearer than the tolerance allows (also when the new numbers were written: the commit then says why), 2 when nothing
can be counted here.
"""

import sys

from .count import CannotCountError, committed, compare, count, file_of, key, lines, record


def main(check: bool) -> int:
    """Prints a line for each path."""
    name = key()
    print(name)
    try:
        now = count()
        touched = None if check else lines()
    except CannotCountError as error:
        print(error, file=sys.stderr)
        return 2
    was = committed(name)
    verdicts = compare(was or now, now)
    for verdict in verdicts:
        print(verdict, "DEARER" if verdict.dearer else "")
    for place, value in (touched or {}).items():
        print(f"{place:12} {value:9.1f} cache lines per hit among many names")
    if was is None:
        print("no numbers were committed for this key")
    if not check:
        record(file_of(name), name, now, touched)
        print(f"written: bench/instructions/{name}.json")
    return 1 if any(verdict.dearer for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main("check" in sys.argv[1:]))
