#!/usr/bin/env bash
# Makes .cache/venv with the Python clients that tests drive the server with, pinned. Run again, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted="openai==3.54.0"
mark=.cache/venv/installed
[ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf .cache/venv
mkdir -p .cache
python3 -m venv .cache/venv || { echo "test_venv: python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
.cache/venv/bin/python -m pip install --quiet --disable-pip-version-check "$wanted" >&2
echo "$wanted" > "$mark"
