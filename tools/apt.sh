#!/bin/sh
# Sees that what a make target needs from the system is there. Arguments: build | asan | fronts | bench | a Debian package.
#   build  a C compiler and the headers of $PYTHON      asan  its address sanitizer
#   fronts nginx and HAProxy, which tests put before the gateway
#   bench  nginx, HAProxy and wrk: what the gateway is measured against, and with
# As root with apt-get what is missing is installed; otherwise the line to run is printed and the exit code is 1.
set -eu

missing=''

need() { # package, then a command that succeeds when it is there
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}

has_headers() {
    "${PYTHON:-python3}" -c \
        'import os, sys, sysconfig as s; sys.exit(not os.path.exists(s.get_path("platinclude") + "/Python.h"))'
}

has_asan() { # gcc prints a bare name for a library it does not have
    [ -e "$(gcc -print-file-name=libasan.so)" ]
}

headers_package() {
    "${PYTHON:-python3}" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])'
}

for group in "$@"; do
    case $group in
    build)
        need gcc command -v gcc
        need libc6-dev sh -c 'echo "#include <stdlib.h>" | gcc -E -'
        need "$(headers_package)" has_headers
        ;;
    asan) need libasan8 has_asan ;;
    fronts)
        need nginx-light command -v nginx
        need haproxy command -v haproxy
        ;;
    bench)
        need nginx-light command -v nginx
        need haproxy command -v haproxy
        need wrk command -v wrk
        need valgrind command -v valgrind
        ;;
    *) need "$group" dpkg -s "$group" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    printf 'fastgw: this needs packages that are not installed. Run (Debian, Ubuntu; elsewhere their like):\n' >&2
    printf '    sudo apt-get update && sudo apt-get install -y --no-install-recommends%s\n' "$missing" >&2
    exit 1
fi

# Packages of servers start them at once, and port 80 may be somebody's; this is Debian's way to say no.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
printf 'fastgw: installing%s\n' "$missing" >&2
apt-get update -qq
# shellcheck disable=SC2086  # a list of package names, split on purpose
apt-get install -qq -y --no-install-recommends $missing >/dev/null
