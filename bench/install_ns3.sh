#!/bin/sh
# Installs ns-3 (the wheel `ns3`, GPL: a program of this benchmark, never a dependency of Farcast) into an environment
# of its own at $1, by the interpreter $2, and prints that environment's interpreter; nothing where pip cannot get
# it, for the benchmark to say so in its one line.
set -eu
root=$1
if [ ! -e "$root/.installed" ]; then
    "$2" -m venv "$root"
    "$root/bin/python" -m pip --quiet --disable-pip-version-check install --only-binary ns3 'ns3==3.44.*' \
        >/dev/null 2>&1
    touch "$root/.installed"
fi
echo "$root/bin/python"
