#!/usr/bin/env bash
# Makes .cache/venv with the Python clients that tests drive the server with, pinned in test_venv.txt. Run again, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=tools/test_venv.txt
mark=.cache/venv/installed
cmp -s "$wanted" "$mark" && exit 0
rm -rf .cache/venv
mkdir -p .cache
python3 -m venv .cache/venv || { echo "test_venv: python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
# --no-deps: what is not in the list is not installed, and the check says whether the list is whole.
.cache/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r "$wanted" >&2
.cache/venv/bin/python -m pip check >&2
cp "$wanted" "$mark"
