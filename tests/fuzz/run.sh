#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh TARGET RUNS: builds the libFuzzer target tests/fuzz/TARGET.c with the address and undefined-behaviour
# sanitizers and runs it for RUNS cases, seeded with the RFC probes and the corpus of earlier runs.
#
# Strategy: clang compiles the C that Cython makes of the modules that the target includes; the shared libpython is
# linked only to satisfy names that are never called. Corpus and findings stay in build/fuzz/TARGET. PYTHON names
# the interpreter that has Cython.
set -eu
[ $# -eq 2 ] || { echo "usage: run.sh TARGET RUNS" >&2; exit 2; }
target=$1 runs=$2
cd "$(dirname "$0")/../.."
here=tests/fuzz
[ -f "$here/$target.c" ] || { echo "run.sh: no target $target" >&2; exit 2; }
command -v clang >/dev/null || { echo "run.sh: clang is needed for libFuzzer" >&2; exit 1; }
python=${PYTHON:-python3}
build=build/fuzz/$target
mkdir -p "$build/corpus" "$build/seeds"
modules=$(sed -n 's/^#include "\(_[a-z]*\)\.c"$/\1/p' "$here/$target.c" "$here"/*.h | sort -u)
for module in $modules; do
    "$python" -m cython -3 -I. "fastdns/$module.pyx" -o "$build/$module.c"
done
"$python" "$here/seeds.py" "$target" "$build/seeds"
config() { "$python" -c "import sysconfig; print(sysconfig.get_$1)"; }
include=$(config 'path("include")')
libdir=$(config 'config_var("LIBDIR")')
library=$(config 'config_var("LDVERSION")')
clang -O1 -g -w -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-sanitize=function \
    -I"$build" -Ifastdns -I"$here" -I"$include" "$here/$target.c" -o "$build/$target" \
    -L"$libdir" -Wl,-rpath,"$libdir" -lpython"$library"
exec "$build/$target" -runs="$runs" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -dict="$here/wire.dict" -verbosity=1 \
    -print_final_stats=1 -artifact_prefix="$build/" "$build/corpus" "$build/seeds"
