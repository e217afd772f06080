# SPDX-License-Identifier: Apache-2.0
"""Builds the compiled modules of fastdns.

Strategy: one rule finds the modules (`fastdns/_*.pyx`, `fastdns/bench/_*.pyx`, `plugins/<name>/_*.pyx`), one table
holds the Cython directives, and three switches, read from the environment, change a build:

    FASTDNS_DEBUG=1      bounds checks, assertions and symbols
    FASTDNS_TRACE=1      line tracing, for coverage of the .pyx files
    FASTDNS_SANITIZE=1   address and undefined-behaviour sanitizers (see `make sanitize`)

`FASTDNS_ONLY=_wire,_cache` builds those modules alone: a developer's loop. Everything else of the package
is data in pyproject.toml. No option asks for the build machine's own instructions: a wheel runs anywhere.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, find_packages, setup

ROOT = Path(__file__).resolve().parent
os.chdir(ROOT)


def switch(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


DEBUG, TRACE, SANITIZE = (switch(f"FASTDNS_{name}") for name in ("DEBUG", "TRACE", "SANITIZE"))

FLAVOUR = "sanitize" if SANITIZE else "trace" if TRACE else "debug" if DEBUG else "release"

DIRECTIVES = {
    "language_level": 3,
    "binding": True,
    "embedsignature": True,
    "boundscheck": True,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "linetrace": TRACE,
    "profile": TRACE,
}

WARNINGS = [
    "-Wall",
    "-Wno-sign-compare",  # Cython compares len() with C sizes
    "-Wno-unused-function",  # Cython emits helpers that a module may not call
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Wno-incompatible-pointer-types-discards-qualifiers",  # clang's name; Cython forgets `const` at array members
    "-Wno-discarded-qualifiers",
    "-Werror=int-conversion",
    "-Werror=return-type",
    "-Werror=format-security",
    "-Werror=array-bounds",
]
HARDENING = ["-fstack-protector-strong", "-fvisibility=hidden"]
LINK = ["-Wl,-z,relro,-z,now"]

if SANITIZE:
    # Recovery is off: the first finding ends the run. Fortified libc calls would hide theirs from the sanitizer. Only
    # clang writes the findings of both sanitizers to a file; its check of function types does not fit Cython's calls.
    CHECKS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-sanitize=function", "-shared-libasan"]
    LEVEL = ["-O1", "-g", "-fno-omit-frame-pointer", *CHECKS, "-U_FORTIFY_SOURCE"]
    LINK = [*LINK, *CHECKS]
elif DEBUG or TRACE:
    LEVEL = ["-O1", "-g", "-UNDEBUG", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
else:
    LEVEL = ["-O3", "-g1", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]

MACROS: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]
if TRACE:
    MACROS += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]


def module_name(source: Path) -> str:
    parts = source.with_suffix("").parts
    return ".".join(parts if parts[0] == "fastdns" else ("fastdns", *parts))


def extensions() -> list[Extension]:
    places = Path("fastdns"), Path("fastdns/bench")
    sources = sorted(
        [*(source for place in places for source in place.glob("_*.pyx")), *Path("plugins").glob("*/_*.pyx")]
    )
    only = [name for name in os.environ.get("FASTDNS_ONLY", "").split(",") if name]
    return [
        Extension(
            module_name(source),
            [str(source)],
            include_dirs=["fastdns"],
            define_macros=MACROS,
            extra_compile_args=[*LEVEL, *WARNINGS, *HARDENING],
            extra_link_args=LINK,
            depends=["fastdns/_atomic.h"],
        )
        for source in sources
        if not only or source.stem in only
    ]


Options.warning_errors = True  # what `cython -Werror` sets
modules = extensions()

setup(
    # Each flavour has its own objects; generated C lies there too, but for the traced one, whose coverage reads it.
    options={"build": {"build_base": f"build/{FLAVOUR}"}},
    packages=["fastdns", *(f"fastdns.{name}" for name in find_packages("fastdns")), "fastdns.plugins"]
    + [f"fastdns.plugins.{name}" for name in find_packages("plugins")],
    ext_modules=cythonize(
        modules,
        compiler_directives=DIRECTIVES,
        annotate=DEBUG,
        force=TRACE,
        build_dir=None if TRACE else f"build/{FLAVOUR}",
    ),
)
