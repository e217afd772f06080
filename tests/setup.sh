#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Brings a machine from "has Python 3.11 and apt" to "can build and run" (run) "can run the tests" (test) or
# "can fuzz" (fuzz).
#
#   tests/setup.sh run|test|fuzz   VENV=DIR (default .venv), PYTHON=program (default: the first that is new enough)
#
# Strategy: look before installing. Only what is missing is asked of apt, as root or by sudo, and no daemon is
# started by its package. What only some tests need may be missing in the end: it is named, and they are skipped. Python packages go into a virtual environment of this checkout, nowhere else.
# It reads nothing from standard input. On a machine without apt it says which programs are missing.
set -eu
cd "$(dirname "$0")/.."
goal=${1:-run}
VENV=${VENV:-.venv}
recommends=--no-install-recommends
case $goal in
    run) extra="[re2,tls]" ;;
    test) extra="[test]" ;;
    fuzz) extra="" recommends="" ;;     # libFuzzer is only recommended by clang
    *) echo "usage: tests/setup.sh run|test|fuzz" >&2; exit 2 ;;
esac

say() { echo "setup: $*"; }
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.11 python3.12 python3.13 python3.14 python; do
        if new_enough "$candidate"; then command -v "$candidate"; return 0; fi
    done
    return 1
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
may_install() { have apt-get && { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }; }

policy=/usr/sbin/policy-rc.d     # where Debian asks whether a freshly installed daemon may start
forget_policy() { as_root rm -f "$policy"; }

apt_install() {
    if ! may_install; then say "no apt-get, or neither root nor sudo; please install what Debian calls: $*" >&2; return 1; fi
    say "apt-get install $*"
    if [ ! -e "$policy" ]; then
        trap forget_policy EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y $recommends "$@" </dev/null
}

# -- what apt must bring
wanted="" useful=""
want() { wanted="$wanted $1"; }
like() { have "$1" || useful="$useful ${2:-$1}"; }     # a program, and its package where that has another name
python=$(find_python) || { want python3; python=""; }
{ have gcc || have cc; } || want gcc
[ -e /usr/include/stdio.h ] || want libc6-dev
if [ -n "$python" ]; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$python" -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
        || want "python$version-dev"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || [ -x "$VENV/bin/pip" ] || want "python$version-venv"
else
    want python3-dev
    want python3-venv
fi
if [ "$goal" = test ]; then
    like knotd knot
    like kdig knot-dnsutils
    like nsd
    like unbound
    like dnsperf
    like dig bind9-dnsutils
    like fstrm_capture fstrm-bin
    like ip iproute2
    like git
    like curl
    like strace
    like ps procps
    like valgrind
fi
[ "$goal" != fuzz ] || have clang || want clang
# shellcheck disable=SC2086
[ -z "$wanted" ] || apt_install $wanted
# All at once, and one by one where that fails: a distribution may lack one of them.
# shellcheck disable=SC2086
if [ -n "$useful" ] && ! apt_install $useful; then
    for package in $useful; do
        { may_install && apt_install "$package"; } || say "without $package: the tests that need it are skipped"
    done
fi
if [ -z "$python" ]; then
    python=$(find_python) || { say "fastdns needs Python 3.11 or newer; none is here" >&2; exit 1; }
fi

# -- the virtual environment; made anew only when what it depends on has changed
stamp="$VENV/.fastdns-$goal"
state=$(cat pyproject.toml tests/setup.sh | cksum)
if [ ! -x "$VENV/bin/pip" ]; then
    say "virtual environment in $VENV ($("$python" -V))"
    "$python" -m venv "$VENV"
fi
if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
    say "Python packages (pip, into $VENV)"
    "$VENV/bin/pip" install -q --disable-pip-version-check "setuptools>=65" wheel "cython>=3.1,<4"
    # Editable: the tree itself is the package, and plugins/ is imported as fastdns.plugins. Nothing is compiled here:
    # FASTDNS_ONLY names no module, and `make build` compiles in place.
    FASTDNS_ONLY=none "$VENV/bin/pip" install -q --disable-pip-version-check --no-build-isolation -e ".$extra"
    echo "$state" > "$stamp"
fi
