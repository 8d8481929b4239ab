#!/usr/bin/env bash
# Runs the scenarios of a network and leaves a report, in any CI that has a shell and Python 3.11 or newer.
#
#   deploy/ci/gate.sh [SCENARIO…]        scenarios/*.toml unless named
#
# Environment: FARCAST  what pip is to install         (farcast[reports])
#              SEEDS    seeds of each scenario         (5)
#              SHORT    1 for the short form           (0)
#              PINS     a file of known broken promises, none unless set
#              OUT      where reports go               (farcast-sim)
#
# Exit code: 0 all promises hold, 99 one does not, 2 a scenario is wrong. Keep OUT as an artifact, whatever the
# exit code: report.html says what broke, by how much, where, and how to replay it.
set -euo pipefail

FARCAST=${FARCAST:-farcast[reports]}
SEEDS=${SEEDS:-5}
SHORT=${SHORT:-0}
PINS=${PINS:-}
OUT=${OUT:-farcast-sim}

if [ $# -eq 0 ]; then
    shopt -s nullglob
    set -- scenarios/*.toml
    if [ $# -eq 0 ]; then
        echo "gate.sh: no scenarios/*.toml here, and none named" >&2
        exit 2
    fi
fi

if ! command -v farcast >/dev/null; then
    python3 -m venv "$OUT.venv"
    "$OUT.venv/bin/pip" install --quiet "$FARCAST"
    PATH=$PWD/$OUT.venv/bin:$PATH
fi

mkdir -p "$OUT"
options=(--seeds "$SEEDS" --twice)
if [ "$SHORT" = 1 ]; then options+=(--short); fi
if [ -n "$PINS" ]; then options+=(--pins "$PINS"); fi
exec farcast sim run "$@" "${options[@]}" \
    --save "$OUT/results.json" --junit "$OUT/junit.xml" --html "$OUT/report.html"
