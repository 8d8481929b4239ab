#!/bin/sh
# Unpacks Debian's packages `zsh` and `fish` below $1, without touching the system's own packages, and prints that
# folder.
set -eu
root=$1
if [ ! -x "$root/usr/bin/fish" ] || [ ! -x "$root/bin/zsh" ]; then
    mkdir -p "$root"
    (cd "$root" && apt-get download zsh zsh-common fish fish-common libpcre2-32-0 >&2 &&
        for package in ./*.deb; do dpkg -x "$package" .; done && rm ./*.deb)
fi
echo "$root"
