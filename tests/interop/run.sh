#!/bin/sh
# Other MoQT implementations against our edges: installs what it needs, runs every case (or those whose name
# holds one of the words given), ends with {"passed":N,"total":N}. Needs: PYTHON (an interpreter that has
# farcast), Node.js, Chromium. MODULE runs another module here, of the same needs. Everything talks over 127.0.0.1.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PYTHON=${PYTHON:-$root/.venv/bin/python}
peers=$root/.venv-peers

say() { echo "interop: $*" >&2; }
fail() { say "$@"; exit 1; }

[ -x "$PYTHON" ] || fail "$PYTHON is missing: run 'make interop', which builds it"

# package: installs Debian's package if that is possible here, else says what to do.
need() {
    program=$1 package=$2
    command -v "$program" >/dev/null && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package"
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$package"; } >&2
    fi
    command -v "$program" >/dev/null || fail "$program is missing. On Debian: apt install $package"
}

need node nodejs
need npm npm
[ -n "${CHROMIUM:-}" ] || { need chromium chromium; CHROMIUM=$(command -v chromium); }
export CHROMIUM

lock=$here/package-lock.json
if ! cmp -s "$lock" "$here/node_modules/.installed"; then
    say "installing the browser's libraries"
    (cd "$here" && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error) >&2
    cp "$lock" "$here/node_modules/.installed"
fi

if ! cmp -s "$here/requirements.txt" "$peers/.installed"; then
    say "installing moq-rs"
    "$PYTHON" -m venv "$peers"
    "$peers/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$peers/.installed"
fi

# tests.interop is imported from the root; -P keeps the working directory out of it.
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$PYTHON" -P -m "${MODULE:-tests.interop}" "$@"
