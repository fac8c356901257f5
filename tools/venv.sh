#!/bin/sh
# Makes the virtual environment $1 with $PYTHON, or else with the first Python >= 3.11 of those that are usual.
# The distribution's goes first: it is built with profile-guided optimization, which those that are compiled on the spot
# (pyenv's) mostly are not, and the gateway then costs a sixth less.
# An environment that is there and works is kept; one whose interpreter is gone or too old is made anew.
set -eu

venv=$1
fits='import sys; sys.exit(sys.version_info < (3, 11))'
complete='import ensurepip, os, sys, sysconfig, venv
sys.exit(sys.version_info < (3, 11) or not os.path.exists(sysconfig.get_path("platinclude") + "/Python.h"))'

die() {
    printf 'fastgw: %s\n' "$*" >&2
    exit 1
}

# A pyenv shim exists for versions that are not active, so each candidate is run, not only looked up.
find_python() {
    # First one that needs nothing more, then one that lacks a package which may be had.
    for needs in "$complete" "$fits"; do
        for candidate in ${PYTHON:-/usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11}; do
            if "$candidate" -c "$needs" >/dev/null 2>&1; then
                printf '%s\n' "$candidate"
                return
            fi
        done
    done
    found=$("${PYTHON:-python3}" --version 2>&1) || found="no ${PYTHON:-python3}"
    die "Python 3.11 or newer is needed, found: $found. Install one, or name it: make PYTHON=/path/to/python3.11 ..."
}

if "$venv/bin/python" -c "$fits; import pip" >/dev/null 2>&1 && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi
python=$(find_python)
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    # Debian and Ubuntu ship venv's other half in a package of its own.
    package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
    "$(dirname "$0")/apt.sh" "$package"
    "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || die "$python cannot make virtual environments (no ensurepip)."
fi
"$python" -m venv --clear "$venv"
