#!/bin/sh
# Unpacks Debian's package `consul` (1.8.7, of bullseye: later releases have none) below $1, without
# touching the system's own packages, and prints the path of the program.
set -eu
root=$1
program=$root/usr/bin/consul
if [ ! -x "$program" ]; then
    mkdir -p "$root/lists/partial" "$root/cache/archives/partial" "$root/sources"
    awk '/^$/ { exit } { print }' /etc/apt/sources.list.d/debian.sources |
        sed -E 's/^Suites:.*/Suites: bullseye/; s/^Components:.*/Components: main/' >"$root/sources/bullseye.sources"
    set -- -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$root/sources" \
        -o Dir::State::lists="$root/lists" -o Dir::Cache="$root/cache" -o APT::Sandbox::User=root
    apt-get "$@" update >&2
    (cd "$root" && apt-get "$@" download consul >&2 && dpkg -x consul_*.deb .)
fi
echo "$program"
