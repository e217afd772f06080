#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs the suite against extensions built with AddressSanitizer and UndefinedBehaviorSanitizer.
#
# Strategy: clang compiles a copy of the tree under build/sanitize/tree with a virtual environment of its own, so that
# the working tree's modules stay what they are. The interpreter itself is not instrumented, so the run-time library
# comes in by LD_PRELOAD, which that environment's python3 sets for itself and takes away again: the programs that tests
# start (ps, strace, knotd ...) must not have it, some hang in it. Leaks are not looked for (CPython keeps memory at exit
# on purpose).
set -eu
cd "$(dirname "$0")/.."
top=$(pwd)
tree=$top/build/sanitize/tree
rm -rf "$tree/fastdns" "$tree/plugins" "$tree/tests"
mkdir -p "$tree"
git ls-files -z --cached --others --exclude-standard | xargs -0 sh -c '
    tree=$0; for f; do [ -e "$f" ] && printf "%s\0" "$f"; done | xargs -0 cp --parents -t "$tree"' "$tree"
cd "$tree"
[ -d .git ] || git init -q              # or the tests of the tree would ask the repository around it
if [ -e .venv/bin/python3.bare ]; then mv -f .venv/bin/python3.bare .venv/bin/python3; fi
unset MAKEFLAGS MAKELEVEL 2>/dev/null || true
VENV=.venv tests/setup.sh test
VENV=.venv tests/setup.sh fuzz          # clang
CC=clang make --no-print-directory compile FLAVOUR=sanitize VENV=.venv
library=$(clang -print-file-name="libclang_rt.asan-$(uname -m).so")
[ -e "$library" ] || { echo "sanitize: clang has no $library" >&2; exit 1; }
# A finding anywhere, in a child process too, is written to a file: a test that survives its server's death still fails here.
rm -f "$top"/build/sanitize/finding.*
preload="$(readlink -f "$library") $(readlink -f "$(gcc -print-file-name=libstdc++.so.6)")"
bare=$(readlink -f .venv/bin/python3)
echo 'import os; os.environ.pop("LD_PRELOAD", None)' > "$(.venv/bin/python3 -c 'import site; print(site.getsitepackages()[0])')/preload.pth"
mv .venv/bin/python3 .venv/bin/python3.bare
cat > .venv/bin/python3 <<END
#!/bin/bash
LD_PRELOAD="$preload" exec -a "\$0" "$bare" "\$@"
END
chmod 755 .venv/bin/python3
status=0
env PYTHONMALLOC=malloc FASTDNS_SANITIZED=1 \
    ASAN_OPTIONS="detect_leaks=0:abort_on_error=0:exitcode=99:log_path=$top/build/sanitize/finding:allocator_may_return_null=1" \
    UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1:exitcode=99:log_path=$top/build/sanitize/finding" \
    .venv/bin/python -m pytest -q -p no:cacheprovider --timeout 240 --hypothesis-profile ci -m "not nightly and not unsanitized" "$@" || status=$?
for f in "$top"/build/sanitize/finding.*; do
    [ -e "$f" ] || continue
    status=1
    echo "== $f"; head -40 "$f"
done
exit "$status"
