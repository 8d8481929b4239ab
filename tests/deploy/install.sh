#!/bin/sh
# Unpacks Debian's package `prometheus` below $1, for promtool, without touching the system's own packages, and
# prints the folder of its programs.
set -eu
root=$1
if [ ! -x "$root/usr/bin/promtool" ]; then
    mkdir -p "$root"
    (cd "$root" && apt-get download prometheus >&2 && dpkg -x prometheus_*.deb . && rm prometheus_*.deb)
fi
echo "$root/usr/bin"
