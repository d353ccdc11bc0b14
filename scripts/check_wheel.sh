#!/usr/bin/env bash
# Builds the wheel and starts the command from a throw-away venv that holds only what the wheel declares.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
[ -e services/cli.py ] || [ -e services/cli/__init__.py ] || exit 0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
.venv/bin/python -m hatchling build -t wheel -d "$scratch/dist" >/dev/null 2>"$scratch/build.log" || { cat "$scratch/build.log" >&2; exit 1; }
.venv/bin/python -m venv --without-pip "$scratch/venv"
.venv/bin/uv pip install --quiet --python "$scratch/venv/bin/python" -c requirements.lock "$scratch"/dist/*.whl
cd "$scratch"
env -u PYTHONPATH "$scratch/venv/bin/dispatch" --help >"$scratch/help"
grep -q dispatch "$scratch/help" || { echo "the wheel installs, but 'dispatch --help' says nothing" >&2; exit 1; }
echo "wheel: $(cd "$scratch/dist" && ls) installs and 'dispatch --help' answers (from outside $root)"
