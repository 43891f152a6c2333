#!/usr/bin/env bash
# Makes a venv with Python clients that tests drive the server with, pinned in a list. Run again, it does nothing.
# Usage: test_venv.sh [clients|aiperf|deploy]: .cache/venv from test_venv.txt, for `make test`; with a name, .cache/NAME-venv from NAME_venv.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-test} in
  test) wanted=tools/test_venv.txt venv=.cache/venv ;;
  clients | aiperf | deploy) wanted=tools/$1_venv.txt venv=.cache/$1-venv ;;
  *) echo "test_venv: expected clients, aiperf, deploy or nothing" >&2; exit 2 ;;
esac
mark=$venv/installed
cmp -s "$wanted" "$mark" && exit 0
rm -rf "$venv"
mkdir -p .cache
python3 -m venv "$venv" || { echo "test_venv: python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
# --no-deps: what is not in the list is not installed, and the check says whether the list is whole.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$wanted" >&2
"$venv/bin/python" -m pip check >&2
cp "$wanted" "$mark"
